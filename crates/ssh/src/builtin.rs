//! A login by the built-in client: start the agent, open streams to it, notice the end.
//!
//! Invariants: a first contact is put to the person between two sessions, never inside one; the streams' tasks end
//! with the connection; every request to the server has a deadline.
//!
//! Not here: trying again after a loss, which is the bridge's decision.

mod first_contact;
mod route;

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use russh::client::{Handle, Msg};
use russh::{Channel, ChannelOpenFailure, Disconnect};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::bootstrap;
use crate::channel::ChannelStream;
use crate::connection::{AgentLine, NodeOptions, NodeStream, Route};
use crate::facts::LoginFacts;
use crate::login::{self, Secrets};
use crate::session::{Client, Session};
use crate::{AgentBinary, Destination, Prompter, SshError};

/// How long the server may take to open a channel.
const OPEN_DEADLINE: Duration = Duration::from_secs(30);
/// How long a farewell may take.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);
/// How long to wait after each refusal of a channel: some servers allow one session at a time, and count the last one
/// until its processes have ended.
const REFUSED_PAUSES: [Duration; 6] = [
    Duration::from_millis(25),
    Duration::from_millis(75),
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];
/// How often a login is begun again because the server did not wait for a person's answer.
const MOST_SESSIONS: usize = 3;

/// One login. Clones are the same login; it ends when the last one and all its streams are dropped, or by
/// [`Builtin::close`].
#[derive(Clone)]
pub(crate) struct Builtin {
    inner: Arc<Inner>,
}

struct Inner {
    opener: Opener,
    /// The way that worked, for the next stream.
    route: Mutex<Option<Route>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// What opens channels, and counts them.
pub(crate) struct Opener {
    handle: Handle<Client>,
    closed: watch::Receiver<Option<String>>,
    opened: AtomicU64,
}

impl Builtin {
    /// Connects, checks the server's key and logs in.
    ///
    /// # Errors
    ///
    /// Whatever stood in the way, first of all [`SshError::Connect`], the host key errors and
    /// [`SshError::AuthFailed`].
    pub(crate) async fn open(
        destination: &Destination,
        prompter: Arc<dyn Prompter>,
    ) -> Result<Self, SshError> {
        for note in &destination.notes {
            prompter.progress(note);
        }
        let mut secrets = Secrets::default();
        let mut accepted = None;
        let mut sessions = 0;
        loop {
            let mut session = first_contact::session(destination, &mut accepted, &prompter).await?;
            sessions += 1;
            let outcome = login::login(&mut session, destination, &*prompter, &mut secrets).await;
            match outcome {
                Ok(()) => return Ok(Self::new(session)),
                Err(SshError::Closed { reason })
                    if secrets.take_asked() && sessions < MOST_SESSIONS =>
                {
                    tracing::info!(reason, "the session ended while a person was asked");
                    prompter.progress("the server did not wait for the answer; connecting again");
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn new(session: Session) -> Self {
        let opener = Opener {
            handle: session.handle,
            closed: session.closed,
            opened: AtomicU64::new(0),
        };
        Self {
            inner: Arc::new(Inner {
                opener,
                route: Mutex::new(None),
                tasks: TaskTracker::new(),
                stop: CancellationToken::new(),
            }),
        }
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
    pub(crate) async fn open_node_stream(
        &self,
        node: &str,
        _agent: &AgentLine,
    ) -> Result<NodeStream, SshError> {
        Err(SshError::Hop {
            node: node.to_owned(),
            reason: "not yet".to_owned(),
        })
    }

    /// How the login was made.
    pub(crate) fn facts(&self) -> LoginFacts {
        LoginFacts::default()
    }

    /// The address that the connection leads to; nothing if a host or a program lies between.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        None
    }

    /// Tells why the connection ended, once it did.
    pub(crate) fn closed(&self) -> watch::Receiver<Option<String>> {
        self.inner.opener.closed.clone()
    }

    /// How many channels were opened so far.
    pub(crate) fn channels_opened(&self) -> u64 {
        self.inner.opener.opened.load(Ordering::Relaxed)
    }

    /// Whether the server answers within a time. For use after the machine slept.
    pub(crate) async fn alive(&self, deadline: Duration) -> bool {
        let handle = &self.inner.opener.handle;
        let answered = tokio::time::timeout(deadline, handle.send_ping()).await;
        // The library also returns when the session ended while it waited.
        matches!(answered, Ok(Ok(()))) && !handle.is_closed()
    }

    /// Says farewell and ends all streams.
    pub(crate) async fn close(&self) {
        let handle = &self.inner.opener.handle;
        let farewell = handle.disconnect(Disconnect::ByApplication, "", "");
        let _ = tokio::time::timeout(CLOSE_DEADLINE, farewell).await;
        self.inner.stop.cancel();
        self.inner.tasks.close();
        let _ = tokio::time::timeout(CLOSE_DEADLINE, self.inner.tasks.wait()).await;
    }
}

impl std::fmt::Debug for Builtin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builtin")
            .field("closed", &*self.inner.opener.closed.borrow())
            .field("channels_opened", &self.channels_opened())
            .finish_non_exhaustive()
    }
}

impl Opener {
    /// Opens a channel for a command. A refusal is taken as final only after our last command had time to end.
    pub(crate) async fn session(&self) -> Result<Channel<Msg>, SshError> {
        let mut pauses = REFUSED_PAUSES.iter();
        loop {
            let refusal = match self.answered(self.handle.channel_open_session()).await? {
                Ok(channel) => return Ok(channel),
                Err(refusal) => refusal,
            };
            let may_be_full = matches!(
                refusal,
                ChannelOpenFailure::ConnectFailed | ChannelOpenFailure::ResourceShortage
            ) && self.opened.load(Ordering::Relaxed) > 0;
            match pauses.next() {
                Some(pause) if may_be_full => tokio::time::sleep(*pause).await,
                _ => return Err(russh::Error::ChannelOpenFailure(refusal).into()),
            }
        }
    }

    /// Opens a channel to a Unix socket on the node; nothing if the server refuses.
    pub(crate) async fn streamlocal(&self, socket: &str) -> Result<Option<Channel<Msg>>, SshError> {
        let request = self.handle.channel_open_direct_streamlocal(socket);
        Ok(self.answered(request).await?.ok())
    }

    /// Waits for the server's answer and counts the channel; a refusal is an answer too.
    async fn answered(
        &self,
        request: impl Future<Output = Result<Channel<Msg>, russh::Error>>,
    ) -> Result<Result<Channel<Msg>, ChannelOpenFailure>, SshError> {
        match tokio::time::timeout(OPEN_DEADLINE, request).await {
            Ok(Ok(channel)) => {
                self.opened.fetch_add(1, Ordering::Relaxed);
                Ok(Ok(channel))
            }
            Ok(Err(russh::Error::ChannelOpenFailure(refusal))) => Ok(Err(refusal)),
            Ok(Err(error)) => Err(match (SshError::from(error), &*self.closed.borrow()) {
                (SshError::Closed { .. }, Some(reason)) => SshError::Closed {
                    reason: reason.clone(),
                },
                (other, _) => other,
            }),
            Err(_) => Err(SshError::Timeout {
                step: "opening a channel",
                after: OPEN_DEADLINE,
            }),
        }
    }
}
