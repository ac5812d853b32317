//! Making a lost connection again: when to try, and when to stop trying.
//!
//! A state of `actor`. Invariants: while no server was reached it is tried at least every two
//! seconds, because a TCP connection that does not come about costs the site nothing; a server that
//! was reached is asked less and less often, unless work went on over the last connection: a
//! program that connects in a loop must not become a storm of logins; nobody is asked anything unless somebody waits; a
//! refused login is not repeated.

use std::time::Duration;

use hpcclient_protocol::{
    ApiError, ErrorCode,
    bridge::{ClusterState, ConnectEvent},
};
use tokio::time::{Instant, sleep_until};

use super::{
    actor::{Actor, Attempt, Command, Next, command},
    now_ms,
    pauses::{FIRST_PAUSE, LONGEST_PAUSE, Pauses, Rest, jittered},
    view::Waiting,
};

impl Actor {
    /// Makes a lost connection again.
    pub(super) async fn again(&mut self, lost: ApiError) -> Next {
        tracing::warn!(
            cluster = self.name,
            reason = lost.message,
            "connection lost"
        );
        let first = self.pause_after_brief();
        let mut pauses = Pauses::after(first);
        let mut rest = Rest::of(first, true, self.is_dropped());
        let mut waiting = Waiting::Connection(lost.message.clone());
        let mut error = lost;
        loop {
            self.publish(
                ClusterState::Reconnecting,
                Some(error.clone()),
                Some(waiting.clone()),
            );
            if let Some(next) = self.pause(rest, &mut pauses).await {
                return next;
            }
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
                    if self.changed.is_some() {
                        pauses = Pauses::default();
                    }
                    let pause = jittered(pauses.next(failure.is_reached));
                    rest = Rest::of(pause, failure.is_reached, self.is_dropped());
                    if self.changed.is_some() {
                        rest.whole = rest.after_event;
                    }
                    waiting = if failure.is_reached {
                        Waiting::Server(failure.error.message.clone())
                    } else {
                        Waiting::Network(failure.error.message.clone())
                    };
                    error = failure.error;
                }
                Attempt::Outdated => {
                    pauses = Pauses::default();
                    rest = Rest::default();
                    continue;
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

    /// Waits for the next try; what happens in the meantime may bring it forward. Returns what to do
    /// instead of it.
    async fn pause(&mut self, rest: Rest, pauses: &mut Pauses) -> Option<Next> {
        let begun = Instant::now();
        let mut left = rest.whole;
        loop {
            self.tell_next_try(left.saturating_sub(begun.elapsed()));
            tokio::select! {
                () = sleep_until(begun + left) => break,
                command = command(&mut self.inbox, &self.cancel) => match command {
                    Some(Command::Connect(asker)) => {
                        left = left.min(rest.after_connect);
                        let seconds = left.saturating_sub(begun.elapsed()).as_secs();
                        if seconds > 0 {
                            let message = format!("the server was reached, but there is no connection yet; next try in {seconds} s");
                            // Progress is for people; one who does not read misses it.
                            let _ = asker.try_send(ConnectEvent::Progress { message });
                        }
                        self.askers.join(asker);
                    }
                    Some(Command::Woke) => {
                        *pauses = Pauses::default();
                        left = left.min(rest.after_event);
                    }
                    Some(Command::NetworkChanged | Command::Renewed) => {
                        left = left.min(rest.after_event);
                    }
                    Some(Command::AgentStopped) => {}
                    Some(Command::Disconnect(done)) => {
                        self.disconnected(Some(done));
                        return Some(Next::Rest);
                    }
                    None => return Some(Next::Over),
                },
            }
        }
        self.view.send_modify(|view| view.status.retry_ms = None);
        None
    }

    /// Returns whether one connection after the other is lost before it was of use.
    const fn is_dropped(&self) -> bool {
        self.brief > 1
    }

    /// Returns how long to wait before the first try: nothing after one loss, more and more where
    /// each connection is lost before it was of use. The node would be asked without end otherwise.
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::future::BoxFuture;
    use hpcclient_ssh::{Prompt, Prompter, Question};
    use tokio::{
        sync::{Semaphore, mpsc, oneshot, watch},
        time::{Instant, timeout},
    };
    use tokio_util::{sync::CancellationToken, task::TaskTracker};

    use super::*;
    use crate::bridge::{
        activity::Activity,
        cluster::{
            actor::Tools,
            nodes::Nodes,
            pauses::{FLOOR, LONGEST_UNREACHED},
            view::View,
        },
        node::{Dial, Dialled, NoLogin, Way},
        prompt::{Askers, Prompts, asker},
        server::Shared,
    };

    /// A network or a server that fails, and tells each try.
    #[derive(Debug)]
    struct Failing {
        is_reached: bool,
        /// How long it takes to fail.
        takes: Duration,
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
            Box::pin(async move {
                tokio::time::sleep(self.takes).await;
                Err(NoLogin { error, is_reached })
            })
        }
    }

    struct Reconnecting {
        actor: Actor,
        commands: mpsc::Sender<Command>,
        tries: mpsc::UnboundedReceiver<Instant>,
        _view: watch::Receiver<View>,
    }

    async fn reconnecting(is_reached: bool) -> Reconnecting {
        slowly_reconnecting(is_reached, Duration::ZERO).await
    }

    async fn slowly_reconnecting(is_reached: bool, takes: Duration) -> Reconnecting {
        let (commands, inbox) = mpsc::channel(4);
        let (publish, view) = watch::channel(View::disconnected("leo"));
        let (tell, tries) = mpsc::unbounded_channel();
        let tools = Tools {
            dial: Arc::new(Failing {
                is_reached,
                takes,
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

    /// Ends the play: the actor rests.
    async fn end(commands: &mpsc::Sender<Command>) {
        let (done, is_done) = oneshot::channel();
        commands.send(Command::Disconnect(done)).await.unwrap();
        is_done.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_of_the_network_brings_the_next_try_forward_and_disconnect_ends_it() {
        let mut here = reconnecting(true).await;
        let play = async {
            // By the sixth failure the pause is 16 s at least.
            let mut last = Instant::now();
            for _ in 0..6 {
                last = here.tries.recv().await.unwrap();
            }
            for event in [Command::NetworkChanged, Command::Woke] {
                let second = Duration::from_secs(1);
                assert!(timeout(second, here.tries.recv()).await.is_err());
                here.commands.send(event).await.unwrap();
                let now = here.tries.recv().await.unwrap();
                assert!(
                    now - last <= FLOOR + Duration::from_millis(2),
                    "{:?}",
                    now - last
                );
                last = now;
            }
            let again = here.tries.recv().await.unwrap();
            assert!(
                again - last < Duration::from_secs(1),
                "awake it begins anew"
            );
            end(&here.commands).await;
        };
        let (next, ()) = tokio::join!(here.actor.again(lost()), play);
        assert!(matches!(next, Next::Rest));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_server_every_event_starts_the_next_try_at_once() {
        let mut here = reconnecting(false).await;
        let play = async {
            for _ in 0..6 {
                here.tries.recv().await.unwrap();
            }
            for event in [Command::NetworkChanged, Command::Connect(asker().0)] {
                let second = Duration::from_secs(1);
                assert!(timeout(second, here.tries.recv()).await.is_err());
                let now = Instant::now();
                here.commands.send(event).await.unwrap();
                assert_eq!(here.tries.recv().await, Some(now));
            }
            end(&here.commands).await;
        };
        tokio::join!(here.actor.again(lost()), play);
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_connects_in_a_loop_makes_no_storm_of_logins() {
        // Of a server that fails, and of one that drops each connection at once.
        for (brief, most) in [(0, 33), (9, 4)] {
            let mut here = reconnecting(true).await;
            here.actor.brief = brief;
            let play = async {
                let minute = Instant::now() + Duration::from_secs(60);
                while Instant::now() < minute {
                    let connect = Command::Connect(asker().0);
                    here.commands.send(connect).await.unwrap();
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                end(&here.commands).await;
            };
            tokio::join!(here.actor.again(lost()), play);
            let mut tries = 0;
            while here.tries.try_recv().is_ok() {
                tries += 1;
            }
            assert!((1..=most).contains(&tries), "{brief}: {tries}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_on_a_network_that_is_gone_is_made_again() {
        let takes = Duration::from_secs(20);
        let mut here = slowly_reconnecting(false, takes).await;
        let play = async {
            let begun = here.tries.recv().await.unwrap();
            here.commands.send(Command::NetworkChanged).await.unwrap();
            // A second event does not put it off.
            tokio::time::sleep(Duration::from_secs(3)).await;
            here.commands.send(Command::Woke).await.unwrap();
            let again = here.tries.recv().await.unwrap();
            assert_eq!((again - begun).as_secs(), 5);
            // Nothing has happened since, so this one goes on to its end.
            let third = here.tries.recv().await.unwrap();
            assert!(third - again >= takes, "{:?}", third - again);
            // One that fails by itself after an event is made again at once.
            tokio::time::sleep(takes - Duration::from_secs(1)).await;
            here.commands.send(Command::NetworkChanged).await.unwrap();
            let fourth = here.tries.recv().await.unwrap();
            let late = fourth - third - takes;
            assert!(late < Duration::from_millis(10), "{late:?}");
            end(&here.commands).await;
        };
        tokio::join!(here.actor.again(lost()), play);
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_asked_somebody_is_not_given_up() {
        let takes = Duration::from_secs(20);
        let mut here = slowly_reconnecting(true, takes).await;
        let askers = Arc::clone(&here.actor.askers);
        let (person, mut events) = asker();
        askers.join(person);
        let play = async {
            let begun = here.tries.recv().await.unwrap();
            here.commands.send(Command::NetworkChanged).await.unwrap();
            let prompt = Prompt {
                kind: Question::Text,
                text: "One-time password".to_owned(),
                echo: false,
            };
            tokio::join!(askers.ask(prompt), async {
                events.recv().await.unwrap();
                drop(events);
            });
            let again = here.tries.recv().await.unwrap();
            assert!(again - begun >= takes, "{:?}", again - begun);
            end(&here.commands).await;
        };
        tokio::join!(here.actor.again(lost()), play);
    }

    #[test]
    fn a_refused_login_is_not_repeated_and_a_lost_network_is() {
        let needs = |code| needs_the_user(&ApiError::new(code, "x"));
        assert!(needs(ErrorCode::AuthFailed) && needs(ErrorCode::HostKeyChanged));
        assert!(!needs(ErrorCode::ConnectFailed) && !needs(ErrorCode::AgentFailed));
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
