//! What the node's own programs say: C library, quota, batch systems, what happens at logout.
//!
//! Called by `node`. Each runs in the user's login environment, because that is where modules put
//! batch systems, with a deadline.
//! Invariants: a program that hangs is killed with all it started; what it prints is bounded.

use std::{process::Stdio, time::Duration};

use hpcclient_protocol::node::{Disk, Quota, Scheduler};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::Command,
    time::timeout,
};

use crate::environment::Variables;

const LIMIT: Duration = Duration::from_secs(5);

const MAX_BYTES: u64 = 16 * 1024;

/// What was asked of all programs but `quota`.
pub(super) struct Programs {
    pub(super) glibc: Option<String>,
    pub(super) ends_at_logout: bool,
    pub(super) schedulers: Vec<Scheduler>,
}

/// Asks them at the same time.
pub(super) async fn ask_all(variables: &Variables) -> Programs {
    let uid = rustix::process::getuid().as_raw().to_string();
    let user = ["loginctl", "show-user", &uid, "-p", "Linger"];
    let (libc, manager, user, slurm, pbs) = tokio::join!(
        ask(&["getconf", "GNU_LIBC_VERSION"], variables),
        ask(
            &["loginctl", "show-user", "-p", "KillUserProcesses"],
            variables
        ),
        ask(&user, variables),
        // Both ask their server: a command that is only installed does not make a batch system.
        ask(&["sinfo", "-h", "-o", "%v"], variables),
        ask(&["qstat", "-Bf"], variables),
    );
    let glibc = libc.said().and_then(|text| text.strip_prefix("glibc "));
    let is = |answer: &Answer, line| answer.said().is_some_and(|text| text.contains(line));
    let slurm = scheduler("Slurm", &slurm, |text| {
        text.lines()
            .find(|line| line.starts_with(|c: char| c.is_ascii_digit()))
    });
    let pbs = scheduler("PBS", &pbs, |text| {
        let line = text.lines().find(|line| line.contains("pbs_version"));
        line?.split('=').nth(1)
    });
    Programs {
        glibc: glibc.map(|version| version.trim().to_owned()),
        ends_at_logout: is(&manager, "KillUserProcesses=yes") && !is(&user, "Linger=yes"),
        schedulers: [slurm, pbs].into_iter().flatten().collect(),
    }
}

/// Asks for the user's quota on a disk.
pub(super) async fn quota(disk: &Disk, user: &str, variables: &Variables) -> Option<Quota> {
    let mount = disk.mount.to_lossy();
    // Both print the same eight columns.
    let answer = if disk.kind == "lustre" {
        ask(&["lfs", "quota", "-q", "-u", user, &mount], variables).await
    } else {
        ask(&["quota", "-w", "-p", "-f", &mount], variables).await
    };
    match answer {
        // `quota` fails when the quota is exceeded, which is when its answer matters most.
        Answer::Ran { out, .. } => read_quota(&out),
        Answer::Missing | Answer::Late => None,
    }
}

/// Reads used KiB, soft and hard limit, grace, and the same of files, at the end of the text.
fn read_quota(text: &str) -> Option<Quota> {
    let words: Vec<_> = text.split_whitespace().collect();
    let columns = words.last_chunk::<8>()?;
    let number = |word: &str| word.trim_end_matches('*').parse::<u64>().ok();
    let [kib, soft_kib, hard_kib, _, files, soft_files, hard_files, _] = columns.map(number);
    // The lower of the two that are set stops a user first.
    let limit = |soft: u64, hard: u64| match (soft, hard) {
        (0, one) | (one, 0) => one,
        (soft, hard) => soft.min(hard),
    };
    let max_kib = limit(soft_kib?, hard_kib?);
    let max_files = limit(soft_files?, hard_files?);
    (max_kib > 0 || max_files > 0).then_some(Quota {
        bytes: kib?.saturating_mul(1024),
        max_bytes: max_kib.saturating_mul(1024),
        files: files?,
        max_files,
    })
}

fn scheduler(
    name: &str,
    answer: &Answer,
    version: impl Fn(&str) -> Option<&str>,
) -> Option<Scheduler> {
    let found = answer.said().and_then(version);
    let error = match answer {
        Answer::Missing => return None,
        _ if found.is_some() => None,
        Answer::Late => Some(format!("no answer within {} s", LIMIT.as_secs())),
        Answer::Ran { out, err, .. } => {
            let line = err.lines().chain(out.lines()).find(|line| !line.is_empty());
            Some(line.unwrap_or("it answers nothing").trim().to_owned())
        }
    };
    Some(Scheduler {
        name: name.to_owned(),
        version: found.map(|version| version.trim().to_owned()),
        error,
    })
}

/// How a program answered.
enum Answer {
    Missing,
    Late,
    Ran { ok: bool, out: String, err: String },
}

impl Answer {
    fn said(&self) -> Option<&str> {
        match self {
            Self::Ran { ok: true, out, .. } => Some(out.trim()),
            _ => None,
        }
    }
}

async fn ask(line: &[&str], variables: &Variables) -> Answer {
    let Some((program, arguments)) = line.split_first() else {
        return Answer::Missing;
    };
    let child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn();
    let Ok(mut child) = child else {
        return Answer::Missing;
    };
    let group = child
        .id()
        .and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed()));
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let answer = async {
        let (out, err) = tokio::join!(read(out), read(err));
        let ok = child.wait().await.is_ok_and(|status| status.success());
        Answer::Ran { ok, out, err }
    };
    if let Ok(answer) = timeout(LIMIT, answer).await {
        return answer;
    }
    if let Some(group) = group {
        let _gone = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    Answer::Late
}

async fn read(pipe: Option<impl AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        // What came before a failure is still an answer.
        let _cut = pipe.take(MAX_BYTES).read_to_end(&mut bytes).await;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_quotas_are_read() {
        let plain = "Disk quotas for user me (uid 1000):\n     Filesystem  blocks   quota   limit   grace   files   quota   limit   grace\n\
                     server:/home  900*  800 1000 1700000000 12 0 500 0\n";
        let found = read_quota(plain).unwrap();
        assert_eq!((found.bytes, found.max_bytes), (900 << 10, 800 << 10));
        assert_eq!((found.files, found.max_files), (12, 500));
        let lustre = "/lustre/home\n   42  0 2048 - 7 0 0 -\n";
        let found = read_quota(lustre).unwrap();
        assert_eq!(
            (found.bytes, found.max_bytes, found.max_files),
            (42 << 10, 2 << 20, 0)
        );
        for none in [
            "Disk quotas for user root (uid 0): none\n",
            "",
            "/x 5 0 0 0 5 0 0 0\n",
        ] {
            assert_eq!(read_quota(none), None, "{none}");
        }
    }

    #[test]
    fn only_a_server_that_answers_is_a_batch_system() {
        let ran = |ok, out: &str, err: &str| Answer::Ran {
            ok,
            out: out.to_owned(),
            err: err.to_owned(),
        };
        let of = |answer: &Answer| scheduler("S", answer, |text| text.lines().next());
        assert_eq!(of(&Answer::Missing), None);
        let up = of(&ran(true, "23.02.6\n23.02.6\n", "")).unwrap();
        assert_eq!((up.version.as_deref(), up.error), (Some("23.02.6"), None));
        let down = of(&ran(false, "", "cannot connect to server\n")).unwrap();
        assert_eq!(down.error.as_deref(), Some("cannot connect to server"));
        assert_eq!(
            of(&Answer::Late).unwrap().error.as_deref(),
            Some("no answer within 5 s")
        );
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_missing_and_the_c_library_is_known() {
        let variables = crate::environment::own();
        assert!(matches!(
            ask(&["no-such-program"], &variables).await,
            Answer::Missing
        ));
        let programs = ask_all(&variables).await;
        assert!(
            programs
                .glibc
                .unwrap()
                .starts_with(|c: char| c.is_ascii_digit())
        );
    }
}
