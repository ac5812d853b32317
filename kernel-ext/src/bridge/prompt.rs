//! Questions of a login on their way to the user, and the answers on their way back.
//!
//! The cluster's actor asks through [`Askers`]; `control` brings answers to [`Prompts`].
//! Invariants: a question goes to one asker at a time, the one who waits longest; when that one
//! leaves or declines, the question's id dies and the next asker gets a new one; with nobody left the
//! question is declined. So one who cannot answer, such as a script without a terminal, ends the
//! login for nobody else.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::future::BoxFuture;
use hpcclient_protocol::bridge::{ConnectEvent, PromptKind};
use hpcclient_ssh::{Prompt, Prompter, Question};
use tokio::sync::{mpsc, oneshot};

/// How many events may wait for an asker who does not read.
const EVENTS: usize = 64;

/// Everybody's open questions, by id.
#[derive(Debug, Default)]
pub(crate) struct Prompts {
    open: Mutex<HashMap<String, oneshot::Sender<Option<String>>>>,
}

impl Prompts {
    /// Brings an answer; returns whether the question was still open.
    pub(crate) fn answer(&self, id: &str, answer: Option<String>) -> bool {
        let asked = locked(&self.open).remove(id);
        asked.is_some_and(|asked| asked.send(answer).is_ok())
    }

    fn open(self: &Arc<Self>) -> Option<OpenPrompt> {
        let id = super::guard::new_secret().ok()?;
        let (send, answer) = oneshot::channel();
        locked(&self.open).insert(id.clone(), send);
        let prompts = Arc::clone(self);
        Some(OpenPrompt {
            id,
            answer,
            prompts,
        })
    }
}

/// A question that can be answered as long as this lives.
struct OpenPrompt {
    id: String,
    answer: oneshot::Receiver<Option<String>>,
    prompts: Arc<Prompts>,
}

impl Drop for OpenPrompt {
    fn drop(&mut self) {
        locked(&self.prompts.open).remove(&self.id);
    }
}

/// Those who wait for one cluster's login.
#[derive(Debug)]
pub(crate) struct Askers {
    waiting: Mutex<Vec<mpsc::Sender<ConnectEvent>>>,
    prompts: Arc<Prompts>,
    /// The first line of the question that is open.
    open_question: Mutex<Option<String>>,
    /// The first line of the last question that nobody was there to hear.
    unheard: Mutex<Option<String>>,
    /// Whether this login has put a question to anybody.
    has_asked: AtomicBool,
}

/// One who waits: what to hand to [`Askers::join`], and where the events come out.
pub(crate) fn asker() -> (mpsc::Sender<ConnectEvent>, mpsc::Receiver<ConnectEvent>) {
    mpsc::channel(EVENTS)
}

impl Askers {
    pub(crate) const fn new(prompts: Arc<Prompts>) -> Self {
        Self {
            waiting: Mutex::new(Vec::new()),
            prompts,
            open_question: Mutex::new(None),
            unheard: Mutex::new(None),
            has_asked: AtomicBool::new(false),
        }
    }

    /// Begins another login: what was asked at an earlier one says nothing about it.
    pub(crate) fn begin(&self) {
        self.take_unheard();
        self.has_asked.store(false, Ordering::Relaxed);
    }

    /// Returns whether this login has put a question to anybody; a code that was typed for it is
    /// good for no other.
    pub(crate) fn has_asked(&self) -> bool {
        self.has_asked.load(Ordering::Relaxed)
    }

    /// Adds one who waits.
    pub(crate) fn join(&self, asker: mpsc::Sender<ConnectEvent>) {
        locked(&self.waiting).push(asker);
    }

    /// Returns whether anybody waits.
    pub(crate) fn is_anybody_there(&self) -> bool {
        let mut waiting = locked(&self.waiting);
        waiting.retain(|asker| !asker.is_closed());
        !waiting.is_empty()
    }

    /// Tells everybody how it ended and lets them go.
    pub(crate) fn finish(&self, event: &ConnectEvent) {
        for asker in locked(&self.waiting).drain(..) {
            // An asker who reads nothing sees its answer end without a result.
            let _ = asker.try_send(event.clone());
        }
    }

    /// Returns the first line of the question that is open.
    pub(crate) fn open_question(&self) -> Option<String> {
        locked(&self.open_question).clone()
    }

    /// Returns the first line of the last question that nobody was there to hear, once.
    pub(crate) fn take_unheard(&self) -> Option<String> {
        locked(&self.unheard).take()
    }

    /// Returns the first who has not declined.
    fn first(&self, declined: &[mpsc::Sender<ConnectEvent>]) -> Option<mpsc::Sender<ConnectEvent>> {
        let mut waiting = locked(&self.waiting);
        waiting.retain(|asker| !asker.is_closed());
        let mut willing = waiting
            .iter()
            .filter(|asker| !declined.iter().any(|other| asker.same_channel(other)));
        willing.next().cloned()
    }

    async fn ask_somebody(&self, prompt: &Prompt) -> Option<String> {
        let question = first_line(&prompt.text);
        let _open = ShownQuestion::new(self, question.clone());
        // For this question only: who declines a passphrase may well have a password.
        let mut declined = Vec::new();
        while let Some(asker) = self.first(&declined) {
            self.has_asked.store(true, Ordering::Relaxed);
            let mut open = self.prompts.open()?;
            let event = ConnectEvent::Prompt {
                id: open.id.clone(),
                kind: kind_of(&prompt.kind),
                text: prompt.text.clone(),
                echo: prompt.echo,
            };
            if asker.send(event).await.is_err() {
                continue;
            }
            tokio::select! {
                answer = &mut open.answer => match answer.ok().flatten() {
                    None => declined.push(asker),
                    answer => return answer,
                },
                () = asker.closed() => {}
            }
        }
        if declined.is_empty() {
            *locked(&self.unheard) = Some(question);
        }
        None
    }
}

/// Shows that a question is open for as long as it lives.
struct ShownQuestion<'a>(&'a Askers);

impl<'a> ShownQuestion<'a> {
    fn new(askers: &'a Askers, question: String) -> Self {
        *locked(&askers.open_question) = Some(question);
        Self(askers)
    }
}

impl Drop for ShownQuestion<'_> {
    fn drop(&mut self) {
        *locked(&self.0.open_question) = None;
    }
}

/// Returns a question's first line that says anything.
fn first_line(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    line.unwrap_or("a question without words").to_owned()
}

impl Prompter for Askers {
    fn ask(&self, prompt: Prompt) -> BoxFuture<'_, Option<String>> {
        Box::pin(async move { self.ask_somebody(&prompt).await })
    }

    fn progress(&self, message: &str) {
        tracing::debug!(message, "login");
        for asker in locked(&self.waiting).iter() {
            let message = message.to_owned();
            // Progress is for people; one who does not read misses it.
            let _ = asker.try_send(ConnectEvent::Progress { message });
        }
    }

    fn is_anybody_there(&self) -> bool {
        self.first(&[]).is_some()
    }

    fn missed(&self, question: &str) {
        *locked(&self.unheard) = Some(question.to_owned());
    }
}

const fn kind_of(question: &Question) -> PromptKind {
    match question {
        Question::HostKey { .. } => PromptKind::HostKey,
        Question::Password => PromptKind::Password,
        Question::Passphrase => PromptKind::Passphrase,
        Question::Text => PromptKind::Question,
    }
}

/// A poisoned lock means that a holder panicked between two plain operations; the data is whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password() -> Prompt {
        Prompt {
            kind: Question::Password,
            text: "Password: ".to_owned(),
            echo: false,
        }
    }

    async fn prompt_id(events: &mut mpsc::Receiver<ConnectEvent>) -> String {
        match events.recv().await {
            Some(ConnectEvent::Prompt { id, .. }) => id,
            other => panic!("no prompt but {other:?}"),
        }
    }

    #[tokio::test]
    async fn a_prompt_dies_with_its_asker_and_moves_to_the_next() {
        let prompts = Arc::new(Prompts::default());
        let askers = Askers::new(Arc::clone(&prompts));
        let ((first, mut first_events), (second, mut second_events)) = (asker(), asker());
        askers.join(first);
        askers.join(second);
        let play = async {
            let id = prompt_id(&mut first_events).await;
            drop(first_events);
            let next = prompt_id(&mut second_events).await;
            assert!(!prompts.answer(&id, Some("late".to_owned())));
            assert!(prompts.answer(&next, Some("secret".to_owned())));
            assert!(
                !prompts.answer(&next, Some("again".to_owned())),
                "once only"
            );
        };
        let (answer, ()) = tokio::join!(askers.ask(password()), play);
        assert_eq!(answer.as_deref(), Some("secret"));
        drop(second_events);
        assert_eq!(askers.ask(password()).await, None, "nobody is left");
        assert!(!askers.is_anybody_there());
    }

    #[tokio::test]
    async fn one_who_cannot_answer_leaves_the_question_to_the_next() {
        let prompts = Arc::new(Prompts::default());
        let askers = Askers::new(Arc::clone(&prompts));
        let ((headless, mut headless_events), (person, mut person_events)) = (asker(), asker());
        askers.join(headless);
        askers.join(person);
        let play = async {
            let id = prompt_id(&mut headless_events).await;
            assert!(prompts.answer(&id, None));
            let next = prompt_id(&mut person_events).await;
            assert_ne!(id, next);
            assert!(prompts.answer(&next, Some("secret".to_owned())));
        };
        let (answer, ()) = tokio::join!(askers.ask(password()), play);
        assert_eq!(answer.as_deref(), Some("secret"));

        // With all of them declining it is declined, and somebody heard it.
        let play = async {
            for events in [&mut headless_events, &mut person_events] {
                let id = prompt_id(events).await;
                assert!(prompts.answer(&id, None));
            }
        };
        let (answer, ()) = tokio::join!(askers.ask(password()), play);
        assert_eq!((answer, askers.take_unheard()), (None, None));
        assert!(askers.is_anybody_there(), "they hear how it ends");
    }
}
