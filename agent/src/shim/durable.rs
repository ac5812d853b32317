//! Waits for the disk, so that the loop in `supervise` does not.
//!
//! One small thread takes files in order; its answers wake the loop. Runs that have ended and said
//! everything wait here for their turn, a second at most on a disk that keeps up.
//! Invariants: few descriptors are held however many runs end in a row; what waits is bounded, and a
//! disk that cannot keep up with that makes the loop wait.
//! Not here: what a failure means for a run that still lives (`kept`).

use std::{
    collections::VecDeque,
    io::Write,
    os::unix::net::UnixStream,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
    time::{Duration, Instant},
};

use hpcclient_protocol::{RunId, run::StreamSizes};

use crate::store::{RunDir, RunRecord, StoreError, Unsynced};

/// How long stored bytes may be only in the node's memory.
pub(super) const SYNC: Duration = Duration::from_secs(1);
/// How much is with the thread.
const DEPTH: usize = 8;
/// How many ended runs keep their files open; the files of older ones are opened again.
const MAX_OPEN: usize = 48;
/// How many ended runs wait.
const MAX_WAITING: usize = 4096;
/// The thread only calls the operating system.
const STACK: usize = 64 << 10;

/// A run that is over, but for the disk.
pub(super) struct Ended {
    pub(super) dir: RunDir,
    pub(super) record: RunRecord,
    pub(super) sizes: StreamSizes,
    pub(super) files: Vec<Unsynced>,
}

struct Job {
    run: RunId,
    files: Vec<Unsynced>,
    ended: Option<Ended>,
}

/// What became of files.
pub(super) struct Done {
    pub(super) run: RunId,
    /// The run, when it had ended before.
    pub(super) ended: Option<Ended>,
    /// Why the disk has them not, and those that it may not have.
    pub(super) failed: Option<(StoreError, Vec<Unsynced>)>,
}

struct Helper {
    jobs: SyncSender<Job>,
    done: Receiver<Done>,
}

/// The thread and what waits for it.
pub(super) struct Durable {
    wake: UnixStream,
    helper: Option<Helper>,
    under_way: usize,
    waiting: VecDeque<(Instant, Ended)>,
    done: Vec<Done>,
}

impl Durable {
    /// Each answer writes a byte to `wake`. The thread is started when it is needed.
    pub(super) const fn new(wake: UnixStream) -> Self {
        Self {
            wake,
            helper: None,
            under_way: 0,
            waiting: VecDeque::new(),
            done: vec![],
        }
    }

    /// Returns whether the thread takes more now.
    pub(super) const fn has_room(&self) -> bool {
        self.under_way < DEPTH + self.done.len()
    }

    /// Takes files of a run that goes on, if there is room.
    pub(super) fn sync(&mut self, run: RunId, files: Vec<Unsynced>) {
        self.send(Job {
            run,
            files,
            ended: None,
        });
    }

    /// Takes a run that has ended.
    pub(super) fn leave(&mut self, ended: Ended) {
        self.waiting.push_back((Instant::now() + SYNC, ended));
        let older = self.waiting.len().checked_sub(MAX_OPEN + 1);
        if let Some((_, ended)) = older.and_then(|at| self.waiting.get_mut(at)) {
            ended.files.iter_mut().for_each(Unsynced::close);
        }
        while self.waiting.len() > MAX_WAITING {
            self.wait_for_one();
            self.send_next();
        }
    }

    /// Lets nothing wait any more: no other run will come for which the disk could be asked together.
    pub(super) fn hurry(&mut self) {
        let now = Instant::now();
        for (due, _) in &mut self.waiting {
            *due = now.min(*due);
        }
    }

    /// Returns when something has to be done here without any event.
    pub(super) fn wakes_at(&self) -> Option<Instant> {
        let (due, _) = self.waiting.front()?;
        self.has_room().then_some(*due)
    }

    /// Does what the clock asks for.
    pub(super) fn on_time(&mut self, now: Instant) {
        while self.wakes_at().is_some_and(|due| due <= now) {
            self.send_next();
        }
    }

    /// Returns the answers since the last call.
    pub(super) fn take_done(&mut self) -> Vec<Done> {
        if let Some(helper) = &self.helper {
            self.done.extend(helper.done.try_iter());
        }
        let done = std::mem::take(&mut self.done);
        self.under_way = self.under_way.saturating_sub(done.len());
        done
    }

    /// Returns whether the disk has everything, or said that it will not.
    pub(super) fn is_idle(&self) -> bool {
        self.under_way == 0 && self.waiting.is_empty()
    }

    fn send_next(&mut self) {
        if let Some((_, mut ended)) = self.waiting.pop_front() {
            self.send(Job {
                run: ended.dir.id(),
                files: std::mem::take(&mut ended.files),
                ended: Some(ended),
            });
        }
    }

    fn wait_for_one(&mut self) {
        if self.has_room() {
            return;
        }
        if let Some(done) = self.helper.as_ref().and_then(|h| h.done.recv().ok()) {
            self.done.push(done);
        }
    }

    fn send(&mut self, job: Job) {
        self.under_way += 1;
        if self.helper.is_none() {
            self.helper = self.start();
        }
        match &self.helper {
            Some(helper) => {
                if let Err(unsent) = helper.jobs.send(job) {
                    self.done.push(work(unsent.0));
                }
            }
            // No thread can be had on a full node: the loop waits itself.
            None => {
                self.done.push(work(job));
                let _ = self.wake.write(&[0]);
            }
        }
    }

    fn start(&self) -> Option<Helper> {
        let mut wake = self.wake.try_clone().ok()?;
        let (jobs, todo) = sync_channel::<Job>(DEPTH);
        let (answers, done) = sync_channel(DEPTH);
        thread::Builder::new()
            .name("sync".to_owned())
            .stack_size(STACK)
            .spawn(move || {
                for job in todo {
                    if answers.send(work(job)).is_err() {
                        return;
                    }
                    // A full socket wakes the loop all the same.
                    let _ = wake.write(&[0]);
                }
            })
            .ok()?;
        Some(Helper { jobs, done })
    }
}

fn work(job: Job) -> Done {
    let mut files = job.files.into_iter();
    let mut failed = None;
    while let Some(file) = files.next() {
        if let Err(error) = file.sync() {
            let left = std::iter::once(file).chain(files.by_ref()).collect();
            failed = Some((error, left));
        }
    }
    Done {
        run: job.run,
        ended: job.ended,
        failed,
    }
}
