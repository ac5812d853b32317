//! The two things that a cluster's actor needs of the outside: a login, and what it leads to.
//!
//! `ssh` implements them over SSH; the package's tests implement them over a Unix socket.

use std::{fmt::Debug, sync::Arc};

use futures_util::future::BoxFuture;
use hpcclient_protocol::{ApiError, bridge::Route, status::AgentHello};
use hpcclient_ssh::Prompter;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};

/// Logs in to clusters.
pub trait Dial: Debug + Send + Sync + 'static {
    /// Logs in to a cluster by its name; questions go to the prompter.
    fn dial<'a>(
        &'a self,
        cluster: &'a str,
        prompter: Arc<dyn Prompter>,
    ) -> BoxFuture<'a, Result<Dialled, ApiError>>;
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
    pub stream: Box<dyn Stream>,
    /// The way it takes.
    pub route: Route,
}

/// A byte stream in both directions.
pub trait Stream: AsyncRead + AsyncWrite + Debug + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Debug + Send + Unpin + 'static> Stream for T {}
