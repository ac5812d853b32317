//! One cluster as the rest of the bridge sees it: connect, disconnect, send a request.
//!
//! The connection itself belongs to one task, `actor`; this is the handle to it.
//! Invariants: a request is sent once; one that never left is sent over the next connection, and
//! one that may have left is not repeated here, because only its sender knows whether that is safe.

mod actor;
mod again;
mod arrive;
mod elsewhere;
mod hold;
mod link;
pub(crate) mod nodes;
mod others;
mod pauses;
mod reach;
mod view;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{
    body::Body,
    http::{Request, Response},
};
use hpcclient_protocol::{
    ApiError, ErrorCode,
    bridge::{ClusterState, ClusterStatus, ConnectEvent},
};
use hyper::body::Incoming;
use tokio::{
    sync::{Semaphore, mpsc, oneshot, watch},
    time::{Instant, timeout_at},
};

pub(crate) use self::view::unconnected;
use self::{
    actor::{Actor, Command, Tools},
    link::{Link, Unsent},
    nodes::Nodes,
    others::Others,
    view::View,
};
use super::{
    node::Dial,
    prompt::{Askers, Prompts},
    server::Shared,
};

/// How long a request waits while a lost connection is being made again.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many commands may wait for the actor; more wait in their senders.
const COMMANDS: usize = 16;

/// A handle to one cluster.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    name: Arc<str>,
    commands: mpsc::Sender<Command>,
    view: watch::Receiver<View>,
    askers: Arc<Askers>,
    /// One renewal of the certificate at a time.
    pub(crate) renewing: Arc<Semaphore>,
}

impl Cluster {
    /// Starts the actor of a cluster, disconnected.
    pub(crate) fn start(
        name: &str,
        dial: Arc<dyn Dial>,
        prompts: Arc<Prompts>,
        nodes: Arc<Nodes>,
        shared: &Shared,
    ) -> Self {
        let (commands, inbox) = mpsc::channel(COMMANDS);
        let (publish, view) = watch::channel(View::disconnected(name));
        let askers = Arc::new(Askers::new(prompts));
        let tools = Tools {
            dial,
            askers: Arc::clone(&askers),
            nodes,
            shared: shared.clone(),
        };
        let actor = Actor::new(name, tools, inbox, publish);
        shared.tasks.spawn(actor.run());
        let name = name.into();
        Self {
            name,
            commands,
            view,
            askers,
            renewing: Arc::new(Semaphore::new(1)),
        }
    }

    /// Returns the cluster's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the cluster's state.
    pub(crate) fn status(&self) -> ClusterStatus {
        let question = self.askers.open_question();
        self.view.borrow().told(question, now_ms())
    }

    /// Connects; the asker hears how it goes and answers its questions.
    pub(crate) async fn connect(&self, asker: mpsc::Sender<ConnectEvent>) -> Result<(), ApiError> {
        let sent = self.commands.send(Command::Connect(asker)).await;
        sent.map_err(|_| stopping())
    }

    /// Ends the connection and stops trying.
    pub(crate) async fn disconnect(&self) -> Result<(), ApiError> {
        let (done, is_done) = oneshot::channel();
        let sent = self.commands.send(Command::Disconnect(done)).await;
        sent.map_err(|_| stopping())?;
        is_done.await.map_err(|_| stopping())
    }

    /// Tells that the machine has slept.
    pub(crate) fn woke(&self) {
        // A full inbox means that the actor is about to look at the connection anyway.
        let _ = self.commands.try_send(Command::Woke);
    }

    /// Tells that the machine's addresses or routes are others now.
    pub(crate) fn network_changed(&self) {
        // As above.
        let _ = self.commands.try_send(Command::NetworkChanged);
    }

    /// Tells that the user's certificate was renewed.
    pub(crate) async fn renewed(&self) {
        // Without an actor there is no connection that it could be said of.
        let _ = self.commands.send(Command::Renewed).await;
    }

    /// Tells that the agent was asked to end, so that it is not brought back.
    pub(crate) async fn agent_stopped(&self) {
        // Without an actor there is nobody who would bring it back.
        let _ = self.commands.send(Command::AgentStopped).await;
    }

    /// Returns once there is a connection.
    pub(crate) async fn link(&self) -> Result<(), ApiError> {
        self.wait(Instant::now() + PATIENCE).await.map(drop)
    }

    /// Sends a request to the agent and returns the head of its answer.
    async fn send(&self, mut request: Request<Body>) -> Result<Response<Incoming>, ApiError> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let link = self.wait(give_up).await?;
            match link.send(request).await {
                Ok(answer) => return Ok(answer),
                Err(Unsent::Kept(back)) => request = *back,
                Err(Unsent::Gone(error)) => return Err(error),
            }
        }
    }

    fn others(&self) -> Option<Arc<Others>> {
        self.view.borrow().others.clone()
    }

    async fn wait(&self, give_up: Instant) -> Result<Link, ApiError> {
        let mut view = self.view.clone();
        let mut settled = std::pin::pin!(view.wait_for(|view| match view.status.state {
            ClusterState::Connected => view.link.as_ref().is_some_and(Link::is_open),
            ClusterState::Connecting | ClusterState::Reconnecting => false,
            ClusterState::Disconnected | ClusterState::Failed => true,
        }));
        let Ok(settled) = timeout_at(give_up, settled.as_mut()).await else {
            let message = format!("the connection to {} is being made again", self.name);
            return Err(ApiError::new(ErrorCode::Unavailable, message)
                .hint("it goes on trying; `hpcclient status` tells how far it is"));
        };
        let view = settled.map_err(|_| stopping())?;
        let link = view
            .link
            .clone()
            .filter(|_| view.status.state == ClusterState::Connected);
        link.ok_or_else(|| not_connected(&self.name, view.status.error.as_ref()))
    }
}

/// Returns the error of a request for a cluster without a connection, with what ended it.
pub(crate) fn not_connected(name: &str, why: Option<&ApiError>) -> ApiError {
    let shown = hpcclient_ssh::visible(name);
    let mut error = ApiError::new(ErrorCode::NotConnected, format!("{shown} is not connected"));
    if let Some(why) = why {
        error.causes.push(why.message.clone());
        error.causes.extend(why.causes.iter().cloned());
    }
    error.hint(format!("run `hpcclient connect {shown}`"))
}

/// Returns the time in milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

fn stopping() -> ApiError {
    ApiError::new(ErrorCode::Unavailable, "the bridge is stopping")
}
