//! A run whose streams this shim holds: reads them, stores them, knows the run's record.
//!
//! ```text
//!   Running ◄──► Stalled          the chunk in `held` could not be written, or the disk refused what
//!      │            │             was written; nothing more is read until it is written again. Or the
//!      │            │             disk does not answer; then no more is read than it may refuse
//!      └────────────┴──► over ──► Exited     once the pipes are drained; late output still comes
//! ```
//!
//! Invariants: one chunk at most is in memory; it is in the store before the next is read.

use std::{
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use hpcclient_protocol::{
    ByteString, RunId, RunSpec, RunState, StreamName,
    run::{StreamSizes, TerminalSize},
};
use rustix::io::Errno;

use super::{
    durable::{Durable, Ended, SYNC},
    feed::Feed,
    fifos::Fifo,
    processes,
};
use crate::clock::steady_ms;
use crate::store::{KEEP_BYTES, RecordFile, RunDir, RunRecord, RunWriter, StoreError};

/// How much is read at a time.
pub(super) const CHUNK: usize = 256 << 10;
/// The size that a busy pipe is given.
const WIDE_PIPE: usize = 1 << 20;
/// How long a full disk is left alone.
pub(super) const RETRY: Duration = Duration::from_secs(2);
/// How long a disk may take to answer before that is told.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a run that started is not spoken of: many end before, and are told once.
const HUSH: Duration = Duration::from_millis(2);
/// After its process ended a run is read for this many bytes; what then still comes is late output.
const LAST_BYTES: usize = 8 << 20;

/// How often a run that took too long is killed until it is over.
const KILL_AGAIN: Duration = Duration::from_secs(1);

/// How a run's process ended.
#[derive(Clone, Debug)]
pub(super) struct Over {
    pub(super) code: i32,
    pub(super) signal: Option<String>,
    pub(super) cwd: Option<ByteString>,
}

struct Output {
    stream: StreamName,
    fd: OwnedFd,
    wide: bool,
    /// The FIFO that this is, when it may be used again.
    fifo: Option<u64>,
}

/// One run.
pub(super) struct KeptRun {
    pub(super) id: RunId,
    pub(super) record: RunRecord,
    pub(super) feed: Feed,
    dir: RunDir,
    file: RecordFile,
    writer: RunWriter,
    outputs: Vec<Output>,
    /// Whether somebody has the other ends open; before that they look like ended.
    opened: bool,
    spent: Vec<(StreamName, Fifo)>,
    held: Option<(StreamName, Vec<u8>)>,
    retry_at: Option<Instant>,
    over: Option<Over>,
    /// How long it may take, and when that is over.
    limit: Option<(Duration, Instant)>,
    took_too_long: bool,
    /// Why it ended, where its code does not say it.
    ending_reason: Option<String>,
    sync_at: Option<Instant>,
    /// When the index is due as well.
    index_at: Option<Instant>,
    /// When the disk was asked that has not answered, and when that is told.
    asked: Option<(Instant, Instant)>,
    /// Whether the disk refused what was written; until it has it nothing more is read.
    in_doubt: bool,
    /// How much was read since the process ended.
    read_last: usize,
    record_dirty: bool,
    changed: bool,
    hush_until: Option<Instant>,
}

impl KeptRun {
    /// Opens a run's files.
    pub(super) fn open(
        dir: RunDir,
        spec: &RunSpec,
        file: RecordFile,
        record: RunRecord,
        feed: Feed,
    ) -> Result<Self, StoreError> {
        let keep = spec.keep_bytes.unwrap_or(KEEP_BYTES);
        Ok(Self {
            id: dir.id(),
            record,
            feed,
            file,
            writer: RunWriter::open(&dir)?.keeping(keep),
            dir,
            outputs: vec![],
            opened: true,
            spent: vec![],
            held: None,
            retry_at: None,
            over: None,
            limit: None,
            took_too_long: false,
            ending_reason: None,
            sync_at: None,
            index_at: None,
            asked: None,
            in_doubt: false,
            read_last: 0,
            record_dirty: true,
            changed: false,
            hush_until: None,
        })
    }

    /// Adds a stream to keep; the descriptor does not block.
    pub(super) fn keep(&mut self, stream: StreamName, fd: OwnedFd) {
        let wide = stream == StreamName::Tty;
        self.outputs.push(Output {
            stream,
            fd,
            wide,
            fifo: None,
        });
    }

    /// Adds a stream that the session's shell will open.
    pub(super) fn keep_fifo(&mut self, stream: StreamName, fifo: Fifo) {
        self.opened = false;
        self.outputs.push(Output {
            stream,
            fd: fifo.fd,
            wide: fifo.wide,
            fifo: Some(fifo.number),
        });
    }

    /// Says that the shell has opened the streams, and stdin.
    pub(super) fn set_opened(&mut self) {
        self.opened = true;
        self.feed.set_opened();
    }

    /// Returns the FIFOs that nobody writes to any more.
    pub(super) fn take_spent(&mut self) -> Vec<(StreamName, Fifo)> {
        std::mem::take(&mut self.spent)
    }

    /// Returns the descriptors to read, unless the disk has to be waited for.
    pub(super) fn readable(&self) -> impl Iterator<Item = (StreamName, &OwnedFd)> {
        let waits = !self.opened || self.waits_for_disk();
        self.outputs
            .iter()
            .filter(move |_| !waits)
            .map(|output| (output.stream, &output.fd))
    }

    /// Returns when this run wants to be looked at without any event.
    pub(super) fn wakes_at(&self, durable: &Durable) -> Option<Instant> {
        let can_sync = self.asked.is_none() && durable.has_room();
        let disk = self.retry_at.or(self.sync_at.filter(|_| can_sync));
        let news = self.hush_until.filter(|_| self.changed);
        let limit = self.limit.map(|(_, at)| at);
        let overdue = self.asked.map(|(_, at)| at);
        let all = disk.into_iter().chain(overdue);
        all.chain(news).chain(limit).min()
    }

    fn waits_for_disk(&self) -> bool {
        self.retry_at.is_some() || self.in_doubt || self.writer.is_behind()
    }

    /// Returns whether nothing can come any more and everybody was told.
    pub(super) const fn is_done(&self) -> bool {
        self.record.state.is_final()
            && self.outputs.is_empty()
            && self.held.is_none()
            && !self.in_doubt
            && self.asked.is_none()
            && !self.changed
    }

    /// Leaves the run, for one who waits for the disk.
    pub(super) fn into_ended(self) -> Ended {
        let (mut files, unsaved) = self.writer.leave();
        files.push(self.file.unsynced());
        Ended::new(self.dir, self.record, (files, unsaved))
    }

    /// Says that its process is running, and how long it may.
    pub(super) fn set_running(&mut self, pid: u32, limit: Option<Duration>) {
        // What lies beyond the end of the clock never comes.
        self.limit = limit.and_then(|limit| Some((limit, Instant::now().checked_add(limit)?)));
        self.record.state = RunState::Running;
        self.record.pid = Some(pid);
        self.record.pid_start = processes::start_of(pid);
        self.record.started_ms = Some(steady_ms());
        self.hush_until = Some(Instant::now() + HUSH);
        self.save();
    }

    /// Says that its process ended; the state follows when the pipes are drained.
    pub(super) fn set_over(&mut self, over: Over) {
        self.feed.close("the run has ended");
        let limit = self.limit.take().filter(|_| self.took_too_long);
        if self.over.is_none() && !self.record.state.is_final() {
            self.over = Some(over);
            self.ending_reason = limit.map(|(limit, _)| {
                let seconds = limit.as_secs_f64();
                format!("it took longer than {seconds} s and was killed")
            });
        }
    }

    /// Returns whether its processes are to be killed now, because it takes too long.
    pub(super) fn is_late(&mut self, now: Instant) -> bool {
        let Some((_, at)) = self.limit.as_mut().filter(|(_, at)| *at <= now) else {
            return false;
        };
        *at = now + KILL_AGAIN;
        self.took_too_long = true;
        true
    }

    /// Reads one stream once and returns how many bytes came; more may be there then.
    pub(super) fn read(&mut self, stream: StreamName, buffer: &mut [u8]) -> usize {
        // The other stream may have met a full disk in this very round: its chunk must stay held.
        if self.waits_for_disk() {
            return 0;
        }
        let Some(at) = self
            .outputs
            .iter()
            .position(|output| output.stream == stream)
        else {
            return 0;
        };
        let Some(output) = self.outputs.get_mut(at) else {
            return 0;
        };
        match rustix::io::read(&output.fd, &mut *buffer) {
            Ok(count) if count > 0 => {
                if !output.wide && count >= 64 << 10 {
                    // Best effort: a wider pipe saves a busy command many waits.
                    let _ = rustix::pipe::fcntl_setpipe_size(&output.fd, WIDE_PIPE);
                    output.wide = true;
                }
                self.store(stream, buffer.get(..count).unwrap_or_default());
                count
            }
            Err(Errno::AGAIN | Errno::INTR) => 0,
            // End of file; a terminal says EIO when its last process is gone.
            Ok(_) | Err(_) => {
                let Output { fd, wide, fifo, .. } = self.outputs.remove(at);
                if let Some(number) = fifo {
                    self.spent.push((stream, Fifo { number, fd, wide }));
                }
                0
            }
        }
    }

    /// Notes text on a stream as if the command had written it.
    pub(super) fn store(&mut self, stream: StreamName, bytes: &[u8]) {
        match self.writer.append(stream, bytes) {
            Ok(()) => {
                self.changed = true;
                let now = Instant::now();
                self.index_at.get_or_insert(now + SYNC);
                if self.writer.is_busy() {
                    self.sync_at = Some(now);
                }
                self.sync_at.get_or_insert(now + SYNC);
            }
            Err(error) => {
                self.held = Some((stream, bytes.to_vec()));
                self.stall(&error);
            }
        }
    }

    /// Notes another size of the terminal.
    pub(super) fn resize(&mut self, size: TerminalSize) {
        // On a full disk the size in the record of the console is lost, not the console.
        if self.writer.resize(size).is_ok() {
            self.changed = true;
        }
    }

    /// Does what the clock asks for: tries the disk again, makes it durable.
    pub(super) fn on_time(&mut self, now: Instant, durable: &mut Durable) {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry();
        }
        let is_due = self.retry_at.is_none() && self.sync_at.is_some_and(|at| at <= now);
        if let Some((since, _)) = self.asked.filter(|(_, at)| *at <= now) {
            self.wait_on(since, now);
        }
        if is_due && self.asked.is_none() && durable.has_room() {
            self.sync_at = None;
            self.asked = Some((now, now + PATIENCE));
            // While much is written its index is saved once a second: it costs as much again.
            let with_index = self.in_doubt || self.index_at.is_none_or(|at| at <= now);
            let mut files = self.writer.take_unsynced(with_index);
            if std::mem::take(&mut self.record_dirty) {
                files.push(self.file.unsynced());
            }
            durable.sync(self.id, files);
        }
    }

    /// Takes the disk's answer.
    pub(super) fn synced(&mut self, answer: Result<(), StoreError>) {
        self.asked = None;
        match answer {
            Ok(()) => {
                if self.writer.set_saved() {
                    self.index_at = None;
                    self.changed = true;
                }
                self.in_doubt = false;
                if self.writer.is_busy() {
                    self.sync_at = Some(Instant::now());
                } else if self.writer.is_unsaved() {
                    let due = *self.index_at.get_or_insert_with(|| Instant::now() + SYNC);
                    self.sync_at.get_or_insert(due);
                }
                self.go_on();
            }
            Err(error) => {
                self.in_doubt = true;
                self.stall(&error);
            }
        }
    }

    /// Reads what is left of an ended run and then says that it ended.
    pub(super) fn settle(&mut self, buffer: &mut [u8]) {
        if self.over.is_none() || self.waits_for_disk() {
            return self.note_over();
        }
        for stream in [StreamName::Stdout, StreamName::Stderr, StreamName::Tty] {
            while self.read_last < LAST_BYTES {
                let count = self.read(stream, buffer);
                self.read_last += count;
                if self.waits_for_disk() {
                    return self.note_over();
                }
                if count == 0 {
                    break;
                }
            }
        }
        let Some(over) = self.over.take() else { return };
        self.record.state = RunState::Exited;
        self.record.exit_code = Some(over.code);
        self.record.signal = over.signal;
        self.record.cwd_after = over.cwd;
        self.record.reason.clone_from(&self.ending_reason);
        self.record.ended_ms.get_or_insert_with(steady_ms);
        self.save();
        if !self.outputs.is_empty() {
            self.sync_at.get_or_insert_with(|| Instant::now() + SYNC);
        }
    }

    /// Notes how a run ended whose last output waits for a full disk: its record still fits on it, and
    /// this shim may not live until there is room.
    fn note_over(&mut self) {
        let Some(over) = &self.over else { return };
        // A disk that does not answer would not take the record either, and hold up everything.
        let is_refused = self.retry_at.is_some() || self.in_doubt;
        if is_refused && self.record.state == RunState::Stalled && self.record.exit_code.is_none() {
            self.record.exit_code = Some(over.code);
            self.record.signal.clone_from(&over.signal);
            self.record.ended_ms = Some(steady_ms());
            self.save();
        }
    }

    /// Writes the record.
    pub(super) fn save(&mut self) {
        self.changed = true;
        self.record_dirty = true;
        // The slots exist on the disk since the run was made; should they fail all the same, the
        // next change is written again, and a viewer still hears of it.
        drop(self.file.write(&self.record));
    }

    /// Makes everything news.
    pub(super) const fn tell_again(&mut self) {
        self.changed = true;
    }

    /// Returns whether there is news since the last call. The first news waits a moment, because most
    /// lines end in it.
    pub(super) fn take_changed(&mut self, now: Instant) -> bool {
        if !self.record.state.is_final() && self.hush_until.is_some_and(|until| now < until) {
            return false;
        }
        self.hush_until = None;
        std::mem::replace(&mut self.changed, false)
    }

    pub(super) const fn sizes(&self) -> StreamSizes {
        self.writer.sizes()
    }

    /// Returns how much of them the disk has for sure.
    pub(super) const fn durable(&self) -> StreamSizes {
        self.writer.durable()
    }

    fn stall(&mut self, error: &StoreError) {
        self.retry_at = Some(Instant::now() + RETRY);
        if !self.record.state.is_final() {
            self.record.state = RunState::Stalled;
        }
        self.record.reason = Some(error.in_one_line());
        self.save();
    }

    /// Says that the disk does not answer. The record is on the same disk, and writing it could take as
    /// long: only whoever looks on is told, again each time the wait has doubled.
    fn wait_on(&mut self, since: Instant, now: Instant) {
        let waited = now.saturating_duration_since(since);
        self.asked = Some((since, now + waited));
        if !self.record.state.is_final() {
            self.record.state = RunState::Stalled;
        }
        let (path, seconds) = (self.dir.path().display(), waited.as_secs());
        let words = format!("the disk has not answered for {seconds} s: {path}");
        self.record.reason = Some(words);
        self.changed = true;
    }

    fn retry(&mut self) {
        self.retry_at = None;
        if self.in_doubt {
            if let Err(error) = self.writer.write_again() {
                return self.stall(&error);
            }
            self.record_dirty = true;
            self.sync_at = Some(Instant::now());
        }
        if let Some((stream, bytes)) = self.held.take() {
            self.store(stream, &bytes);
        }
        self.go_on();
    }

    fn go_on(&mut self) {
        let is_overdue = self.asked.is_some_and(|(since, at)| at > since + PATIENCE);
        if self.retry_at.is_some() || self.in_doubt || is_overdue {
            return;
        }
        if self.record.state == RunState::Stalled {
            self.record.state = RunState::Running;
            self.record.reason = None;
            self.save();
        } else if self.record.state.is_final() && self.record.reason != self.ending_reason {
            self.record.reason.clone_from(&self.ending_reason);
            self.save();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::net::UnixStream};

    use hpcclient_protocol::Command;
    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;
    use crate::store::Store;

    /// A run in a folder of its own, and its folder.
    fn made(folder: &tempfile::TempDir) -> (KeptRun, RunDir) {
        let store = Store::open(folder.path().to_owned()).unwrap();
        let (id, spec) = (RunId::random(), RunSpec::new(Command::Shell("".into())));
        let dir = store.create(id, &spec, 0, "node").unwrap();
        let (file, record) = RecordFile::open(&dir).unwrap();
        let feed = Feed::new(id, None, false, true);
        let run = KeptRun::open(dir.clone(), &spec, file, record.unwrap(), feed).unwrap();
        (run, dir)
    }

    fn refused() -> StoreError {
        let disk_quota_exceeded = std::io::Error::from_raw_os_error(122);
        StoreError::io("sync", "/home/u", disk_quota_exceeded)
    }

    /// What is told now, if there is news.
    fn news(run: &mut KeptRun, at: Instant) -> Option<(RunState, Option<String>)> {
        let told = (run.record.state, run.record.reason.clone());
        run.take_changed(at).then_some(told)
    }

    #[test]
    fn what_the_disk_refuses_is_told_within_two_seconds_and_tried_again_within_two() {
        let folder = tempfile::tempdir().unwrap();
        let (mut run, dir) = made(&folder);
        let (wake, _theirs) = UnixStream::pair().unwrap();
        let mut durable = Durable::new(wake);
        run.set_running(1, None);
        let later = Instant::now() + HUSH;
        assert_eq!(news(&mut run, later), Some((RunState::Running, None)));
        // A write is refused in the round of the loop in which it is made, and that is told in the next.
        let file = dir.path().join("out-000000.raw");
        fs::create_dir(&file).unwrap();
        run.store(StreamName::Stdout, b"kept");
        let (state, reason) = news(&mut run, Instant::now()).unwrap();
        assert_eq!(state, RunState::Stalled);
        assert!(reason.unwrap().contains("out-000000.raw"));
        assert_eq!(dir.record().unwrap().state, RunState::Stalled);
        let again = run.wakes_at(&durable).unwrap();
        assert!(again <= Instant::now() + Duration::from_secs(2));
        fs::remove_dir(&file).unwrap();
        run.on_time(again, &mut durable);
        assert_eq!(news(&mut run, again), Some((RunState::Running, None)));
        run.synced(Ok(()));
        run.store(StreamName::Stdout, b" more");
        // An fsync is asked for a second after the write, and its refusal is told at once.
        let ask = run.wakes_at(&durable).unwrap();
        assert!(ask <= Instant::now() + Duration::from_secs(1));
        run.on_time(ask, &mut durable);
        run.synced(Err(refused()));
        let (state, reason) = news(&mut run, ask).unwrap();
        assert_eq!(state, RunState::Stalled);
        assert!(reason.unwrap().ends_with("quota exceeded"));
        assert_eq!(dir.record().unwrap().state, RunState::Stalled);
        let again = run.wakes_at(&durable).unwrap();
        assert!(again <= Instant::now() + Duration::from_secs(2));
        run.on_time(again, &mut durable);
        // Only the disk's answer makes it go on.
        assert_eq!(news(&mut run, again), None);
        run.synced(Ok(()));
        assert_eq!(news(&mut run, again), Some((RunState::Running, None)));
        assert_eq!(fs::read(&file).unwrap(), b"kept more");
    }

    #[test]
    fn a_disk_that_does_not_answer_is_told_until_it_answers() {
        let folder = tempfile::tempdir().unwrap();
        let (mut run, dir) = made(&folder);
        let (wake, _theirs) = UnixStream::pair().unwrap();
        let mut durable = Durable::new(wake);
        run.set_running(1, None);
        run.store(StreamName::Stdout, b"kept");
        let asked = Instant::now() + SYNC;
        assert_eq!(news(&mut run, asked), Some((RunState::Running, None)));
        run.on_time(asked, &mut durable);
        for seconds in [10, 20, 40] {
            let at = run.wakes_at(&durable).unwrap();
            assert_eq!(at, asked + Duration::from_secs(seconds));
            run.on_time(at, &mut durable);
            let words = format!("the disk has not answered for {seconds} s: ");
            let words = words + dir.path().to_str().unwrap();
            assert_eq!(news(&mut run, at), Some((RunState::Stalled, Some(words))));
        }
        // Nothing was written to it meanwhile, and what comes is read as long as it fits.
        assert_eq!(dir.record().unwrap().state, RunState::Running);
        assert!(!run.waits_for_disk());
        run.synced(Ok(()));
        assert_eq!(news(&mut run, asked), Some((RunState::Running, None)));
        // Nor is a disk that refuses at last one that does not answer.
        run.store(StreamName::Stdout, b"more");
        let asked = run.wakes_at(&durable).unwrap();
        run.on_time(asked, &mut durable);
        run.on_time(asked + PATIENCE, &mut durable);
        run.synced(Err(refused()));
        let (state, reason) = news(&mut run, asked).unwrap();
        assert_eq!(state, RunState::Stalled);
        assert!(reason.unwrap().starts_with("cannot sync "));
    }

    #[test]
    fn a_full_disk_keeps_what_was_read_when_both_streams_are_ready() {
        let folder = tempfile::tempdir().unwrap();
        let (mut run, dir) = made(&folder);
        // Nothing can be written where a directory is.
        let files = ["out", "err"].map(|name| dir.path().join(format!("{name}-000000.raw")));
        for file in &files {
            fs::create_dir(file).unwrap();
        }
        let streams = [(StreamName::Stdout, b"one"), (StreamName::Stderr, b"two")];
        for (stream, bytes) in streams {
            let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
            rustix::io::write(&theirs, bytes).unwrap();
            run.keep(stream, ours);
        }
        let mut buffer = vec![0; CHUNK];
        for (stream, _) in streams {
            run.read(stream, &mut buffer);
        }
        for file in &files {
            fs::remove_dir(file).unwrap();
        }
        run.retry();
        run.read(StreamName::Stderr, &mut buffer);
        for (file, (_, bytes)) in files.iter().zip(streams) {
            assert_eq!(fs::read(file).unwrap(), bytes, "{}", file.display());
        }
    }
}
