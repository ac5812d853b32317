//! Asking the installed `ssh` what its configuration says about a host: `ssh -G`.
//!
//! Invariants: no shell of ours runs; host and user were checked before they become arguments, and follow `--`.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::address::Address;
use super::not_honoured;
use super::settings::Settings;
use crate::SshError;
use crate::prompt::visible_end;

/// `Match exec` may run the user's own programs, so this is longer than `ssh -G` itself needs.
const DEADLINE: Duration = Duration::from_secs(15);

/// Returns what `ssh -G` says, or nothing if there is no `ssh`.
pub(super) async fn settings(
    asked: &Address,
    config: Option<&Path>,
) -> Result<Option<Settings>, SshError> {
    let mut command = Command::new("ssh");
    command.arg("-G");
    if let Some(config) = config {
        command.arg("-F").arg(config);
    }
    if let Some(port) = asked.port {
        command.arg("-p").arg(port.to_string());
    }
    if let Some(user) = &asked.user {
        command.arg("-l").arg(user);
    }
    command.arg("--").arg(&asked.host);
    // What this `ssh` does without any configuration, beside it.
    let mut plain = Command::new("ssh");
    plain.args(["-G", "-F", "none", "--", "localhost"]);
    let (said, plain) = tokio::join!(run(command, &asked.host), run(plain, &asked.host));
    let Some(said) = said? else {
        return Ok(None);
    };
    Ok(Some(parse(&said, &plain?.unwrap_or_default())))
}

async fn run(mut command: Command, host: &str) -> Result<Option<String>, SshError> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = match tokio::time::timeout(DEADLINE, command.output()).await {
        Err(_) => {
            return Err(SshError::Timeout {
                step: "reading the ssh configuration",
                after: DEADLINE,
            });
        }
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Ok(Err(source)) => {
            return Err(SshError::Io {
                step: "cannot run ssh -G".to_owned(),
                source,
            });
        }
        Ok(Ok(output)) => output,
    };
    if !output.status.success() {
        let said = visible_end(&String::from_utf8_lossy(&output.stderr), 500);
        let advice = if said.contains("jumphost loop") {
            "; give that host a `ProxyJump none` in the ssh configuration"
        } else {
            ""
        };
        return Err(SshError::Resolve {
            destination: host.to_owned(),
            reason: format!("ssh -G says: {said}{advice}"),
        });
    }
    Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned()))
}

/// Reads the `key value` lines of `ssh -G`.
fn parse(said: &str, plain: &str) -> Settings {
    let mut settings = Settings::default();
    for line in said.lines() {
        let Some((key, value)) = line.trim().split_once(' ') else {
            continue;
        };
        let value = value.trim();
        if not_honoured::algorithm(key).is_some()
            && plain.lines().any(|plain| plain.trim() == line.trim())
        {
            continue;
        }
        match key {
            "userknownhostsfile" => settings.set(key, &paths(&expanded(value))),
            "globalknownhostsfile" => settings.set(key, &paths(value)),
            "identityagent" => settings.set(key, &[expanded(value)]),
            _ => settings.set(key, &[value.to_owned()]),
        }
    }
    settings
}

/// `ssh -G` has replaced the tokens of these, so that a percent sign stands for itself.
fn expanded(value: &str) -> String {
    value.replace('%', "%%")
}

/// A list of paths, which `ssh -G` prints without quotes: a word that does not begin one belongs to the one before.
fn paths(list: &str) -> Vec<String> {
    let mut paths: Vec<String> = vec![];
    for word in list.split(' ') {
        match paths.last_mut() {
            Some(path) if path.starts_with(['/', '~']) && !word.starts_with(['/', '~']) => {
                path.push(' ');
                path.push_str(word);
            }
            _ => paths.push(word.to_owned()),
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StrictHostKeyChecking;
    use proptest::prelude::*;

    #[test]
    fn the_lines_of_ssh_g_become_settings() {
        let settings = parse(
            "host cluster\nuser alice\nhostname login.example\nport 2222\nidentitiesonly yes\n\
             stricthostkeychecking accept-new\nidentityfile ~/.ssh/a\nidentityfile ~/.ssh/b key\n\
             userknownhostsfile /home/me/.ssh/known_hosts /home/me/my hosts/100%\n\
             globalknownhostsfile /etc/ssh/ssh_known_hosts\nconnecttimeout none\n\
             serveraliveinterval 30\nproxyjump gate\nforwardagent no\nhashknownhosts yes\n\
             ciphers aes128-ctr\nmacs hmac-sha1\nknownhostscommand none\ngarbage\n",
            "macs hmac-sha1\nciphers aes256-ctr\n",
        );
        assert_eq!(settings.hostname.as_deref(), Some("login.example"));
        assert_eq!(settings.port, Some(2222));
        assert_eq!(settings.identity_files, ["~/.ssh/a", "~/.ssh/b key"]);
        assert!(settings.identities_only && settings.hash_known_hosts);
        assert_eq!(settings.strict, StrictHostKeyChecking::AcceptNew);
        assert_eq!(
            settings.user_known_hosts.unwrap(),
            ["/home/me/.ssh/known_hosts", "/home/me/my hosts/100%%"]
        );
        assert_eq!(settings.connect_timeout, None);
        assert_eq!(settings.alive_interval, Some(30));
        assert_eq!(settings.proxy_jump.as_deref(), Some("gate"));
        assert_eq!(settings.algorithms, ["Ciphers"]);
        assert!(settings.unused.is_empty());
        assert!(settings.needs_openssh.is_empty());
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(said in any::<String>(), plain in any::<String>()) {
            let _ = parse(&said, &plain);
        }
    }
}
