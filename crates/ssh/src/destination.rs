//! Where to log in and how: what the user named, resolved through the ssh configuration.
//!
//! The bridge calls [`Destination::resolve`] before each connection, so that an edited configuration counts at once.
//! `ssh -G` answers where an `ssh` is installed, because only OpenSSH reads its own configuration right; elsewhere
//! [`config_file`] reads the common keywords and notes the rest.
//!
//! Invariants: host and user never start with `-` and hold no shell or control characters.
//!
//! Not here: certificates, jump hosts and proxy commands; a configuration that asks for them is noted.

mod address;
mod config_file;
mod openssh;
mod tokens;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::SshError;
pub(crate) use address::Address;
use tokens::Tokens;

/// How long one address may take to answer when the configuration does not say.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// How often a silent server is asked whether it is there when the configuration does not say.
const ALIVE_INTERVAL: Duration = Duration::from_secs(15);

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
    /// The hosts to go through, the first one first; each has the way to it in its own `jumps` or `proxy_command`.
    pub jumps: Vec<Self>,
    /// A program whose standard input and output are the connection.
    pub proxy_command: Option<String>,
    /// User certificates to try with their keys; files that do not exist are passed over.
    pub certificate_files: Vec<PathBuf>,
    /// The methods that may be used, in order; empty for the default.
    pub preferred_authentications: Vec<String>,
    /// Whether GSSAPI is asked for, which only the `ssh` program can do.
    pub gssapi: bool,
    /// Whether new names in known_hosts are hashed.
    pub hash_known_hosts: bool,
    /// Whether further keys that the server proves to have are remembered.
    pub update_host_keys: bool,
    /// The address to try first, if the name has it: where the node was that is to be found again.
    pub preferred_address: Option<std::net::IpAddr>,
    /// Why only the `ssh` program can do what the configuration asks for.
    pub only_openssh: Option<String>,
    /// What was asked for; the `ssh` program is told the same.
    pub options: DestinationOptions,
    /// Options of the configuration that are not honoured, for the user to read.
    pub notes: Vec<String>,
}

/// What a configuration says, before defaults and expansion. Both readers produce it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Settings {
    hostname: Option<String>,
    user: Option<String>,
    port: Option<u16>,
    identity_files: Vec<String>,
    identities_only: bool,
    identity_agent: Option<String>,
    user_known_hosts: Option<Vec<String>>,
    global_known_hosts: Option<Vec<String>>,
    host_key_alias: Option<String>,
    strict: StrictHostKeyChecking,
    connect_timeout: Option<u64>,
    alive_interval: Option<u64>,
    notes: Vec<String>,
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
        let asked = options.asked()?;
        let settings = match openssh::settings(&asked, options.ssh_config.as_deref()).await? {
            Some(settings) => settings,
            None => config_file::settings(&asked, options.ssh_config.as_deref()).await,
        };
        let home = std::env::home_dir().unwrap_or_else(|| PathBuf::from("/"));
        assemble(options, asked, settings, &home)
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

/// Puts together what was asked for, what the configuration says and the defaults.
fn assemble(
    options: &DestinationOptions,
    asked: Address,
    settings: Settings,
    home: &Path,
) -> Result<Destination, SshError> {
    let resolved = Address {
        host: settings.hostname.unwrap_or_else(|| asked.host.clone()),
        user: asked.user.or(settings.user).or_else(local_user),
        port: asked.port.or(settings.port),
    };
    resolved.check()?;
    let Some(user) = resolved.user else {
        return Err(SshError::Resolve {
            destination: asked.host,
            reason: "no user name is known for it".to_owned(),
        });
    };
    let port = resolved.port.unwrap_or(22);
    let tokens = Tokens {
        home,
        host: &resolved.host,
        alias: &asked.host,
        user: &user,
        port,
    };
    let paths = |list: Vec<String>| -> Vec<PathBuf> {
        list.iter()
            .filter(|path| *path != "none")
            .map(|path| tokens.path(path))
            .collect()
    };
    let mut identity_files: Vec<PathBuf> = options
        .identity_file
        .iter()
        .map(|path| tokens.path(&path.to_string_lossy()))
        .collect();
    for path in paths(settings.identity_files) {
        if !identity_files.contains(&path) {
            identity_files.push(path);
        }
    }
    let mut known_hosts = match &options.known_hosts {
        Some(path) => vec![tokens.path(&path.to_string_lossy())],
        None => paths(settings.user_known_hosts.unwrap_or_else(|| {
            vec![
                "~/.ssh/known_hosts".to_owned(),
                "~/.ssh/known_hosts2".to_owned(),
            ]
        })),
    };
    known_hosts.extend(paths(settings.global_known_hosts.unwrap_or_else(|| {
        vec![
            "/etc/ssh/ssh_known_hosts".to_owned(),
            "/etc/ssh/ssh_known_hosts2".to_owned(),
        ]
    })));
    Ok(Destination {
        identity_agent: tokens.agent_socket(settings.identity_agent.as_deref()),
        host_alias: options.destination.clone(),
        hostname: resolved.host.clone(),
        user: user.clone(),
        port,
        identity_files,
        identities_only: settings.identities_only,
        known_hosts,
        host_key_alias: settings.host_key_alias,
        strict_host_key_checking: settings.strict,
        connect_timeout: seconds_or(settings.connect_timeout, CONNECT_TIMEOUT),
        server_alive_interval: seconds_or(settings.alive_interval, ALIVE_INTERVAL),
        jumps: vec![],
        proxy_command: None,
        certificate_files: options.certificate_file.iter().cloned().collect(),
        preferred_authentications: vec![],
        gssapi: false,
        hash_known_hosts: false,
        update_host_keys: false,
        preferred_address: None,
        only_openssh: None,
        options: options.clone(),
        notes: settings.notes,
    })
}

/// Zero means "not set" in the ssh configuration.
fn seconds_or(seconds: Option<u64>, default: Duration) -> Duration {
    match seconds {
        None | Some(0) => default,
        Some(seconds) => Duration::from_secs(seconds),
    }
}

fn local_user() -> Option<String> {
    ["USER", "LOGNAME", "USERNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok())
        .filter(|user| !user.is_empty())
}

/// Reads the three-and-a-half values of `StrictHostKeyChecking`.
fn strictness(value: &str) -> StrictHostKeyChecking {
    match value.to_ascii_lowercase().as_str() {
        "yes" | "true" => StrictHostKeyChecking::Yes,
        "no" | "false" | "off" | "accept-new" => StrictHostKeyChecking::AcceptNew,
        _ => StrictHostKeyChecking::Ask,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    #[test]
    fn what_was_asked_for_wins_over_the_configuration() {
        let options = DestinationOptions {
            destination: "cluster".to_owned(),
            identity_file: Some("~/.ssh/mine".into()),
            known_hosts: Some("~/known".into()),
            ..DestinationOptions::default()
        };
        let settings = Settings {
            hostname: Some("login.example".to_owned()),
            user: Some("config".to_owned()),
            port: Some(2200),
            identity_files: vec!["~/.ssh/mine".to_owned(), "%d/.ssh/%r@%h".to_owned()],
            global_known_hosts: Some(vec![]),
            ..Settings::default()
        };
        let found = assemble(
            &options,
            asked("alice@cluster"),
            settings,
            Path::new("/home/me"),
        )
        .unwrap();
        assert_eq!(found.user, "alice");
        assert_eq!(found.hostname, "login.example");
        assert_eq!(found.port, 2200);
        assert_eq!(found.host_key_name(), "[login.example]:2200");
        assert_eq!(
            found.identity_files,
            [
                PathBuf::from("/home/me/.ssh/mine"),
                PathBuf::from("/home/me/.ssh/alice@login.example")
            ]
        );
        assert_eq!(found.known_hosts, [PathBuf::from("/home/me/known")]);
        assert_eq!(found.connect_timeout, CONNECT_TIMEOUT);
    }

    #[test]
    fn a_configured_host_that_looks_like_an_option_is_refused() {
        let settings = Settings {
            hostname: Some("-oProxyCommand=evil".to_owned()),
            ..Settings::default()
        };
        let refused = assemble(
            &DestinationOptions::default(),
            asked("alice@cluster"),
            settings,
            Path::new("/"),
        );
        assert!(matches!(refused, Err(SshError::Resolve { .. })));
    }

    #[test]
    fn never_checking_is_read_as_accepting_new_keys_only() {
        assert_eq!(strictness("no"), StrictHostKeyChecking::AcceptNew);
        assert_eq!(strictness("true"), StrictHostKeyChecking::Yes);
        assert_eq!(strictness("ask"), StrictHostKeyChecking::Ask);
    }
}
