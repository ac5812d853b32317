//! The task that owns one cluster's connection.
//!
//! ```text
//!   Disconnected ──connect──► Connecting ──► Connected ◄──► Reconnecting
//!        ▲  ▲                     │              │               │
//!        │  └──────disconnect─────┼──────────────┴───────────────┤
//!        │                        ▼                              ▼
//!        └───disconnect──────── Failed ◄───────── needs the user ┘
//! ```
//!
//! Invariants: one login at a time, shared by all who ask for it; a lost connection is made again
//! without asking anybody, for ever while the network is at fault, and not at all once the server
//! refused the login or showed another key.

use std::{sync::Arc, time::Duration};

use hpcclient_protocol::{
    ApiError, ErrorCode,
    bridge::{ClusterState, ConnectEvent},
    status::AgentHello,
};
use hpcclient_ssh::Prompter;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    View,
    link::Link,
    now_ms,
    reach::{OtherBuild, Reached, reach},
};
use crate::bridge::{
    node::{Dial, Dialled, Node},
    prompt::Askers,
    server::Shared,
};

/// The first pause between attempts to reconnect.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The longest pause between attempts to reconnect.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A connection that ends sooner never really held.
const STEADY: Duration = Duration::from_secs(10);

/// How often the agent alone is brought back before the whole login is made anew.
const AGENT_TRIES: usize = 3;

/// What the handles ask for.
#[derive(Debug)]
pub(super) enum Command {
    /// Connect, or tell that it is connected.
    Connect(mpsc::Sender<ConnectEvent>),
    /// End the connection and tell when it has ended.
    Disconnect(oneshot::Sender<()>),
    /// The machine has slept; look whether the connection lives.
    Woke,
    /// Somebody ended the agent on purpose; it is not to be brought back.
    AgentStopped,
}

/// A login with its stream to the agent.
struct Session {
    dialled: Dialled,
    hello: AgentHello,
    route: hpcclient_protocol::bridge::Route,
    link: Link,
}

/// What to do next.
enum Next {
    Rest,
    LogIn,
    Hold(Box<Session>),
    Again(ApiError),
    Over,
}

/// The owner of the connection.
pub(super) struct Actor {
    name: String,
    dial: Arc<dyn Dial>,
    askers: Arc<Askers>,
    inbox: mpsc::Receiver<Command>,
    view: watch::Sender<View>,
    tasks: TaskTracker,
    cancel: CancellationToken,
    /// What the next login does with another build: it replaces it once, and again after the user
    /// has disconnected.
    other_build: OtherBuild,
    /// How many connections in a row did not hold.
    brief: u32,
}

impl Actor {
    pub(super) fn new(
        name: &str,
        dial: Arc<dyn Dial>,
        askers: Arc<Askers>,
        inbox: mpsc::Receiver<Command>,
        view: watch::Sender<View>,
        shared: &Shared,
    ) -> Self {
        Self {
            name: name.to_owned(),
            dial,
            askers,
            inbox,
            view,
            tasks: shared.tasks.clone(),
            cancel: shared.cancel.clone(),
            other_build: OtherBuild::Replace,
            brief: 0,
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
            match self.command().await {
                Some(Command::Connect(asker)) => {
                    self.askers.join(asker);
                    return Next::LogIn;
                }
                Some(Command::Disconnect(done)) => self.disconnected(done),
                Some(Command::Woke | Command::AgentStopped) => {}
                None => return Next::Over,
            }
        }
    }

    /// Logs in while somebody waits for it.
    async fn log_in(&mut self) -> Next {
        tracing::info!(cluster = self.name, "connecting");
        self.brief = 0;
        self.publish(ClusterState::Connecting, None);
        match self.attempt().await {
            Attempt::Done(Ok(session)) => Next::Hold(session),
            Attempt::Done(Err(error)) => self.fail(error),
            Attempt::Left(next) => next,
        }
    }

    /// Makes a lost connection again.
    async fn again(&mut self, lost: ApiError) -> Next {
        tracing::warn!(
            cluster = self.name,
            reason = lost.message,
            "connection lost"
        );
        let mut error = lost;
        let mut rest = self.pause_after_brief();
        let mut pause = FIRST_PAUSE.max(rest);
        loop {
            self.publish(ClusterState::Reconnecting, Some(error.clone()));
            let rested = sleep(jittered(rest));
            tokio::select! {
                () = rested => {}
                command = command(&mut self.inbox, &self.cancel) => match command {
                    Some(Command::Connect(asker)) => self.askers.join(asker),
                    Some(Command::Woke) => pause = FIRST_PAUSE,
                    Some(Command::AgentStopped) => {}
                    Some(Command::Disconnect(done)) => {
                        self.disconnected(done);
                        return Next::Rest;
                    }
                    None => return Next::Over,
                },
            }
            let was_anybody_there = self.askers.is_anybody_there();
            match self.attempt().await {
                Attempt::Done(Ok(session)) => return Next::Hold(session),
                Attempt::Done(Err(failure)) if needs_the_user(&failure) => {
                    // Somebody who came in the middle can be asked; the attempt did not know.
                    if !was_anybody_there && self.askers.is_anybody_there() {
                        return Next::LogIn;
                    }
                    return self.fail(failure);
                }
                Attempt::Done(Err(failure)) => error = failure,
                Attempt::Left(next) => return next,
            }
            tracing::debug!(
                cluster = self.name,
                reason = error.message,
                "not connected yet"
            );
            self.askers.finish(&ConnectEvent::Failed {
                error: error.clone(),
            });
            rest = pause;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Returns how long to wait before the first try: nothing after one loss, more and more where
    /// each connection is lost at once. The node would be asked without end otherwise.
    fn pause_after_brief(&self) -> Duration {
        match self.brief {
            0 | 1 => Duration::ZERO,
            more => (FIRST_PAUSE * 2_u32.pow(more.min(8) - 2)).min(LONGEST_PAUSE),
        }
    }

    /// Makes one login; those who ask in the meantime join it.
    async fn attempt(&mut self) -> Attempt {
        let dial = Arc::clone(&self.dial);
        let askers = Arc::clone(&self.askers);
        let (name, tasks) = (self.name.clone(), self.tasks.clone());
        let other_build = self.other_build;
        let mut login = std::pin::pin!(async move {
            let prompter: Arc<dyn Prompter> = Arc::<Askers>::clone(&askers);
            let dialled = dial.dial(&name, None, prompter).await?;
            let node = dialled.node.as_ref();
            match reach(node, other_build, askers.as_ref(), &tasks).await {
                Ok((hello, route, link)) => Ok(Box::new(Session {
                    dialled,
                    hello,
                    route,
                    link,
                })),
                Err(error) => {
                    dialled.node.close().await;
                    Err(error)
                }
            }
        });
        loop {
            tokio::select! {
                result = &mut login => return Attempt::Done(result),
                command = command(&mut self.inbox, &self.cancel) => match command {
                    Some(Command::Connect(asker)) => self.askers.join(asker),
                    Some(Command::Woke | Command::AgentStopped) => {}
                    Some(Command::Disconnect(done)) => {
                        self.disconnected(done);
                        return Attempt::Left(Next::Rest);
                    }
                    None => return Attempt::Left(Next::Over),
                },
            }
        }
    }

    /// Keeps a connection until it ends or is ended.
    async fn hold(&mut self, mut session: Session) -> Next {
        self.other_build = OtherBuild::Keep;
        let node = Arc::clone(&session.dialled.node);
        let mut closed = node.closed();
        loop {
            self.connected(&session);
            let made = Instant::now();
            let event = loop {
                tokio::select! {
                    // The agent ends right after it was asked to; the request is seen first.
                    biased;
                    command = command(&mut self.inbox, &self.cancel) => match command {
                        Some(Command::Connect(asker)) => {
                            self.askers.join(asker);
                            self.tell_connected();
                        }
                        Some(Command::Woke) => {
                            // The network needs a moment after a wake-up, so one miss is not enough.
                            if !node.is_alive().await && !node.is_alive().await {
                                break Event::Lost("no answer after the machine woke up".to_owned());
                            }
                        }
                        Some(Command::AgentStopped) => break Event::Disconnect(None),
                        Some(Command::Disconnect(done)) => break Event::Disconnect(Some(done)),
                        None => break Event::Over,
                    },
                    reason = lost(&mut closed) => break Event::Lost(reason),
                    () = session.link.closed() => break Event::AgentGone,
                }
            };
            let held = made.elapsed() >= STEADY;
            self.brief = if held {
                0
            } else {
                self.brief.saturating_add(1)
            };
            let event = match event {
                Event::AgentGone => match self.reach_again(node.as_ref(), &mut closed).await {
                    Ok((hello, route, link)) => {
                        (session.hello, session.route, session.link) = (hello, route, link);
                        continue;
                    }
                    Err(event) => event,
                },
                other => other,
            };
            let reason = match event {
                Event::Lost(reason) => ApiError::new(ErrorCode::ConnectFailed, reason),
                Event::Failed(error) => error,
                Event::AgentGone | Event::Over => {
                    node.close().await;
                    return Next::Over;
                }
                Event::Disconnect(done) => {
                    self.view.send_modify(|view| view.link = None);
                    node.close().await;
                    self.disconnected(done);
                    return Next::Rest;
                }
            };
            // A farewell to a lost node takes seconds; the next login need not wait for it.
            self.tasks.spawn(async move { node.close().await });
            return Next::Again(reason);
        }
    }

    /// Brings the agent back on a login that lives; its runs have gone on in the meantime.
    async fn reach_again(
        &mut self,
        node: &dyn Node,
        closed: &mut watch::Receiver<Option<String>>,
    ) -> Result<Reached, Event> {
        let ended = ApiError::new(ErrorCode::Unavailable, "the stream to the agent ended");
        tracing::warn!(cluster = self.name, "the agent's stream ended");
        self.publish(ClusterState::Reconnecting, Some(ended));
        let (askers, tasks) = (Arc::clone(&self.askers), self.tasks.clone());
        let rest = self.pause_after_brief();
        let mut reaching = std::pin::pin!(async {
            sleep(jittered(rest)).await;
            let mut tries = 1;
            loop {
                match reach(node, OtherBuild::Keep, askers.as_ref(), &tasks).await {
                    Err(_) if tries < AGENT_TRIES => tries += 1,
                    reached => return reached,
                }
                sleep(jittered(FIRST_PAUSE)).await;
            }
        });
        loop {
            tokio::select! {
                reached = &mut reaching => return reached.map_err(Event::Failed),
                // Whether the agent or the login died is known only once the login's end is seen.
                reason = lost(closed) => return Err(Event::Lost(reason)),
                command = command(&mut self.inbox, &self.cancel) => match command {
                    Some(Command::Connect(asker)) => self.askers.join(asker),
                    Some(Command::Woke) => {}
                    Some(Command::AgentStopped) => return Err(Event::Disconnect(None)),
                    Some(Command::Disconnect(done)) => return Err(Event::Disconnect(Some(done))),
                    None => return Err(Event::Over),
                },
            }
        }
    }

    fn connected(&self, session: &Session) {
        self.view.send_modify(|view| {
            view.status.state = ClusterState::Connected;
            view.status.since_ms = now_ms();
            view.status.error = None;
            view.status
                .destination
                .clone_from(&session.dialled.destination);
            view.status.node = Some(session.hello.host.clone());
            view.status.route = Some(session.route);
            view.status.agent_version = Some(hpcclient_ssh::visible(&session.hello.version));
            view.link = Some(session.link.clone());
            view.node = Some(Arc::clone(&session.dialled.node));
        });
        tracing::info!(cluster = self.name, node = session.hello.host, "connected");
        self.tell_connected();
    }

    fn tell_connected(&self) {
        let mut status = self.view.borrow().status.clone();
        if let Some(node) = &self.view.borrow().node {
            status.channels_opened = node.channels_opened();
        }
        let cluster = Box::new(status);
        self.askers.finish(&ConnectEvent::Connected { cluster });
    }

    fn fail(&self, error: ApiError) -> Next {
        tracing::warn!(
            cluster = self.name,
            reason = error.message,
            "cannot connect"
        );
        self.publish(ClusterState::Failed, Some(error.clone()));
        self.askers.finish(&ConnectEvent::Failed { error });
        Next::Rest
    }

    fn disconnected(&mut self, done: impl Into<Option<oneshot::Sender<()>>>) {
        self.publish(ClusterState::Disconnected, None);
        let message = format!("{} was disconnected", self.name);
        let error = ApiError::new(ErrorCode::NotConnected, message);
        self.askers.finish(&ConnectEvent::Failed { error });
        if let Some(done) = done.into() {
            self.other_build = OtherBuild::Replace;
            // The one who asked may be gone already.
            let _ = done.send(());
        }
    }

    fn publish(&self, state: ClusterState, error: Option<ApiError>) {
        self.view.send_modify(|view| {
            if view.status.state != state {
                view.status.since_ms = now_ms();
            }
            view.status.state = state;
            view.status.error = error;
            view.status.route = None;
            if matches!(state, ClusterState::Disconnected | ClusterState::Failed) {
                view.status.node = None;
                view.status.agent_version = None;
            }
            view.link = None;
            view.node = None;
        });
    }

    async fn command(&mut self) -> Option<Command> {
        command(&mut self.inbox, &self.cancel).await
    }
}

/// How an attempt ended.
enum Attempt {
    Done(Result<Box<Session>, ApiError>),
    Left(Next),
}

/// Why a connection is not held any more.
enum Event {
    /// The login ended.
    Lost(String),
    /// The stream to the agent ended; the login may live.
    AgentGone,
    /// The agent cannot be brought back on this login.
    Failed(ApiError),
    Disconnect(Option<oneshot::Sender<()>>),
    Over,
}

/// Returns the next command, or `None` when the bridge stops. It is cancel-safe.
async fn command(
    inbox: &mut mpsc::Receiver<Command>,
    cancel: &CancellationToken,
) -> Option<Command> {
    cancel.run_until_cancelled(inbox.recv()).await.flatten()
}

/// Waits for the end of a login and returns its reason. It is cancel-safe.
async fn lost(closed: &mut watch::Receiver<Option<String>>) -> String {
    match closed.wait_for(Option::is_some).await {
        Ok(reason) => reason.clone().unwrap_or_default(),
        Err(_) => "the connection ended".to_owned(),
    }
}

/// Returns whether trying again without the user is useless or harmful: a site may lock an account
/// after refused logins.
const fn needs_the_user(error: &ApiError) -> bool {
    matches!(
        error.code,
        ErrorCode::AuthFailed
            | ErrorCode::HostKeyChanged
            | ErrorCode::HostKeyUnknown
            | ErrorCode::VersionMismatch
            | ErrorCode::BadRequest
    )
}

/// Returns a pause with up to a half added, so that many clients do not come back at once.
fn jittered(pause: Duration) -> Duration {
    let mut byte = [0_u8; 1];
    // Without randomness there is no jitter, and the pause still holds.
    let _ = getrandom::fill(&mut byte);
    pause + pause.mul_f64(f64::from(byte[0]) / 512.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_login_is_not_repeated_and_a_lost_network_is() {
        let needs = |code| needs_the_user(&ApiError::new(code, "x"));
        assert!(needs(ErrorCode::AuthFailed) && needs(ErrorCode::HostKeyChanged));
        assert!(!needs(ErrorCode::ConnectFailed) && !needs(ErrorCode::AgentFailed));
        let pause = jittered(FIRST_PAUSE);
        assert!((FIRST_PAUSE..=FIRST_PAUSE * 3 / 2).contains(&pause));
    }
}
