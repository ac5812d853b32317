//! One login on a node, whichever program speaks SSH, and what the bridge does with it.
//!
//! Invariants: both transports do the same; what they open ends with them.
//!
//! Not here: how each of them does it (`builtin`, `openssh`), and trying again after a loss, which is the bridge's
//! decision.

use std::fmt::Debug;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use crate::builtin::Builtin;
use crate::openssh::Openssh;
use crate::{AgentBinary, Destination, LoginFacts, Prompter, SshError, TransportChoice};

/// What is particular to the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeOptions {
    /// `HPCCLIENT_HOME` on the node; may start with `~/`.
    pub home: Option<String>,
}

/// A running agent, as it told of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentLine {
    /// The JSON of its hello line.
    pub json: String,
    /// The absolute path of its binary on the node.
    pub exec: String,
    /// `HPCCLIENT_HOME` that it was started with, if that is set.
    pub home: Option<String>,
    /// The SHA-256 of the binary at `exec`, in lowercase hex. The running agent may be of another one.
    pub installed: String,
}

/// A byte stream to an agent.
pub trait ByteStream: AsyncRead + AsyncWrite + Debug + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Debug + Send + Unpin + 'static> ByteStream for T {}

/// A byte stream to an agent's socket.
pub type AgentStream = Box<dyn ByteStream>;

/// The agent of a node that was reached by way of another one.
#[derive(Debug)]
pub struct NodeStream {
    /// The agent, as it told of itself.
    pub agent: AgentLine,
    /// The stream to its socket.
    pub stream: AgentStream,
    /// The way to the socket on that node.
    pub route: Route,
}

/// A way from the login node's sshd to the agent's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// A forwarded Unix socket.
    Streamlocal,
    /// An exec channel that runs `hpcagent connect`.
    Exec,
}

/// What the `ssh` program needs of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workshop {
    /// A program that calls [`crate::askpass::run`] when it is started by a name that ends in
    /// [`crate::askpass::NAME`].
    pub askpass: PathBuf,
    /// A folder of the user's that nobody else can enter, with a short name.
    pub folder: PathBuf,
}

/// One login. Clones are the same login; it ends when the last one and all its streams are dropped, or by
/// [`Connection::close`].
#[derive(Clone, Debug)]
pub struct Connection(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Builtin(Builtin),
    Openssh(Openssh),
}

impl Connection {
    /// Connects, checks the server's key and logs in.
    ///
    /// # Errors
    ///
    /// Whatever stood in the way, first of all [`SshError::Connect`], the host key errors and
    /// [`SshError::AuthFailed`].
    pub async fn open(
        destination: &Destination,
        workshop: &Workshop,
        prompter: Arc<dyn Prompter>,
    ) -> Result<Self, SshError> {
        for note in &destination.notes {
            tracing::info!(note, "not honoured");
        }
        let choice = destination.options.transport;
        let by_openssh = match (choice, &destination.only_openssh) {
            (TransportChoice::Openssh, _) => true,
            (TransportChoice::Auto, Some(reason)) => {
                prompter.progress(&format!("using the ssh program: {reason}"));
                true
            }
            _ => false,
        };
        Ok(Self(if by_openssh {
            Kind::Openssh(Openssh::open(destination, workshop, prompter).await?)
        } else {
            Kind::Builtin(Builtin::open(destination, prompter).await?)
        }))
    }

    /// Has the agent run on the node, and installs it first if it is not there.
    ///
    /// # Errors
    ///
    /// What the node lacks ([`SshError::NoSpace`], [`SshError::NoExec`], [`SshError::Unsupported`]), or the step that
    /// failed.
    pub async fn ensure_agent(
        &self,
        agent: &AgentBinary,
        node: &NodeOptions,
        prompter: &dyn Prompter,
    ) -> Result<AgentLine, SshError> {
        match &self.0 {
            Kind::Builtin(login) => login.ensure_agent(agent, node, prompter).await,
            Kind::Openssh(login) => login.ensure_agent(agent, node, prompter).await,
        }
    }

    /// Opens a byte stream to the agent's socket: by a forwarded socket, or where the server refuses that, through
    /// `hpcagent connect`.
    ///
    /// # Errors
    ///
    /// [`SshError::AgentStart`] if no way reaches an agent, or what happened to the connection.
    pub async fn open_agent_stream(
        &self,
        agent: &AgentLine,
        socket: &str,
    ) -> Result<(AgentStream, Route), SshError> {
        match &self.0 {
            Kind::Builtin(login) => {
                let (stream, route) = login.open_agent_stream(agent, socket).await?;
                Ok((Box::new(stream), route))
            }
            Kind::Openssh(login) => {
                let stream = login.open_agent_stream(agent).await?;
                Ok((stream, Route::Exec))
            }
        }
    }

    /// Opens a stream to the agent of another node, by way of this one; nobody is asked anything.
    ///
    /// # Errors
    ///
    /// [`SshError::Hop`] if that node cannot be reached from here, or what happened to the connection.
    pub async fn open_node_stream(
        &self,
        node: &str,
        agent: &AgentLine,
    ) -> Result<NodeStream, SshError> {
        match &self.0 {
            Kind::Builtin(login) => login.open_node_stream(node, agent).await,
            Kind::Openssh(login) => login.open_node_stream(node, agent).await,
        }
    }

    /// How the login was made.
    #[must_use]
    pub fn facts(&self) -> LoginFacts {
        match &self.0 {
            Kind::Builtin(login) => login.facts(),
            Kind::Openssh(login) => login.facts(),
        }
    }

    /// Whether the system's `ssh` program made this connection.
    #[must_use]
    pub const fn is_openssh(&self) -> bool {
        matches!(self.0, Kind::Openssh(_))
    }

    /// The address that the connection leads to; nothing if it is not known or another host lies between.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        match &self.0 {
            Kind::Builtin(login) => login.address(),
            Kind::Openssh(_) => None,
        }
    }

    /// Tells why the connection ended, once it did.
    #[must_use]
    pub fn closed(&self) -> watch::Receiver<Option<String>> {
        match &self.0 {
            Kind::Builtin(login) => login.closed(),
            Kind::Openssh(login) => login.closed(),
        }
    }

    /// How many channels were opened so far.
    #[must_use]
    pub fn channels_opened(&self) -> u64 {
        match &self.0 {
            Kind::Builtin(login) => login.channels_opened(),
            Kind::Openssh(_) => 1,
        }
    }

    /// Whether the server answers within a time. For use after the machine slept or its network changed.
    pub async fn alive(&self, deadline: Duration) -> bool {
        match &self.0 {
            Kind::Builtin(login) => login.alive(deadline).await,
            Kind::Openssh(login) => login.alive(deadline).await,
        }
    }

    /// Says farewell and ends all streams.
    pub async fn close(&self) {
        match &self.0 {
            Kind::Builtin(login) => login.close().await,
            Kind::Openssh(login) => login.close().await,
        }
    }
}
