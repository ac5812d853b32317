//! The environment of the user's login shell, captured once, for what runs without a shell.
//!
//! `serve` starts the capture in the background; runs of a program, a shell line or a console wait
//! for it. A session does not: its shell reads the profile itself.
//! Invariants: a profile that hangs, prints or floods costs at most [`LIMIT`] and [`MAX_BYTES`];
//! when the capture fails, the agent's own environment is used.

use std::{
    env,
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::PathBuf,
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use tokio::{io::AsyncReadExt, sync::watch};
use tokio_util::sync::CancellationToken;

use crate::tasks::Tasks;

/// Names and values.
pub type Variables = Vec<(OsString, OsString)>;

/// The login environment, once it is known.
#[derive(Clone, Debug)]
pub struct Environment {
    captured: watch::Receiver<Option<Arc<Variables>>>,
}

impl Environment {
    /// Starts the capture.
    #[must_use]
    pub fn start(tracker: &Tasks, stopping: &CancellationToken) -> Self {
        let (sender, captured) = watch::channel(None);
        let stopping = stopping.clone();
        tracker.spawn(async move {
            let variables = match stopping.run_until_cancelled(capture()).await {
                None => return,
                Some(Ok(variables)) => variables,
                Some(Err(error)) => {
                    tracing::warn!(error = %format!("{error:#}"), "no login environment, using our own");
                    own()
                }
            };
            sender.send_replace(Some(Arc::new(variables)));
        });
        Self { captured }
    }

    /// Returns the environment, and waits for it when the capture still runs.
    pub async fn login(&self) -> Arc<Variables> {
        let mut captured = self.captured.clone();
        let known = captured.wait_for(Option::is_some).await;
        known
            .ok()
            .and_then(|variables| variables.clone())
            .unwrap_or_else(|| Arc::new(own()))
    }
}

/// Returns the agent's own environment, without what belongs to the login that started it.
#[must_use]
pub fn own() -> Variables {
    let lasts = |name: &OsStr| !OF_ONE_LOGIN.contains(&name.as_bytes());
    env::vars_os().filter(|(name, _)| lasts(name)).collect()
}

/// Returns the user's login shell.
#[must_use]
pub fn login_shell() -> PathBuf {
    env::var_os("SHELL")
        .map(PathBuf::from)
        .filter(|shell| shell.is_absolute())
        .unwrap_or_else(|| "/bin/sh".into())
}

/// Returns the user's login name. Where the environment has none, `id` is asked: the names of users
/// may come from a directory service that only the system's own programs can ask.
pub async fn login_name() -> String {
    let known = ["USER", "LOGNAME"]
        .iter()
        .filter_map(|name| env::var(name).ok())
        .find(|name| !name.is_empty());
    match known {
        Some(name) => name,
        None => ask_id()
            .await
            .unwrap_or_else(|| rustix::process::getuid().as_raw().to_string()),
    }
}

async fn ask_id() -> Option<String> {
    let mut id = tokio::process::Command::new("id");
    id.arg("-un").stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(NAME_LIMIT, id.output()).await;
    let output = output.ok()?.ok().filter(|output| output.status.success())?;
    let name = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (!name.is_empty()).then_some(name)
}

async fn capture() -> Result<Variables> {
    // What the profile prints comes before the mark.
    let mark = format!("hpcclient-environment-{}", std::process::id());
    let line = format!("echo; echo {mark}; exec /usr/bin/env -0");
    let shell = login_shell();
    let mut dashed = OsString::from("-");
    dashed.push(shell.file_name().unwrap_or_default());
    // Not `-l`: csh takes it only where it stands alone.
    let mut child = tokio::process::Command::new(shell)
        .arg0(dashed)
        .arg("-c")
        .arg(line)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .context("cannot start the login shell")?;
    let stdout = child
        .stdout
        .take()
        .context("the login shell has no output")?;
    let group = child
        .id()
        .and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed()));
    let mut output = Vec::new();
    let mut limited = stdout.take(MAX_BYTES);
    let read = tokio::time::timeout(LIMIT, limited.read_to_end(&mut output)).await;
    let whole = matches!(read, Ok(Ok(_)));
    if !whole && let Some(group) = group {
        // A profile may have started more than the shell.
        let _killed = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    ensure!(
        whole,
        "the login shell did not finish in {} s",
        LIMIT.as_secs()
    );
    parse(&output, mark.as_bytes()).context("the login shell printed no environment")
}

fn parse(output: &[u8], mark: &[u8]) -> Option<Variables> {
    let line = [b"\n", mark, b"\n"].concat();
    let start = output
        .windows(line.len())
        .rposition(|window| window == line)?
        + line.len();
    let variables: Variables = output
        .get(start..)?
        .split(|byte| *byte == 0)
        .filter_map(|entry| {
            let equals = entry
                .iter()
                .position(|byte| *byte == b'=')
                .filter(|at| *at > 0)?;
            let (name, value) = entry.split_at_checked(equals)?;
            let value = OsString::from_vec(value.get(1..)?.to_vec());
            Some((OsStr::from_bytes(name).to_owned(), value))
        })
        // These belong to the shell that printed them, and to the login that started us.
        .filter(|(name, _)| !matches!(name.as_bytes(), b"_" | b"SHLVL" | b"PWD" | b"OLDPWD"))
        .filter(|(name, _)| !OF_ONE_LOGIN.contains(&name.as_bytes()))
        .collect();
    (!variables.is_empty()).then_some(variables)
}

/// A bash that sees these takes itself for the command of an ssh login and reads `.bashrc`, so that
/// each script of a run would print what a chatty one prints.
const OF_ONE_LOGIN: [&[u8]; 2] = [b"SSH_CLIENT", b"SSH2_CLIENT"];

/// Slow profiles on loaded nodes take seconds; more is a profile that waits for something.
const LIMIT: Duration = Duration::from_secs(10);

/// The bridge waits for the agent to start.
const NAME_LIMIT: Duration = Duration::from_secs(2);

const MAX_BYTES: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_profile_prints_is_not_taken_for_variables() {
        let output =
            b"Welcome A=1\0\n\nmark\nPATH=/bin\0SSH_CLIENT=1.2.3.4 5 22\0EMPTY=\0MULTI=a\nb\0_=x\0BASH_FUNC_f%%=() { :; }\0";
        let found = parse(output, b"mark").unwrap();
        let names: Vec<_> = found
            .iter()
            .map(|(name, _)| name.to_string_lossy())
            .collect();
        assert_eq!(names, ["PATH", "EMPTY", "MULTI", "BASH_FUNC_f%%"]);
        assert_eq!(found[2].1, "a\nb");
        assert!(parse(b"bash: no such shell\n", b"mark").is_none());
    }

    #[tokio::test]
    async fn the_system_knows_our_name() {
        let name = ask_id().await.unwrap();
        assert!(!name.is_empty() && !name.contains('\n'), "{name:?}");
    }

    #[tokio::test]
    async fn the_login_environment_has_a_path() {
        let environment = Environment::start(&Tasks::default(), &CancellationToken::new());
        let variables = environment.login().await;
        assert!(variables.iter().any(|(name, _)| name == "PATH"));
    }
}
