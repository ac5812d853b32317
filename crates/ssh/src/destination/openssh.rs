//! Asking the installed `ssh` what its configuration says about a host: `ssh -G`.
//!
//! Invariants: no shell runs; host and user were checked before they become arguments, and follow `--`.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use super::address::Address;
use super::{Settings, strictness};
use crate::SshError;
use crate::prompt::visible_end;

/// `Match exec` may run the user's own programs, so this is longer than `ssh -G` itself needs.
const DEADLINE: Duration = Duration::from_secs(15);

/// Returns what `ssh -G` says, or nothing if there is no `ssh`.
pub(super) async fn settings(
    asked: &Address,
    config: Option<&Path>,
) -> Result<Option<Settings>, SshError> {
    let mut command = tokio::process::Command::new("ssh");
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
        return Err(SshError::Resolve {
            destination: asked.host.clone(),
            reason: format!(
                "ssh -G says: {}",
                visible_end(&String::from_utf8_lossy(&output.stderr), 500)
            ),
        });
    }
    Ok(Some(parse(&String::from_utf8_lossy(&output.stdout))))
}

/// Reads the `key value` lines of `ssh -G`.
fn parse(text: &str) -> Settings {
    let mut settings = Settings::default();
    for line in text.lines() {
        let Some((key, value)) = line.trim().split_once(' ') else {
            continue;
        };
        let value = value.trim();
        match key {
            "hostname" => settings.hostname = Some(value.to_owned()),
            "user" => settings.user = Some(value.to_owned()),
            "port" => settings.port = value.parse().ok(),
            "identityfile" => settings.identity_files.push(unquoted(value)),
            "identitiesonly" => settings.identities_only = value == "yes",
            "identityagent" => settings.identity_agent = Some(unquoted(value)),
            "userknownhostsfile" => settings.user_known_hosts = Some(words(value)),
            "globalknownhostsfile" => settings.global_known_hosts = Some(words(value)),
            "hostkeyalias" => settings.host_key_alias = Some(value.to_owned()),
            "stricthostkeychecking" => settings.strict = strictness(value),
            "connecttimeout" => settings.connect_timeout = value.parse().ok(),
            "serveraliveinterval" => settings.alive_interval = value.parse().ok(),
            _ => settings.notes.extend(not_honoured(key, value)),
        }
    }
    settings
}

/// Says so when an option changes where or as whom `ssh` would log in and this client does not know it.
pub(super) fn not_honoured(key: &str, value: &str) -> Option<String> {
    let (name, harmless): (_, &[&str]) = match key {
        "proxyjump" => ("ProxyJump", &["none"]),
        "proxycommand" => ("ProxyCommand", &["none"]),
        "certificatefile" => ("CertificateFile", &["none"]),
        "pkcs11provider" => ("PKCS11Provider", &["none"]),
        "knownhostscommand" => ("KnownHostsCommand", &["none"]),
        "revokedhostkeys" => ("RevokedHostKeys", &["none"]),
        "bindaddress" => ("BindAddress", &["none"]),
        "bindinterface" => ("BindInterface", &["none"]),
        "addressfamily" => ("AddressFamily", &["any"]),
        "forwardagent" => ("ForwardAgent", &["no"]),
        _ => return None,
    };
    (!harmless.contains(&value)).then(|| {
        crate::prompt::visible(&format!(
            "{name} {value} of the ssh configuration is not used"
        ))
    })
}

fn words(value: &str) -> Vec<String> {
    shlex::split(value).unwrap_or_else(|| value.split_whitespace().map(str::to_owned).collect())
}

fn unquoted(value: &str) -> String {
    value.trim_matches('"').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StrictHostKeyChecking;

    #[test]
    fn the_lines_of_ssh_g_become_settings() {
        let settings = parse(
            "host cluster\nuser alice\nhostname login.example\nport 2222\nidentitiesonly yes\n\
             stricthostkeychecking accept-new\nidentityfile ~/.ssh/a\nidentityfile ~/.ssh/b key\n\
             userknownhostsfile /home/me/.ssh/known_hosts /home/me/.ssh/known_hosts2\n\
             globalknownhostsfile /etc/ssh/ssh_known_hosts\nconnecttimeout none\n\
             serveraliveinterval 30\nproxyjump gate\nforwardagent no\ngarbage\n",
        );
        assert_eq!(settings.hostname.as_deref(), Some("login.example"));
        assert_eq!(settings.port, Some(2222));
        assert_eq!(settings.identity_files, ["~/.ssh/a", "~/.ssh/b key"]);
        assert!(settings.identities_only);
        assert_eq!(settings.strict, StrictHostKeyChecking::AcceptNew);
        assert_eq!(settings.user_known_hosts.unwrap().len(), 2);
        assert_eq!(settings.connect_timeout, None);
        assert_eq!(settings.alive_interval, Some(30));
        assert_eq!(
            settings.notes,
            ["ProxyJump gate of the ssh configuration is not used"]
        );
    }
}
