//! The two things that a cluster's actor needs of the outside: a login, and what it leads to.
//!
//! `ssh` implements them over SSH; the package's tests implement them over a Unix socket.

use std::{fmt::Debug, net::IpAddr, sync::Arc};

use futures_util::future::BoxFuture;
use hpcclient_protocol::{
    ApiError,
    bridge::{Login, Route},
    status::AgentHello,
};
use hpcclient_ssh::{AgentStream, Prompter};
use tokio::sync::watch;

/// Logs in to clusters.
pub trait Dial: Debug + Send + Sync + 'static {
    /// Logs in to a cluster by its name; questions go to the prompter.
    fn dial<'a>(
        &'a self,
        cluster: &'a str,
        way: Way,
        prompter: Arc<dyn Prompter>,
    ) -> BoxFuture<'a, Result<Dialled, NoLogin>>;
}

/// How to go about a login.
#[derive(Clone, Copy, Debug, Default)]
pub struct Way {
    /// Of several addresses this one comes first.
    pub near: Option<IpAddr>,
    /// Whether a lost connection is made again: then each try is short, because the next one follows soon.
    pub is_again: bool,
}

/// Why there is no login.
#[derive(Clone, Debug)]
pub struct NoLogin {
    /// What failed.
    pub error: ApiError,
    /// Whether a server was reached; one that was must not be asked again and again.
    pub is_reached: bool,
}

impl NoLogin {
    /// Returns a failure before any server took the connection.
    #[must_use]
    pub const fn unreached(error: ApiError) -> Self {
        Self {
            error,
            is_reached: false,
        }
    }

    /// Returns a failure at a server, or one that may have been.
    #[must_use]
    pub const fn reached(error: ApiError) -> Self {
        Self {
            error,
            is_reached: true,
        }
    }
}

/// A login that worked.
#[derive(Clone, Debug)]
pub struct Dialled {
    /// `user@host:port` as it was resolved.
    pub destination: String,
    /// What it leads to.
    pub node: Arc<dyn Node>,
}

/// A node that we are logged in to.
pub trait Node: Debug + Send + Sync + 'static {
    /// Installs and starts the agent where needed, and opens a stream to it.
    fn reach_agent<'a>(
        &'a self,
        prompter: &'a dyn Prompter,
    ) -> BoxFuture<'a, Result<AgentEnd, ApiError>>;

    /// Opens a stream to the agent of another node of the cluster, by way of this one.
    fn reach_node<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<AgentEnd, ApiError>>;

    /// Returns how the login was made.
    fn login(&self) -> Login;

    /// Returns the address that the login led to, if it is known.
    fn address(&self) -> Option<IpAddr>;

    /// Tells why the login ended, once it has.
    fn closed(&self) -> watch::Receiver<Option<String>>;

    /// Asks the other side whether it is there.
    fn is_alive(&self) -> BoxFuture<'_, bool>;

    /// Returns how many channels were opened.
    fn channels_opened(&self) -> u64;

    /// Ends the login.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// A stream to an agent.
#[derive(Debug)]
pub struct AgentEnd {
    /// Who the agent says it is; its protocol is ours.
    pub hello: AgentHello,
    /// The SHA-256 of the binary that we would run there, in hex.
    pub our_build: String,
    /// The stream to its socket.
    pub stream: AgentStream,
    /// The way it takes.
    pub route: Route,
}

/// Returns whether a text that a node sent can be a host's name.
pub(crate) fn is_host_name(text: &str) -> bool {
    let mut letters = text.chars();
    letters
        .next()
        .is_some_and(|first| first.is_ascii_alphanumeric())
        && letters.all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
        && text.len() <= 253
}
