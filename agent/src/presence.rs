//! Who looks at which run now: this user's windows and the guests of a share.
//!
//! Joined by `http::live` and by the share socket; told to every watcher of the events.
//! Invariants: whoever joined leaves when their [`Present`] is dropped, so a cut connection is no viewer.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use hpcclient_protocol::{RunId, live::Viewer};

/// The viewers of all runs; clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Presence(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    next: u64,
    of: HashMap<RunId, Vec<(u64, Viewer)>>,
}

/// A viewer's place; dropping it is leaving.
#[derive(Debug)]
pub struct Present {
    presence: Presence,
    run: RunId,
    number: u64,
}

impl Presence {
    /// Adds a viewer.
    #[must_use]
    pub fn join(&self, run: RunId, viewer: Viewer) -> Present {
        let mut known = self.lock();
        known.next += 1;
        let number = known.next;
        known.of.entry(run).or_default().push((number, viewer));
        Present {
            presence: self.clone(),
            run,
            number,
        }
    }

    /// Returns who looks at a run now, in the order in which they came.
    #[must_use]
    pub fn of(&self, run: RunId) -> Vec<Viewer> {
        let known = self.lock();
        let viewers = known.of.get(&run).into_iter().flatten();
        viewers.map(|(_, viewer)| viewer.clone()).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        // What a panicking thread left is still whole here.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        let mut known = self.presence.lock();
        if let Some(viewers) = known.of.get_mut(&self.run) {
            viewers.retain(|(number, _)| *number != self.number);
            if viewers.is_empty() {
                known.of.remove(&self.run);
            }
        }
    }
}
