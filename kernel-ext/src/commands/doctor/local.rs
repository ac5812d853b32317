//! This machine: configuration, programs, keys, the bridge. Nothing is sent anywhere.

use std::path::{Path, PathBuf};

use hpcclient_protocol::{ApiError, ErrorCode};
use hpcclient_ssh::{Destination, TransportChoice};

use super::finding::Finding;
use crate::{
    bridge::agent_binary,
    commands::login,
    config::{self, Config},
    env_vars,
};

/// The cluster that is to be examined.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) name: String,
    pub(super) destination: Destination,
    /// The command of the configuration that renews the certificate.
    pub(super) renews: bool,
}

/// Looks at this machine; without a target there is nothing to connect to.
pub(super) async fn look(asked: &str) -> (Vec<Finding>, Option<Target>) {
    let mut findings = Vec::new();
    let config = match Config::load() {
        Ok(config) => {
            findings.push(configuration(&config));
            config
        }
        Err(error) => {
            let fix = "correct what it names, or move the file away";
            findings.push(Finding::fail("config", error_line(&error), fix));
            return (findings, None);
        }
    };
    let target = resolve(&config, asked).await;
    match &target {
        Ok(target) => findings.extend(ways(target)),
        Err(error) => findings.push(Finding::of_error("ssh config", error)),
    }
    findings.push(match agent_binary::find() {
        Ok(agent) => Finding::ok("agent program", shown(&agent.path)),
        Err(error) => Finding::of_error("agent program", &error),
    });
    findings.push(bridge().await);
    (findings, target.ok())
}

fn configuration(config: &Config) -> Finding {
    let file = config::file().unwrap_or_default();
    let names: Vec<_> = config.clusters.keys().map(String::as_str).collect();
    let shown = shown(&file);
    let detail = match names.as_slice() {
        [] if !file.exists() => format!("{shown} is not there: any ssh destination can be named"),
        [] => format!("{shown} names no cluster"),
        names => format!("{shown}: {}", names.join(", ")),
    };
    Finding::ok("config", detail)
}

async fn resolve(config: &Config, asked: &str) -> Result<Target, ApiError> {
    let name = config.cluster_name(asked)?;
    let destination = Destination::resolve(&config.destination(&name)).await;
    let destination = destination.map_err(|error| {
        let fix = "`ssh -G` with the same name shows what ssh makes of it";
        ApiError::new(ErrorCode::BadRequest, error.to_string()).hint(fix)
    })?;
    let known = config.cluster(&name);
    let renews = known.is_some_and(|known| known.renew_command.is_some());
    Ok(Target {
        name,
        destination,
        renews,
    })
}

/// What the ssh configuration comes to.
fn ways(target: &Target) -> Vec<Finding> {
    let Target {
        name, destination, ..
    } = target;
    let mut detail = format!("{name} is {}", endpoint(destination));
    if let Some(command) = &destination.proxy_command {
        detail.push_str(&format!(", through the program `{command}`"));
    } else if !destination.jumps.is_empty() {
        let jumps: Vec<_> = destination.jumps.iter().map(endpoint).collect();
        detail.push_str(&format!(", through {}", jumps.join(", ")));
    }
    let mut findings = vec![Finding::ok("ssh config", detail)];
    findings.push(transport(destination, ssh_program().as_deref()));
    for note in &destination.notes {
        let fix = format!(
            "if the login needs it, set `transport = \"openssh\"` for {name} in config.toml"
        );
        findings.push(Finding::warn("ssh config", note, fix));
    }
    findings.push(Finding::ok("keys", keys(destination)));
    findings
}

fn transport(destination: &Destination, ssh: Option<&Path>) -> Finding {
    let why = match (destination.options.transport, &destination.only_openssh) {
        (TransportChoice::Openssh, _) => Some("config.toml asks for it".to_owned()),
        (TransportChoice::Auto, Some(reason)) => Some(reason.clone()),
        _ => None,
    };
    match (why, ssh) {
        (Some(why), Some(ssh)) => {
            Finding::ok("transport", format!("the program {}: {why}", shown(ssh)))
        }
        (Some(why), None) => Finding::fail(
            "transport",
            format!("the `ssh` program is needed and is not in PATH: {why}"),
            "install OpenSSH's client",
        ),
        (None, Some(_)) => Finding::ok("transport", "built in (russh)"),
        (None, None) => Finding::warn(
            "transport",
            "built in (russh); without `ssh` in PATH only common keywords of ~/.ssh/config are read",
            "install OpenSSH's client",
        ),
    }
}

/// What could prove who the user is, before anything is tried.
fn keys(destination: &Destination) -> String {
    let files = destination.identity_files.iter();
    let certificates = destination.certificate_files.iter();
    let there = files.chain(certificates).filter(|file| file.exists());
    let mut found: Vec<_> = there.map(|file| shown(file)).collect();
    let agent = destination.identity_agent.as_ref();
    if let Some(agent) = agent.filter(|agent| agent.exists()) {
        found.push(format!("ssh-agent at {}", shown(agent)));
    }
    if found.is_empty() {
        "no key file and no ssh-agent: the server has to take something else".to_owned()
    } else {
        found.join(", ")
    }
}

async fn bridge() -> Finding {
    let status = async {
        match login::running_bridge().await? {
            Some(bridge) => bridge.status().await.map(Some),
            None => Ok(None),
        }
    };
    match status.await {
        Ok(Some(status)) => {
            let detail = format!("{} runs as process {}", status.version, status.pid);
            Finding::ok("bridge", detail)
        }
        Ok(None) => Finding::ok("bridge", "none runs; whoever needs one starts it"),
        Err(error) => Finding::of_error("bridge", &error.into()),
    }
}

/// Returns `user@host:port`.
pub(super) fn endpoint(destination: &Destination) -> String {
    let Destination {
        user,
        hostname,
        port,
        ..
    } = destination;
    format!("{user}@{hostname}:{port}")
}

/// Returns a path with the home as `~`.
pub(super) fn shown(path: &Path) -> String {
    let home = env_vars::path(env_vars::HOME);
    match home.and_then(|home| path.strip_prefix(home).ok().map(Path::to_owned)) {
        Some(below) => format!("~/{}", below.display()),
        None => path.display().to_string(),
    }
}

fn ssh_program() -> Option<PathBuf> {
    let path = std::env::var_os(env_vars::PATH)?;
    std::env::split_paths(&path)
        .map(|dir| dir.join("ssh"))
        .find(|program| program.is_file())
}

fn error_line(error: &ApiError) -> String {
    let causes = error.causes.iter();
    causes.fold(error.message.clone(), |text, cause| {
        format!("{text}\n{}", cause.trim_end())
    })
}

#[cfg(test)]
mod tests {
    use hpcclient_ssh::DestinationOptions;

    use super::{super::finding::State, *};

    async fn destination() -> Destination {
        let options = DestinationOptions {
            destination: "me@login.example".to_owned(),
            ssh_config: Some("/dev/null".into()),
            ..Default::default()
        };
        Destination::resolve(&options).await.unwrap()
    }

    #[tokio::test]
    async fn the_resolved_way_is_told() {
        let mut way = destination().await;
        let mut jump = way.clone();
        jump.hostname = "gate.example".to_owned();
        way.jumps = vec![jump];
        way.notes = vec!["BindAddress x is not used".to_owned()];
        let target = Target {
            name: "site".to_owned(),
            destination: way,
            renews: false,
        };
        let findings = ways(&target);
        assert_eq!(
            findings[0].detail,
            "site is me@login.example:22, through me@gate.example:22"
        );
        let note = findings.iter().find(|one| one.state == State::Warn);
        assert!(note.is_some_and(|one| one.detail.contains("BindAddress")));
    }

    #[tokio::test]
    async fn another_account_of_a_cluster_has_the_clusters_command() {
        let known = config::ClusterConfig {
            ssh_config: Some("/dev/null".into()),
            renew_command: Some(vec!["renew".to_owned()]),
            ..Default::default()
        };
        let config = Config {
            clusters: [("site".to_owned(), known)].into(),
            ..Default::default()
        };
        for name in ["site", "bob@site"] {
            assert!(resolve(&config, name).await.unwrap().renews, "{name}");
        }
    }

    #[tokio::test]
    async fn what_speaks_ssh_is_told_with_its_reason() {
        let mut way = destination().await;
        let ssh = Some(Path::new("/usr/bin/ssh"));
        assert_eq!(transport(&way, ssh).detail, "built in (russh)");
        assert_eq!(transport(&way, None).state, State::Warn);
        way.only_openssh = Some("GSSAPI is asked for".to_owned());
        assert!(transport(&way, ssh).detail.contains("GSSAPI"));
        assert_eq!(transport(&way, None).state, State::Fail);
        way.options.transport = TransportChoice::Russh;
        assert_eq!(transport(&way, ssh).detail, "built in (russh)");
    }
}
