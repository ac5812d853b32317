//! What `ssh -v` says on standard error, read for what is known of the login and for why it failed.
//!
//! Invariants: text for people has been through `visible`; a server can write lines of its own here, which may make an
//! error look like another one and a fact be wrong, and nothing is decided by either.
//!
//! Not here: what the lines of a login that works are shown as, which is the caller's business.

use std::collections::VecDeque;
use std::path::PathBuf;

use base64::Engine as _;
use sha2::{Digest as _, Sha256};

use super::questions::Asked;
use crate::prompt::{visible, visible_end};
use crate::{Destination, LoginFacts, SshError};

/// How many lines are kept for an error.
const MOST_LINES: usize = 60;

/// What was heard so far.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// How `ssh` ended; nothing while it runs or if a signal ended it.
    pub(super) status: Option<i32>,
    lines: VecDeque<String>,
    facts: LoginFacts,
    /// The host of the facts, once it let us in.
    entered: Option<String>,
    /// The key that a server took last.
    key: Option<String>,
    tried: Vec<String>,
    /// The methods that the server takes now.
    accepted: Vec<String>,
}

impl Said {
    /// Takes a line; returns whether it is one for people.
    pub(super) fn hear(&mut self, line: &str) -> bool {
        if let Some((level, text)) = line.split_once(": ")
            && level.starts_with("debug")
        {
            self.learn(text);
            return false;
        }
        if let Some(rest) = line.strip_prefix("Authenticated ") {
            self.progress(rest);
            return false;
        }
        let chatter = ["OpenSSH_", "Transferred: ", "Bytes per second: "];
        if line.trim().is_empty() || chatter.iter().any(|start| line.starts_with(start)) {
            return false;
        }
        if self.lines.len() == MOST_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line.to_owned());
        !line.starts_with('@')
    }

    /// Forgets the lines for people.
    pub(super) fn forget(&mut self) {
        self.lines.clear();
    }

    /// The last lines for people.
    pub(super) fn end(&self) -> String {
        let lines: Vec<&str> = self.lines.iter().map(String::as_str).collect();
        visible_end(&lines.join("\n"), 1_000)
    }

    /// How the login was made.
    pub(super) fn facts(&self) -> LoginFacts {
        self.facts.clone()
    }

    /// Why `ssh` ended, in a line.
    pub(super) fn reason(&self) -> String {
        match (self.lines.back(), self.status) {
            (Some(line), _) => visible_end(line, 500),
            (None, Some(status)) => format!("ssh ended with status {status}"),
            (None, None) => "ssh was ended".to_owned(),
        }
    }

    /// Reads a debug line.
    fn learn(&mut self, text: &str) {
        if let Some(version) = text.strip_prefix("Remote protocol version ") {
            self.next_host();
            if let Some((number, software)) = version.split_once(", remote software version ") {
                self.facts.server = Some(visible(&format!("SSH-{number}-{software}")));
            }
        } else if let Some(key) = text
            .strip_prefix("Server host key: ")
            .or_else(|| text.strip_prefix("Server host certificate: "))
        {
            let words: Vec<&str> = key.split([' ', ',']).take(2).collect();
            self.facts.host_key = Some(visible(&words.join(" ")));
        } else if let Some(methods) = text.strip_prefix("Authentications that can continue: ") {
            self.accepted = list(methods);
            if self.facts.offered.is_empty() {
                self.facts.offered.clone_from(&self.accepted);
            }
        } else if let Some(method) = text.strip_prefix("Next authentication method: ") {
            self.tried.push(visible(method));
        } else if let Some(key) = text.strip_prefix("Server accepts key: ") {
            self.key = key_name(key);
        } else if text.starts_with("mux_client_request_session: master session id") {
            self.facts.used = vec!["an open connection of ssh (ControlMaster)".to_owned()];
        }
    }

    /// Reads a line about a method that was accepted.
    fn progress(&mut self, rest: &str) {
        let method = rest.split('"').nth(1).unwrap_or_default();
        let used = match self.key.take() {
            Some(key) if method == "publickey" => format!("publickey ({key})"),
            _ => visible(method),
        };
        self.facts.used.push(used);
        if let Some(host) = rest.strip_prefix("to ") {
            let name = host.split_whitespace().next().unwrap_or_default();
            self.entered = Some(visible(name));
        }
    }

    /// Another server speaks: the last one was a hop on the way to it.
    fn next_host(&mut self) {
        if let Some(hop) = self.entered.take() {
            let mut hops = std::mem::take(&mut self.facts.hops);
            hops.push(hop);
            *self = Self {
                facts: LoginFacts {
                    hops,
                    ..LoginFacts::default()
                },
                lines: std::mem::take(&mut self.lines),
                ..Self::default()
            };
        }
    }

    /// Why there is no login. `noise` came where the conversation should have begun.
    pub(super) fn error(&self, destination: &Destination, asked: &Asked, noise: &[u8]) -> SshError {
        if let Some((host, key_type, fingerprint)) = asked.refused_key.clone() {
            return SshError::HostKeyUnknown {
                host,
                key_type,
                fingerprint,
            };
        }
        self.host_key_error(destination)
            .or_else(|| self.refusal(destination, asked))
            .or_else(|| self.unreachable(destination))
            .unwrap_or_else(|| self.other(destination, noise))
    }

    fn host_key_error(&self, destination: &Destination) -> Option<SshError> {
        let (shown_type, fingerprint) = self
            .facts
            .host_key
            .as_deref()
            .and_then(|key| key.split_once(' '))
            .unwrap_or_default();
        if self
            .after("has changed and you have requested strict")
            .is_some()
        {
            let host = self.between("Host key for ", " has changed");
            let (known_type, place) = self.line("Offending ")?.split_once(" key in ")?;
            let (file, line) = place.rsplit_once(':')?;
            return Some(SshError::HostKeyChanged {
                host: self.host(host, destination),
                key_type: shown_type.to_owned(),
                fingerprint: fingerprint.to_owned(),
                file: PathBuf::from(file),
                line: line.trim().parse().ok()?,
                known_type: key_type(known_type).into(),
            });
        }
        if self.after(" was revoked and you have requested").is_some() {
            let host = self.between("host key for ", " was revoked");
            let (file, line) = revoked_in(destination, fingerprint).unwrap_or_default();
            return Some(SshError::HostKeyRevoked {
                host: self.host(host, destination),
                file,
                line,
            });
        }
        if let Some(reason) = self.line("Certificate invalid: ") {
            return Some(SshError::HostCertificate {
                host: destination.hostname.clone(),
                reason: visible(reason),
            });
        }
        self.line("Host key verification failed")?;
        let host = self.between("host key is known for ", " and you have requested");
        Some(SshError::HostKeyUnknown {
            host: self.host(host, destination),
            key_type: shown_type.to_owned(),
            fingerprint: fingerprint.to_owned(),
        })
    }

    fn refusal(&self, destination: &Destination, asked: &Asked) -> Option<SshError> {
        let denied = self.after("Permission denied (");
        let too_many = self.after("Too many authentication failures");
        if denied.is_none() && too_many.is_none() && (!asked.declined || self.entered.is_some()) {
            return None;
        }
        let accepted = denied.and_then(|rest| rest.split_once(')'));
        let mut tried = self.tried.clone();
        tried.dedup();
        Some(SshError::AuthFailed {
            user: destination.user.clone(),
            host: destination.hostname.clone(),
            tried,
            accepted: accepted.map_or_else(|| self.accepted.clone(), |(methods, _)| list(methods)),
            expired: None,
            needs_person: asked.declined || asked.is_unattended,
            reason: too_many.map(|_| "too many authentication failures".into()),
        })
    }

    fn unreachable(&self, destination: &Destination) -> Option<SshError> {
        let found = |host: &str, port: Option<&str>, reason: &str| SshError::Connect {
            host: visible(host),
            port: port
                .and_then(|port| port.parse().ok())
                .unwrap_or(destination.port),
            source: std::io::Error::other(visible(reason)),
        };
        if let Some(rest) = self.line("ssh: connect to host ") {
            let (host, rest) = rest.split_once(" port ")?;
            let (port, reason) = rest.split_once(": ")?;
            return Some(found(host, Some(port), reason));
        }
        if let Some(rest) = self.line("ssh: Could not resolve hostname ") {
            let (host, reason) = rest.split_once(": ")?;
            return Some(found(
                host,
                None,
                &format!("its name is not known: {reason}"),
            ));
        }
        let refused = self.after("open failed: ")?;
        Some(found(&destination.hostname, None, refused))
    }

    fn other(&self, destination: &Destination, noise: &[u8]) -> SshError {
        if let Some(bad) = self.after("Bad configuration option") {
            return SshError::Resolve {
                destination: destination.host_alias.clone(),
                reason: visible(&format!("ssh says: bad configuration option{bad}")),
            };
        }
        // 255 is ssh's own; anything else is of the node's.
        if self.status.is_some_and(|status| status != 255) || !noise.trim_ascii().is_empty() {
            let noise = String::from_utf8_lossy(noise);
            return SshError::Probe {
                output: visible_end(&format!("{noise}\n{}", self.end()), 1_000),
            };
        }
        SshError::Closed {
            reason: self.reason(),
        }
    }

    /// The rest of the first line that begins so.
    fn line(&self, start: &str) -> Option<&str> {
        self.lines.iter().find_map(|line| line.strip_prefix(start))
    }

    /// What follows a text in the first line that has it.
    fn after(&self, text: &str) -> Option<&str> {
        let mut found = self.lines.iter().filter_map(|line| line.split_once(text));
        found.next().map(|(_, rest)| rest)
    }

    fn between(&self, before: &str, behind: &str) -> Option<&str> {
        let mut found = self.lines.iter().filter_map(|line| {
            let (_, rest) = line.split_once(before)?;
            Some(rest.split_once(behind)?.0)
        });
        found.next()
    }

    fn host(&self, found: Option<&str>, destination: &Destination) -> String {
        found.map_or_else(|| destination.host_key_name(), visible)
    }
}

/// What known_hosts calls a type of key that `ssh` shows to people.
pub(super) fn key_type(shown: &str) -> String {
    match shown {
        "ED25519" => "ssh-ed25519".to_owned(),
        "RSA" => "ssh-rsa".to_owned(),
        other => other.to_lowercase(),
    }
}

fn list(methods: &str) -> Vec<String> {
    methods
        .split(',')
        .map(|method| visible(method.trim()))
        .collect()
}

/// Reads `<name> ED25519-CERT SHA256:… explicit agent`.
fn key_name(key: &str) -> Option<String> {
    let (start, rest) = key.split_once(" SHA256:")?;
    let (name, kind) = start.rsplit_once(' ')?;
    let what = if kind.ends_with("-CERT") {
        "certificate"
    } else {
        "key"
    };
    let of_agent = rest.split(' ').any(|word| word == "agent");
    let place = if of_agent { " of ssh-agent" } else { "" };
    Some(visible(&format!("{what} {name}{place}")))
}

/// Finds the line that revokes a key, which `ssh` does not name.
fn revoked_in(destination: &Destination, fingerprint: &str) -> Option<(PathBuf, usize)> {
    let is_it = |line: &str| {
        let mut fields = line.split_whitespace();
        let is_marked = fields.next() == Some("@revoked");
        let key = fields.nth(2).unwrap_or_default();
        let key = base64::engine::general_purpose::STANDARD.decode(key);
        let hash = base64::engine::general_purpose::STANDARD_NO_PAD
            .encode(Sha256::digest(key.unwrap_or_default()));
        is_marked && fingerprint.strip_prefix("SHA256:") == Some(&hash)
    };
    destination.known_hosts.iter().find_map(|file| {
        let text = std::fs::read_to_string(file).ok()?;
        let at = text.lines().position(is_it)?;
        Some((file.clone(), at + 1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn said(text: &str) -> Said {
        let mut said = Said::default();
        for line in text.lines() {
            said.hear(line);
        }
        said
    }

    async fn destination() -> Destination {
        let options = crate::DestinationOptions {
            destination: "alice@login.example".to_owned(),
            ssh_config: Some("/dev/null".into()),
            ..crate::DestinationOptions::default()
        };
        Destination::resolve(&options).await.unwrap()
    }

    #[test]
    fn a_login_in_two_steps_behind_a_jump_host() {
        let said = said(
            "debug1: Remote protocol version 2.0, remote software version OpenSSH_8.0\n\
             Authenticated to gate ([10.0.0.1]:22) using \"password\".\n\
             debug1: Remote protocol version 2.0, remote software version OpenSSH_9.2p1\n\
             debug1: Server host key: ssh-ed25519 SHA256:abc\n\
             debug1: Authentications that can continue: publickey\n\
             debug1: Server accepts key: my key ED25519-CERT SHA256:x agent\n\
             Authenticated using \"publickey\" with partial success.\n\
             debug1: Authentications that can continue: keyboard-interactive\n\
             Authenticated to login.example (via proxy) using \"keyboard-interactive\".\n\
             Last login: never\n",
        );
        let expected = LoginFacts {
            offered: vec!["publickey".to_owned()],
            used: vec![
                "publickey (certificate my key of ssh-agent)".to_owned(),
                "keyboard-interactive".to_owned(),
            ],
            certificate: None,
            host_key: Some("ssh-ed25519 SHA256:abc".to_owned()),
            server: Some("SSH-2.0-OpenSSH_9.2p1".to_owned()),
            hops: vec!["gate".to_owned()],
        };
        assert_eq!(said.facts(), expected);
        assert_eq!(said.reason(), "Last login: never");
    }

    #[tokio::test]
    async fn what_ssh_says_is_the_error_that_it_means() {
        let destination = destination().await;
        let error = |text: &str, noise: &[u8]| {
            let mut said = said(text);
            said.status = Some(255);
            said.error(&destination, &Asked::default(), noise)
        };
        let lost = error("Connection closed by 10.0.0.1 port 22\n", b"");
        assert!(matches!(lost, SshError::Closed { .. }), "{lost}");
        let many = error(
            "Received disconnect from 10.0.0.1 port 22:2: Too many authentication failures\n",
            b"",
        );
        assert!(matches!(many, SshError::AuthFailed { .. }), "{many}");
        let behind = error(
            "channel 0: open failed: connect failed: Connection refused\nstdio forwarding failed\n",
            b"",
        );
        assert!(matches!(behind, SshError::Connect { .. }), "{behind}");
        let typing = error("/c: line 1: Bad configuration option: hostnam\n", b"");
        assert!(matches!(typing, SshError::Resolve { .. }), "{typing}");
        let expired = error(
            "Certificate invalid: expired\nHost key verification failed.\n",
            b"",
        );
        assert!(
            matches!(expired, SshError::HostCertificate { .. }),
            "{expired}"
        );
        let noise = error("", b"This account is closed.\n");
        assert!(matches!(noise, SshError::Probe { .. }), "{noise}");
        // A command on the node that may not do something is no refused login.
        let denied = error("sh: /x: Permission denied\n", b"");
        assert!(matches!(denied, SshError::Closed { .. }), "{denied}");
    }

    proptest! {
        #[test]
        fn nothing_that_a_server_says_makes_it_panic(lines in any::<Vec<String>>(), cut in 0_usize..200) {
            let real = "debug1: Server host key: ssh-ed25519 SHA256:a\nOffending RSA key in /k:1\n\
                        Host key for [h]:1 has changed and you have requested strict checking.\n\
                        Authenticated to h ([1]:2) using \"publickey\".";
            let mut said = said(real.get(..cut).unwrap_or(real));
            for line in &lines {
                said.hear(line);
                said.hear(&format!("debug1: Server accepts key: {line}"));
            }
            let _ = (said.reason(), said.facts(), said.end());
        }
    }
}
