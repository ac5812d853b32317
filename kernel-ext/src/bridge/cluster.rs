//! One cluster as the rest of the bridge sees it: connect, disconnect, send a request.
//!
//! The connection itself belongs to one task, `actor`; this is the handle to it.
//! Invariants: a request is sent once; one that never left is sent over the next connection, and
//! one that may have left is not repeated here, because only its sender knows whether that is safe.

mod actor;
mod link;
mod reach;

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
    sync::{mpsc, oneshot, watch},
    time::{Instant, timeout_at},
};

use self::{
    actor::{Actor, Command},
    link::{Link, Unsent},
};
use super::{
    node::{Dial, Node},
    prompt::{Askers, Prompts},
    server::Shared,
};

/// How long a request waits while a lost connection is being made again.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many commands may wait for the actor; more wait in their senders.
const COMMANDS: usize = 16;

/// What others see of the actor's state.
#[derive(Clone, Debug)]
struct View {
    status: ClusterStatus,
    link: Option<Link>,
    node: Option<Arc<dyn Node>>,
}

/// A handle to one cluster.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    name: Arc<str>,
    commands: mpsc::Sender<Command>,
    view: watch::Receiver<View>,
}

impl Cluster {
    /// Starts the actor of a cluster, disconnected.
    pub(crate) fn start(
        name: &str,
        dial: Arc<dyn Dial>,
        prompts: Arc<Prompts>,
        shared: &Shared,
    ) -> Self {
        let (commands, inbox) = mpsc::channel(COMMANDS);
        let (publish, view) = watch::channel(View {
            status: ClusterStatus {
                name: name.to_owned(),
                destination: name.to_owned(),
                state: ClusterState::Disconnected,
                node: None,
                route: None,
                agent_version: None,
                via: None,
                login: None,
                waiting: None,
                retry_ms: None,
                notices: vec![],
                channels_opened: 0,
                since_ms: now_ms(),
                error: None,
            },
            link: None,
            node: None,
        });
        let actor = Actor::new(
            name,
            dial,
            Arc::new(Askers::new(prompts)),
            inbox,
            publish,
            shared,
        );
        shared.tasks.spawn(actor.run());
        let name = name.into();
        Self {
            name,
            commands,
            view,
        }
    }

    /// Returns the cluster's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the cluster's state.
    pub(crate) fn status(&self) -> ClusterStatus {
        let view = self.view.borrow();
        let mut status = view.status.clone();
        if let Some(node) = &view.node {
            status.channels_opened = node.channels_opened();
        }
        status
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
    pub(crate) async fn send(
        &self,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, ApiError> {
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
