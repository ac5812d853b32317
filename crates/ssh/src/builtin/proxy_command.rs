//! A program whose standard input and output are the connection: `ProxyCommand` of the ssh configuration.
//!
//! Invariants: the program ends with the stream, and with it what it started; it is always reaped. Its standard error
//! is kept in part, for the error.
//!
//! Not here: the tokens in the command, which are replaced when the destination is resolved.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::tasks::Tasks;
use crate::SshError;
use crate::prompt::visible_end;
use crate::reached::{Reached, Upstream};

/// What the program is called in an error.
const NAME: &str = "ProxyCommand";
/// How much of its standard error is kept.
const ERRORS_KEPT: usize = 4 << 10;
/// How long the program may take to end when it is told to.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long it may take to end by itself when its input ends.
const FAREWELL: Duration = Duration::from_millis(100);
/// How long its standard error may stay open after its end: what it started may hold it.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Starts the program; `stop` and the end of the stream end it.
pub(super) fn start(
    command: &str,
    ssh_agent: Option<&Path>,
    tasks: &Tasks,
) -> Result<Reached, SshError> {
    let failed = |source| SshError::Io {
        step: "cannot start the ProxyCommand".to_owned(),
        source,
    };
    // The user's shell, because the configuration's users write shell there; OpenSSH does the same.
    let shell = std::env::var_os("SHELL").filter(|shell| !shell.is_empty());
    let mut child = Command::new(shell.unwrap_or_else(|| "/bin/sh".into()))
        .arg("-c")
        .arg(format!("exec {command}"))
        .envs(ssh_agent.map(|socket| ("SSH_AUTH_SOCK", socket)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
        return Err(failed(std::io::ErrorKind::BrokenPipe.into()));
    };
    let gone = tasks.stop.child_token();
    let (told, closed) = watch::channel(None);
    tasks
        .tracker
        .spawn(look_after(child, stderr, gone.clone(), told));
    Ok(Reached {
        stream: Box::new(tokio::io::join(stdout, stdin)),
        address: None,
        upstream: vec![Upstream {
            name: NAME.to_owned(),
            closed,
        }],
        carrier: Some(gone.drop_guard()),
    })
}

/// What a program that failed said, once it has ended; nothing if it said nothing and was ended by us.
pub(super) async fn last_words(upstream: &[Upstream]) -> Option<String> {
    let program = upstream.iter().find(|part| part.name == NAME)?;
    let mut closed = program.closed.clone();
    let ended = tokio::time::timeout(PATIENCE * 2, closed.wait_for(Option::is_some)).await;
    let said = ended.ok()?.ok()?.clone()?;
    (!said.is_empty()).then_some(said)
}

async fn look_after(
    mut child: Child,
    stderr: ChildStderr,
    gone: CancellationToken,
    told: watch::Sender<Option<String>>,
) {
    let group = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
    let mut errors = vec![];
    let mut reading = Box::pin(keep_end(stderr, &mut errors));
    let mut read = false;
    let ended = loop {
        tokio::select! {
            status = child.wait() => break status.ok(),
            () = &mut reading, if !read => read = true,
            () = gone.cancelled() => {
                // Its input and output are closed, so that it may be about to end.
                tokio::time::sleep(FAREWELL).await;
                break end(&mut child, group).await;
            }
        }
    };
    // What it started may still hold the connection. The group's number is not another's as long as that is so.
    signal(group, Signal::KILL);
    if !read {
        let _ = tokio::time::timeout(LAST_WORDS, &mut reading).await;
    }
    drop(reading);
    told.send_replace(Some(report(ended, &errors)));
}

/// Keeps the end of what a program writes to its standard error.
async fn keep_end(mut stderr: ChildStderr, errors: &mut Vec<u8>) {
    let mut block = vec![0; ERRORS_KEPT];
    while let Ok(count) = stderr.read(&mut block).await
        && count > 0
    {
        errors.extend_from_slice(block.get(..count).unwrap_or_default());
        let excess = errors.len().saturating_sub(ERRORS_KEPT);
        errors.drain(..excess);
    }
}

/// Ends the program and what it started: with a hangup as OpenSSH does, and then by force. Returns its status if it had
/// failed by itself.
async fn end(child: &mut Child, group: Option<Pid>) -> Option<ExitStatus> {
    signal(group, Signal::HUP);
    let ended = tokio::time::timeout(PATIENCE, child.wait()).await;
    if let Ok(status) = ended {
        return status.ok().filter(|status| status.code() > Some(0));
    }
    signal(group, Signal::KILL);
    let _ = child.wait().await;
    None
}

fn signal(group: Option<Pid>, signal: Signal) {
    if let Some(group) = group {
        // It may be gone already.
        let _ = kill_process_group(group, signal);
    }
}

fn report(status: Option<ExitStatus>, errors: &[u8]) -> String {
    let said = visible_end(&String::from_utf8_lossy(errors), 1_000);
    match (status, said.is_empty()) {
        (None, _) => said,
        (Some(status), true) => format!("it ended with {status}"),
        (Some(status), false) => format!("it ended with {status}: {said}"),
    }
}
