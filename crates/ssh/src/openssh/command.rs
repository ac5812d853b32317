//! The command line and the environment of `ssh`.
//!
//! Invariants: no shell of this machine sees any of it; what was asked for stands after `--` and was checked; what the
//! user's ssh configuration says about anything else counts.

use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::talk::REMOTE_COMMAND;
use crate::{Destination, SshError, StrictHostKeyChecking};

/// The least that a connection may take, the exchange of keys with it.
const SHORTEST_CONNECT: Duration = Duration::from_secs(10);

/// What a configuration made for terminals must not change here. The last three: a dead server is noticed within 45 s, and
/// an open connection of the user's is shared while ours is not given away.
const FIXED: &[&str] = &[
    "RemoteCommand=none",
    "RequestTTY=no",
    "ClearAllForwardings=yes",
    "Tunnel=no",
    "ForwardAgent=no",
    "ForwardX11=no",
    "PermitLocalCommand=no",
    "NumberOfPasswordPrompts=3",
    "ServerAliveInterval=15",
    "ServerAliveCountMax=2",
    "ControlMaster=no",
];

/// Returns the command that logs in to a destination, with `askpass` to ask its questions.
pub(super) fn command(
    destination: &Destination,
    askpass: &Path,
    is_attended: bool,
) -> Result<Command, SshError> {
    let mut command = Command::new("ssh");
    command
        .args(arguments(destination, is_attended)?)
        .env("SSH_ASKPASS", askpass)
        .env("SSH_ASKPASS_REQUIRE", "force")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // With the programs that it starts, so that they end together.
        .process_group(0)
        .kill_on_drop(true);
    if let Some(agent) = &destination.options.environment_agent {
        command.env("SSH_AUTH_SOCK", agent);
    }
    // Before OpenSSH 8.4 a display was what made it ask by a program.
    if std::env::var_os("DISPLAY").is_none() {
        command.env("DISPLAY", ":0");
    }
    Ok(command)
}

fn arguments(destination: &Destination, is_attended: bool) -> Result<Vec<OsString>, SshError> {
    let asked = destination.options.asked()?;
    let options = &destination.options;
    let mut arguments: Vec<OsString> = ["-v", "-T", "-e", "none"].map(OsString::from).to_vec();
    let mut option = |text: String| arguments.extend(["-o".into(), OsString::from(text)]);
    for fixed in FIXED {
        option((*fixed).to_owned());
    }
    // It also limits the exchange of keys, which takes its time on a busy node; with a host in between it would limit the
    // whole login there, the person's answers included.
    if destination.jumps.is_empty() && destination.proxy_command.is_none() {
        let seconds = destination.connect_timeout.max(SHORTEST_CONNECT).as_secs();
        option(format!("ConnectTimeout={seconds}"));
    } else {
        option("ConnectTimeout=none".to_owned());
    }
    // With nobody there no dialogue is begun, which might be a message to a telephone.
    option(format!(
        "BatchMode={}",
        if is_attended { "no" } else { "yes" }
    ));
    // `no` would go on with a key that has changed.
    if destination.strict_host_key_checking == StrictHostKeyChecking::AcceptNew {
        option("StrictHostKeyChecking=accept-new".to_owned());
    }
    for (name, path) in [
        ("CertificateFile", &options.certificate_file),
        ("UserKnownHostsFile", &options.known_hosts),
    ] {
        if let Some(path) = path {
            option(format!("{name}={}", quoted(path)?));
        }
    }
    if let Some(config) = &options.ssh_config {
        arguments.extend(["-F".into(), config.into()]);
    }
    if let Some(port) = asked.port {
        arguments.extend(["-p".into(), port.to_string().into()]);
    }
    if let Some(user) = asked.user {
        arguments.extend(["-l".into(), user.into()]);
    }
    if let Some(identity) = &options.identity_file {
        arguments.extend(["-i".into(), identity.into()]);
    }
    arguments.extend(["--".into(), asked.host.into(), REMOTE_COMMAND.into()]);
    Ok(arguments)
}

/// Quotes a path as the ssh configuration wants it.
fn quoted(path: &Path) -> Result<String, SshError> {
    match path.to_str() {
        Some(text) if !text.contains(['"', '\n']) => Ok(format!("\"{text}\"")),
        _ => Err(SshError::Resolve {
            destination: path.display().to_string(),
            reason: "ssh cannot be given a path with a quote in it".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DestinationOptions;

    #[tokio::test]
    async fn what_was_asked_for_is_passed_on_and_nothing_else_is_an_option() {
        let options = DestinationOptions {
            destination: "cluster".to_owned(),
            host: Some("alice@login.example:2222".to_owned()),
            identity_file: Some("~/.ssh/a key".into()),
            known_hosts: Some("/k h".into()),
            ssh_config: Some("/dev/null".into()),
            ..DestinationOptions::default()
        };
        let destination = Destination::resolve(&options).await.unwrap();
        let arguments: Vec<String> = arguments(&destination, true)
            .unwrap()
            .into_iter()
            .map(|argument| argument.into_string().unwrap())
            .collect();
        let has = |wanted: &[&str]| arguments.windows(wanted.len()).any(|part| part == wanted);
        assert!(has(&["-o", "UserKnownHostsFile=\"/k h\""]), "{arguments:?}");
        assert!(has(&[
            "-F",
            "/dev/null",
            "-p",
            "2222",
            "-l",
            "alice",
            "-i",
            "~/.ssh/a key"
        ]));
        assert!(arguments.ends_with(&[
            "--".to_owned(),
            "login.example".to_owned(),
            REMOTE_COMMAND.to_owned()
        ]));
        let hostile = DestinationOptions {
            known_hosts: Some("/a\"\nProxyCommand=evil".into()),
            ..options
        };
        assert!(
            super::arguments(
                &Destination {
                    options: hostile,
                    ..destination
                },
                true
            )
            .is_err()
        );
    }

    #[tokio::test]
    async fn it_is_told_which_ssh_agent_is_the_environments() {
        let agent = |environment_agent| DestinationOptions {
            destination: "me@login.example".to_owned(),
            ssh_config: Some("/dev/null".into()),
            environment_agent,
            ..DestinationOptions::default()
        };
        for given in [Some("/run/agent".into()), None] {
            let destination = Destination::resolve(&agent(given.clone())).await.unwrap();
            let command = command(&destination, Path::new("/askpass"), true).unwrap();
            let mut set = command.as_std().get_envs();
            let told = set.find(|(name, _)| *name == "SSH_AUTH_SOCK");
            let told = told
                .and_then(|(_, value)| value)
                .map(std::path::PathBuf::from);
            assert_eq!(told, given);
        }
    }

    #[test]
    fn no_login_shell_reads_the_command_in_its_own_way() {
        let (_, inner) = REMOTE_COMMAND.split_once('\'').unwrap();
        let inner = inner.strip_suffix('\'').unwrap();
        assert!(!inner.contains(['\'', '\\', '!', '\n']), "{inner}");
    }
}
