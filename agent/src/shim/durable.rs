//! Waits for the disk, so that the loop in `supervise` does not.
//!
//! One small thread takes files in order; its answers wake the loop. Runs that have ended and said
//! everything wait here for their turn, a second at most on a disk that keeps up.
//! Invariants: few descriptors are held however many runs end in a row; what waits is bounded: while a
//! disk cannot keep up with that, or refuses it, a session is given no line.
//! Not here: what a failure means for a run that still lives (`kept`).

use std::{
    collections::VecDeque,
    io::Write,
    os::unix::net::UnixStream,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
    time::{Duration, Instant},
};

use hpcclient_protocol::RunId;

use super::kept::RETRY;
use crate::store::{RecordFile, RunDir, RunRecord, StoreError, Unsaved, Unsynced};

/// How long stored bytes may be only in the node's memory.
pub(super) const SYNC: Duration = Duration::from_secs(1);
/// How much is with the thread.
const DEPTH: usize = 8;
/// How many ended runs keep their files open; the files of older ones are opened again.
const MAX_OPEN: usize = 48;
/// How many ended runs wait.
const MAX_WAITING: usize = 4096;
/// How much memory they take.
const MAX_MEMORY: usize = 2 << 20;
/// How often the disk is asked to take an ended run before its shim gives up: an hour.
const MAX_TRIES: u32 = 1800;
/// The thread only calls the operating system.
const STACK: usize = 128 << 10;

/// A run that is over, but for the disk.
pub(super) struct Ended {
    pub(super) dir: RunDir,
    pub(super) record: RunRecord,
    files: Vec<Unsynced>,
    unsaved: Unsaved,
    /// How much memory that took when it was put here.
    memory: usize,
    /// What its record says when the disk has it.
    reason: Option<String>,
    tries: u32,
}

impl Ended {
    pub(super) fn new(
        dir: RunDir,
        record: RunRecord,
        (files, unsaved): (Vec<Unsynced>, Unsaved),
    ) -> Self {
        Self {
            dir,
            reason: record.reason.clone(),
            record,
            files,
            unsaved,
            memory: 0,
            tries: 0,
        }
    }

    pub(super) const fn sizes(&self) -> hpcclient_protocol::run::StreamSizes {
        self.unsaved.sizes()
    }

    /// Waits until the disk has it, and notes that.
    fn save(&mut self) -> Result<(), StoreError> {
        self.record.reason.clone_from(&self.reason);
        if self.tries == 0 {
            std::mem::take(&mut self.files)
                .iter()
                .try_for_each(Unsynced::sync)?;
        } else {
            self.unsaved.save(&self.dir)?;
            let (mut file, _) = RecordFile::open(&self.dir)?;
            file.write(&self.record)?;
            file.unsynced().sync()?;
        }
        self.record.durable = Some(self.sizes());
        // It claims no more than is so, and may get lost itself.
        drop(self.dir.write_record(&self.record));
        Ok(())
    }
}

enum Job {
    Live(RunId, Vec<Unsynced>),
    Ended(Box<Ended>),
}

/// What became of files.
pub(super) enum Done {
    /// Of a run that goes on.
    Live(RunId, Result<(), StoreError>),
    /// Of a run that has ended.
    Ended(Box<Ended>, Result<(), StoreError>),
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
    waiting: VecDeque<(Instant, Box<Ended>)>,
    /// How much memory those take, and those that are with the thread.
    memory: usize,
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
            memory: 0,
            done: vec![],
        }
    }

    /// Returns whether the thread takes more now.
    pub(super) const fn has_room(&self) -> bool {
        self.under_way < DEPTH + self.done.len()
    }

    /// Takes files of a run that goes on, if there is room.
    pub(super) fn sync(&mut self, run: RunId, files: Vec<Unsynced>) {
        self.send(Job::Live(run, files));
    }

    /// Takes a run that has ended.
    pub(super) fn leave(&mut self, ended: Ended) {
        self.put(Instant::now() + SYNC, Box::new(ended));
        let older = self.waiting.len().checked_sub(MAX_OPEN + 1);
        if let Some((_, ended)) = older.and_then(|at| self.waiting.get_mut(at)) {
            ended.files.iter_mut().for_each(Unsynced::close);
        }
        if self.is_full() {
            self.hurry();
        }
    }

    /// Returns whether so much waits for the disk that no more should be begun.
    pub(super) fn is_full(&self) -> bool {
        self.memory > MAX_MEMORY || self.waiting.len() + self.under_way > MAX_WAITING
    }

    /// Takes an ended run that the disk refused, for another try. Returns whether there is one.
    pub(super) fn again(&mut self, mut ended: Box<Ended>) -> bool {
        ended.tries += 1;
        let is_wanted = ended.tries < MAX_TRIES;
        if is_wanted {
            self.put(Instant::now() + RETRY, ended);
        }
        is_wanted
    }

    fn put(&mut self, due: Instant, mut ended: Box<Ended>) {
        // Remembered, because trying changes it.
        ended.memory = ended.unsaved.memory();
        self.memory += ended.memory;
        self.waiting.push_back((due, ended));
    }

    /// Lets nothing wait any more: no other run will come for which the disk could be asked together, or
    /// too much waits.
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
        for done in &done {
            if let Done::Ended(ended, _) = done {
                self.memory = self.memory.saturating_sub(ended.memory);
            }
        }
        done
    }

    /// Returns whether the disk has everything, or said that it will not.
    pub(super) fn is_idle(&self) -> bool {
        self.under_way == 0 && self.waiting.is_empty()
    }

    fn send_next(&mut self) {
        if let Some((_, ended)) = self.waiting.pop_front() {
            self.send(Job::Ended(ended));
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
    match job {
        Job::Live(run, files) => Done::Live(run, files.iter().try_for_each(Unsynced::sync)),
        Job::Ended(mut ended) => {
            let saved = ended.save();
            Done::Ended(ended, saved)
        }
    }
}

#[cfg(test)]
mod tests {
    use hpcclient_protocol::{Command, RunSpec, StreamName};

    use super::*;
    use crate::store::{RunWriter, Store};

    #[test]
    fn what_waits_for_the_disk_counts_until_the_disk_has_answered() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().to_owned()).unwrap();
        let spec = RunSpec::new(Command::Shell("".into()));
        let (wake, _theirs) = UnixStream::pair().unwrap();
        let mut durable = Durable::new(wake);
        // Each takes more than half of what may wait.
        let leave = |durable: &mut Durable| {
            let dir = store.create(RunId::random(), &spec, 0, "node").unwrap();
            let record = dir.record().unwrap();
            let mut writer = RunWriter::open(&dir).unwrap();
            let bytes = vec![7; MAX_MEMORY / 2];
            writer.append(StreamName::Stdout, &bytes).unwrap();
            durable.leave(Ended::new(dir, record, writer.leave()));
        };
        leave(&mut durable);
        assert!(!durable.is_full());
        leave(&mut durable);
        assert!(durable.is_full());
        durable.on_time(Instant::now());
        assert!(durable.waiting.is_empty() && durable.is_full());
        let mut answered = 0;
        while answered < 2 {
            for done in durable.take_done() {
                answered += 1;
                if let Done::Ended(ended, _) = done {
                    // As if the disk had refused it.
                    assert!(durable.again(ended));
                }
            }
            thread::yield_now();
        }
        assert_eq!(durable.waiting.len(), 2);
        durable.hurry();
        durable.on_time(Instant::now());
        while !durable.is_idle() {
            drop(durable.take_done());
            thread::yield_now();
        }
        assert!(!durable.is_full() && durable.memory == 0);
    }
}
