//! Why an SSH step failed: the closed set of errors of this crate, which the bridge turns into words and hints.
//!
//! Invariants: text that a server chose has been through `visible` before it is stored here; no variant carries a
//! secret.
//!
//! Not here: hints and exit codes, which belong to the bridge's edge.

use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

/// A failed step of reaching, logging in to or preparing a node.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SshError {
    /// The destination does not name a host, or the ssh configuration cannot be read.
    #[error("cannot resolve the destination {destination}: {reason}")]
    Resolve {
        /// What was asked for.
        destination: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No address of the host took a TCP connection.
    #[error("cannot reach {host} port {port}")]
    Connect {
        /// The host.
        host: String,
        /// The port.
        port: u16,
        /// What the last address answered.
        #[source]
        source: std::io::Error,
    },
    /// The program that should have been the connection gave none.
    #[error("the ProxyCommand for {host} gave no connection: {reason}")]
    ProxyCommand {
        /// The host.
        host: String,
        /// How it ended, and what it said.
        reason: String,
    },
    /// A jump host does not lead on.
    #[error("the jump host {hop} {reason}")]
    Jump {
        /// The jump host.
        hop: String,
        /// Where it should lead.
        host: String,
        /// What it does or does not.
        reason: String,
    },
    /// The server's key was never seen, and nobody accepted it.
    #[error("the host key of {host} is not known ({key_type} {fingerprint})")]
    HostKeyUnknown {
        /// The name that known_hosts knows the host by.
        host: String,
        /// The key's type, as in known_hosts.
        key_type: String,
        /// `SHA256:…`.
        fingerprint: String,
    },
    /// The host is known by another key. Nothing was sent to the server.
    #[error(
        "the host key of {host} has changed: it now shows {key_type} {fingerprint}, \
         and {file} line {line} has another key ({known_type})", file = file.display()
    )]
    HostKeyChanged {
        /// The name that known_hosts knows the host by.
        host: String,
        /// The type of the key that the server showed.
        key_type: String,
        /// `SHA256:…` of the key that the server showed.
        fingerprint: String,
        /// The file with the other key.
        file: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// The type of the key in that line.
        known_type: Box<str>,
    },
    /// The server's key is marked as revoked.
    #[error("the host key of {host} is revoked by {file} line {line}", file = file.display())]
    HostKeyRevoked {
        /// The name that known_hosts knows the host by.
        host: String,
        /// The file that revokes it.
        file: PathBuf,
        /// Its line, from 1.
        line: usize,
    },
    /// The server's certificate is signed by a trusted authority and is not good for this host now.
    #[error("the host certificate of {host} is not valid: {reason}")]
    HostCertificate {
        /// The host.
        host: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The server refused every way to log in that could be tried.
    #[error(
        "{user}@{host} refused the login (tried: {tried}; the server takes: {accepted}){reason}{idle}",
        tried = list_or_nothing(tried), accepted = list_or_nothing(accepted),
        reason = reason.as_ref().map(|said| format!(": {said}")).unwrap_or_default(),
        idle = expired.as_ref().map(|it| format!("; {it}")).unwrap_or_default()
    )]
    AuthFailed {
        /// The user name that was used.
        user: String,
        /// The host.
        host: String,
        /// What was tried, each with its key or method.
        tried: Vec<String>,
        /// The methods that the server would take.
        accepted: Vec<String>,
        /// Whether a person would have been asked, had there been one.
        needs_person: bool,
        /// What the server said when it ended the session over the refusals.
        reason: Option<Box<str>>,
        /// A certificate that was not offered, because its time is over or has not begun.
        expired: Option<Box<IdleCertificate>>,
    },
    /// The agent has no build for the node's system.
    #[error("the node's platform is not supported: {uname}")]
    Unsupported {
        /// What `uname -s` and `uname -m` say.
        uname: String,
    },
    /// The node's answer to the bootstrap script was not understood.
    #[error("the node did not run the bootstrap script: {output}")]
    Probe {
        /// The end of what came back.
        output: String,
    },
    /// There is no room for the agent.
    #[error("no space for the agent in {path}: {free} bytes free, {needed} needed")]
    NoSpace {
        /// The folder on the node.
        path: String,
        /// How much is free there.
        free: u64,
        /// How much the agent needs.
        needed: u64,
    },
    /// Programs cannot be executed from the folder on the node.
    #[error("{path} is on a file system that does not execute programs")]
    NoExec {
        /// The folder on the node.
        path: String,
    },
    /// The folder for the agent cannot be made or not be named.
    #[error("the agent cannot be kept in {path}: {reason}")]
    Folder {
        /// The folder on the node.
        path: String,
        /// What the node said, or what is wrong with the name.
        reason: String,
    },
    /// The local agent binary cannot be read.
    #[error("cannot read the agent binary {path}", path = path.display())]
    AgentBinary {
        /// Its path on this machine.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The agent binary did not arrive as it was sent.
    #[error("cannot install the agent on the node: {reason}")]
    Upload {
        /// What the node said.
        reason: String,
    },
    /// The agent is installed and did not start.
    #[error("the agent did not start: {output}")]
    AgentStart {
        /// The end of what it printed.
        output: String,
    },
    /// Another node cannot be reached by way of the one that the login landed on.
    #[error("{node} cannot be reached from the node of this login: {reason}")]
    Hop {
        /// The other node.
        node: String,
        /// Why, for each way that was tried.
        reason: String,
    },
    /// The connection ended.
    #[error("the connection was closed: {reason}")]
    Closed {
        /// Why, as far as it is known.
        reason: String,
    },
    /// A step took too long.
    #[error("{step} did not finish within {} s", after.as_secs())]
    Timeout {
        /// The step.
        step: &'static str,
        /// Its limit.
        after: Duration,
    },
    /// A local file or socket failed.
    #[error("{step}")]
    Io {
        /// What was being done.
        step: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The SSH protocol failed: no common algorithm, a bad signature, a refused channel.
    #[error("SSH: {reason}")]
    Protocol {
        /// What the SSH library says.
        reason: String,
    },
}

/// A certificate whose time is not now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdleCertificate {
    /// A file, or `ssh-agent`.
    pub source: String,
    /// How long ago it ended.
    pub ended: Option<Duration>,
    /// How long it is until it begins.
    pub begins: Option<Duration>,
}

impl std::fmt::Display for IdleCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let source = &self.source;
        match (self.ended, self.begins) {
            (Some(ago), _) => {
                let ago = rounded(ago);
                write!(f, "the certificate {source} ended {ago} ago: renew it")
            }
            (None, wait) => {
                let wait = rounded(wait.unwrap_or_default());
                write!(
                    f,
                    "the certificate {source} begins in {wait}: is the clock of this machine right?"
                )
            }
        }
    }
}

/// A duration in its largest unit.
fn rounded(duration: Duration) -> String {
    let seconds = duration.as_secs();
    for (unit, length) in [("days", 86_400), ("h", 3_600), ("min", 60)] {
        // From two units on, so that nothing is rounded by half.
        if seconds >= 2 * length {
            return format!("{} {unit}", (seconds + length / 2) / length);
        }
    }
    format!("{seconds} s")
}

/// Every error of the SSH library that has no better name here.
impl From<russh::Error> for SshError {
    fn from(error: russh::Error) -> Self {
        let stopped = || Self::Closed {
            reason: "the server stopped answering".to_owned(),
        };
        match error {
            russh::Error::Disconnect
            | russh::Error::HUP
            | russh::Error::SendError
            | russh::Error::RecvError => Self::Closed {
                reason: "the server ended the connection".to_owned(),
            },
            russh::Error::KeepaliveTimeout | russh::Error::InactivityTimeout => stopped(),
            russh::Error::IO(source) if source.kind() == std::io::ErrorKind::TimedOut => stopped(),
            russh::Error::IO(source) => Self::Closed {
                reason: crate::prompt::visible(&source.to_string()),
            },
            russh::Error::ChannelOpenFailure(refusal) => Self::Protocol {
                reason: format!("the server refuses to open a channel ({refusal:?})"),
            },
            other => Self::Protocol {
                reason: crate::prompt::visible(&other.to_string()),
            },
        }
    }
}

fn list_or_nothing(list: &[String]) -> String {
    if list.is_empty() {
        "nothing".to_owned()
    } else {
        list.join(", ")
    }
}
