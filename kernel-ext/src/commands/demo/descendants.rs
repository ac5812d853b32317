//! The processes that the demo is responsible for: every child, and what children left behind.
//!
//! Invariant: a process that detached itself (the agent, a notebook's kernel) still ends with the
//! demo, because orphans become our children.

use std::{fs, time::Duration};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, set_child_subreaper, wait};
use tokio::time::{Instant, sleep};

/// How long a process may take to end when asked to, before it is killed.
const END: Duration = Duration::from_secs(3);

/// How often to look.
const STEP: Duration = Duration::from_millis(20);

/// Makes orphans of our children our own children.
pub(super) fn adopt() -> anyhow::Result<()> {
    Ok(set_child_subreaper(Some(rustix::process::getpid()))?)
}

/// Ends every child, and the children that this brings to us.
pub(super) async fn end_all() {
    let kill_at = Instant::now() + END;
    let give_up = kill_at + END;
    loop {
        // Whoever ended stays a child until it is waited for.
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        let children = children();
        let now = Instant::now();
        if children.is_empty() || now > give_up {
            return;
        }
        let signal = if now < kill_at {
            Signal::TERM
        } else {
            Signal::KILL
        };
        for child in children {
            // It may have ended in the meantime.
            let _ = kill_process(child, signal);
        }
        sleep(STEP).await;
    }
}

fn children() -> Vec<Pid> {
    let me = std::process::id();
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| parent_of(*pid) == Some(me))
        .filter_map(Pid::from_raw)
        .collect()
}

fn parent_of(pid: i32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold anything, even a parenthesis.
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_found_by_its_parent() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        assert!(children().contains(&Pid::from_raw(pid).unwrap()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(parent_of(pid), None);
    }
}
