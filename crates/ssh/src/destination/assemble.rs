//! Putting together what was asked for, what the configuration says, and the defaults.
//!
//! Not here: the hosts on the way ([`super::jumps`]), which need further questions to the configuration.

use std::path::PathBuf;
use std::time::Duration;

use super::address::Address;
use super::local::Local;
use super::settings::Settings;
use super::tokens::Tokens;
use super::{Destination, DestinationOptions};
use crate::SshError;

/// How long one address may take to answer when the configuration does not say.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// How often a silent server is asked whether it is there when the configuration does not say.
const ALIVE_INTERVAL: Duration = Duration::from_secs(15);

const USER_KNOWN_HOSTS: [&str; 2] = ["~/.ssh/known_hosts", "~/.ssh/known_hosts2"];
const GLOBAL_KNOWN_HOSTS: [&str; 2] = ["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"];

/// A destination without its `jumps`, and the `ProxyJump` that they are to come from.
pub(super) fn assemble(
    options: &DestinationOptions,
    asked: &Address,
    settings: &Settings,
    local: &Local,
) -> Result<(Destination, Option<String>), SshError> {
    let resolved = Address {
        host: settings
            .hostname
            .clone()
            .unwrap_or_else(|| asked.host.clone()),
        user: asked
            .user
            .clone()
            .or_else(|| settings.user.clone())
            .or_else(|| local.user.clone()),
        port: asked.port.or(settings.port),
    };
    resolved.check()?;
    let refuse = |reason: String| SshError::Resolve {
        destination: asked.host.clone(),
        reason,
    };
    let Some(user) = resolved.user else {
        return Err(refuse("no user name is known for it".to_owned()));
    };
    let tokens = Tokens {
        local,
        host: &resolved.host,
        alias: &asked.host,
        user: &user,
        port: resolved.port.unwrap_or(22),
        host_key_alias: settings.host_key_alias.as_deref(),
        jump: settings.proxy_jump.as_deref(),
        environment_agent: options.environment_agent.as_deref(),
    };
    let proxy = |text: &Option<String>| {
        let expanded = text.as_deref().map(|text| tokens.proxy(text));
        expanded.transpose().map_err(refuse)
    };
    let (proxy_command, proxy_jump) = (
        proxy(&settings.proxy_command)?,
        proxy(&settings.proxy_jump)?,
    );
    let methods = settings.methods();
    if methods.is_empty() && !settings.forbidden.is_empty() {
        let reason = "the ssh configuration forbids every way to log in";
        return Err(refuse(reason.to_owned()));
    }
    let mut known_hosts = match (&options.known_hosts, &settings.user_known_hosts) {
        (Some(path), _) => vec![tokens.path(&path.to_string_lossy())],
        (None, Some(paths)) => own_first(&tokens, None, paths),
        (None, None) => USER_KNOWN_HOSTS.map(|path| tokens.path(path)).into(),
    };
    // New keys go to the first file; the user who wants none of them kept must not fill the system's.
    if known_hosts.iter().all(|path| path.as_os_str() == "none") {
        known_hosts = vec![PathBuf::from("/dev/null")];
    }
    // These have no tokens.
    known_hosts.extend(match &settings.global_known_hosts {
        Some(paths) => paths.iter().map(PathBuf::from).collect(),
        None => GLOBAL_KNOWN_HOSTS.map(PathBuf::from).to_vec(),
    });
    known_hosts.retain(|path| path.as_os_str() != "none");
    let destination = Destination {
        host_alias: options.destination.clone(),
        hostname: resolved.host.clone(),
        user: user.clone(),
        port: tokens.port,
        identity_files: own_first(
            &tokens,
            options.identity_file.as_ref(),
            &settings.identity_files,
        ),
        identities_only: settings.identities_only,
        identity_agent: tokens.agent_socket(settings.identity_agent.as_deref()),
        known_hosts,
        host_key_alias: settings.host_key_alias.clone(),
        strict_host_key_checking: settings.strict,
        connect_timeout: seconds_or(settings.connect_timeout, CONNECT_TIMEOUT),
        server_alive_interval: seconds_or(settings.alive_interval, ALIVE_INTERVAL),
        jumps: vec![],
        proxy_command,
        certificate_files: own_first(
            &tokens,
            options.certificate_file.as_ref(),
            &settings.certificate_files,
        ),
        gssapi: settings.gssapi
            && (methods.is_empty() || methods.iter().any(|method| method.starts_with("gssapi"))),
        preferred_authentications: methods,
        hash_known_hosts: settings.hash_known_hosts,
        update_host_keys: settings.update_host_keys,
        preferred_address: None,
        only_openssh: None,
        options: options.clone(),
        notes: vec![],
    };
    Ok((destination, proxy_jump))
}

/// The file of the cluster's own entry, then those of the configuration, each once.
fn own_first(tokens: &Tokens<'_>, own: Option<&PathBuf>, configured: &[String]) -> Vec<PathBuf> {
    let own = own.map(|path| tokens.path(&path.to_string_lossy()));
    let mut paths: Vec<PathBuf> = own.into_iter().collect();
    for path in configured.iter().filter(|path| *path != "none") {
        let path = tokens.path(path);
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    paths
}

/// Zero means "not set" in the ssh configuration.
fn seconds_or(seconds: Option<u64>, default: Duration) -> Duration {
    match seconds {
        None | Some(0) => default,
        Some(seconds) => Duration::from_secs(seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assembled(
        options: &DestinationOptions,
        asked: &str,
        settings: &Settings,
    ) -> Result<(Destination, Option<String>), SshError> {
        let local = Local {
            home: "/home/me".into(),
            user: Some("me".to_owned()),
            uid: 1000,
            hostname: "laptop".to_owned(),
        };
        assemble(options, &Address::parse(asked).unwrap(), settings, &local)
    }

    #[test]
    fn what_was_asked_for_wins_over_the_configuration() {
        let options = DestinationOptions {
            destination: "cluster".to_owned(),
            identity_file: Some("~/.ssh/mine".into()),
            certificate_file: Some("~/.ssh/mine-cert.pub".into()),
            known_hosts: Some("~/known".into()),
            ..DestinationOptions::default()
        };
        let settings = Settings {
            hostname: Some("login.example".to_owned()),
            user: Some("config".to_owned()),
            port: Some(2200),
            identity_files: vec!["~/.ssh/mine".to_owned(), "%d/.ssh/%r@%h".to_owned()],
            certificate_files: vec!["~/.ssh/%n-cert.pub".to_owned(), "none".to_owned()],
            global_known_hosts: Some(vec![]),
            proxy_command: Some("nc '%h' %p %n %%".to_owned()),
            ..Settings::default()
        };
        let (found, _) = assembled(&options, "alice@cluster", &settings).unwrap();
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
        assert_eq!(
            found.certificate_files,
            [
                PathBuf::from("/home/me/.ssh/mine-cert.pub"),
                PathBuf::from("/home/me/.ssh/cluster-cert.pub")
            ]
        );
        assert_eq!(found.known_hosts, [PathBuf::from("/home/me/known")]);
        assert_eq!(found.connect_timeout, CONNECT_TIMEOUT);
        let command = found.proxy_command.as_deref();
        assert_eq!(command, Some("nc 'login.example' 2200 cluster %"));
    }

    #[test]
    fn a_configuration_that_cannot_be_followed_is_refused() {
        let text = |text: &str| Some(text.to_owned());
        for settings in [
            Settings {
                hostname: text("-oProxyCommand=evil"),
                ..Settings::default()
            },
            Settings {
                hostname: text("a`touch x`"),
                proxy_command: text("nc %h"),
                ..Settings::default()
            },
            Settings {
                proxy_command: text("nc %z"),
                ..Settings::default()
            },
            Settings {
                preferred_authentications: vec!["publickey".to_owned()],
                forbidden: vec!["publickey"],
                ..Settings::default()
            },
        ] {
            let refused = assembled(&DestinationOptions::default(), "cluster", &settings);
            assert!(matches!(refused, Err(SshError::Resolve { .. })));
        }
    }
}
