//! What the shim does when it is told something: by an agent, by the shell, by the end of a process.
//!
//! Called from the loop in `supervise`, between two waits.

use std::time::Duration;

use hpcclient_protocol::{
    RunId, RunState,
    run::{StdinMode, StreamSizes},
};
use rustix::{
    io::Errno,
    process::{Pid, Signal, kill_process, kill_process_group},
};

use super::{
    control::{FromShim, ToShim},
    feed::Feed,
    kept::{KeptRun, Over},
    processes, pty,
    session::{MAX_QUEUE, Report, Waiting, path_of},
    signals,
    supervise::{Purpose, Shim},
};
use crate::clock::steady_ms;
use crate::store::{RecordFile, RunDir, RunRecord, StoreError};

impl Shim {
    /// Does what an agent asked for.
    pub(super) fn obey(&mut self, message: ToShim, data: Vec<u8>) {
        match message {
            ToShim::Start { run, dir } => self.enqueue(RunDir::at(run, path_of(&dir))),
            ToShim::Stdin {
                run,
                writer,
                seq,
                eof,
            } => self.feed(run, writer, seq, eof, data),
            ToShim::Signal { run, signal } => {
                if let Some(signal) = signals::by_name(&signal) {
                    self.signal(run, signal);
                }
            }
            ToShim::Kill { run } => self.kill(run),
            ToShim::Resize { run, size } => {
                if let Some(run) = self.runs.get_mut(&run)
                    && let Some(terminal) = run.feed.fd()
                    && pty::resize(terminal, size).is_ok()
                {
                    run.resize(size);
                }
            }
            ToShim::End => self.end_session(),
        }
    }

    /// Ends everything, as an administrator's SIGTERM asks for.
    pub(super) fn terminate(&mut self) {
        match &self.purpose {
            Purpose::Alone { run, .. } => self.signal(*run, Signal::TERM),
            Purpose::Session(_) => self.end_session(),
        }
    }

    /// Takes note of a child that ended: the command, the shell, or an orphan of theirs.
    pub(super) fn process_ended(&mut self, pid: Pid, code: i32, signal: Option<String>) {
        match &mut self.purpose {
            Purpose::Alone { run, child } if *child == Some(pid) => {
                *child = None;
                if let Some(run) = self.runs.get_mut(run) {
                    run.set_over(Over {
                        code,
                        signal,
                        cwd: None,
                    });
                }
            }
            Purpose::Session(session) if session.shell_pid() == Some(pid) => {
                let report = session.shell_ended(code);
                if !session.is_ending() && session.hopeless().is_none() {
                    session.start_shell();
                }
                if let Some(Report::Ended {
                    run, code, killed, ..
                }) = report
                {
                    let signal = if killed { None } else { signal };
                    self.line_ended(run, code, killed, signal, None);
                }
            }
            Purpose::Alone { .. } | Purpose::Session(_) => {}
        }
    }

    /// Takes what the shell says.
    pub(super) fn listen_to_shell(&mut self) {
        let Purpose::Session(session) = &mut self.purpose else {
            return;
        };
        for report in session.listen() {
            match report {
                Report::Started(run) => {
                    if let Some(run) = self.runs.get_mut(&run) {
                        run.set_opened();
                    }
                }
                Report::Ended {
                    run,
                    code,
                    killed,
                    cwd,
                } => self.line_ended(run, code, killed, None, cwd),
            }
        }
    }

    /// Gives the shell its next line, and up a queue that no shell will ever take.
    pub(super) fn give_lines(&mut self) {
        // The disk's next answer is followed by another look.
        while !self.durable.is_full() {
            let Purpose::Session(session) = &mut self.purpose else {
                return;
            };
            let Some(Waiting { dir, opened }) = session.next_line() else {
                break;
            };
            if let Err(reason) = self.start_line(&dir, opened) {
                self.close_unstarted(&dir, lost(reason));
            }
        }
        let Purpose::Session(session) = &mut self.purpose else {
            return;
        };
        if let Some(reason) = session.hopeless() {
            self.empty_queue(&reason);
        }
    }

    fn enqueue(&mut self, dir: RunDir) {
        let Purpose::Session(session) = &mut self.purpose else {
            return;
        };
        let run = dir.id();
        let is_known = self.runs.contains_key(&run) || session.queue().any(|d| d.id() == run);
        let Ok((file, record)) = open_record(&dir) else {
            return self.close_unstarted(&dir, lost("its record cannot be opened"));
        };
        if is_known || record.state != RunState::Queued {
            return;
        }
        if session.is_ending() {
            return self.close_unstarted(&dir, lost("the session was ended before the line ran"));
        }
        if session.queue().count() >= MAX_QUEUE {
            let reason = format!("the session has {MAX_QUEUE} lines waiting already");
            return self.close_unstarted(&dir, lost(reason));
        }
        let mut opened = Some((file, record));
        if !session.is_free()
            && let Some((mut file, record)) = opened.take()
        {
            // It waits: say who keeps it, for an agent that comes later.
            drop(file.write(&record));
        }
        session.enqueue(Waiting { dir, opened });
    }

    fn start_line(
        &mut self,
        dir: &RunDir,
        opened: Option<(RecordFile, RunRecord)>,
    ) -> Result<(), String> {
        let Purpose::Session(session) = &mut self.purpose else {
            return Ok(());
        };
        let run = dir.id();
        let spec = dir.spec().map_err(|error| error.in_one_line())?;
        if spec.pty.is_some() {
            return Err("a line in a session has no terminal".to_owned());
        }
        let feed = self
            .early
            .remove(&run)
            .unwrap_or_else(|| Feed::expecting(run));
        let (file, record) = match opened {
            Some(opened) => opened,
            None => open_record(dir).map_err(|error| error.in_one_line())?,
        };
        let mut kept = KeptRun::open(dir.clone(), &spec, file, record, feed)
            .map_err(|error| error.in_one_line())?;
        let line = session
            .give(run, &spec)
            .map_err(|error| format!("cannot hand the line to the session's shell: {error}"))?;
        for (stream, fifo) in line.outputs {
            kept.keep_fifo(stream, fifo);
        }
        kept.feed.connect(line.stdin);
        kept.set_running(line.pid, spec.timeout_ms.map(Duration::from_millis));
        self.runs.insert(run, kept);
        Ok(())
    }

    fn line_ended(
        &mut self,
        run: RunId,
        code: i32,
        killed: bool,
        signal: Option<String>,
        cwd: Option<hpcclient_protocol::ByteString>,
    ) {
        let (code, signal) = if killed {
            (137, Some("KILL".to_owned()))
        } else {
            (code, signal)
        };
        if let Some(run) = self.runs.get_mut(&run) {
            run.set_over(Over { code, signal, cwd });
        }
    }

    fn feed(&mut self, run: RunId, writer: String, seq: u64, eof: bool, data: Vec<u8>) {
        if let Some(run) = self.runs.get_mut(&run) {
            return run.feed.offer(writer, seq, eof, data);
        }
        if let Purpose::Session(session) = &self.purpose
            && let Some(dir) = session.queue().find(|dir| dir.id() == run)
            && dir.spec().is_ok_and(|spec| spec.stdin == StdinMode::Open)
        {
            let feed = self
                .early
                .entry(run)
                .or_insert_with(|| Feed::expecting(run));
            return feed.offer(writer, seq, eof, data);
        }
        self.connections.broadcast(&FromShim::StdinAck {
            run,
            writer,
            seq,
            error: Some("stdin of this run is closed".to_owned()),
        });
    }

    fn signal(&mut self, run: RunId, signal: Signal) {
        // A line that has just ended must not be hit: its shell is between two lines.
        self.listen_to_shell();
        match &mut self.purpose {
            Purpose::Alone {
                child: Some(child), ..
            } => {
                let foreground = self
                    .runs
                    .get(&run)
                    .and_then(|run| rustix::termios::tcgetpgrp(run.feed.fd()?).ok());
                let group = foreground.unwrap_or(*child);
                if kill_process_group(group, signal) == Err(Errno::SRCH) {
                    // A console's command makes its group a moment after it started.
                    let _ = kill_process(*child, signal);
                }
            }
            Purpose::Alone { child: None, .. } => {}
            Purpose::Session(session) if session.current() == Some(run) => {
                if signal == Signal::KILL {
                    session.kill();
                } else {
                    session.signal(signal);
                }
            }
            Purpose::Session(session) => {
                let harmless = [
                    Signal::STOP,
                    Signal::CONT,
                    Signal::TSTP,
                    Signal::USR1,
                    Signal::USR2,
                ];
                if harmless.contains(&signal) {
                    return;
                }
                if let Some(dir) = session.unqueue(run) {
                    let record = RunRecord {
                        exit_code: Some(128 + signal.as_raw()),
                        signal: Some(signals::name(signal.as_raw())),
                        reason: Some("it was ended before it started".to_owned()),
                        ..RunRecord::new(RunState::Exited)
                    };
                    self.close_unstarted(&dir, record);
                }
            }
        }
    }

    /// Kills every process of a run.
    pub(super) fn kill(&mut self, run: RunId) {
        match &self.purpose {
            Purpose::Alone { .. } => {
                // Whatever the command left behind is a child of this process by now.
                processes::kill_descendants(std::process::id(), None, 0);
            }
            Purpose::Session(_) => self.signal(run, Signal::KILL),
        }
    }

    fn end_session(&mut self) {
        if let Purpose::Session(session) = &mut self.purpose {
            session.end();
            // The session's next line starts another shim, while this one may still read late output.
            self.connections.hide();
            self.empty_queue("the session was ended before the line ran");
        }
    }

    fn empty_queue(&mut self, reason: &str) {
        while let Purpose::Session(session) = &mut self.purpose {
            let Some(run) = session.queue().next().map(RunDir::id) else {
                return;
            };
            if let Some(dir) = session.unqueue(run) {
                self.close_unstarted(&dir, lost(reason));
            }
        }
    }

    /// Writes and announces the end of a line that never ran.
    fn close_unstarted(&mut self, dir: &RunDir, record: RunRecord) {
        let record = RunRecord {
            ended_ms: Some(steady_ms()),
            ..with_identity(record)
        };
        if let Some(mut feed) = self.early.remove(&dir.id()) {
            feed.close("the run has ended");
            for ack in feed.take_acks() {
                self.connections.broadcast(&ack);
            }
        }
        // Should the record fail, the announcement still tells a viewer.
        drop(dir.write_record(&record));
        self.connections
            .announce(dir.id(), &record, StreamSizes::default(), None);
    }
}

/// Opens the record of a run that is about to be kept, and adds who keeps it.
pub(super) fn open_record(dir: &RunDir) -> Result<(RecordFile, RunRecord), StoreError> {
    let (file, record) = RecordFile::open(dir)?;
    let record = record.unwrap_or_else(|| RunRecord::new(RunState::Queued));
    Ok((file, with_identity(record)))
}

fn with_identity(mut record: RunRecord) -> RunRecord {
    let (pid, start, boot) = processes::identity();
    record.shim_pid = Some(pid);
    record.shim_start = start;
    record.boot_id = boot;
    record
}

fn lost(reason: impl Into<String>) -> RunRecord {
    RunRecord {
        reason: Some(reason.into()),
        ..RunRecord::new(RunState::Lost)
    }
}
