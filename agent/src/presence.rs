//! Who looks at which run now, this user's windows and the guests of a share, and whose size its terminal has.
//!
//! Joined by `http::live` and by the share socket; told to every watcher of the events, a storm of
//! viewers in few of them.
//! Invariants: whoever joined leaves when their [`Present`] is dropped, so a cut connection is no
//! viewer; a terminal's size is set here and nowhere else.

mod sizes;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hpcclient_protocol::{
    RunId,
    event::Event,
    live::{Access, Viewer},
    run::TerminalSize,
};
use tokio::{sync::Notify, time::sleep};

use self::sizes::Sizes;
use crate::{
    clock,
    runs::{RunError, Runs},
};

/// The viewers of all runs; clones are the same.
#[derive(Clone, Debug)]
pub struct Presence(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    runs: Runs,
    known: Mutex<Known>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Known {
    next: u64,
    of: HashMap<RunId, Watched>,
    /// Whose viewers are others than was told.
    untold: HashSet<RunId>,
}

#[derive(Debug, Default)]
struct Watched {
    viewers: Vec<(u64, Viewer)>,
    sizes: Sizes,
}

/// A viewer's place; dropping it is leaving.
#[derive(Debug)]
pub struct Present {
    presence: Presence,
    run: RunId,
    number: u64,
    access: Access,
}

impl Presence {
    /// Makes it, empty.
    #[must_use]
    pub fn new(runs: Runs) -> Self {
        Self(Arc::new(Inner {
            runs,
            known: Mutex::default(),
            changed: Notify::new(),
        }))
    }

    /// Adds a viewer, who comes now.
    #[must_use]
    pub fn join(&self, run: RunId, user: &str, access: Access) -> Present {
        let viewer = Viewer {
            user: user.to_owned(),
            access,
            since_ms: clock::now_ms(),
        };
        let mut known = self.lock();
        known.next += 1;
        let number = known.next;
        let watched = known.of.entry(run).or_default();
        watched.viewers.push((number, viewer));
        self.tell_later(&mut known, run);
        Present {
            presence: self.clone(),
            run,
            number,
            access,
        }
    }

    /// Returns who looks at a run now, in the order in which they came.
    #[must_use]
    pub fn of(&self, run: RunId) -> Vec<Viewer> {
        let known = self.lock();
        let viewers = known.of.get(&run).into_iter().flat_map(|run| &run.viewers);
        viewers.map(|(_, viewer)| viewer.clone()).collect()
    }

    /// Sets a terminal's size for somebody who is no viewer, such as a program. It holds until a
    /// driver with another size types.
    ///
    /// # Errors
    /// The run has ended or has no terminal, or the shim cannot be reached.
    pub async fn resize(&self, run: RunId, size: TerminalSize) -> Result<(), RunError> {
        self.0.runs.await_terminal(run, size).await?;
        let mut known = self.lock();
        self.0.runs.resize(run, size)?;
        if let Some(watched) = known.of.get_mut(&run) {
            watched.sizes.set(size);
        }
        Ok(())
    }

    /// Tells the watchers of the events what changed, as long as it is polled.
    pub async fn tell(&self) {
        loop {
            self.0.changed.notified().await;
            let untold = std::mem::take(&mut self.lock().untold);
            for run in untold {
                self.0.runs.events().tell_event(|seq| Event::Presence {
                    seq,
                    run,
                    viewers: self.of(run),
                });
                // Many at once: those who watch take them in turn.
                tokio::task::yield_now().await;
            }
            sleep(TELL_EVERY).await;
        }
    }

    fn tell_later(&self, known: &mut Known, run: RunId) {
        known.untold.insert(run);
        self.0.changed.notify_one();
    }

    /// Gives a terminal the size that is due. Under the lock, so that sizes go out in order.
    fn settle(&self, run: RunId, sizes: &mut Sizes) -> Result<(), RunError> {
        let Some(size) = sizes.due() else {
            return Ok(());
        };
        self.0.runs.resize(run, size)?;
        sizes.set(size);
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        // What a panicking thread left is still whole here.
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Present {
    /// Returns what this viewer may do.
    #[must_use]
    pub const fn access(&self) -> Access {
        self.access
    }

    /// Remembers the size of a driver's window; the terminal gets it now or when they type.
    ///
    /// # Errors
    /// The viewer only views, the run has ended or has no terminal, or it has none yet. The size is
    /// remembered in the last case.
    pub async fn resize(&self, size: TerminalSize) -> Result<(), RunError> {
        self.check_drives()?;
        let runs = &self.presence.0.runs;
        if size.cols > 0 && size.rows > 0 {
            self.with_sizes(|sizes| sizes.told(self.number, size));
        }
        runs.await_terminal(self.run, size).await?;
        self.with_sizes(|sizes| self.presence.settle(self.run, sizes))
            .unwrap_or(Ok(()))
    }

    /// Says that this driver types: the terminal has their size before the keys arrive.
    ///
    /// # Errors
    /// The viewer only views.
    pub fn types(&self) -> Result<(), RunError> {
        self.check_drives()?;
        self.with_sizes(|sizes| {
            sizes.typed(self.number);
            // A run that cannot be reached tells so when it gets the keys.
            let _unreachable = self.presence.settle(self.run, sizes);
        });
        Ok(())
    }

    fn check_drives(&self) -> Result<(), RunError> {
        match self.access {
            Access::Drive => Ok(()),
            Access::View => Err(RunError::OnlyViewed { id: self.run }),
        }
    }

    fn with_sizes<T>(&self, work: impl FnOnce(&mut Sizes) -> T) -> Option<T> {
        let mut known = self.presence.lock();
        known
            .of
            .get_mut(&self.run)
            .map(|watched| work(&mut watched.sizes))
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        let mut known = self.presence.lock();
        if let Some(watched) = known.of.get_mut(&self.run) {
            watched.viewers.retain(|(number, _)| *number != self.number);
            watched.sizes.left(self.number);
            let _ended = self.presence.settle(self.run, &mut watched.sizes);
            if watched.viewers.is_empty() {
                known.of.remove(&self.run);
            }
        }
        self.presence.tell_later(&mut known, self.run);
    }
}

/// Fifty viewers that come at once are two events, and nobody waits longer for one.
const TELL_EVERY: Duration = Duration::from_millis(200);
