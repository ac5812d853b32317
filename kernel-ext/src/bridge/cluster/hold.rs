//! Keeping a connection: noticing its end, and bringing the agent back on a login that lives.
//!
//! A state of `actor`. Invariants: after sleep or a change of the network the login is asked at
//! once, twice, before it is given up; a command never waits for that.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use hpcclient_protocol::{
    ApiError, ErrorCode,
    bridge::{ClusterState, Transport},
};
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, sleep},
};

use super::{
    actor::{Actor, Command, Next, command},
    arrive::Session,
    link::Link,
    pauses::{FIRST_PAUSE, jittered},
    reach::{OtherBuild, Reached, reach},
    view::Waiting,
};
use crate::bridge::node::Node;

/// A connection that ends sooner never really held.
const STEADY: Duration = Duration::from_secs(10);

/// How often the agent alone is brought back before the whole login is made anew.
const AGENT_TRIES: usize = 3;

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

impl Actor {
    /// Keeps a connection until it ends or is ended.
    pub(super) async fn hold(&mut self, mut session: Session) -> Next {
        self.other_build = OtherBuild::Keep;
        let node = Arc::clone(&session.dialled.node);
        loop {
            self.connected(&session);
            let made = Instant::now();
            let mut event = self.until_it_ends(&session).await;
            // One over which work went on was of use, however short it was.
            self.brief = if made.elapsed() >= STEADY || session.link.was_used() {
                0
            } else {
                self.brief.saturating_add(1)
            };
            if matches!(event, Event::AgentGone) {
                match self.reach_again(&session).await {
                    Ok((hello, route, link)) => {
                        (session.hello, session.route, session.link) = (hello, route, link);
                        continue;
                    }
                    Err(other) => event = other,
                }
            }
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

    async fn until_it_ends(&mut self, session: &Session) -> Event {
        let node = &session.dialled.node;
        let (mut closed, mut probe) = (node.closed(), Probe::default());
        loop {
            tokio::select! {
                // The agent ends right after it was asked to; the request is seen first.
                biased;
                command = command(&mut self.inbox, &self.cancel) => match command {
                    Some(Command::Connect(asker)) => {
                        self.askers.join(asker);
                        self.tell_connected();
                    }
                    Some(Command::Woke | Command::NetworkChanged) => probe.start(node, agent_to_ask(session)),
                    Some(Command::Renewed) => {
                        self.view.send_modify(|view| view.is_renewed = true);
                    }
                    Some(Command::AgentStopped) => return Event::Disconnect(None),
                    Some(Command::Disconnect(done)) => return Event::Disconnect(Some(done)),
                    None => return Event::Over,
                },
                reason = lost(&mut closed) => return Event::Lost(reason),
                () = session.link.closed() => return Event::AgentGone,
                () = probe.dead() => return Event::Lost(NO_ANSWER.to_owned()),
            }
        }
    }

    /// Brings the agent back on a login that lives; its runs have gone on in the meantime.
    async fn reach_again(&mut self, session: &Session) -> Result<Reached, Event> {
        let ended = ApiError::new(ErrorCode::Unavailable, "the stream to the agent ended");
        tracing::warn!(cluster = self.name, "the agent's stream ended");
        let host = session.hello.host.clone();
        self.publish(
            ClusterState::Reconnecting,
            Some(ended),
            Some(Waiting::Agent(host.clone())),
        );
        let node = &session.dialled.node;
        let (mut closed, mut probe) = (node.closed(), Probe::default());
        let (askers, tasks) = (Arc::clone(&self.askers), self.tasks.clone());
        let rest = self.pause_after_brief();
        let to = session.via.as_ref().map(|_| host.as_str());
        let mut reaching = std::pin::pin!(async {
            sleep(rest).await;
            let mut tries = 1;
            loop {
                match reach(node.as_ref(), to, OtherBuild::Keep, askers.as_ref(), &tasks).await {
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
                reason = lost(&mut closed) => return Err(Event::Lost(reason)),
                () = probe.dead() => return Err(Event::Lost(NO_ANSWER.to_owned())),
                command = command(&mut self.inbox, &self.cancel) => match command {
                    Some(Command::Connect(asker)) => self.askers.join(asker),
                    Some(Command::Woke | Command::NetworkChanged) => probe.start(node, agent_to_ask(session)),
                    Some(Command::Renewed) => {}
                    Some(Command::AgentStopped) => return Err(Event::Disconnect(None)),
                    Some(Command::Disconnect(done)) => return Err(Event::Disconnect(Some(done))),
                    None => return Err(Event::Over),
                },
            }
        }
    }
}

/// Returns the agent where only it can tell whether the login lives: the `ssh` program cannot be asked.
fn agent_to_ask(session: &Session) -> Option<Link> {
    let transport = session.dialled.node.login().transport;
    (transport == Transport::Openssh).then(|| session.link.clone())
}

/// Why a login is given up that answers no more.
const NO_ANSWER: &str = "the login node does not answer after sleep or a change of the network";

/// The question whether a login lives, while it is open.
#[derive(Default)]
struct Probe(Option<BoxFuture<'static, bool>>);

impl Probe {
    /// Asks, unless it is being asked.
    fn start(&mut self, node: &Arc<dyn Node>, agent: Option<Link>) {
        if self.0.is_none() {
            let node = Arc::clone(node);
            let ask = async move || {
                node.is_alive().await
                    && match &agent {
                        Some(agent) => agent.answers().await,
                        None => true,
                    }
            };
            // The network needs a moment after a change, so one miss is not enough.
            self.0 = Some(Box::pin(async move { ask().await || ask().await }));
        }
    }

    /// Returns once a login turned out to be dead. It is cancel-safe.
    async fn dead(&mut self) {
        while let Some(probe) = &mut self.0 {
            let is_alive = probe.await;
            self.0 = None;
            if !is_alive {
                return;
            }
        }
        std::future::pending::<()>().await;
    }
}

/// Waits for the end of a login and returns its reason. It is cancel-safe.
async fn lost(closed: &mut watch::Receiver<Option<String>>) -> String {
    match closed.wait_for(Option::is_some).await {
        Ok(reason) => reason.clone().unwrap_or_default(),
        Err(_) => "the connection ended".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::IpAddr,
        sync::atomic::{AtomicUsize, Ordering},
        task::Poll,
    };

    use futures_util::poll;
    use hpcclient_protocol::bridge::Login;
    use hpcclient_ssh::Prompter;

    use super::*;
    use crate::bridge::node::AgentEnd;

    /// A node that answers a question from the `answers_at`th on, and takes 2.5 s for silence.
    #[derive(Debug)]
    struct Sleepy {
        asked: AtomicUsize,
        answers_at: usize,
    }

    impl Node for Sleepy {
        fn reach_agent<'a>(
            &'a self,
            _: &'a dyn Prompter,
        ) -> BoxFuture<'a, Result<AgentEnd, ApiError>> {
            unreachable!()
        }

        fn reach_node<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<AgentEnd, ApiError>> {
            unreachable!()
        }

        fn login(&self) -> Login {
            Login {
                transport: Transport::Russh,
                offered: vec![],
                used: vec![],
                certificate: None,
                host_key: None,
                server: None,
                hops: vec![],
            }
        }

        fn address(&self) -> Option<IpAddr> {
            None
        }

        fn closed(&self) -> watch::Receiver<Option<String>> {
            watch::channel(None).1
        }

        fn is_alive(&self) -> BoxFuture<'_, bool> {
            let asked = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
            Box::pin(async move {
                if asked >= self.answers_at {
                    return true;
                }
                sleep(Duration::from_millis(2_500)).await;
                false
            })
        }

        fn channels_opened(&self) -> u64 {
            0
        }

        fn close(&self) -> BoxFuture<'_, ()> {
            Box::pin(std::future::ready(()))
        }
    }

    fn sleepy(answers_at: usize) -> (Arc<Sleepy>, Arc<dyn Node>) {
        let asked = AtomicUsize::new(0);
        let node = Arc::new(Sleepy { asked, answers_at });
        (Arc::clone(&node), node)
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_is_silent_twice_is_dead_within_six_seconds() {
        let (_, node) = sleepy(usize::MAX);
        let (mut probe, begun) = (Probe::default(), Instant::now());
        probe.start(&node, None);
        probe.dead().await;
        assert_eq!(begun.elapsed(), Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn one_miss_is_forgiven_and_nothing_is_asked_unasked() {
        let (seen, node) = sleepy(2);
        let mut probe = Probe::default();
        assert_eq!(poll!(std::pin::pin!(probe.dead())), Poll::Pending);
        probe.start(&node, None);
        // A second event while the question is open asks no more questions.
        probe.start(&node, None);
        let minute = Duration::from_secs(60);
        assert!(tokio::time::timeout(minute, probe.dead()).await.is_err());
        assert_eq!(seen.asked.load(Ordering::SeqCst), 2);
    }
}
