//! A login by the built-in client: start the agent, open streams to it, notice the end.
//!
//! Invariants: a first contact is put to the person between two sessions, never inside one; the streams' tasks, the
//! jump hosts' sessions and the programs on the way end with the connection; every request to the server has a deadline.
//!
//! Not here: trying again after a loss, which is the bridge's decision.

mod first_contact;
mod log_in;
mod named;
mod new_keys;
mod nodes;
mod opener;
mod proxy_command;
mod route;
mod tasks;
mod way;

pub(crate) use nodes::{SSH_THERE, is_name};
pub(crate) use route::{HELLO_DEADLINE, MOST_NOISE, split_hello};

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;

use crate::bootstrap;
use crate::channel::ChannelStream;
use crate::connection::{AgentLine, NodeOptions, NodeStream, Route};
use crate::facts::LoginFacts;
use crate::{AgentBinary, Destination, Prompter, SshError};
use log_in::{LoggedIn, log_in};
use nodes::Nodes;
pub(crate) use opener::Opener;
use tasks::Tasks;
use way::Way;

/// One login. Clones are the same login; it ends when the last one and all its streams are dropped, or by
/// [`Builtin::close`].
#[derive(Clone)]
pub(crate) struct Builtin {
    inner: Arc<Inner>,
}

struct Inner {
    destination: Destination,
    opener: Opener,
    /// The way to the agent that worked, for the next stream.
    route: Mutex<Option<Route>>,
    /// Other nodes, by way of this one.
    nodes: Nodes,
    /// What the session goes through; it ends after it.
    way: Way,
    address: Option<IpAddr>,
    facts: LoginFacts,
    tasks: Tasks,
}

impl Builtin {
    /// Logs in to the jump hosts, connects, checks the server's key and logs in.
    ///
    /// # Errors
    ///
    /// Whatever stood in the way, first of all [`SshError::Connect`], the host key errors and
    /// [`SshError::AuthFailed`].
    pub(crate) async fn open(
        destination: &Destination,
        prompter: Arc<dyn Prompter>,
    ) -> Result<Self, SshError> {
        let tasks = Tasks::default();
        let way = Way::open(destination, &tasks, &prompter).await?;
        let prompter = way.prompter(destination, prompter);
        let LoggedIn {
            session,
            address,
            facts,
        } = log_in(destination, &way, &prompter).await?;
        let facts = LoginFacts {
            hops: way.addresses(),
            ..facts
        };
        let announced = session.announced;
        let inner = Arc::new(Inner {
            destination: destination.clone(),
            opener: Opener::new(session.handle, session.closed),
            route: Mutex::new(None),
            nodes: Nodes::default(),
            way,
            address,
            facts,
            tasks,
        });
        inner.tasks.tracker.spawn(new_keys::learn(
            announced,
            Arc::downgrade(&inner),
            new_keys::Learner::new(destination, prompter),
        ));
        Ok(Self { inner })
    }

    /// Has the agent run on the node, and installs it first if it is not there.
    ///
    /// # Errors
    ///
    /// What the node lacks ([`SshError::NoSpace`], [`SshError::NoExec`], [`SshError::Unsupported`]), or the step that
    /// failed.
    pub(crate) async fn ensure_agent(
        &self,
        agent: &AgentBinary,
        node: &NodeOptions,
        prompter: &dyn Prompter,
    ) -> Result<AgentLine, SshError> {
        bootstrap::ensure(&self.inner.opener, agent, node, prompter).await
    }

    /// Opens a byte stream to the agent's socket: by a forwarded socket, or where the server refuses that, through
    /// `hpcagent connect`.
    ///
    /// # Errors
    ///
    /// [`SshError::AgentStart`] if neither way reaches an agent, or what happened to the connection.
    pub(crate) async fn open_agent_stream(
        &self,
        agent: &AgentLine,
        socket: &str,
    ) -> Result<(ChannelStream, Route), SshError> {
        route::open(&self.inner, agent, socket).await
    }

    /// Opens a stream to the agent of another node, by way of this one.
    ///
    /// # Errors
    ///
    /// [`SshError::Hop`] if no way leads there, or what happened to the connection.
    pub(crate) async fn open_node_stream(
        &self,
        node: &str,
        agent: &AgentLine,
    ) -> Result<NodeStream, SshError> {
        self.inner.nodes.open(&self.inner, node, agent).await
    }

    /// How the login was made.
    pub(crate) fn facts(&self) -> LoginFacts {
        self.inner.facts.clone()
    }

    /// The address that the connection leads to; nothing if a host or a program lies between.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.inner.address
    }

    /// Tells why the connection ended, once it did.
    pub(crate) fn closed(&self) -> watch::Receiver<Option<String>> {
        self.inner.opener.closed()
    }

    /// How many channels were opened so far.
    pub(crate) fn channels_opened(&self) -> u64 {
        self.inner.opener.opened()
    }

    /// Whether the server answers within a time. For use after the machine slept.
    pub(crate) async fn alive(&self, deadline: Duration) -> bool {
        self.inner.opener.alive(deadline).await
    }

    /// Says farewell, from the far end to the near one, and ends all streams.
    pub(crate) async fn close(&self) {
        self.inner.nodes.close().await;
        self.inner.opener.farewell().await;
        self.inner.way.close().await;
        self.inner.tasks.end().await;
    }
}

impl std::fmt::Debug for Builtin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builtin")
            .field("closed", &*self.closed().borrow())
            .field("channels_opened", &self.channels_opened())
            .finish_non_exhaustive()
    }
}
