//! Keeps the store below its limit: the oldest runs that have ended go first.
//!
//! One task, started by `adopt`. It looks at the whole store once when the agent starts, and again when
//! what ended since then may have passed the limit, at most once in [`PRUNE_EVERY`]; in between a sum is
//! kept. No timer runs while there is nothing to do.
//! Invariants: nothing that lives, is an orphan, pinned or shared is deleted; nor what ended a moment ago,
//! because who started it may still ask whether it ran; nor what cannot be read now, or whose shim still
//! writes; of another node's runs only what nobody can be
//! sharing any more. Each deletion is told.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use hpcclient_protocol::{Run, RunId, run::StreamSizes};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until, timeout},
};

use super::{RunError, Runs, fate::is_written, live_run::lock};
use crate::{
    clock,
    store::{RunRecord, Store, StoreError, Stored},
};

/// What the store takes, as far as it is known.
#[derive(Debug, Default)]
pub(super) struct Usage {
    bytes: AtomicU64,
    limit: AtomicU64,
    /// Above this it is worth another look; 0 before the first.
    look_above: AtomicU64,
    grown: Notify,
}

impl Usage {
    fn is_over(&self) -> bool {
        let above = self.look_above.load(Ordering::Relaxed);
        above > 0 && self.bytes.load(Ordering::Relaxed) > above
    }
}

impl Runs {
    /// Starts the task.
    pub(super) fn keep_in_bounds(&self) {
        let runs = self.clone();
        self.0.tracker.spawn(async move {
            let stopping = runs.0.stopping.clone();
            let bounds = async {
                loop {
                    let next = Instant::now() + PRUNE_EVERY;
                    let looking = runs.clone();
                    let pruned = runs.blocking(move || looking.prune()).await;
                    let is_waiting = pruned.unwrap_or_else(|error| {
                        tracing::warn!(%error, "cannot look how much the runs take: tried again later");
                        true
                    });
                    let wait = if is_waiting { GRACE } else { NEVER };
                    let grown = async {
                        while !runs.0.usage.is_over() {
                            runs.0.usage.grown.notified().await;
                        }
                    };
                    let _grown = timeout(wait, grown).await;
                    sleep_until(next).await;
                }
            };
            stopping.run_until_cancelled(bounds).await;
        });
    }

    /// Returns how many bytes the stored runs take, and how many they may; 0 before that is known.
    #[must_use]
    pub fn usage(&self) -> (u64, u64) {
        let usage = &self.0.usage;
        (
            usage.bytes.load(Ordering::Relaxed),
            usage.limit.load(Ordering::Relaxed),
        )
    }

    /// Adds a run that has ended to the sum.
    pub(super) fn note_written(&self, sizes: StreamSizes) {
        let usage = &self.0.usage;
        usage.bytes.fetch_add(taken(sizes), Ordering::Relaxed);
        if usage.is_over() {
            usage.grown.notify_one();
        }
    }

    /// Takes a deleted run from the sum.
    pub(super) fn note_deleted(&self, run: &Run) {
        let less = |sum: u64| Some(sum.saturating_sub(taken(run.sizes)));
        let usage = &self.0.usage;
        let _set = usage
            .bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Measures the store, and deletes until it is well below its limit. Returns whether something may go
    /// a while later.
    fn prune(&self) -> Result<bool, RunError> {
        let limit = limit(self.0.store.disk_bytes());
        self.prune_to(limit, GRACE)
    }

    fn prune_to(&self, limit: u64, grace: Duration) -> Result<bool, RunError> {
        let (store, usage) = (&self.0.store, &self.0.usage);
        usage.limit.store(limit, Ordering::Relaxed);
        let may_go = |run: &Run, record: &RunRecord| self.may_go(run, record);
        let pruned = prune(store, limit, grace, &self.0.marking, may_go)?;
        usage.bytes.store(pruned.left, Ordering::Relaxed);
        // What cannot be deleted must not make each run that ends a look at the whole store.
        let above = if pruned.left > limit {
            pruned.left + limit / 50
        } else {
            limit
        };
        usage.look_above.store(above, Ordering::Relaxed);
        for id in pruned.gone {
            tracing::info!(run = %id, limit, "a run was deleted: the stored runs passed their limit");
            self.0.events.tell_gone(id);
        }
        Ok(pruned.has_fresh)
    }

    fn may_go(&self, run: &Run, record: &RunRecord) -> bool {
        // Of a run without a host the spec could not be read: nobody knows whose it is.
        let is_known = record.state.is_final() && !run.host.is_empty();
        let is_free = run.state.is_final() && !run.pinned && !self.is_shared(run.id);
        let is_free = is_free && is_known && !is_written(record, self.0.boot_id.as_deref());
        let ended = run.ended_ms.unwrap_or(run.created_ms);
        let is_old = clock::now_ms().saturating_sub(ended) > FOREIGN_AGE_MS;
        is_free && self.live(run.id).is_none() && (self.is_ours(run) || is_old)
    }
}

/// What was done.
#[derive(Debug, Default)]
struct Pruned {
    gone: Vec<RunId>,
    /// What the rest takes.
    left: u64,
    /// Whether more would have gone if it were older.
    has_fresh: bool,
}

/// Deletes the oldest of the runs that may go until the rest takes nine tenths of the limit; nothing
/// while it is below the limit. Whoever pins or shares a run holds `marking` meanwhile.
fn prune(
    store: &Store,
    limit: u64,
    grace: Duration,
    marking: &Mutex<()>,
    may_go: impl Fn(&Run, &RunRecord) -> bool,
) -> Result<Pruned, StoreError> {
    let mut all = store.measure()?;
    let mut pruned = Pruned {
        left: all.iter().map(|run| run.bytes).sum(),
        ..Pruned::default()
    };
    if pruned.left <= limit {
        return Ok(pruned);
    }
    let target = limit / 10 * 9;
    all.sort_unstable_by_key(|run| (run.changed, run.dir.id()));
    for Stored {
        dir,
        bytes,
        changed,
    } in all
    {
        if pruned.left <= target {
            break;
        }
        // One from the future was written before the clock was set back.
        let is_fresh = SystemTime::now()
            .duration_since(changed)
            .is_ok_and(|age| age < grace);
        let _one = lock(marking);
        // What cannot be read now is kept: it may be pinned, or live.
        let (Ok(run), Ok(record)) = (dir.load(), dir.record()) else {
            continue;
        };
        if !may_go(&run, &record) || dir.may_be_pinned() {
            continue;
        }
        pruned.has_fresh |= is_fresh;
        if !is_fresh && store.delete(&dir).is_ok() {
            pruned.left = pruned.left.saturating_sub(bytes);
            pruned.gone.push(dir.id());
        }
    }
    Ok(pruned)
}

/// Returns how many bytes all runs may take on a disk of that size.
fn limit(disk_bytes: Option<u64>) -> u64 {
    let share = disk_bytes.map_or(MAX_BYTES, |bytes| bytes / 10);
    share.clamp(1, MAX_BYTES)
}

/// Returns about what a run with such streams takes.
const fn taken(sizes: StreamSizes) -> u64 {
    sizes.stdout + sizes.stderr + sizes.tty + OVERHEAD
}

const MAX_BYTES: u64 = 2_000_000_000;

/// Three small files.
const OVERHEAD: u64 = 12 * 1024;

const PRUNE_EVERY: Duration = Duration::from_secs(60);

const NEVER: Duration = Duration::from_secs(1 << 30);

/// A client that was cut off asks for its run again within that.
const GRACE: Duration = Duration::from_secs(10 * 60);

/// A share lasts a week at most: nobody can be sharing what ended before that.
const FOREIGN_AGE_MS: u64 = 8 * 24 * 60 * 60 * 1000;

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::tasks::Tasks;
    use hpcclient_protocol::{Command, RunSpec, RunState, event::Event};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{
        environment::Environment,
        place::Place,
        store::{Marks, RunDir},
    };

    const MB: usize = 1 << 20;

    fn ended(store: &Store, bytes: usize, hours_ago: u64) -> RunDir {
        let spec = RunSpec::new(Command::Shell("true".into()));
        let dir = store.create(RunId::random(), &spec, 1, "node").unwrap();
        fs::write(dir.path().join("out-000000.raw"), vec![7; bytes]).unwrap();
        dir.write_record(&RunRecord::new(RunState::Exited)).unwrap();
        let then = SystemTime::now() - Duration::from_secs(3600 * hours_ago);
        let record = fs::File::options()
            .write(true)
            .open(dir.path().join("state.rec"));
        record.unwrap().set_modified(then).unwrap();
        dir
    }

    #[test]
    fn the_oldest_that_ended_go_first_and_what_is_kept_stays() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().to_owned()).unwrap();
        let pinned = ended(&store, MB, 90);
        let marks = Marks {
            pinned: true,
            ..Marks::default()
        };
        pinned.write_marks(&marks).unwrap();
        let shared = ended(&store, MB, 80);
        let running = ended(&store, MB, 70);
        let record = RunRecord::new(RunState::Running);
        running.write_record(&record).unwrap();
        // Made last, ended long ago: what counts is the end.
        let [newer, newest] = [ended(&store, MB, 2), ended(&store, MB, 1)];
        let oldest = ended(&store, MB, 60);
        let fresh = ended(&store, MB, 0);
        let may_go =
            |run: &Run, _: &RunRecord| run.state.is_final() && !run.pinned && run.id != shared.id();
        let limit = 7 * MB as u64;
        let pruned = prune(&store, limit, GRACE, &Mutex::default(), may_go).unwrap();
        assert_eq!(pruned.gone, [oldest.id()], "one is enough: {pruned:?}");
        assert!(pruned.left <= limit && !pruned.has_fresh);
        let pruned = prune(&store, 1, GRACE, &Mutex::default(), may_go).unwrap();
        assert_eq!(pruned.gone, [newer.id(), newest.id()]);
        assert!(pruned.has_fresh);
        for kept in [pinned, shared, running, fresh] {
            assert!(kept.path().exists());
        }
    }

    #[tokio::test]
    async fn what_is_shared_stays_and_what_goes_is_told() {
        let root = tempfile::tempdir().unwrap();
        let place = Place::at(root.path().join("state"), root.path().to_owned()).unwrap();
        let store = Store::open(place.runs()).unwrap();
        let (tracker, stopping) = (Tasks::default(), CancellationToken::new());
        let environment = Environment::start(&tracker, &stopping);
        let run_dir = place.run_dir().to_owned();
        let host = place.host().to_owned();
        let runs = Runs::new(store.clone(), place, environment, tracker, stopping);
        let make = |host: &str| {
            let spec = RunSpec::new(Command::Shell("true".into()));
            let dir = store.create(RunId::random(), &spec, 1, host).unwrap();
            let record = RunRecord {
                ended_ms: Some(clock::now_ms()),
                ..RunRecord::new(RunState::Exited)
            };
            dir.write_record(&record).unwrap();
            dir.id()
        };
        let [old, shared] = [make(&host), make(&host)];
        let other_node = make("elsewhere");
        let unknown = make(&host);
        let spec = store.find(unknown).unwrap().path().join("spec.json");
        fs::write(spec, "").unwrap();
        runs.set_shared([shared].into());
        let mut events = runs.events().watch();
        events.next().await.unwrap();
        runs.prune_to(1, Duration::ZERO).unwrap();
        let told = events.next().await.unwrap();
        assert!(
            matches!(*told, Event::Gone { run, .. } if run == old),
            "{told:?}"
        );
        let left: Vec<_> = store
            .newest(None, 9)
            .unwrap()
            .iter()
            .map(RunDir::id)
            .collect();
        assert_eq!(left, [unknown, other_node, shared]);
        let (bytes, limit) = runs.usage();
        assert!(bytes > 0 && limit == 1);
        fs::remove_dir_all(run_dir).unwrap();
    }

    #[test]
    fn what_cannot_be_read_now_stays() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().to_owned()).unwrap();
        // Nothing can be read where a directory is.
        let kept = ["marks.json", "state.rec"].map(|name| {
            let dir = ended(&store, MB, 90);
            drop(fs::remove_file(dir.path().join(name)));
            fs::create_dir(dir.path().join(name)).unwrap();
            dir
        });
        let gone = ended(&store, MB, 90);
        let pruned = prune(&store, 1, GRACE, &Mutex::default(), |_, _| true).unwrap();
        assert_eq!(pruned.gone, [gone.id()]);
        assert!(kept.iter().all(|dir| dir.path().exists()));
    }

    #[test]
    fn below_the_limit_nothing_goes() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().to_owned()).unwrap();
        ended(&store, MB, 9);
        let pruned = prune(&store, 2 * MB as u64, GRACE, &Mutex::default(), |_, _| true).unwrap();
        assert!(pruned.gone.is_empty() && pruned.left > MB as u64);
    }

    #[test]
    fn the_limit_is_a_tenth_of_a_small_disk() {
        assert_eq!(limit(Some(5_000_000_000)), 500_000_000);
        assert_eq!(limit(Some(1 << 50)), MAX_BYTES);
        assert_eq!(limit(None), MAX_BYTES);
        assert_eq!(limit(Some(0)), 1, "a limit of 0 would be none");
    }
}
