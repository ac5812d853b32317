//! The way from this machine to a server, as often as a stream is wanted: TCP, a program, or the jump hosts.
//!
//! One login may need several sessions, because a first contact is put to a person between two of them. The jump hosts
//! are logged in to once, each by way of the one before; their sessions live as long as the way.
//!
//! Invariants: each jump host proves its own key and is logged in to with its own keys and questions; streams through a
//! jump host are pumped like any other channel; an error says which host it is about.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use russh::ChannelOpenFailure;
use russh::keys::PublicKey;

use super::log_in::log_in;
use super::named::named;
use super::opener::Opener;
use super::proxy_command;
use super::tasks::Tasks;
use crate::channel::ChannelStream;
use crate::known_hosts::KnownHost;
use crate::prompt::visible;
use crate::reached::{Reached, Upstream};
use crate::session::{Session, ShownKey};
use crate::{Destination, Prompter, SshError, tcp};

/// The jump hosts of a destination, logged in to, and what carries their streams.
pub(super) struct Way {
    hops: Vec<Hop>,
    last_address: Mutex<Option<IpAddr>>,
    tasks: Tasks,
}

/// A login on a host that leads on.
struct Hop {
    /// What the user calls it.
    name: String,
    /// `user@host:port`.
    address: String,
    opener: Opener,
}

impl Way {
    /// Logs in to the jump hosts.
    pub(super) async fn open(
        destination: &Destination,
        tasks: &Tasks,
        prompter: &Arc<dyn Prompter>,
    ) -> Result<Self, SshError> {
        let mut way = Self {
            hops: vec![],
            last_address: Mutex::default(),
            tasks: tasks.clone(),
        };
        let hosts = hosts_before(destination);
        for (index, host) in hosts.iter().enumerate() {
            let name = visible(&host.host_alias);
            let prompter = named(&name, prompter);
            prompter.progress("logging in to the jump host");
            let next = hosts.get(index + 1).copied().unwrap_or(destination);
            let login = log_in(host, &way, &prompter).await;
            let login = login.map_err(|error| names_the_hop(error, &name, next))?;
            way.hops.push(Hop {
                address: format!("{}@{}:{}", host.user, host.hostname, host.port),
                name,
                opener: Opener::new(login.session.handle, login.session.closed),
            });
        }
        Ok(way)
    }

    /// Whoever answers the destination's questions: they begin with its name if there are other hosts that ask.
    pub(super) fn prompter(
        &self,
        destination: &Destination,
        prompter: Arc<dyn Prompter>,
    ) -> Arc<dyn Prompter> {
        if self.hops.is_empty() {
            prompter
        } else {
            named(&destination.host_alias, &prompter)
        }
    }

    /// The jump hosts as `user@host:port`, the first one first.
    pub(super) fn addresses(&self) -> Vec<String> {
        self.hops.iter().map(|hop| visible(&hop.address)).collect()
    }

    /// The address that the last session was begun with, if nothing lies between.
    pub(super) fn last_address(&self) -> Option<IpAddr> {
        *self
            .last_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a session with the host at the end of the way; also returns its address if nothing lies between.
    pub(super) async fn session(
        &self,
        host: &Destination,
        known: KnownHost,
        accepted: Option<&PublicKey>,
        shown: &ShownKey,
        prompter: &Arc<dyn Prompter>,
    ) -> Result<(Session, Option<IpAddr>), SshError> {
        let reached = self.stream(host).await?;
        let upstream = reached.upstream.clone();
        let address = reached.address;
        *self
            .last_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = address;
        match Session::start(reached, host, known, accepted, shown, prompter).await {
            Ok(session) => Ok((session, address)),
            Err(
                error @ (SshError::Closed { .. }
                | SshError::Protocol { .. }
                | SshError::Timeout { .. }),
            ) => Err(match proxy_command::last_words(&upstream).await {
                // Its `ssh` was refused at a host in between: to try again would lock the account there.
                Some(said) if is_refusal(&said) => SshError::AuthFailed {
                    user: host.user.clone(),
                    host: host.hostname.clone(),
                    tried: vec!["ProxyCommand".to_owned()],
                    accepted: vec![],
                    needs_person: false,
                    reason: Some(said.into()),
                    expired: None,
                },
                Some(said) => SshError::ProxyCommand {
                    host: host.hostname.clone(),
                    reason: match error {
                        SshError::Closed { .. } => said,
                        other => format!("{other}; {said}"),
                    },
                },
                None => error,
            }),
            Err(error) => Err(error),
        }
    }

    async fn stream(&self, host: &Destination) -> Result<Reached, SshError> {
        if let Some(last) = self.hops.last() {
            return Ok(Reached {
                stream: Box::new(last.forward(host, &self.tasks).await?),
                address: None,
                upstream: self.hops.iter().map(Hop::upstream).collect(),
                carrier: None,
            });
        }
        if let Some(command) = &host.proxy_command {
            let ssh_agent = host.options.environment_agent.as_deref();
            return proxy_command::start(command, ssh_agent, &self.tasks);
        }
        let stream = tcp::connect(host).await?;
        Ok(Reached {
            address: stream.peer_addr().ok().map(|address| address.ip()),
            stream: Box::new(stream),
            upstream: vec![],
            carrier: None,
        })
    }

    /// Says farewell to the jump hosts, the last one first.
    pub(super) async fn close(&self) {
        for hop in self.hops.iter().rev() {
            hop.opener.farewell().await;
        }
    }
}

/// Whether a program's last words are those of an `ssh` that was not let in, or did not trust the key.
fn is_refusal(said: &str) -> bool {
    [
        "Permission denied (",
        "Too many authentication failures",
        "Host key verification failed",
    ]
    .iter()
    .any(|words| said.contains(words))
}

impl Hop {
    async fn forward(&self, host: &Destination, tasks: &Tasks) -> Result<ChannelStream, SshError> {
        let target = format!("{}:{}", host.hostname, host.port);
        let reason = match self.opener.direct_tcpip(&host.hostname, host.port).await {
            Ok(Ok(channel)) => {
                return Ok(ChannelStream::new(channel, &tasks.tracker, &tasks.stop));
            }
            Ok(Err(ChannelOpenFailure::ConnectFailed)) => format!("cannot connect to {target}"),
            Ok(Err(_)) => format!("does not forward connections to {target}"),
            Err(error) => format!("did not open a connection to {target}: {error}"),
        };
        Err(SshError::Jump {
            hop: self.name.clone(),
            host: host.hostname.clone(),
            reason,
        })
    }

    fn upstream(&self) -> Upstream {
        Upstream {
            name: format!("the jump host {}", self.name),
            closed: self.opener.closed(),
        }
    }
}

/// The hosts to log in to before a destination, in order. Only the first one is reached by its own way.
fn hosts_before(destination: &Destination) -> Vec<&Destination> {
    let Some((first, others)) = destination.jumps.split_first() else {
        return vec![];
    };
    let mut hosts = hosts_before(first);
    hosts.push(first);
    hosts.extend(others);
    hosts
}

/// Adds the jump host's name to an error that does not hold it.
fn names_the_hop(error: SshError, hop: &str, next: &Destination) -> SshError {
    match error {
        SshError::Closed { .. }
        | SshError::Protocol { .. }
        | SshError::Timeout { .. }
        | SshError::Io { .. } => SshError::Jump {
            hop: hop.to_owned(),
            host: next.hostname.clone(),
            reason: format!("cannot be logged in to: {}", in_full(&error)),
        },
        named => named,
    }
}

/// An error with its cause.
pub(super) fn in_full(error: &SshError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
