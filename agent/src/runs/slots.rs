//! How many supervisors there may be at a time, and who has to wait.
//!
//! Each is a process or two of the user, of which a login node allows a few hundred and some allow
//! sixty. Called by `runs::start` and `runs::waiting`.
//! Invariants: never more slots are given than the limit, but what was found alive counts beyond it;
//! slots are given in the order of asking; one that is dropped is free at once.
//! Not here: what the node allows (`node::processes`).

use std::sync::{Arc, Mutex};

use super::{
    live_run::lock,
    turns::{Turn, Turns},
};

/// All slots; clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Slots(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    turns: Turns,
    taken: Mutex<Taken>,
}

#[derive(Clone, Copy, Debug)]
struct Taken {
    used: usize,
    limit: usize,
}

/// The right to have a supervisor; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Slot(Slots);

impl Slots {
    /// Makes so many slots, at least one.
    pub(super) fn new(limit: usize) -> Self {
        let limit = limit.max(1);
        Self(Arc::new(Inner {
            turns: Turns::default(),
            taken: Mutex::new(Taken { used: 0, limit }),
        }))
    }

    /// Counts a supervisor that is there, whatever the limit says.
    pub(super) fn occupy(&self) -> Slot {
        lock(&self.0.taken).used += 1;
        Slot(self.clone())
    }

    /// Takes a slot if one is free and nobody waits.
    pub(super) fn try_take(&self) -> Option<Slot> {
        let mut taken = lock(&self.0.taken);
        if taken.used >= taken.limit || !self.0.turns.is_empty() {
            return None;
        }
        taken.used += 1;
        Some(Slot(self.clone()))
    }

    /// Takes the last place among those who wait.
    pub(super) fn join(&self) -> Turn {
        let turn = self.0.turns.join();
        // One may have become free since it was asked for.
        self.0.turns.call_first();
        turn
    }

    /// Takes a slot if it is this one's turn and one is free.
    pub(super) fn claim(&self, turn: &Turn) -> Option<Slot> {
        let mut taken = lock(&self.0.taken);
        if taken.used >= taken.limit || !turn.is_first() {
            return None;
        }
        taken.used += 1;
        drop(taken);
        turn.leave();
        Some(Slot(self.clone()))
    }

    /// Sets how many there may be, at least one. Those that are taken stay so.
    pub(super) fn set_limit(&self, limit: usize) {
        lock(&self.0.taken).limit = limit.max(1);
        self.0.turns.call_first();
    }

    /// Returns how many are taken, and how many there may be.
    pub(super) fn counts(&self) -> (usize, usize) {
        let taken = lock(&self.0.taken);
        (taken.used, taken.limit)
    }

    /// Returns whether somebody waits.
    pub(super) fn has_waiting(&self) -> bool {
        !self.0.turns.is_empty()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let inner = &self.0.0;
        {
            let mut taken = lock(&inner.taken);
            taken.used = taken.used.saturating_sub(1);
        }
        inner.turns.call_first();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    async fn take(slots: &Slots, turn: &Turn) -> Slot {
        loop {
            if let Some(slot) = slots.claim(turn) {
                return slot;
            }
            turn.called().await;
        }
    }

    #[tokio::test]
    async fn a_thousand_that_come_at_once_all_get_a_slot_in_order_and_never_too_many_at_a_time() {
        const LIMIT: usize = 7;
        let slots = Slots::new(LIMIT);
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..1000 {
            let (turn, slots) = (slots.join(), slots.clone());
            let (now, most, order) = (now.clone(), most.clone(), order.clone());
            tasks.spawn(async move {
                // Every tenth is withdrawn while it waits: its place must not be held for it.
                if number % 10 == 9 {
                    turn.leave();
                    return;
                }
                let slot = take(&slots, &turn).await;
                order.lock().unwrap().push(number);
                most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                for _ in 0..number % 5 {
                    tokio::task::yield_now().await;
                }
                now.fetch_sub(1, Ordering::Relaxed);
                drop(slot);
            });
        }
        tokio::time::timeout(std::time::Duration::from_secs(30), async {
            while let Some(ended) = tasks.join_next().await {
                ended.unwrap();
            }
        })
        .await
        .expect("nobody is forgotten");
        assert_eq!(most.load(Ordering::Relaxed), LIMIT);
        let expected: Vec<_> = (0..1000).filter(|number| number % 10 != 9).collect();
        assert_eq!(*order.lock().unwrap(), expected);
        assert_eq!(slots.counts(), (0, LIMIT));
        assert!(!slots.has_waiting());
    }

    #[test]
    fn what_was_found_alive_counts_and_a_new_limit_holds_at_once() {
        let slots = Slots::new(1);
        let _alive = [slots.occupy(), slots.occupy()];
        assert!(slots.try_take().is_none());
        slots.set_limit(3);
        let third = slots.try_take();
        assert!(third.is_some() && slots.try_take().is_none());
        let (first, second) = (slots.join(), slots.join());
        drop(third);
        assert!(slots.claim(&second).is_none(), "not its turn");
        assert!(slots.try_take().is_none(), "others wait");
        assert!(slots.claim(&first).is_some());
    }
}
