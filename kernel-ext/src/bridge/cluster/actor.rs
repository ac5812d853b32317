//! The task that owns one cluster's connection: what it is asked, and which state follows which.
//!
//! ```text
//!   Disconnected ──connect──► Connecting ──► Connected ◄──► Reconnecting
//!        ▲  ▲                     │              │               │
//!        │  └──────disconnect─────┼──────────────┴───────────────┤
//!        │                        ▼                              ▼
//!        └───disconnect──────── Failed ◄───────── needs the user ┘
//! ```
//!
//! `hold` keeps a connection, `again` makes a lost one again, `arrive` is one login.
//! Invariants: one login at a time, shared by all who ask for it; a lost connection is made again
//! without asking anybody, for ever while the network is at fault, and not at all once the server
//! refused the login or showed another key.

use std::{sync::Arc, time::Duration};

use hpcclient_protocol::{
    ApiError, ErrorCode,
    bridge::{ClusterState, ConnectEvent},
};
use hpcclient_ssh::visible;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    arrive::{Session, Wish, arrive},
    nodes::{KnownNode, Nodes},
    now_ms,
    reach::OtherBuild,
    view::{View, Waiting},
};
use crate::bridge::{
    node::{Dial, NoLogin},
    prompt::Askers,
    server::Shared,
};

/// How long an attempt may go on after the machine woke or its network changed under it: what it
/// began with may be gone, and its own patience is far longer.
const OUTLIVES_A_CHANGE: Duration = Duration::from_secs(5);

/// What the handles ask for.
#[derive(Debug)]
pub(super) enum Command {
    /// Connect, or tell that it is connected.
    Connect(mpsc::Sender<ConnectEvent>),
    /// End the connection and tell when it has ended.
    Disconnect(oneshot::Sender<()>),
    /// The machine has slept; look whether the connection lives.
    Woke,
    /// The machine's addresses or routes are others now; look whether the connection lives.
    NetworkChanged,
    /// Somebody ended the agent on purpose; it is not to be brought back.
    AgentStopped,
    /// The user's certificate was renewed; the next login will use the new one.
    Renewed,
}

/// What to do next.
pub(super) enum Next {
    Rest,
    LogIn,
    Hold(Box<Session>),
    Again(ApiError),
    Over,
}

/// How an attempt ended.
pub(super) enum Attempt {
    Done(Result<Box<Session>, NoLogin>),
    /// The network it began on is gone; nobody was asked anything.
    Outdated,
    Left(Next),
}

/// What the actor works with.
pub(super) struct Tools {
    pub(super) dial: Arc<dyn Dial>,
    pub(super) askers: Arc<Askers>,
    pub(super) nodes: Arc<Nodes>,
    pub(super) shared: Shared,
}

/// The owner of the connection.
pub(super) struct Actor {
    pub(super) name: String,
    dial: Arc<dyn Dial>,
    pub(super) askers: Arc<Askers>,
    nodes: Arc<Nodes>,
    pub(super) inbox: mpsc::Receiver<Command>,
    pub(super) view: watch::Sender<View>,
    pub(super) tasks: TaskTracker,
    pub(super) cancel: CancellationToken,
    /// What the next login does with another build: it replaces it once, and again after the user
    /// has disconnected.
    pub(super) other_build: OtherBuild,
    /// How many connections in a row did not hold.
    pub(super) brief: u32,
    /// When the machine woke or its network changed during the attempt.
    pub(super) changed: Option<Instant>,
}

impl Actor {
    pub(super) fn new(
        name: &str,
        tools: Tools,
        inbox: mpsc::Receiver<Command>,
        view: watch::Sender<View>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            dial: tools.dial,
            askers: tools.askers,
            nodes: tools.nodes,
            inbox,
            view,
            tasks: tools.shared.tasks,
            cancel: tools.shared.cancel,
            other_build: OtherBuild::Replace,
            brief: 0,
            changed: None,
        }
    }

    /// Runs until the bridge stops.
    pub(super) async fn run(mut self) {
        let mut next = Next::Rest;
        loop {
            next = match next {
                Next::Rest => self.rest().await,
                Next::LogIn => self.log_in().await,
                Next::Hold(session) => self.hold(*session).await,
                Next::Again(error) => self.again(error).await,
                Next::Over => return,
            };
        }
    }

    async fn rest(&mut self) -> Next {
        loop {
            match command(&mut self.inbox, &self.cancel).await {
                Some(Command::Connect(asker)) => {
                    self.askers.join(asker);
                    return Next::LogIn;
                }
                Some(Command::Disconnect(done)) => self.disconnected(Some(done)),
                Some(_) => {}
                None => return Next::Over,
            }
        }
    }

    /// Logs in while somebody waits for it.
    async fn log_in(&mut self) -> Next {
        tracing::info!(cluster = self.name, "connecting");
        self.brief = 0;
        self.publish(ClusterState::Connecting, None, Some(Waiting::Login));
        match self.attempt(false).await {
            Attempt::Done(Ok(session)) => Next::Hold(session),
            Attempt::Done(Err(failure)) => self.fail(failure.error),
            Attempt::Outdated => Next::LogIn,
            Attempt::Left(next) => next,
        }
    }

    /// Makes one login; those who ask in the meantime join it. One that makes a connection again
    /// is given up when the network changes under it, unless somebody has answered a question.
    pub(super) async fn attempt(&mut self, is_again: bool) -> Attempt {
        self.askers.begin();
        self.changed = None;
        self.view.send_modify(|view| view.is_renewed = false);
        let wish = Wish {
            cluster: self.name.clone(),
            is_again,
            other_build: self.other_build,
            known: self.nodes.get(&self.name),
        };
        let (dial, askers) = (Arc::clone(&self.dial), Arc::clone(&self.askers));
        let tasks = self.tasks.clone();
        let mut login = std::pin::pin!(arrive(dial, askers, tasks, wish));
        loop {
            let outdated = self
                .changed
                .filter(|_| is_again && !self.askers.has_asked());
            tokio::select! {
                result = &mut login => return Attempt::Done(result),
                () = at(outdated.map(|changed| changed + OUTLIVES_A_CHANGE)) => {
                    if !self.askers.has_asked() {
                        return Attempt::Outdated;
                    }
                }
                command = command(&mut self.inbox, &self.cancel) => match command {
                    Some(Command::Connect(asker)) => self.askers.join(asker),
                    Some(Command::Disconnect(done)) => {
                        self.disconnected(Some(done));
                        return Attempt::Left(Next::Rest);
                    }
                    Some(Command::Woke | Command::NetworkChanged) => {
                        self.changed.get_or_insert_with(Instant::now);
                    }
                    Some(Command::AgentStopped | Command::Renewed) => {}
                    None => return Attempt::Left(Next::Over),
                },
            }
        }
    }

    /// Shows a connection to all, and remembers where it led.
    pub(super) fn connected(&self, session: &Session) {
        let known = KnownNode {
            destination: session.dialled.destination.clone(),
            host: session.hello.host.clone(),
            boot_id: session.hello.boot_id.clone(),
            address: session.address,
        };
        self.nodes.put(&self.name, Some(known), &self.tasks);
        self.view.send_modify(|view| {
            view.status.state = ClusterState::Connected;
            view.status.since_ms = now_ms();
            view.status.error = None;
            view.status.retry_ms = None;
            view.status
                .destination
                .clone_from(&session.dialled.destination);
            view.status.node = Some(session.hello.host.clone());
            view.status.via.clone_from(&session.via);
            view.status.notices.clone_from(&session.notices);
            view.status.route = Some(session.route);
            view.status.agent_version = Some(visible(&session.hello.version));
            view.waiting = None;
            view.link = Some(session.link.clone());
            view.node = Some(Arc::clone(&session.dialled.node));
            view.others = Some(Arc::clone(&session.others));
        });
        tracing::info!(
            cluster = self.name,
            node = session.hello.host,
            via = session.via,
            "connected"
        );
        self.tell_connected();
    }

    pub(super) fn tell_connected(&self) {
        let cluster = Box::new(self.view.borrow().told(None, now_ms()));
        self.askers.finish(&ConnectEvent::Connected { cluster });
    }

    pub(super) fn fail(&self, error: ApiError) -> Next {
        tracing::warn!(
            cluster = self.name,
            reason = error.message,
            "cannot connect"
        );
        self.publish(ClusterState::Failed, Some(error.clone()), None);
        self.askers.finish(&ConnectEvent::Failed { error });
        Next::Rest
    }

    /// Shows that there is no connection; `done` is the user who asked for that.
    pub(super) fn disconnected(&mut self, done: Option<oneshot::Sender<()>>) {
        self.publish(ClusterState::Disconnected, None, None);
        let message = format!("{} was disconnected", self.name);
        let error = ApiError::new(ErrorCode::NotConnected, message);
        self.askers.finish(&ConnectEvent::Failed { error });
        if let Some(done) = done {
            self.other_build = OtherBuild::Replace;
            self.nodes.put(&self.name, None, &self.tasks);
            // The one who asked may be gone already.
            let _ = done.send(());
        }
    }

    /// Shows a state without a connection.
    pub(super) fn publish(
        &self,
        state: ClusterState,
        error: Option<ApiError>,
        waiting: Option<Waiting>,
    ) {
        self.view.send_modify(|view| {
            if view.status.state != state {
                view.status.since_ms = now_ms();
            }
            view.status.state = state;
            view.status.error = error;
            view.status.route = None;
            view.status.via = None;
            view.status.retry_ms = None;
            view.status.notices.clear();
            if matches!(state, ClusterState::Disconnected | ClusterState::Failed) {
                view.status.node = None;
                view.status.agent_version = None;
            }
            view.waiting = waiting;
            view.link = None;
            view.node = None;
            view.others = None;
        });
    }
}

/// Waits for a moment, or for ever where there is none. It is cancel-safe.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Returns the next command, or `None` when the bridge stops. It is cancel-safe.
pub(super) async fn command(
    inbox: &mut mpsc::Receiver<Command>,
    cancel: &CancellationToken,
) -> Option<Command> {
    cancel.run_until_cancelled(inbox.recv()).await.flatten()
}
