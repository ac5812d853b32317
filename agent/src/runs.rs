//! The registry of runs: every run that lives on this node, and the way to those in the store.
//!
//! Called by `http`. A client's `PUT` becomes a folder in the store and a message to a shim; what the
//! shim says comes back through `Link` and wakes the followers.
//! Invariants: an id is run at most once, also when requests come at the same time or are cut; a run
//! is in `live` from before its folder exists until its end is known; locks are never held across
//! an await.
//! Not here: bytes on disk (`store`), processes (`shim`), HTTP (`http`).

mod adopt;
mod error;
mod events;
mod fate;
mod follow;
mod handed;
mod input;
mod link;
mod live_run;
mod marks;
mod orphan;
mod page;
mod prune;
mod readers;
mod session;
mod slots;
mod start;
mod turns;
mod waiting;

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    sync::{Arc, Mutex, atomic::AtomicBool},
};

use hpcclient_protocol::{Run, RunId, RunSpec, RunState, SessionId, run::StreamSizes};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use self::{
    error::RunError,
    events::{EventWatch, Events, TooSlow},
    follow::{Follower, Mode},
    input::{Piece, Taken},
    link::Link,
    page::Filter,
};
use self::{
    live_run::{LiveRun, Stage, lock},
    prune::Usage,
    readers::Readers,
    session::Session,
    slots::Slots,
};
use crate::{
    clock,
    environment::{Environment, Variables},
    place::Place,
    shim::{self, control::FromShim},
    store::{RunDir, RunRecord, Store},
    tasks::Tasks,
};

/// The registry; clones are the same one.
#[derive(Clone, Debug)]
pub struct Runs(Arc<Registry>);

#[derive(Debug)]
struct Registry {
    store: Store,
    place: Place,
    environment: Environment,
    boot_id: Option<String>,
    /// Whether the last run was made without a wait.
    store_is_quick: AtomicBool,
    live: Mutex<HashMap<RunId, Arc<LiveRun>>>,
    sessions: Mutex<HashMap<SessionId, Session>>,
    events: Events,
    slots: Slots,
    /// When the node was last asked how many processes it allows.
    room_asked: Mutex<Option<Instant>>,
    /// Held while a run is settled or adopted, on the blocking pool only.
    settling: Mutex<()>,
    /// Held while a run's marks change, or it is deleted; on the blocking pool only.
    marking: Mutex<()>,
    usage: Usage,
    shared: Mutex<HashSet<RunId>>,
    readers: Readers,
    tracker: Tasks,
    stopping: CancellationToken,
}

/// The answer to a `PUT`.
#[derive(Debug)]
pub struct Put {
    /// Whether the run is new.
    pub is_new: bool,
    /// The run.
    pub run: Run,
}

/// How many runs there are of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Waiting to start.
    pub queued: u32,
    /// Running or stalled.
    pub running: u32,
    /// Session shells.
    pub sessions: u32,
}

impl Runs {
    /// Makes the registry of a store.
    #[must_use]
    pub fn new(
        store: Store,
        place: Place,
        environment: Environment,
        tracker: Tasks,
        stopping: CancellationToken,
    ) -> Self {
        Self(Arc::new(Registry {
            store,
            place,
            environment,
            boot_id: shim::boot_id(),
            store_is_quick: AtomicBool::new(false),
            live: Mutex::default(),
            sessions: Mutex::default(),
            events: Events::default(),
            slots: Slots::new(waiting::MAX_SUPERVISORS),
            room_asked: Mutex::new(None),
            settling: Mutex::default(),
            marking: Mutex::default(),
            usage: Usage::default(),
            shared: Mutex::default(),
            readers: Readers::new(),
            tracker,
            stopping,
        }))
    }

    /// Makes a run and starts it, or finds the one that has this id already.
    ///
    /// # Errors
    /// The spec is bad, the id is taken by another spec, or it cannot be stored or started.
    pub async fn put(&self, id: RunId, spec: RunSpec) -> Result<Put, RunError> {
        spec.check().map_err(RunError::BadSpec)?;
        let (live, is_new) = self.reserve(id, &spec);
        if is_new {
            // A task of its own: a request that is cut must not leave a run half made.
            self.0.tracker.spawn(self.clone().begin(Arc::clone(&live)));
        }
        let run = if live.made().await? {
            live.to_run()
        } else {
            self.get(id).await?
        };
        if run.spec != spec {
            return Err(RunError::OtherSpec { id });
        }
        let is_new = is_new && matches!(live.watch().borrow().stage, Stage::Stored);
        Ok(Put { is_new, run })
    }

    fn reserve(&self, id: RunId, spec: &RunSpec) -> (Arc<LiveRun>, bool) {
        let mut live = lock(&self.0.live);
        if let Some(known) = live.get(&id) {
            return (Arc::clone(known), false);
        }
        let host = self.0.place.host().to_owned();
        let new = Arc::new(LiveRun::new(id, spec.clone(), clock::now_ms(), host));
        live.insert(id, Arc::clone(&new));
        (new, true)
    }

    /// Returns a run.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub async fn get(&self, id: RunId) -> Result<Run, RunError> {
        match self.live(id) {
            Some(live) if live.dir().is_some() => Ok(self.look_at_orphan(&live).await),
            _ => self.stored(id).await.map(|(_, run)| run),
        }
    }

    /// Returns a follower of a run's output, from these offsets on.
    ///
    /// # Errors
    /// There is no such run, an offset lies beyond the end, or only another node can follow it.
    pub async fn follow(&self, id: RunId, from: Start, mode: Mode) -> Result<Follower, RunError> {
        if let Some(live) = self.live(id)
            && let Some(dir) = live.dir().cloned()
        {
            let watch = live.watch();
            let at = from.offsets(watch.borrow().sizes);
            // From the start on, a reader opens nothing yet: no trip to another thread.
            let reader = if at == StreamSizes::default() {
                dir.reader(at)?
            } else {
                self.blocking(move || Ok(dir.reader(at)?)).await?
            };
            let seat = self.0.readers.seat();
            let is_local = self.0.store.is_local();
            return Ok(Follower::live(live, watch, reader, mode, seat, is_local));
        }
        let (dir, run) = self.stored(id).await?;
        if mode == Mode::Follow && !run.state.is_final() {
            return Err(if self.is_ours(&run) {
                RunError::Unreachable { id }
            } else {
                RunError::OtherNode { id, host: run.host }
            });
        }
        let at = from.offsets(run.sizes);
        let grows = !run.state.is_final();
        let reader = self
            .blocking(move || {
                let reader = dir.reader(at)?;
                Ok(if grows { reader.of_growing() } else { reader })
            })
            .await?;
        Ok(Follower::stored(run, reader, self.0.readers.seat()))
    }

    /// Returns where a run is stored, and the run: for what is asked of its stored output.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub async fn folder(&self, id: RunId) -> Result<(RunDir, Run), RunError> {
        let live = self.live(id);
        match live.as_ref().and_then(|live| Some((live, live.dir()?))) {
            Some((live, dir)) => Ok((dir.clone(), live.to_run())),
            None => self.stored(id).await,
        }
    }

    /// Returns the environment of the user's login shell, and waits until it is known.
    pub async fn login_environment(&self) -> Arc<Variables> {
        self.0.environment.login().await
    }

    /// Returns the events.
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.0.events
    }

    /// Returns how many runs and sessions live.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for live in lock(&self.0.live).values() {
            match live.state() {
                RunState::Queued => counts.queued += 1,
                RunState::Running | RunState::Stalled | RunState::Orphaned => counts.running += 1,
                RunState::Exited | RunState::Lost => {}
            }
        }
        let sessions = lock(&self.0.sessions);
        let living = sessions
            .values()
            .filter(|session| session.is_alive())
            .count();
        counts.sessions = u32::try_from(living).unwrap_or(u32::MAX);
        counts
    }

    /// Returns where runs are stored.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    fn live(&self, id: RunId) -> Option<Arc<LiveRun>> {
        lock(&self.0.live).get(&id).cloned()
    }

    /// Makes a stored run live; `false` where it is already, if only because somebody asks for it now.
    fn admit(&self, live: &Arc<LiveRun>) -> bool {
        match lock(&self.0.live).entry(live.id()) {
            Entry::Occupied(_) => false,
            Entry::Vacant(place) => {
                place.insert(Arc::clone(live));
                true
            }
        }
    }

    /// Takes back what was made live, and nobody else's.
    fn dismiss(&self, live: &Arc<LiveRun>) {
        if let Entry::Occupied(known) = lock(&self.0.live).entry(live.id())
            && Arc::ptr_eq(known.get(), live)
        {
            known.remove();
        }
    }

    /// Reads a run that is not live from the store.
    async fn stored(&self, id: RunId) -> Result<(RunDir, Run), RunError> {
        let runs = self.clone();
        self.blocking(move || {
            let dir = runs.0.store.find(id).ok_or(RunError::NotFound { id })?;
            let run = runs.read(&dir)?;
            Ok((dir, run))
        })
        .await
    }

    /// Reads a run, the live one if it lives. A run of this node that nobody keeps any more is settled
    /// here; one of another node is only read, because its processes cannot be looked at from here.
    fn read(&self, dir: &RunDir) -> Result<Run, RunError> {
        if let Some(live) = self.live(dir.id()).filter(|live| live.dir().is_some()) {
            return Ok(live.to_run());
        }
        let run = dir.load()?;
        if run.state.is_final() || !self.is_ours(&run) {
            return Ok(run);
        }
        self.settle(dir)
    }

    /// Returns whether a run is this node's. Nobody else writes anything of it.
    fn is_ours(&self, run: &Run) -> bool {
        run.host == self.0.place.host()
    }

    /// Takes what a shim says.
    async fn hear(&self, link: &Link, message: FromShim) {
        match message {
            FromShim::Changed {
                run,
                record,
                sizes,
                durable,
            } => {
                if let (Some(live), Some(durable)) = (self.live(run), durable) {
                    live.set_durable(durable);
                }
                self.grow(run, *record, sizes);
            }
            FromShim::StdinAck {
                run,
                writer,
                seq,
                error,
            } => {
                if let Some(live) = self.live(run) {
                    live.acknowledge(&writer, seq, error.as_deref());
                }
            }
            FromShim::Hello { live, .. } => self.adopt_runs(link, live).await,
            FromShim::Failed { reason } => link.set_failure(&reason),
        }
    }

    fn grow(&self, id: RunId, record: RunRecord, sizes: StreamSizes) {
        let Some(live) = self.live(id) else { return };
        let ended = record.state.is_final();
        if record.state != RunState::Queued {
            self.call_next_line(&live);
        }
        if ended {
            self.note_written(sizes);
            if let (Some(session), Some(cwd)) = (&live.spec().session, &record.cwd_after) {
                self.set_session_cwd(session, cwd);
            }
            // Before the followers wake, so that whoever asks next finds one answer: the store's.
            lock(&self.0.live).remove(&id);
        }
        if live.grow(record, sizes) {
            self.0.events.tell(|| live.to_run());
        }
    }

    /// Does file system work on the blocking pool: a shared disk may hang, the runtime may not.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, RunError> + Send + 'static,
    ) -> Result<T, RunError> {
        crate::tasks::blocking(work)
            .await
            .map_err(|_| RunError::Stopping)?
    }
}

/// Where a follower starts.
#[derive(Clone, Copy, Debug)]
pub enum Start {
    /// At these offsets.
    At(StreamSizes),
    /// At an offset in one stream; the others are skipped.
    In(hpcclient_protocol::StreamName, u64),
}

impl Start {
    const fn offsets(self, ends: StreamSizes) -> StreamSizes {
        use hpcclient_protocol::StreamName as Name;
        match self {
            Self::At(offsets) => offsets,
            Self::In(Name::Stdout, stdout) => StreamSizes { stdout, ..ends },
            Self::In(Name::Stderr, stderr) => StreamSizes { stderr, ..ends },
            Self::In(Name::Tty, tty) => StreamSizes { tty, ..ends },
        }
    }
}
