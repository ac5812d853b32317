//! The shim's one loop: waits for output, the agent, the shell and the clock, and answers each.
//!
//! A round: wait → read what came → note who ended → settle ended runs → give the shell its next
//! line → tell the agents. Nothing in it blocks but the file system.
//! Invariants: what is announced is in the store; the shim goes on without an agent.
//! Not here: how a run is stored (`kept`), how a session's shell is spoken to (`session`).

use std::{
    collections::BTreeMap,
    io::Read,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use hpcclient_protocol::{RunId, StreamName};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, WaitOptions, wait},
};

use super::{
    connections::Connections,
    control::{CONTROL_VERSION, FromShim},
    durable::{Done, Durable},
    feed::Feed,
    kept::{CHUNK, KeptRun},
    session::Session,
    signals,
};

/// How long the last news may take before the shim exits without having told it.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What this shim is for.
pub(super) enum Purpose {
    /// One command.
    Alone {
        /// Its run.
        run: RunId,
        /// Its process, while it lives.
        child: Option<Pid>,
    },
    /// A session's shell.
    Session(Box<Session>),
}

/// A running shim.
pub(super) struct Shim {
    pub(super) purpose: Purpose,
    pub(super) runs: BTreeMap<RunId, KeptRun>,
    /// The stdin of lines that wait, where somebody wrote already.
    pub(super) early: BTreeMap<RunId, Feed>,
    pub(super) connections: Connections,
    pub(super) durable: Durable,
    wake: UnixStream,
    terminated: Arc<AtomicBool>,
    buffer: Vec<u8>,
}

#[derive(Clone, Copy)]
enum Source {
    Signal,
    Listener,
    Connection(u64),
    Output(RunId, StreamName),
    Stdin(RunId),
    Shell,
}

impl Shim {
    pub(super) fn new(
        purpose: Purpose,
        connections: Connections,
        durable: Durable,
        wake: UnixStream,
        terminated: Arc<AtomicBool>,
    ) -> Self {
        Self {
            purpose,
            runs: BTreeMap::new(),
            early: BTreeMap::new(),
            connections,
            durable,
            wake,
            terminated,
            buffer: vec![0; CHUNK],
        }
    }

    /// Returns the first message for a new connection.
    pub(super) fn hello(&self) -> FromShim {
        let kept = self
            .runs
            .values()
            .filter(|run| !run.record.state.is_final());
        let mut live: Vec<RunId> = kept.map(|run| run.id).collect();
        let session = match &self.purpose {
            Purpose::Alone { .. } => None,
            Purpose::Session(session) => {
                live.extend(session.queue().map(crate::store::RunDir::id));
                Some(session.id.clone())
            }
        };
        FromShim::Hello {
            version: CONTROL_VERSION,
            pid: std::process::id(),
            session,
            live,
        }
    }

    /// Runs until there is nothing left to keep.
    pub(super) fn run(mut self) -> ExitCode {
        loop {
            self.progress();
            if self.is_over() {
                break;
            }
            let events = self.wait(self.wakes_at());
            self.take(&events);
            let now = Instant::now();
            let mut late = vec![];
            for run in self.runs.values_mut() {
                run.on_time(now, &mut self.durable);
                if run.is_late(now) {
                    late.push(run.id);
                }
            }
            for run in late {
                self.kill(run);
            }
            self.durable.on_time(now);
            self.connections.on_time(now);
            if let Purpose::Session(session) = &mut self.purpose {
                session.on_time(now);
            }
        }
        let until = Instant::now() + LAST_WORDS;
        while !self.connections.is_flushed() && Instant::now() < until {
            let events = self.wait(Some(until));
            self.take(&events);
            self.connections.flush();
        }
        ExitCode::SUCCESS
    }

    fn is_over(&self) -> bool {
        self.runs.is_empty()
            && self.durable.is_idle()
            && match &self.purpose {
                Purpose::Alone { child, .. } => child.is_none(),
                Purpose::Session(session) => session.is_ending() && session.shell_pid().is_none(),
            }
    }

    fn wakes_at(&self) -> Option<Instant> {
        let session = match &self.purpose {
            Purpose::Alone { .. } => None,
            Purpose::Session(session) => session.wakes_at(),
        };
        self.runs
            .values()
            .filter_map(|run| run.wakes_at(&self.durable))
            .chain(session)
            .chain(self.durable.wakes_at())
            .chain(self.connections.wakes_at())
            .min()
    }

    /// Waits for anything to happen.
    fn wait(&self, until: Option<Instant>) -> Vec<(Source, PollFlags)> {
        let mut sources: Vec<(Source, BorrowedFd<'_>, PollFlags)> =
            vec![(Source::Signal, self.wake.as_fd(), PollFlags::IN)];
        if let Some(listener) = self.connections.listener() {
            sources.push((Source::Listener, listener.as_fd(), PollFlags::IN));
        }
        for peer in self.connections.peers() {
            let mut flags = PollFlags::IN;
            flags.set(PollFlags::OUT, peer.wants_write());
            sources.push((Source::Connection(peer.id), peer.stream.as_fd(), flags));
        }
        for run in self.runs.values() {
            for (stream, fd) in run.readable() {
                sources.push((Source::Output(run.id, stream), fd.as_fd(), PollFlags::IN));
            }
            if let Some(fd) = run.feed.wants_write() {
                sources.push((Source::Stdin(run.id), fd.as_fd(), PollFlags::OUT));
            }
        }
        if let Purpose::Session(session) = &self.purpose
            && let Some(fd) = session.reports_fd()
        {
            sources.push((Source::Shell, fd.as_fd(), PollFlags::IN));
        }
        let mut fds: Vec<PollFd<'_>> = sources
            .iter()
            .map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags))
            .collect();
        let timeout = until.map(|until| {
            // A little more, so that the time has come for sure on return.
            let left = until.saturating_duration_since(Instant::now()) + Duration::from_micros(50);
            Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            }
        });
        if poll(&mut fds, timeout.as_ref()).is_err() {
            // Interrupted: the next round asks again.
            return vec![];
        }
        sources
            .iter()
            .zip(&fds)
            .map(|((source, ..), fd)| (*source, fd.revents()))
            .filter(|(_, flags)| !flags.is_empty())
            .collect()
    }

    /// Answers what happened. Output comes before the shell's words and the end of processes, so that
    /// what was written before a line's end is stored before it.
    fn take(&mut self, events: &[(Source, PollFlags)]) {
        for (source, _) in events {
            match *source {
                Source::Output(run, stream) => {
                    if let Some(run) = self.runs.get_mut(&run) {
                        run.read(stream, &mut self.buffer);
                    }
                }
                Source::Stdin(run) => {
                    if let Some(run) = self.runs.get_mut(&run) {
                        run.feed.pump();
                    }
                }
                Source::Signal | Source::Listener | Source::Connection(_) | Source::Shell => {}
            }
        }
        for (source, flags) in events {
            match *source {
                Source::Shell => self.listen_to_shell(),
                Source::Signal => self.on_signal(),
                Source::Listener => {
                    let hello = self.hello();
                    self.connections.accept(&hello);
                    // Who has just come knows only the store.
                    for run in self.runs.values_mut() {
                        run.tell_again();
                    }
                }
                Source::Connection(id) if *flags != PollFlags::OUT => {
                    for (message, data) in self.connections.receive(id) {
                        self.obey(message, data);
                    }
                }
                Source::Connection(_) | Source::Output(..) | Source::Stdin(_) => {}
            }
        }
    }

    /// Carries everything as far as it goes now.
    fn progress(&mut self) {
        for run in self.runs.values_mut() {
            run.settle(&mut self.buffer);
        }
        if let Purpose::Session(session) = &mut self.purpose {
            for run in self.runs.values_mut() {
                for (stream, fifo) in run.take_spent() {
                    session.give_back(stream, fifo);
                }
            }
        }
        self.give_lines();
        let now = Instant::now();
        for run in self.runs.values_mut() {
            for ack in run.feed.take_acks() {
                self.connections.broadcast(&ack);
            }
            if run.take_changed(now) {
                self.connections
                    .announce(run.id, &run.record, run.sizes(), Some(run.durable()));
            }
        }
        for feed in self.early.values_mut() {
            for ack in feed.take_acks() {
                self.connections.broadcast(&ack);
            }
        }
        self.connections.flush();
        for (_, run) in self.runs.extract_if(.., |_, run| run.is_done()) {
            self.durable.leave(run.into_ended());
            if matches!(self.purpose, Purpose::Alone { .. }) {
                // The sooner this process is gone, the sooner another may start.
                self.durable.hurry();
            }
        }
    }

    /// Takes the disk's answers.
    fn note_synced(&mut self) {
        for done in self.durable.take_done() {
            match done {
                Done::Live(run, answer) => {
                    if let Some(run) = self.runs.get_mut(&run) {
                        run.synced(answer);
                    }
                }
                Done::Ended(_, Ok(())) => {}
                Done::Ended(mut ended, Err(error)) => {
                    ended.record.reason = Some(error.in_one_line());
                    // On such a disk this may fail as well; whoever looks on is told all the same.
                    drop(ended.dir.write_record(&ended.record));
                    let (run, sizes) = (ended.dir.id(), ended.sizes());
                    self.connections.announce(run, &ended.record, sizes, None);
                    self.durable.again(ended);
                }
            }
        }
    }

    fn on_signal(&mut self) {
        let mut bytes = [0; 64];
        while self
            .wake
            .read(&mut bytes)
            .is_ok_and(|count| count == bytes.len())
        {}
        self.note_synced();
        // What the shell said before it ended comes first.
        self.listen_to_shell();
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let (code, signal) = signals::ending(status);
            self.process_ended(pid, code, signal);
        }
        if self.terminated.swap(false, Ordering::Relaxed) {
            self.terminate();
        }
    }
}
