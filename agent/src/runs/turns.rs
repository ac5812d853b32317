//! A queue as those who wait in it see it: who is next, and who stands where.
//!
//! One for the runs that wait for a supervisor (`runs::slots`), one for the lines that wait for a
//! session's shell (`runs::link`).
//! Invariants: places are given in the order of asking and never change hands; whoever becomes the
//! first is called once.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use tokio::sync::Notify;

use super::live_run::lock;

/// A queue; clones are the same one.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    newest: u64,
    of: BTreeMap<u64, Arc<Notify>>,
}

impl Waiting {
    fn is_first(&self, number: u64) -> bool {
        self.of
            .first_key_value()
            .is_some_and(|(first, _)| *first == number)
    }
}

/// A place in a queue; clones are the same place.
#[derive(Clone, Debug)]
pub(super) struct Turn {
    turns: Turns,
    number: u64,
    called: Arc<Notify>,
}

impl Turns {
    /// Takes the last place.
    pub(super) fn join(&self) -> Turn {
        let mut waiting = lock(&self.0);
        waiting.newest += 1;
        let (number, called) = (waiting.newest, Arc::new(Notify::new()));
        waiting.of.insert(number, Arc::clone(&called));
        Turn {
            turns: self.clone(),
            number,
            called,
        }
    }

    /// Calls who is first, to look again whether its turn has come.
    pub(super) fn call_first(&self) {
        if let Some((_, called)) = lock(&self.0).of.first_key_value() {
            called.notify_one();
        }
    }

    /// Returns whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        lock(&self.0).of.is_empty()
    }
}

impl Turn {
    /// Returns the place, 1 for the first; nothing when it does not wait any more.
    pub(super) fn position(&self) -> Option<u32> {
        let waiting = lock(&self.turns.0);
        waiting.of.contains_key(&self.number).then(|| {
            let before = waiting.of.range(..self.number).count();
            u32::try_from(before).map_or(u32::MAX, |before| before.saturating_add(1))
        })
    }

    /// Returns whether it waits, and nobody is before it.
    pub(super) fn is_first(&self) -> bool {
        lock(&self.turns.0).is_first(self.number)
    }

    /// Returns whether it waits.
    pub(super) fn waits(&self) -> bool {
        lock(&self.turns.0).of.contains_key(&self.number)
    }

    /// Returns whether both wait in one queue.
    pub(super) fn is_beside(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.turns.0, &other.turns.0)
    }

    /// Gives the place up, and calls who is first then. Returns whether somebody became the first.
    pub(super) fn leave(&self) -> bool {
        let mut waiting = lock(&self.turns.0);
        let was_first = waiting.is_first(self.number);
        waiting.of.remove(&self.number);
        match waiting.of.first_key_value() {
            Some((_, called)) if was_first => {
                called.notify_one();
                true
            }
            _ => false,
        }
    }

    /// Takes the place again that was given up: nobody else had it.
    pub(super) fn rejoin(&self) {
        let called = Arc::clone(&self.called);
        lock(&self.turns.0).of.insert(self.number, called);
    }

    /// Waits until it is called.
    pub(super) async fn called(&self) {
        self.called.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_move_up_when_others_leave() {
        let turns = Turns::default();
        let [a, b, c] = [turns.join(), turns.join(), turns.join()];
        let places = || [&a, &b, &c].map(Turn::position);
        assert_eq!(places(), [Some(1), Some(2), Some(3)]);
        assert!(!b.leave(), "the first is still the same");
        assert_eq!(places(), [Some(1), None, Some(2)]);
        assert!(a.leave());
        assert!(c.is_first() && !a.waits());
        a.rejoin();
        assert_eq!(places(), [Some(1), None, Some(2)]);
    }
}
