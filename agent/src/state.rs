//! What every HTTP handler can reach: the registry of runs, who we are, and the way to stop.
//!
//! Made once by `serve`; clones are the same.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use hpcclient_protocol::status::AgentHello;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{clock, place::Place, presence::Presence, runs::Runs, shares::Shares, tasks::Tasks};

/// The agent, as its handlers see it.
#[derive(Clone, Debug)]
pub struct AppState(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    hello: AgentHello,
    place: Place,
    user: String,
    started_ms: u64,
    runs: Runs,
    presence: Presence,
    shares: Shares,
    viewers: Arc<Semaphore>,
    readers: Arc<Semaphore>,
    tracker: Tasks,
    stopping: CancellationToken,
    leave_nothing: AtomicBool,
}

impl AppState {
    /// Puts the parts together.
    #[must_use]
    pub fn new(
        hello: AgentHello,
        user: String,
        place: Place,
        runs: Runs,
        tracker: Tasks,
        stopping: CancellationToken,
    ) -> Self {
        let presence = Presence::new(runs.clone());
        let (teller, ended) = (presence.clone(), stopping.clone());
        tracker.spawn(async move {
            let _stopped = ended.run_until_cancelled(teller.tell()).await;
        });
        let shares = Shares::new(&place, &user);
        Self(Arc::new(Inner {
            hello,
            place,
            user,
            started_ms: clock::now_ms(),
            runs,
            presence,
            shares,
            viewers: Arc::new(Semaphore::new(MAX_VIEWERS)),
            readers: Arc::new(Semaphore::new(MAX_READERS)),
            tracker,
            stopping,
            leave_nothing: AtomicBool::new(false),
        }))
    }

    /// Returns who this agent is.
    #[must_use]
    pub fn hello(&self) -> &AgentHello {
        &self.0.hello
    }

    /// Returns the user's login name.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.0.user
    }

    /// Returns where the agent keeps things.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.0.place
    }

    /// Returns the user's home directory.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.0.place.home()
    }

    /// Returns when this agent started.
    #[must_use]
    pub fn started_ms(&self) -> u64 {
        self.0.started_ms
    }

    /// Returns the registry of runs.
    #[must_use]
    pub fn runs(&self) -> &Runs {
        &self.0.runs
    }

    /// Returns who looks at which run.
    #[must_use]
    pub fn presence(&self) -> &Presence {
        &self.0.presence
    }

    /// Returns what this user shares.
    #[must_use]
    pub fn shares(&self) -> &Shares {
        &self.0.shares
    }

    /// Returns the places for live sockets.
    #[must_use]
    pub fn viewers(&self) -> &Arc<Semaphore> {
        &self.0.viewers
    }

    /// Returns how many live sockets are open.
    #[must_use]
    pub fn open_viewers(&self) -> usize {
        MAX_VIEWERS.saturating_sub(self.0.viewers.available_permits())
    }

    /// Returns the places for searches and screens, which read much of what is stored.
    #[must_use]
    pub fn readers(&self) -> &Arc<Semaphore> {
        &self.0.readers
    }

    /// Returns where tasks are started, so that a stop can wait for them.
    #[must_use]
    pub fn tracker(&self) -> &Tasks {
        &self.0.tracker
    }

    /// Returns the token that is cancelled when the agent stops.
    #[must_use]
    pub fn stopping(&self) -> &CancellationToken {
        &self.0.stopping
    }

    /// Stops the agent; with `leave_nothing` its run directory is removed.
    pub fn stop(&self, leave_nothing: bool) {
        self.0
            .leave_nothing
            .fetch_or(leave_nothing, Ordering::Relaxed);
        self.0.stopping.cancel();
    }

    /// Returns whether the run directory is to be removed.
    #[must_use]
    pub fn leaves_nothing(&self) -> bool {
        self.0.leave_nothing.load(Ordering::Relaxed)
    }
}

/// A browser opens a few, a course looks at one run; each costs some ten kilobytes.
const MAX_VIEWERS: usize = 1024;

/// Each holds a thread of the few, and a processor of a node that others use too.
const MAX_READERS: usize = 2;
