//! The near end: who runs this, on which machine, and running the programs that a configuration names.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// How long `id` may take, which asks the directory service.
const ID_DEADLINE: Duration = Duration::from_secs(5);

/// What the tokens `%d %u %i %l` stand for.
#[derive(Clone, Debug)]
pub(super) struct Local {
    pub(super) home: PathBuf,
    pub(super) user: Option<String>,
    pub(super) uid: u32,
    pub(super) hostname: String,
}

impl Local {
    /// Looks around.
    pub(super) async fn here() -> Self {
        let named = ["USER", "LOGNAME"]
            .iter()
            .find_map(|name| std::env::var(name).ok())
            .filter(|user| !user.is_empty());
        let user = match named {
            Some(user) => Some(user),
            // Services and containers often start programs without these variables.
            None => own_name().await,
        };
        Self {
            home: std::env::home_dir().unwrap_or_else(|| PathBuf::from("/")),
            user,
            uid: rustix::process::getuid().as_raw(),
            hostname: rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
        }
    }
}

async fn own_name() -> Option<String> {
    let mut id = Command::new("id");
    id.arg("-un").stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(ID_DEADLINE, id.output())
        .await
        .ok()?
        .ok()?;
    let name = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !name.is_empty()).then_some(name)
}

/// The user's shell with a command, which is how `ssh` runs the commands of its configuration.
pub(super) fn shell(line: &str) -> Command {
    let shell = std::env::var_os("SHELL").filter(|shell| !shell.is_empty());
    let mut command = Command::new(shell.unwrap_or_else(|| "/bin/sh".into()));
    command.arg("-c").arg(line);
    command
}

/// Runs a program without input and output; whether it ended well and in time. If not, its whole group is killed.
pub(super) async fn succeeds(mut command: Command, deadline: Duration) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true);
    let Ok(mut child) = command.spawn() else {
        return false;
    };
    let group = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(rustix::process::Pid::from_raw);
    if let Ok(ended) = tokio::time::timeout(deadline, child.wait()).await {
        return ended.is_ok_and(|status| status.success());
    }
    if let Some(group) = group {
        // It may have ended in this moment.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_command_that_hangs_is_a_failed_one_and_leaves_nobody_behind() {
        let long = Duration::from_secs(20);
        assert!(succeeds(shell("test 1 = 1"), long).await);
        assert!(!succeeds(shell("exit 3"), long).await);
        assert!(!succeeds(Command::new("/nowhere/program"), long).await);
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        let line = format!("sleep 600 > {} & wait", pipe.display());
        // Reading ends when nobody is left who could write.
        let reading = tokio::task::spawn_blocking(|| std::fs::read(pipe));
        assert!(!succeeds(shell(&line), Duration::from_millis(300)).await);
        let read = tokio::time::timeout(long, reading).await;
        assert!(read.unwrap().unwrap().unwrap().is_empty());
    }

    #[tokio::test]
    async fn somebody_runs_this() {
        assert!(own_name().await.is_some());
        assert!(Local::here().await.user.is_some());
    }
}
