//! What is known of a login once it is made: for `status`, the page and `doctor`.

use std::time::SystemTime;

/// How a login was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoginFacts {
    /// The methods that the server takes, as it said before the login.
    pub offered: Vec<String>,
    /// What it accepted, in order, for people: `publickey (key ~/.ssh/id_ed25519)`.
    pub used: Vec<String>,
    /// The certificate that was used.
    pub certificate: Option<CertificateFacts>,
    /// The server's key, as `ssh-ed25519 SHA256:…`.
    pub host_key: Option<String>,
    /// What the server calls itself, as `SSH-2.0-OpenSSH_9.2`.
    pub server: Option<String>,
    /// The hosts on the way, as `user@host:port`, the first one first.
    pub hops: Vec<String>,
}

/// A user certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// What its authority calls it.
    pub key_id: String,
    /// A file, or `ssh-agent`.
    pub source: String,
    /// Until when it is good; nothing if for ever.
    pub valid_until: Option<SystemTime>,
}
