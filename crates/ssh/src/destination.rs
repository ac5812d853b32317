//! Where to log in and how: what the user named, resolved through the ssh configuration.
//!
//! The bridge calls [`Destination::resolve`] before each connection, so that an edited configuration counts at once.
//! `ssh -G` answers where an `ssh` is installed, because only OpenSSH reads its own configuration right; elsewhere
//! [`config_file`] does. Both give [`settings::Settings`], of which [`assemble`] makes a [`Destination`]; [`jumps`]
//! does the same for each host on the way.
//!
//! Invariants: host and user never start with `-` and hold no shell or control characters, nor do those of a hop. A
//! destination has jumps or a proxy command, never both.

mod address;
mod assemble;
mod config_file;
#[cfg(test)]
mod differential;
mod jumps;
mod local;
mod not_honoured;
mod openssh;
mod settings;
mod tokens;

use std::path::PathBuf;
use std::time::Duration;

use crate::SshError;
pub(crate) use address::Address;

/// What the user named: a destination, and what the cluster's configuration says about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DestinationOptions {
    /// `user@host:port`, `[::1]:2222`, or an alias of the ssh configuration.
    pub destination: String,
    /// A host or alias that stands for the destination; may hold a user and a port too.
    pub host: Option<String>,
    /// The user name.
    pub user: Option<String>,
    /// The port.
    pub port: Option<u16>,
    /// A private key to try first.
    pub identity_file: Option<PathBuf>,
    /// A known_hosts file that takes the place of the user's.
    pub known_hosts: Option<PathBuf>,
    /// An ssh configuration that takes the place of the user's and the system's.
    pub ssh_config: Option<PathBuf>,
    /// A user certificate to try first.
    pub certificate_file: Option<PathBuf>,
    /// What speaks SSH.
    pub transport: TransportChoice,
    /// The ssh-agent's socket that takes the place of this process's `SSH_AUTH_SOCK`.
    pub environment_agent: Option<PathBuf>,
}

/// What is to speak SSH.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TransportChoice {
    /// The built-in client, or the `ssh` program where the configuration asks for what only that can do.
    #[default]
    Auto,
    /// The built-in client.
    Russh,
    /// The system's `ssh` program.
    Openssh,
}

/// What to do about a host key that is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StrictHostKeyChecking {
    /// Refuse.
    Yes,
    /// Ask the person.
    #[default]
    Ask,
    /// Accept and remember. `no` of the ssh configuration is read as this.
    AcceptNew,
}

/// A resolved destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// What the user calls it.
    pub host_alias: String,
    /// The host's name or address.
    pub hostname: String,
    /// The user name.
    pub user: String,
    /// The port.
    pub port: u16,
    /// Private keys to try, in order; files that do not exist are passed over.
    pub identity_files: Vec<PathBuf>,
    /// Whether keys of an ssh-agent are used only if they are in `identity_files`.
    pub identities_only: bool,
    /// The ssh-agent's socket.
    pub identity_agent: Option<PathBuf>,
    /// The known_hosts files: new keys go to the first, all are read.
    pub known_hosts: Vec<PathBuf>,
    /// The name that known_hosts knows the host by, if it is not the host's.
    pub host_key_alias: Option<String>,
    /// What to do about an unknown host key.
    pub strict_host_key_checking: StrictHostKeyChecking,
    /// How long one address may take to answer.
    pub connect_timeout: Duration,
    /// How often a silent server is asked whether it is there.
    pub server_alive_interval: Duration,
    /// The hosts to go through, the first one first. Only the first has a way of its own (`jumps`, `proxy_command`);
    /// each other one is reached through the one before it, whatever the configuration says of it alone.
    pub jumps: Vec<Self>,
    /// A line for the user's shell; the standard input and output of what it runs are the connection.
    pub proxy_command: Option<String>,
    /// User certificates to try with their keys, beside the `-cert.pub` of each identity file; files that do not exist
    /// are passed over.
    pub certificate_files: Vec<PathBuf>,
    /// The methods that may be used, in order; empty for the default.
    pub preferred_authentications: Vec<String>,
    /// Whether GSSAPI may be used, which only the `ssh` program can do. Debian and RHEL set it for everybody.
    pub gssapi: bool,
    /// Whether new names in known_hosts are hashed.
    pub hash_known_hosts: bool,
    /// Whether further keys that the server proves to have are remembered.
    pub update_host_keys: bool,
    /// The address to try first, if the name has it: where the node was that is to be found again.
    pub preferred_address: Option<std::net::IpAddr>,
    /// Why only the `ssh` program can do what the configuration asks for. Nothing where there is no such program or the
    /// built-in client was asked for; then it is a note.
    pub only_openssh: Option<String>,
    /// What was asked for; the `ssh` program is told the same.
    pub options: DestinationOptions,
    /// Options of the configuration that are not honoured, for the user to read.
    pub notes: Vec<String>,
}

impl DestinationOptions {
    /// The host as `ssh` is to be told it, with the user and the port if they were named.
    pub(crate) fn asked(&self) -> Result<Address, SshError> {
        let named = Address::parse(self.host.as_deref().unwrap_or(&self.destination))?;
        let asked = Address {
            host: named.host,
            user: self.user.clone().or(named.user),
            port: self.port.or(named.port),
        };
        asked.check()?;
        Ok(asked)
    }
}

impl Destination {
    /// Resolves what the user named.
    ///
    /// # Errors
    ///
    /// [`SshError::Resolve`] if it does not name a host or the configuration cannot be read.
    pub async fn resolve(options: &DestinationOptions) -> Result<Self, SshError> {
        jumps::resolve(options).await
    }

    /// The name that known_hosts lists the host's keys under.
    #[must_use]
    pub fn host_key_name(&self) -> String {
        match &self.host_key_alias {
            Some(alias) => alias.to_lowercase(),
            None if self.port == 22 => self.hostname.to_lowercase(),
            None => format!("[{}]:{}", self.hostname.to_lowercase(), self.port),
        }
    }
}
