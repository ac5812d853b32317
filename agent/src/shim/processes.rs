//! Who is whose child, by `/proc`: what a kill must reach, and who this shim is for ever.
//!
//! Not here: what a run is.

use std::{fs, sync::OnceLock, time::Duration};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// The clock of `/proc`: always 100 ticks a second for programs, whatever the kernel counts in.
const TICKS: u128 = 100;
/// A tree that forks faster than it is killed is killed this often.
const ROUNDS: usize = 50;

/// One process.
struct Process {
    pid: i32,
    parent: i32,
    /// In ticks since boot.
    started: u64,
    dead: bool,
}

/// Sends SIGKILL to every descendant of a process that started since then, but not to `spare`.
///
/// A killed parent hands its children to this process, so `of` is usually the shim itself.
pub(super) fn kill_descendants(of: u32, spare: Option<u32>, since: u64) {
    let spare = spare.and_then(|pid| i32::try_from(pid).ok());
    for _ in 0..ROUNDS {
        let victims: Vec<Pid> = descendants(i32::try_from(of).unwrap_or_default())
            .into_iter()
            .filter(|process| {
                !process.dead && process.started >= since && Some(process.pid) != spare
            })
            .filter_map(|process| Pid::from_raw(process.pid))
            .collect();
        if victims.is_empty() {
            return;
        }
        for pid in victims {
            // It may be gone already.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// Sends SIGKILL to a process whose shim is gone, to its group and to all its descendants, if it is
/// still the one that started then. Without the shim, what it has let go of is not found any more.
pub fn kill_tree(pid: u32, started: u64) {
    let leader = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let (Some(leader), true) = (leader, start_of(pid) == Some(started)) else {
        return;
    };
    // What is stopped starts nothing new while its children are killed.
    let _ = kill_process_group(leader, Signal::STOP);
    let _ = kill_process(leader, Signal::STOP);
    kill_descendants(pid, None, started);
    let _ = kill_process_group(leader, Signal::KILL);
    let _ = kill_process(leader, Signal::KILL);
}

/// Returns the time that was `ago`, in ticks since boot.
pub(super) fn ticks_before(ago: Duration) -> u64 {
    let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let digits: String = uptime
        .chars()
        .take_while(|c| *c != ' ')
        .filter(char::is_ascii_digit)
        .collect();
    let now: u128 = digits.parse().unwrap_or_default();
    // Rounded down, so that no process is missed; one that started up to two ticks before is hit.
    let then = (now * 1000 / TICKS).saturating_sub(ago.as_millis() + 1);
    u64::try_from(then * TICKS / 1000).unwrap_or_default()
}

/// Returns what names this process for ever: its pid, when it started, and the boot.
pub(super) fn identity() -> (u32, Option<u64>, Option<String>) {
    // Read once: it is asked for with every line, and it cannot change.
    static SELF: OnceLock<(u32, Option<u64>, Option<String>)> = OnceLock::new();
    SELF.get_or_init(|| {
        let pid = std::process::id();
        (pid, start_of(pid), boot_id())
    })
    .clone()
}

/// Returns when a process started, in ticks since boot.
pub fn start_of(pid: u32) -> Option<u64> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?).map(|process| process.started)
}

/// Returns the id of this boot of the node.
pub fn boot_id() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}

fn descendants(of: i32) -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return vec![];
    };
    let mut all: Vec<Process> = entries
        .filter_map(Result::ok)
        .filter(|entry| {
            entry
                .file_name()
                .as_encoded_bytes()
                .first()
                .is_some_and(u8::is_ascii_digit)
        })
        .filter_map(|entry| parse(&fs::read_to_string(entry.path().join("stat")).ok()?))
        .collect();
    let (mut found, mut parents) = (vec![], vec![of]);
    while !parents.is_empty() {
        let (children, rest): (Vec<_>, Vec<_>) = all
            .into_iter()
            .partition(|process| parents.contains(&process.parent));
        all = rest;
        parents = children.iter().map(|process| process.pid).collect();
        found.extend(children);
    }
    found
}

/// Reads a line of `/proc/<pid>/stat`; the name in it may hold spaces and brackets.
fn parse(stat: &str) -> Option<Process> {
    let pid = stat.split(' ').next()?.parse().ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let dead = matches!(fields.next()?, "Z" | "X");
    let parent = fields.next()?.parse().ok()?;
    let started = fields.nth(17)?.parse().ok()?;
    Some(Process {
        pid,
        parent,
        started,
        dead,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_is_no_trouble() {
        let line = "42 (a) b (c)) Z 7 42 42 0 -1 4 1 0 0 0 0 0 0 0 20 0 1 0 12345 1000 1";
        let process = parse(line).unwrap();
        assert_eq!(
            (process.pid, process.parent, process.started, process.dead),
            (42, 7, 12345, true)
        );
    }

    #[test]
    fn this_process_started_before_now() {
        let start = start_of(std::process::id()).unwrap();
        assert!(start <= ticks_before(Duration::ZERO) + 2);
        assert_eq!(boot_id().unwrap().len(), 36);
    }
}
