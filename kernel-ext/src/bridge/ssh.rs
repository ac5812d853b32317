//! Logs in over SSH and starts the agent there: `node`'s traits by `hpcclient-ssh`.
//!
//! Invariants: the configuration is read for each login, so an edit counts at once; what the node
//! says of itself is checked before it is shown or used.

use std::{
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use futures_util::future::BoxFuture;
use hpcclient_protocol::{
    ApiError, ErrorCode, PROTOCOL_VERSION, VERSION,
    bridge::{Certificate, Login, Route, Transport},
    status::AgentHello,
};
use hpcclient_ssh::{
    AgentBinary, AgentLine, Connection, Destination, DestinationOptions, NoPrompts, NodeOptions,
    NodeStream, Prompter, SshError, Workshop, visible,
};
use serde::Deserialize;
use tokio::sync::watch;

use super::{
    agent_binary,
    node::{AgentEnd, Dial, Dialled, NoLogin, Node, Way, is_host_name},
    place::Place,
    ssh_agents::SshAgents,
};
use crate::config::Config;

/// How long a living node may take to answer after the machine woke up; it is asked twice, and a
/// dead one is to be noticed within six seconds.
const PROBE: Duration = Duration::from_millis(2_500);

/// How long a server may take to take a connection that is made again.
const QUICK: Duration = Duration::from_secs(4);

/// Logs in over SSH.
#[derive(Clone, Debug)]
pub struct Ssh {
    agents: Arc<SshAgents>,
}

impl Ssh {
    /// Logs in with these ssh-agents where the configuration leaves it to the environment.
    #[must_use]
    pub const fn new(agents: Arc<SshAgents>) -> Self {
        Self { agents }
    }
}

impl Dial for Ssh {
    fn dial<'a>(
        &'a self,
        cluster: &'a str,
        way: Way,
        prompter: Arc<dyn Prompter>,
    ) -> BoxFuture<'a, Result<Dialled, NoLogin>> {
        Box::pin(async move {
            let (config, agent) = read_setup().await.map_err(NoLogin::reached)?;
            let options = DestinationOptions {
                environment_agent: self.agents.of(cluster).await,
                ..config.destination(cluster)
            };
            let mut destination = Destination::resolve(&options)
                .await
                .map_err(|error| NoLogin::reached(to_api_error(&error, cluster)))?;
            destination.preferred_address = way.near;
            if way.is_again {
                destination.connect_timeout = destination.connect_timeout.min(QUICK);
            }
            let shown = format!(
                "{}@{}:{}",
                destination.user, destination.hostname, destination.port
            );
            prompter.progress(&format!("logging in to {shown}"));
            let workshop = workshop().map_err(NoLogin::reached)?;
            let known = config.cluster(cluster);
            let connection = Connection::open(&destination, &workshop, prompter).await;
            let connection = connection.map_err(|error| {
                let is_reached = !matches!(error, SshError::Connect { .. });
                let has_ended =
                    matches!(&error, SshError::AuthFailed { expired: Some(it), .. } if it.ended.is_some());
                let mut error = to_api_error(&error, cluster);
                if has_ended {
                    let renews = known.is_some_and(|known| known.renew_command.is_some());
                    let what_helps = if renews {
                        format!("run `hpcclient renew {cluster}`")
                    } else {
                        "renew the certificate as your site says".to_owned()
                    };
                    error.hints.insert(0, what_helps);
                }
                NoLogin { error, is_reached }
            })?;
            let home = known.and_then(|known| known.node_home.clone());
            let options = NodeOptions { home };
            Ok(Dialled {
                destination: visible(&shown),
                node: Arc::new(SshNode {
                    cluster: cluster.to_owned(),
                    connection,
                    agent,
                    options,
                    here: Mutex::default(),
                }),
            })
        })
    }
}

/// Returns what an `ssh` program needs of this machine.
fn workshop() -> Result<Workshop, ApiError> {
    // On Linux this name stays good when the program's file is replaced while the bridge runs.
    let running = PathBuf::from(format!("/proc/{}/exe", std::process::id()));
    let askpass = if running.exists() {
        Ok(running)
    } else {
        std::env::current_exe()
    };
    let askpass = askpass.map_err(|error| {
        ApiError::new(ErrorCode::Internal, "cannot find this program").caused_by(&error)
    })?;
    let folder = Place::open()?.file("");
    Ok(Workshop { askpass, folder })
}

/// Reads what a login needs of this machine, away from the runtime: the home may be slow.
async fn read_setup() -> Result<(Config, AgentBinary), ApiError> {
    let read = tokio::task::spawn_blocking(|| {
        let config = Config::load()?;
        Ok((config, agent_binary::find()?))
    });
    read.await.unwrap_or_else(|error| {
        Err(ApiError::new(ErrorCode::Internal, "cannot read the configuration").caused_by(&error))
    })
}

#[derive(Debug)]
struct SshNode {
    cluster: String,
    connection: Connection,
    agent: AgentBinary,
    options: NodeOptions,
    /// The agent of the node that the login landed on: the same binary serves the others.
    here: Mutex<Option<AgentLine>>,
}

impl Node for SshNode {
    fn reach_agent<'a>(
        &'a self,
        prompter: &'a dyn Prompter,
    ) -> BoxFuture<'a, Result<AgentEnd, ApiError>> {
        Box::pin(async move {
            let failed = |error: SshError| to_api_error(&error, &self.cluster);
            let line = self
                .connection
                .ensure_agent(&self.agent, &self.options, prompter)
                .await
                .map_err(failed)?;
            let hello = read_hello(&line.json)?;
            let our_build = line.installed.clone();
            *locked(&self.here) = Some(line.clone());
            let stream = self
                .connection
                .open_agent_stream(&line, &hello.socket)
                .await;
            let (stream, route) = stream.map_err(failed)?;
            Ok(AgentEnd {
                hello,
                our_build,
                stream,
                route: to_route(route),
            })
        })
    }

    fn reach_node<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<AgentEnd, ApiError>> {
        Box::pin(async move {
            let failed = |error: SshError| to_api_error(&error, &self.cluster);
            let kept = locked(&self.here).clone();
            let here = match kept {
                Some(here) => here,
                None => {
                    let found = self
                        .connection
                        .ensure_agent(&self.agent, &self.options, &NoPrompts)
                        .await;
                    found.map_err(failed)?
                }
            };
            let there = self.connection.open_node_stream(host, &here).await;
            let NodeStream {
                agent,
                stream,
                route,
            } = there.map_err(failed)?;
            Ok(AgentEnd {
                hello: read_hello(&agent.json)?,
                our_build: agent.installed,
                stream,
                route: to_route(route),
            })
        })
    }

    fn login(&self) -> Login {
        let facts = self.connection.facts();
        let since_1970 = |time: SystemTime| {
            let passed = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
            u64::try_from(passed.as_millis()).ok()
        };
        Login {
            transport: if self.connection.is_openssh() {
                Transport::Openssh
            } else {
                Transport::Russh
            },
            offered: facts.offered,
            used: facts.used,
            certificate: facts.certificate.map(|certificate| Certificate {
                key_id: visible(&certificate.key_id),
                source: certificate.source,
                valid_until_ms: certificate.valid_until.and_then(since_1970),
            }),
            host_key: facts.host_key,
            server: facts.server.as_deref().map(visible),
            hops: facts.hops,
        }
    }

    fn address(&self) -> Option<IpAddr> {
        self.connection.address()
    }

    fn closed(&self) -> watch::Receiver<Option<String>> {
        self.connection.closed()
    }

    fn is_alive(&self) -> BoxFuture<'_, bool> {
        Box::pin(self.connection.alive(PROBE))
    }

    fn channels_opened(&self) -> u64 {
        self.connection.channels_opened()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.connection.close())
    }
}

/// A poisoned lock means that a holder panicked between two plain operations; the data is whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const fn to_route(route: hpcclient_ssh::Route) -> Route {
    match route {
        hpcclient_ssh::Route::Streamlocal => Route::Streamlocal,
        hpcclient_ssh::Route::Exec => Route::Exec,
    }
}

/// Reads the agent's hello; of another protocol only the version is understood.
fn read_hello(json: &str) -> Result<AgentHello, ApiError> {
    #[derive(Deserialize)]
    struct Versions {
        version: String,
        protocol: u32,
    }
    let unread = |error: serde_json::Error| {
        ApiError::new(
            ErrorCode::AgentFailed,
            "the agent's first line cannot be read",
        )
        .caused_by(&error)
    };
    let versions: Versions = serde_json::from_str(json).map_err(unread)?;
    if versions.protocol != PROTOCOL_VERSION {
        let theirs = visible(&versions.version);
        let message = format!(
            "the agent that runs there is hpcclient {theirs} with protocol {}, this is {VERSION} with protocol {PROTOCOL_VERSION}",
            versions.protocol
        );
        let hint = if versions.protocol > PROTOCOL_VERSION {
            format!("update hpcclient on this machine to {theirs} or later")
        } else {
            "the agent is the older side: when its runs are over, end its `hpcagent serve` process \
             on the node and connect again"
                .to_owned()
        };
        return Err(ApiError::new(ErrorCode::VersionMismatch, message).hint(hint));
    }
    let hello: AgentHello = serde_json::from_str(json).map_err(unread)?;
    if is_host_name(&hello.host) && hello.socket.starts_with('/') && !hello.socket.contains('\0') {
        Ok(hello)
    } else {
        let message = "the agent names a host or a socket that cannot be one";
        Err(ApiError::new(ErrorCode::AgentFailed, message))
    }
}

/// Turns a failed step of SSH into words, a code and what to do next.
fn to_api_error(error: &SshError, cluster: &str) -> ApiError {
    let code = match error {
        SshError::Resolve { .. } => ErrorCode::BadRequest,
        SshError::HostKeyUnknown { .. } => ErrorCode::HostKeyUnknown,
        SshError::HostKeyChanged { .. }
        | SshError::HostKeyRevoked { .. }
        | SshError::HostCertificate { .. } => ErrorCode::HostKeyChanged,
        SshError::AuthFailed { .. } => ErrorCode::AuthFailed,
        SshError::NoSpace { .. } => ErrorCode::NoSpace,
        SshError::Unsupported { .. }
        | SshError::Probe { .. }
        | SshError::NoExec { .. }
        | SshError::Folder { .. }
        | SshError::AgentBinary { .. }
        | SshError::Upload { .. }
        | SshError::AgentStart { .. } => ErrorCode::AgentFailed,
        _ => ErrorCode::ConnectFailed,
    };
    let mut api = ApiError::new(code, error.to_string());
    if let Some(source) = std::error::Error::source(error) {
        api = api.caused_by(source);
    }
    match error {
        SshError::Connect { host, .. } => api.hint(format!(
            "the site may require VPN; try `ssh {host} true`, or `hpcclient doctor {cluster}`"
        )),
        SshError::Jump { hop, host, .. } => api.hint(format!(
            "try `ssh {hop}` and `ssh {host}` from there; where only forwarding is off, \
             `ProxyCommand ssh {hop} nc %h %p` in ~/.ssh/config may do"
        )),
        SshError::HostKeyUnknown { .. } => api.hint(format!(
            "run `hpcclient connect {cluster}` in a terminal and compare the fingerprint with the site's"
        )),
        SshError::HostKeyChanged { host, file, line, .. } => api
            .hint("nothing was sent; somebody may be listening in: ask the site whether its key changed")
            .hint(format!(
                "if it did, remove line {line} of {} (`ssh-keygen -R {host}`) and connect again",
                file.display()
            )),
        SshError::AuthFailed { needs_person: true, .. } => api.hint(format!(
            "the login asks for something: run `hpcclient connect {cluster}` in a terminal"
        )),
        SshError::AuthFailed { .. } => api.hint(
            "check user and key: `identity_file` in config.toml, `ssh-add -l`, `~/.ssh/config`",
        ),
        SshError::NoSpace { path, .. } => {
            api.hint(format!("free some space in {path}, or set `node_home` in config.toml"))
        }
        SshError::Folder { .. } => {
            api.hint("set `node_home` in config.toml to a folder where the agent can be kept")
        }
        SshError::Probe { .. } | SshError::Timeout { step: "the start of the agent", .. } => api.hint(format!(
            "the account's shell and profile have to let a command run: try `ssh` with `/bin/sh -c true`, or `hpcclient doctor {cluster}`"
        )),
        SshError::NoExec { .. } => api.hint("set `node_home` in config.toml to another file system"),
        _ => api,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(host: &str, protocol: u32) -> String {
        format!(
            r#"{{"version":"9.9.9","protocol":{protocol},"build":"ab","socket":"/tmp/x/agent.sock","host":"{host}","pid":7}}"#
        )
    }

    #[test]
    fn another_protocol_says_which_side_to_update() {
        let newer = read_hello(&hello("login01", PROTOCOL_VERSION + 1)).unwrap_err();
        assert_eq!(newer.code, ErrorCode::VersionMismatch);
        assert!(newer.hints[0].contains("this machine"), "{newer}");
        let older = read_hello(r#"{"version":"0.0.1","protocol":0}"#).unwrap_err();
        assert_eq!(older.code, ErrorCode::VersionMismatch);
        assert!(older.hints[0].contains("the node"), "{older}");
    }

    #[test]
    fn a_node_cannot_call_itself_anything() {
        assert_eq!(
            read_hello(&hello("login01", PROTOCOL_VERSION)).unwrap().pid,
            7
        );
        for name in ["", "-x", "a b", "a;rm", "\\u001b[2J"] {
            assert!(
                read_hello(&hello(name, PROTOCOL_VERSION)).is_err(),
                "{name}"
            );
        }
    }

    #[test]
    fn each_failure_of_ssh_has_its_code_and_a_way_on() {
        let changed = SshError::HostKeyRevoked {
            host: "h".to_owned(),
            file: "/k".into(),
            line: 3,
        };
        assert_eq!(to_api_error(&changed, "c").code, ErrorCode::HostKeyChanged);
        let unreachable = SshError::Connect {
            host: "h".to_owned(),
            port: 22,
            source: std::io::Error::other("no route to host"),
        };
        let api = to_api_error(&unreachable, "c");
        assert_eq!(api.code, ErrorCode::ConnectFailed);
        assert_eq!(api.causes, ["no route to host"]);
        assert_eq!(api.hints.len(), 1);
    }
}
