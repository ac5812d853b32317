//! Making a lost connection again: when to try, and when to stop trying.
//!
//! A state of `actor`. Invariants: while no server was reached it is tried at least every two
//! seconds, because a TCP connection that does not come about costs the site nothing; a server that
//! was reached is asked less and less often; nobody is asked anything unless somebody waits; a
//! refused login is not repeated.

use std::time::Duration;

use hpcclient_protocol::{
    ApiError, ErrorCode,
    bridge::{ClusterState, ConnectEvent},
};
use tokio::time::sleep;

use super::{
    actor::{Actor, Attempt, Command, Next, command},
    now_ms,
    view::Waiting,
};

/// The first pause between attempts to reconnect.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The longest pause while no server was reached.
const LONGEST_UNREACHED: Duration = Duration::from_secs(2);

/// The longest pause between attempts that reached a server.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

impl Actor {
    /// Makes a lost connection again.
    pub(super) async fn again(&mut self, lost: ApiError) -> Next {
        tracing::warn!(
            cluster = self.name,
            reason = lost.message,
            "connection lost"
        );
        let mut rest = self.pause_after_brief();
        let mut pauses = Pauses::after(rest);
        let mut waiting = Waiting::Connection(lost.message.clone());
        let mut error = lost;
        loop {
            self.publish(
                ClusterState::Reconnecting,
                Some(error.clone()),
                Some(waiting.clone()),
            );
            self.tell_next_try(rest);
            let rested = sleep(rest);
            tokio::select! {
                () = rested => {}
                command = command(&mut self.inbox, &self.cancel) => match command {
                    Some(Command::Connect(asker)) => self.askers.join(asker),
                    Some(Command::Woke) => pauses = Pauses::default(),
                    Some(Command::NetworkChanged | Command::AgentStopped | Command::Renewed) => {}
                    Some(Command::Disconnect(done)) => {
                        self.disconnected(Some(done));
                        return Next::Rest;
                    }
                    None => return Next::Over,
                },
            }
            self.view.send_modify(|view| view.status.retry_ms = None);
            let was_anybody_there = self.askers.is_anybody_there();
            match self.attempt(true).await {
                Attempt::Done(Ok(session)) => return Next::Hold(session),
                Attempt::Done(Err(failure)) if needs_the_user(&failure.error) => {
                    // Somebody who came in the middle can be asked; the attempt did not know.
                    if !was_anybody_there && self.askers.is_anybody_there() {
                        return Next::LogIn;
                    }
                    let unheard = self.askers.take_unheard();
                    return self.fail(with_question(failure.error, unheard, &self.name));
                }
                Attempt::Done(Err(failure)) => {
                    rest = jittered(pauses.next(failure.is_reached));
                    waiting = if failure.is_reached {
                        Waiting::Server(failure.error.message.clone())
                    } else {
                        Waiting::Network(failure.error.message.clone())
                    };
                    error = failure.error;
                }
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
        }
    }

    /// Returns how long to wait before the first try: nothing after one loss, more and more where
    /// each connection is lost at once. The node would be asked without end otherwise.
    pub(super) fn pause_after_brief(&self) -> Duration {
        match self.brief {
            0 | 1 => Duration::ZERO,
            more => {
                let pause = FIRST_PAUSE * 2_u32.pow(more.min(8) - 2);
                jittered(pause.min(LONGEST_PAUSE))
            }
        }
    }

    fn tell_next_try(&self, rest: Duration) {
        let rest = u64::try_from(rest.as_millis()).unwrap_or(u64::MAX);
        let at = now_ms().saturating_add(rest);
        self.view
            .send_modify(|view| view.status.retry_ms = Some(at));
    }
}

/// The pauses after the next attempts.
#[derive(Debug)]
struct Pauses {
    unreached: Duration,
    reached: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self::after(Duration::ZERO)
    }
}

impl Pauses {
    fn after(rest: Duration) -> Self {
        Self {
            unreached: FIRST_PAUSE,
            reached: FIRST_PAUSE.max(rest),
        }
    }

    fn next(&mut self, is_reached: bool) -> Duration {
        let (pause, longest) = if is_reached {
            (&mut self.reached, LONGEST_PAUSE)
        } else {
            (&mut self.unreached, LONGEST_UNREACHED)
        };
        let now = (*pause).min(longest);
        *pause = (now * 2).min(longest);
        now
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

/// Returns the error of a login that asked a question which nobody heard.
fn with_question(error: ApiError, unheard: Option<String>, cluster: &str) -> ApiError {
    let Some(question) = unheard.filter(|_| error.code == ErrorCode::AuthFailed) else {
        return error;
    };
    let shown = hpcclient_ssh::visible(cluster);
    let message = format!("{shown} needs your code: the login asks `{question}`");
    let mut asked = ApiError::new(ErrorCode::AuthFailed, message).hint(format!(
        "run `hpcclient connect {shown}`, or a cell, or answer on the cluster's page"
    ));
    asked.causes.push(error.message);
    asked.causes.extend(error.causes);
    asked
}

/// Returns a pause with up to a half added, so that many clients do not come back at once.
pub(super) fn jittered(pause: Duration) -> Duration {
    let mut byte = [0_u8; 1];
    // Without randomness there is no jitter, and the pause still holds.
    let _ = getrandom::fill(&mut byte);
    pause + pause.mul_f64(f64::from(byte[0]) / 512.0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::future::BoxFuture;
    use hpcclient_ssh::Prompter;
    use tokio::{
        sync::{Semaphore, mpsc, oneshot, watch},
        time::{Instant, timeout},
    };
    use tokio_util::{sync::CancellationToken, task::TaskTracker};

    use super::*;
    use crate::bridge::{
        activity::Activity,
        cluster::{actor::Tools, nodes::Nodes, view::View},
        node::{Dial, Dialled, NoLogin, Way},
        prompt::{Askers, Prompts},
        server::Shared,
    };

    /// A network or a server that fails, and tells each try.
    #[derive(Debug)]
    struct Failing {
        is_reached: bool,
        tries: mpsc::UnboundedSender<Instant>,
    }

    impl Dial for Failing {
        fn dial<'a>(
            &'a self,
            _: &'a str,
            way: Way,
            _: Arc<dyn Prompter>,
        ) -> BoxFuture<'a, Result<Dialled, NoLogin>> {
            assert!(way.is_again);
            self.tries.send(Instant::now()).unwrap();
            let error = ApiError::new(ErrorCode::ConnectFailed, "x");
            let is_reached = self.is_reached;
            Box::pin(std::future::ready(Err(NoLogin { error, is_reached })))
        }
    }

    struct Reconnecting {
        actor: Actor,
        commands: mpsc::Sender<Command>,
        tries: mpsc::UnboundedReceiver<Instant>,
        _view: watch::Receiver<View>,
    }

    async fn reconnecting(is_reached: bool) -> Reconnecting {
        let (commands, inbox) = mpsc::channel(4);
        let (publish, view) = watch::channel(View::disconnected("leo"));
        let (tell, tries) = mpsc::unbounded_channel();
        let tools = Tools {
            dial: Arc::new(Failing {
                is_reached,
                tries: tell,
            }),
            askers: Arc::new(Askers::new(Arc::<Prompts>::default())),
            nodes: Nodes::open("/nonexistent/nodes.json".into()).await,
            shared: Shared {
                tasks: TaskTracker::new(),
                cancel: CancellationToken::new(),
                activity: Arc::new(Activity::new(std::time::Instant::now())),
                connections: Arc::new(Semaphore::new(1)),
            },
        };
        Reconnecting {
            actor: Actor::new("leo", tools, inbox, publish),
            commands,
            tries,
            _view: view,
        }
    }

    fn lost() -> ApiError {
        ApiError::new(ErrorCode::ConnectFailed, "lost")
    }

    #[tokio::test(start_paused = true)]
    async fn an_hour_without_a_network_is_an_hour_of_trying() {
        let mut here = reconnecting(false).await;
        let begun = Instant::now();
        let hour = Duration::from_secs(3600);
        assert!(timeout(hour, here.actor.again(lost())).await.is_err());
        let mut last = begun;
        while let Ok(at) = here.tries.try_recv() {
            assert!(at - last <= LONGEST_UNREACHED * 3 / 2, "{:?}", at - last);
            last = at;
        }
        assert!(begun + hour - last <= LONGEST_UNREACHED * 3 / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_of_the_network_starts_the_next_try_at_once_and_disconnect_the_last() {
        let mut here = reconnecting(true).await;
        let play = async {
            // By the sixth failure the pause is 16 s at least.
            for _ in 0..6 {
                here.tries.recv().await.unwrap();
            }
            for event in [Command::NetworkChanged, Command::Woke] {
                let second = Duration::from_secs(1);
                assert!(timeout(second, here.tries.recv()).await.is_err());
                let now = Instant::now();
                here.commands.send(event).await.unwrap();
                assert_eq!(here.tries.recv().await, Some(now));
            }
            let now = Instant::now();
            let again = here.tries.recv().await.unwrap();
            assert!(again - now < Duration::from_secs(1), "awake it begins anew");
            let (done, is_done) = oneshot::channel();
            here.commands.send(Command::Disconnect(done)).await.unwrap();
            is_done.await.unwrap();
        };
        let (next, ()) = tokio::join!(here.actor.again(lost()), play);
        assert!(matches!(next, Next::Rest));
    }

    #[test]
    fn a_refused_login_is_not_repeated_and_a_lost_network_is() {
        let needs = |code| needs_the_user(&ApiError::new(code, "x"));
        assert!(needs(ErrorCode::AuthFailed) && needs(ErrorCode::HostKeyChanged));
        assert!(!needs(ErrorCode::ConnectFailed) && !needs(ErrorCode::AgentFailed));
        let pause = jittered(FIRST_PAUSE);
        assert!((FIRST_PAUSE..=FIRST_PAUSE * 3 / 2).contains(&pause));
    }

    #[test]
    fn a_network_is_tried_every_two_seconds_and_a_server_less_and_less() {
        let mut pauses = Pauses::default();
        let millis = |pause: Duration| pause.as_millis();
        let network: Vec<_> = (0..5).map(|_| millis(pauses.next(false))).collect();
        assert_eq!(network, [500, 1_000, 2_000, 2_000, 2_000]);
        let server: Vec<_> = (0..8).map(|_| millis(pauses.next(true))).collect();
        assert_eq!(
            server,
            [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]
        );
        assert_eq!(millis(pauses.next(false)), 2_000, "the network again");
    }

    #[test]
    fn a_question_that_nobody_heard_says_what_to_run() {
        let refused = || ApiError::new(ErrorCode::AuthFailed, "refused");
        let asked = with_question(refused(), Some("One-time password".to_owned()), "leo");
        assert!(asked.message.contains("One-time password"), "{asked}");
        assert!(
            asked.hints[0].contains("`hpcclient connect leo`"),
            "{asked}"
        );
        assert_eq!(asked.causes, ["refused"]);
        assert_eq!(with_question(refused(), None, "leo"), refused());
    }
}
