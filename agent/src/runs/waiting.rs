//! Runs that wait until there may be one more supervisor, and how many there may be.
//!
//! Called by `runs::start`. The limit is what the node allows this user: half of what is left, so that
//! each supervisor has a process to supervise, less a few for the user's own shells. It is asked again
//! while somebody waits.
//! Invariants: who waits is started in order or ended where it waits; a node that is full for a moment
//! makes a run wait, it never fails it.

use std::{sync::Arc, time::Duration};

use hpcclient_protocol::{RunId, RunState};
use tokio::time::{Instant, sleep};

use super::{
    RunError, Runs,
    live_run::{LiveRun, Stage, lock},
    start::end_withdrawn,
    turns::Turn,
};
use crate::{
    clock,
    node::processes,
    shim,
    store::{RunDir, RunRecord},
};

impl Runs {
    /// Starts a run when its turn comes.
    pub(super) async fn launch_in_turn(&self, live: &Arc<LiveRun>) {
        let turn = self.0.slots.join();
        live.set_turn(turn.clone());
        self.note_waiting(live).await;
        live.set_stage(Stage::Stored);
        self.0.events.tell(|| live.to_run());
        self.ask_for_room(HOLDS_WAITING);
        let mut pause = FULL_PAUSE;
        loop {
            let slot = tokio::select! {
                // An agent that stops lets go of every slot; those are not free, and nothing is started.
                biased;
                () = self.0.stopping.cancelled() => return,
                () = live.withdrawn.cancelled() => return self.end_waiting(live).await,
                slot = self.slot_in_turn(live, &turn) => slot,
            };
            // Before there can be a supervisor: whoever finds the run then must not start another.
            let record = RunRecord::new(RunState::Queued);
            if let Err(error) = self.write(live, record).await {
                return self.give_up(live, &error).await;
            }
            match self.launch(live, Some(slot)).await {
                Ok(()) => return end_withdrawn(live),
                Err(error) if error.is_full() => {
                    tracing::warn!(run = %live.id(), %error, "no room for a process: it waits");
                }
                Err(error) => return self.give_up(live, &error).await,
            }
            // It is the first again: those behind it would find the node as full.
            turn.rejoin();
            live.set_turn(turn.clone());
            self.note_waiting(live).await;
            tokio::select! {
                () = sleep(pause) => pause = (2 * pause).min(MAX_FULL_PAUSE),
                () = turn.called() => {}
                () = live.withdrawn.cancelled() => return self.end_waiting(live).await,
                () = self.0.stopping.cancelled() => return,
            }
        }
    }

    async fn slot_in_turn(&self, live: &LiveRun, turn: &Turn) -> super::slots::Slot {
        let mut told = turn.position();
        loop {
            if let Some(slot) = self.0.slots.claim(turn) {
                return slot;
            }
            // Only who is next is told: a thousand who move up by one would be a storm.
            if turn.is_first() && told != Some(1) {
                told = Some(1);
                self.0.events.tell(|| live.to_run());
            }
            self.ask_for_room(HOLDS_WAITING);
            turn.called().await;
        }
    }

    /// Writes that a run waits, for the next agent should this one end.
    async fn note_waiting(&self, live: &Arc<LiveRun>) {
        let record = RunRecord {
            waiting: true,
            boot_id: self.0.boot_id.clone(),
            ..RunRecord::new(RunState::Queued)
        };
        if let Err(error) = self.write(live, record).await {
            tracing::warn!(run = %live.id(), %error, "cannot write that a run waits");
        }
    }

    async fn write(&self, live: &LiveRun, record: RunRecord) -> Result<(), RunError> {
        let dir = live.dir().cloned();
        let dir = dir.ok_or(RunError::NotFound { id: live.id() })?;
        self.blocking(move || Ok(dir.write_record(&record)?)).await
    }

    /// Lets the runs that waited when the last agent ended wait again, in their order. Blocks on the file
    /// system.
    pub(super) fn wait_again(&self, mut left: Vec<RunDir>) {
        left.sort_unstable_by_key(RunDir::id);
        for dir in left {
            let live = {
                let _one = lock(&self.0.settling);
                if self.live(dir.id()).is_some() {
                    continue;
                }
                // Since it was found it may have been asked for again, and have run.
                let (Ok(run), Ok(record)) = (dir.load(), dir.record()) else {
                    continue;
                };
                if !record.waiting || run.state != RunState::Queued {
                    continue;
                }
                let live = Arc::new(LiveRun::found(run, dir, record));
                if !self.admit(&live) {
                    continue;
                }
                live
            };
            let runs = self.clone();
            self.0
                .tracker
                .spawn(async move { runs.launch_in_turn(&live).await });
        }
    }

    /// Lets a run wait again that was passed over because it was asked for at that very moment.
    pub(super) async fn wait_again_if_left(&self, id: RunId) {
        let runs = self.clone();
        let again = self.blocking(move || {
            let left = runs.0.store.find(id).filter(|dir| {
                let waits = dir.record().is_ok_and(|record| record.waiting);
                waits && dir.load().is_ok_and(|run| runs.is_ours(&run))
            });
            runs.wait_again(left.into_iter().collect());
            Ok(())
        });
        if let Err(error) = again.await {
            tracing::warn!(run = %id, %error, "cannot look whether a run waits");
        }
    }

    /// Ends a run that never started.
    async fn end_waiting(&self, live: &Arc<LiveRun>) {
        let signal = live.withdrawn_by().as_raw();
        let record = RunRecord {
            exit_code: Some(128 + signal),
            signal: Some(shim::signal_name(signal)),
            reason: Some("it was ended before it started".to_owned()),
            ended_ms: Some(clock::now_ms()),
            ..RunRecord::new(RunState::Exited)
        };
        self.close(live, record).await;
    }

    /// Asks anew how many supervisors there may be, if the last answer is older than that.
    pub(super) fn ask_for_room(&self, holds: Duration) {
        let now = Instant::now();
        {
            let mut asked = lock(&self.0.room_asked);
            if asked.is_some_and(|at| now - at < holds) {
                return;
            }
            *asked = Some(now);
        }
        let runs = self.clone();
        self.0.tracker.spawn(async move {
            if let Ok(room) = runs.blocking(|| Ok(processes::room())).await {
                runs.set_room(room);
            }
        });
    }

    /// Takes how many more processes the node allows, beside those that live.
    pub(super) fn set_room(&self, room: Option<u64>) {
        let (used, _) = self.0.slots.counts();
        self.0.slots.set_limit(limit(used, room));
    }

    /// Asks again when runs wait, which may be because of what others did then.
    pub fn look_after_queue(&self) {
        if self.0.slots.has_waiting() {
            self.ask_for_room(HOLDS_WAITING);
        }
    }

    /// Returns how many supervisors of single runs there are, and how many there may be.
    #[must_use]
    pub fn supervisors(&self) -> (usize, usize) {
        self.0.slots.counts()
    }
}

/// Returns how many supervisors there may be when `used` live already.
fn limit(used: usize, room: Option<u64>) -> usize {
    let Some(room) = room else {
        return MAX_SUPERVISORS;
    };
    let more = (room / 2).saturating_sub(SPARE);
    let more = usize::try_from(more).unwrap_or(MAX_SUPERVISORS);
    used.saturating_add(more).clamp(1, MAX_SUPERVISORS)
}

/// Where the node sets no limit, and before it was asked.
pub(super) const MAX_SUPERVISORS: usize = 200;

/// Left for the user's own shells and editors.
const SPARE: u64 = 8;

/// How long an answer of the node is good while nobody waits.
pub(super) const HOLDS: Duration = Duration::from_secs(30);

const HOLDS_WAITING: Duration = Duration::from_secs(5);

const FULL_PAUSE: Duration = Duration::from_secs(1);

const MAX_FULL_PAUSE: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use crate::tasks::Tasks;
    use hpcclient_protocol::{Command, RunSpec};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{environment::Environment, place::Place, store::Store};

    #[tokio::test]
    async fn only_what_still_waits_waits_again_and_only_once() {
        let root = tempfile::tempdir().unwrap();
        let place = Place::at(root.path().join("state"), root.path().to_owned()).unwrap();
        let store = Store::open(place.runs()).unwrap();
        let (tracker, stopping) = (Tasks::default(), CancellationToken::new());
        let environment = Environment::start(&tracker, &stopping);
        let (run_dir, host) = (place.run_dir().to_owned(), place.host().to_owned());
        let runs = Runs::new(store.clone(), place, environment, tracker, stopping.clone());
        // Nothing is started: the queue is what is looked at.
        stopping.cancel();
        let spec = RunSpec::new(Command::Shell("true".into()));
        let make = |state| {
            let dir = store.create(RunId::random(), &spec, 1, &host).unwrap();
            let record = RunRecord {
                waiting: state == RunState::Queued,
                ..RunRecord::new(state)
            };
            dir.write_record(&record).unwrap();
            dir
        };
        let [waits, asked] = [(); 2].map(|()| make(RunState::Queued));
        let ended = make(RunState::Exited);
        let (reserved, is_new) = runs.reserve(asked.id(), &spec);
        assert!(is_new);
        runs.wait_again(vec![waits.clone(), asked.clone(), ended.clone()]);
        assert!(runs.live(waits.id()).is_some());
        assert!(runs.live(ended.id()).is_none(), "it would run again");
        assert!(Arc::ptr_eq(&runs.live(asked.id()).unwrap(), &reserved));
        // Who asked looks after it, and takes away nothing but its own.
        let other = Arc::new(LiveRun::new(asked.id(), spec.clone(), 1, host.clone()));
        assert!(!runs.admit(&other));
        runs.dismiss(&other);
        assert!(runs.live(asked.id()).is_some());
        runs.dismiss(&reserved);
        assert!(runs.live(asked.id()).is_none());
        std::fs::remove_dir_all(run_dir).unwrap();
    }

    #[test]
    fn half_of_what_the_node_has_left_is_used() {
        assert_eq!(limit(0, None), MAX_SUPERVISORS);
        assert_eq!(limit(0, Some(100_000)), MAX_SUPERVISORS);
        assert_eq!(limit(0, Some(64)), 24);
        // The living ones are counted among the processes already.
        assert_eq!(limit(20, Some(24)), 24);
        // A node that is full still runs one at a time.
        assert_eq!(limit(0, Some(0)), 1);
        assert_eq!(limit(5, Some(0)), 5);
    }
}
