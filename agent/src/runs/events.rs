//! Tells every watcher what happens to runs: `GET /v1/events` and the live socket.
//!
//! Invariants: a watcher that does not keep up is told so and ends, it never grows memory; a
//! subscription is made before the newest number is read, so nothing lies between the two.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use hpcclient_protocol::{Run, RunId, event::Event};
use tokio::sync::broadcast::{self, error::RecvError};

/// The agent's events.
#[derive(Debug)]
pub struct Events {
    sender: broadcast::Sender<Arc<Event>>,
    newest: AtomicU64,
}

impl Default for Events {
    fn default() -> Self {
        let sender = broadcast::Sender::new(BACKLOG);
        Self {
            sender,
            newest: AtomicU64::new(0),
        }
    }
}

impl Events {
    /// Tells that a run is new or has another state. The run is only built when someone watches.
    pub fn tell(&self, run: impl FnOnce() -> Run) {
        self.tell_event(|seq| Event::Run {
            seq,
            run: Box::new(run()),
        });
    }

    /// Tells that a run was deleted.
    pub fn tell_gone(&self, run: RunId) {
        self.tell_event(|seq| Event::Gone { seq, run });
    }

    /// Returns whether anybody watches.
    pub(super) fn is_watched(&self) -> bool {
        self.sender.receiver_count() > 0
    }

    /// Tells an event with the number that it gets. It is only built when someone watches.
    pub fn tell_event(&self, event: impl FnOnce(u64) -> Event) {
        let seq = self.newest.fetch_add(1, Ordering::Relaxed) + 1;
        if self.is_watched() {
            let _nobody = self.sender.send(Arc::new(event(seq)));
        }
    }

    /// Tells that what is shared changed.
    pub fn tell_shares(&self) {
        let seq = self.newest.fetch_add(1, Ordering::Relaxed) + 1;
        let _nobody = self.sender.send(Arc::new(Event::Shares { seq }));
    }

    /// Starts watching; the first event is `ready`.
    #[must_use]
    pub fn watch(&self) -> EventWatch {
        let receiver = self.sender.subscribe();
        let seq = self.newest.load(Ordering::Relaxed);
        EventWatch {
            receiver,
            first: Some(Arc::new(Event::Ready { seq })),
        }
    }
}

/// One watcher's place in the events.
#[derive(Debug)]
pub struct EventWatch {
    receiver: broadcast::Receiver<Arc<Event>>,
    first: Option<Arc<Event>>,
}

impl EventWatch {
    /// Returns the next event. Cancel-safe.
    ///
    /// # Errors
    /// The watcher was too slow, and events are lost: it must start again.
    pub async fn next(&mut self) -> Result<Arc<Event>, TooSlow> {
        if let Some(first) = self.first.take() {
            return Ok(first);
        }
        match self.receiver.recv().await {
            Ok(event) => Ok(event),
            Err(RecvError::Lagged(lost)) => Err(TooSlow { lost }),
            // The sender lives as long as the registry, which outlives every request.
            Err(RecvError::Closed) => Err(TooSlow { lost: 0 }),
        }
    }
}

/// Says that a watcher did not keep up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the watcher was too slow and missed {lost} events")]
pub struct TooSlow {
    /// How many events it missed.
    pub lost: u64,
}

/// An event holds one run, about a kilobyte: a slow watcher costs at most this many, shared by all.
const BACKLOG: usize = 256;

#[cfg(test)]
mod tests {
    use hpcclient_protocol::{Command, RunSpec, RunState};

    use super::*;

    fn run() -> Run {
        Run {
            id: RunId::random(),
            spec: RunSpec::new(Command::Shell("true".into())),
            state: RunState::Queued,
            exit_code: None,
            signal: None,
            reason: None,
            created_ms: 0,
            started_ms: None,
            ended_ms: None,
            sizes: hpcclient_protocol::run::StreamSizes::default(),
            durable: hpcclient_protocol::run::StreamSizes::default(),
            name: None,
            pinned: false,
            position: None,
            cwd_after: None,
            host: "login1".into(),
            live: true,
            pid: None,
        }
    }

    #[tokio::test]
    async fn a_watcher_sees_ready_and_then_every_event_in_order() {
        let events = Events::default();
        events.tell(run);
        let mut watch = events.watch();
        events.tell(run);
        assert_eq!(*watch.next().await.unwrap(), Event::Ready { seq: 1 });
        assert!(matches!(
            *watch.next().await.unwrap(),
            Event::Run { seq: 2, .. }
        ));
    }

    #[tokio::test]
    async fn a_slow_watcher_is_told_and_not_kept() {
        let events = Events::default();
        let mut watch = events.watch();
        for _ in 0..2 * BACKLOG {
            events.tell(run);
        }
        watch.next().await.unwrap();
        assert_eq!(
            watch.next().await,
            Err(TooSlow {
                lost: BACKLOG as u64
            })
        );
    }
}
