//! A run whose end nobody has seen yet: what is known of it, and those who wait for more.
//!
//! Made by `runs::start` and `runs::adopt`, changed only by what its shim says (`runs::link`).
//! Invariants: followers subscribe before they read the store; what `Growth` tells is in the store
//! already.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use hpcclient_protocol::{Run, RunId, RunSpec, RunState, run::StreamSizes};
use rustix::process::Signal;
use tokio::sync::{Notify, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::{Link, RunError, turns::Turn};
use crate::store::{Marks, RunDir, RunRecord};

/// A run that is queued, running, stalled or orphaned.
#[derive(Debug)]
pub(super) struct LiveRun {
    id: RunId,
    spec: RunSpec,
    created_ms: u64,
    host: String,
    dir: OnceLock<RunDir>,
    growth: watch::Sender<Growth>,
    link: Mutex<Option<Link>>,
    waiting: Mutex<Vec<Waiting>>,
    marks: Mutex<Marks>,
    turn: Mutex<Option<Turn>>,
    /// Cancelled when it is ended before it has a shim, or without one.
    pub(super) withdrawn: CancellationToken,
    withdrawn_by: OnceLock<Signal>,
    /// Wakes who watches it, when it is an orphan.
    pub(super) look: Notify,
}

/// What changes in a live run.
#[derive(Clone, Debug)]
pub(super) struct Growth {
    /// How far its making has come.
    pub(super) stage: Stage,
    /// Its record.
    pub(super) record: RunRecord,
    /// The sizes of its streams.
    pub(super) sizes: StreamSizes,
    /// How much of them the disk has for sure.
    pub(super) durable: StreamSizes,
}

/// How far the making of a run has come.
#[derive(Clone, Debug)]
pub(super) enum Stage {
    /// Its folder is being made.
    Making,
    /// It is in the store, and starts as soon as it can.
    Stored,
    /// The store had a run of this id before.
    Known,
    /// It could not be made or started.
    Failed(Arc<RunError>),
}

#[derive(Debug)]
struct Waiting {
    writer: String,
    seq: u64,
    answer: oneshot::Sender<Result<u64, RunError>>,
}

impl LiveRun {
    /// Makes a run that is not in the store yet.
    pub(super) fn new(id: RunId, spec: RunSpec, created_ms: u64, host: String) -> Self {
        let growth = Growth {
            stage: Stage::Making,
            record: RunRecord::new(RunState::Queued),
            sizes: StreamSizes::default(),
            durable: StreamSizes::default(),
        };
        Self::with(id, spec, created_ms, host, growth)
    }

    /// Makes a run that was found alive. It has no link yet; an orphan never gets one.
    pub(super) fn found(run: Run, dir: RunDir, record: RunRecord) -> Self {
        let growth = Growth {
            stage: Stage::Stored,
            record,
            sizes: run.sizes,
            durable: StreamSizes::default(),
        };
        let live = Self::with(run.id, run.spec, run.created_ms, run.host, growth);
        live.set_dir(dir);
        live.set_marks(Marks {
            name: run.name,
            pinned: run.pinned,
        });
        live
    }

    fn with(id: RunId, spec: RunSpec, created_ms: u64, host: String, growth: Growth) -> Self {
        Self {
            id,
            spec,
            created_ms,
            host,
            dir: OnceLock::new(),
            growth: watch::Sender::new(growth),
            link: Mutex::new(None),
            waiting: Mutex::new(Vec::new()),
            marks: Mutex::default(),
            turn: Mutex::new(None),
            withdrawn: CancellationToken::new(),
            withdrawn_by: OnceLock::new(),
            look: Notify::new(),
        }
    }

    /// Returns its id.
    pub(super) const fn id(&self) -> RunId {
        self.id
    }

    /// Returns what was asked for.
    pub(super) const fn spec(&self) -> &RunSpec {
        &self.spec
    }

    /// Returns when it was asked for.
    pub(super) const fn created_ms(&self) -> u64 {
        self.created_ms
    }

    /// Returns its folder, once it is stored.
    pub(super) fn dir(&self) -> Option<&RunDir> {
        self.dir.get()
    }

    /// Sets its folder, once.
    pub(super) fn set_dir(&self, dir: RunDir) {
        let _known = self.dir.set(dir);
    }

    /// Returns its state.
    pub(super) fn state(&self) -> RunState {
        self.growth.borrow().record.state
    }

    /// Returns its record.
    pub(super) fn record(&self) -> RunRecord {
        self.growth.borrow().record.clone()
    }

    /// Sets what the user noted on it.
    pub(super) fn set_marks(&self, marks: Marks) {
        *lock(&self.marks) = marks;
    }

    /// Returns its place in the queue that it is in or was in.
    pub(super) fn turn(&self) -> Option<Turn> {
        lock(&self.turn).clone()
    }

    /// Sets its place in a queue.
    pub(super) fn set_turn(&self, turn: Turn) {
        *lock(&self.turn) = Some(turn);
    }

    /// Ends it in the place of its shim, as this signal would.
    pub(super) fn withdraw(&self, by: Signal) {
        let _earlier = self.withdrawn_by.set(by);
        self.withdrawn.cancel();
    }

    /// Returns whether it was ended without its shim.
    pub(super) fn was_withdrawn(&self) -> bool {
        self.withdrawn.is_cancelled()
    }

    /// Returns the signal that it was ended with.
    pub(super) fn withdrawn_by(&self) -> Signal {
        self.withdrawn_by.get().copied().unwrap_or(Signal::KILL)
    }

    /// Returns the run in the words of the protocol.
    pub(super) fn to_run(&self) -> Run {
        self.run_at(&self.growth.borrow())
    }

    /// Returns the run as it was at a moment.
    pub(super) fn run_at(&self, growth: &Growth) -> Run {
        let record = growth.record.clone();
        let Marks { name, pinned } = lock(&self.marks).clone();
        let position = match record.state {
            RunState::Queued => self.turn().and_then(|turn| turn.position()),
            _ => None,
        };
        Run {
            id: self.id,
            spec: self.spec.clone(),
            state: record.state,
            exit_code: record.exit_code,
            signal: record.signal,
            reason: record.reason,
            created_ms: self.created_ms,
            started_ms: record.started_ms,
            ended_ms: record.ended_ms,
            sizes: growth.sizes,
            durable: growth.durable,
            name,
            pinned,
            position,
            cwd_after: record.cwd_after,
            host: self.host.clone(),
            live: !record.state.is_final(),
            pid: record.pid,
        }
    }

    /// Starts watching it.
    pub(super) fn watch(&self) -> watch::Receiver<Growth> {
        self.growth.subscribe()
    }

    /// Takes what its shim said. Returns whether its state is another one.
    pub(super) fn grow(&self, record: RunRecord, sizes: StreamSizes) -> bool {
        let ended = record.state.is_final();
        let mut changed = false;
        self.growth.send_modify(|growth| {
            changed = growth.record.state != record.state || growth.record.reason != record.reason;
            (growth.record, growth.sizes) = (record, sizes);
        });
        if ended {
            for waiting in self.take_waiting(|_| true) {
                let _gone = waiting.answer.send(Err(RunError::Ended { id: self.id }));
            }
        }
        changed
    }

    /// Notes what the disk has of it. Nobody waits for that.
    pub(super) fn set_durable(&self, durable: StreamSizes) {
        self.growth.send_if_modified(|growth| {
            growth.durable = durable;
            false
        });
    }

    /// Tells how far its making has come.
    pub(super) fn set_stage(&self, stage: Stage) {
        self.growth.send_modify(|growth| growth.stage = stage);
    }

    /// Waits until it is stored, was known before, or failed. `true` says it is this run.
    pub(super) async fn made(&self) -> Result<bool, RunError> {
        let mut watch = self.watch();
        let growth = watch
            .wait_for(|growth| !matches!(growth.stage, Stage::Making))
            .await;
        match growth.as_ref().map(|growth| &growth.stage) {
            Ok(Stage::Known) => Ok(false),
            Ok(Stage::Failed(error)) => Err(RunError::Shared(Arc::clone(error))),
            Ok(Stage::Stored | Stage::Making) => Ok(true),
            Err(_) => Err(RunError::Stopping),
        }
    }

    /// Returns the connection to its shim, when there is one.
    pub(super) fn link(&self) -> Option<Link> {
        lock(&self.link).clone()
    }

    /// Sets the connection to its shim and wakes those who wait for it.
    pub(super) fn set_link(&self, link: Link) {
        *lock(&self.link) = Some(link);
        self.growth.send_modify(|_| {});
    }

    /// Waits for the connection to its shim.
    pub(super) async fn linked(&self) -> Result<Link, RunError> {
        let mut watch = self.watch();
        loop {
            let (state, given_up) = {
                let growth = watch.borrow_and_update();
                let given_up = matches!(growth.stage, Stage::Known | Stage::Failed(_));
                (growth.record.state, given_up)
            };
            if state.is_final() {
                return Err(RunError::Ended { id: self.id });
            }
            if state == RunState::Orphaned {
                return Err(RunError::Orphaned { id: self.id });
            }
            if given_up {
                // Not this one, but perhaps the one in the store: who asks again finds that.
                return Err(RunError::Unreachable { id: self.id });
            }
            if let Some(link) = self.link() {
                return Ok(link);
            }
            watch.changed().await.map_err(|_| RunError::Stopping)?;
        }
    }

    /// Waits until it has ended.
    pub(super) async fn ended(&self) {
        let mut watch = self.watch();
        let _closed = watch
            .wait_for(|growth| growth.record.state.is_final())
            .await;
    }

    /// Registers someone who waits until a piece of stdin was taken.
    pub(super) fn wait_for_ack(
        &self,
        writer: &str,
        seq: u64,
    ) -> oneshot::Receiver<Result<u64, RunError>> {
        let (answer, receiver) = oneshot::channel();
        let mut waiting = lock(&self.waiting);
        // Those whose client went away would pile up while a command does not read its stdin.
        waiting.retain(|waiting| !waiting.answer.is_closed());
        waiting.push(Waiting {
            writer: writer.to_owned(),
            seq,
            answer,
        });
        receiver
    }

    /// Answers those who wait for a piece of stdin.
    pub(super) fn acknowledge(&self, writer: &str, seq: u64, error: Option<&str>) {
        let meant = |waiting: &Waiting| {
            let reached = if error.is_some() {
                waiting.seq == seq
            } else {
                waiting.seq <= seq
            };
            waiting.writer == writer && reached
        };
        for waiting in self.take_waiting(meant) {
            let answer = match error {
                Some(reason) => Err(RunError::Stdin {
                    reason: reason.to_owned(),
                }),
                None => Ok(seq),
            };
            let _gone = waiting.answer.send(answer);
        }
    }

    fn take_waiting(&self, meant: impl Fn(&Waiting) -> bool) -> Vec<Waiting> {
        let mut waiting = lock(&self.waiting);
        let (answered, left) = waiting.drain(..).partition(meant);
        *waiting = left;
        answered
    }
}

/// Locks for a moment without an await. What a panicking thread left is still whole here.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hpcclient_protocol::Command;

    use super::*;

    #[tokio::test]
    async fn nobody_waits_for_the_shim_of_a_run_that_was_known_before() {
        let spec = RunSpec::new(Command::Shell("true".into()));
        let live = LiveRun::new(RunId::random(), spec, 0, "node".to_owned());
        live.set_stage(Stage::Known);
        let linked = tokio::time::timeout(Duration::from_secs(5), live.linked()).await;
        let refused = linked.expect("an answer").unwrap_err();
        assert!(matches!(refused, RunError::Unreachable { .. }));
    }
}
