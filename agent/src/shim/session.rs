//! A session's shell and the lines that wait for it.
//!
//! The shell runs `session.bash`, which tells how it is spoken to. Lines run one after another; none
//! shares a FIFO with a process of another, so late output still goes to its own line.
//! Invariants: at most one line is with the shell; a shell that ends is replaced, a line it held
//! ends with its code; signals wait until the shell said that the line started.
//! Not here: storing output (`kept`), the poll loop (`supervise`).

use std::{
    collections::VecDeque,
    ffi::OsStr,
    fs, io,
    io::Write,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{ffi::OsStrExt, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use hpcclient_protocol::{ByteString, RunId, RunSpec, SessionId, StreamName, run::StdinMode};
use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    process::{Pid, Signal, kill_process, kill_process_group, umask},
};

use super::{
    command::{FULL_PAUSE, FULL_TIME, bash},
    fifos::{self, Fifo, Fifos},
    line::{self, Names},
    processes,
};
use crate::store::{RecordFile, RunDir, RunRecord};

/// How many lines may wait.
pub(super) const MAX_QUEUE: usize = 1000;
/// How long the user's profile may take; after that the shell starts without it.
const PROFILE_TIME: Duration = Duration::from_secs(60);
/// How long a shell may take to obey a kill or its end.
const KILL_TIME: Duration = Duration::from_secs(2);
/// Longer than anything that is waited for here.
const NEVER: Duration = Duration::from_secs(1 << 20);
/// How often a shell is started in a row without becoming ready.
const MAX_TRIES: u32 = 3;
/// A line up to this size goes through the FIFO, which bash reads byte by byte; above it a file is
/// quicker, and it must fit what a pipe takes at once.
const MAX_DIRECT: usize = 512;

/// A line that waits.
pub(super) struct Waiting {
    pub(super) dir: RunDir,
    /// Its record, open, when the shell takes it at once. A long queue must not hold many files.
    pub(super) opened: Option<(RecordFile, RunRecord)>,
}

/// A line that the shell has.
struct Current {
    run: RunId,
    number: u64,
    since: Instant,
    has_stdin: bool,
    has_file: bool,
    started: bool,
    waiting: Vec<Signal>,
    kill_by: Option<Instant>,
}

struct Shell {
    pid: Pid,
    ready: bool,
    since: Instant,
}

/// What the shell said.
pub(super) enum Report {
    /// The line's stdin is open.
    Started(RunId),
    /// The line ended.
    Ended {
        run: RunId,
        code: i32,
        killed: bool,
        cwd: Option<ByteString>,
    },
}

/// The streams of a line that the shell was given.
pub(super) struct LineStreams {
    pub(super) stdin: Option<OwnedFd>,
    pub(super) outputs: [(StreamName, Fifo); 2],
    pub(super) pid: u32,
}

/// A session.
pub(super) struct Session {
    pub(super) id: SessionId,
    folder: PathBuf,
    fifos: Fifos,
    user_umask: Mode,
    commands: Option<OwnedFd>,
    reports: Option<OwnedFd>,
    said: Vec<u8>,
    shell: Option<Shell>,
    tries: u32,
    refused: Option<String>,
    /// When the shell that found no room is tried again, and until when.
    full: Option<(Instant, Instant)>,
    queue: VecDeque<Waiting>,
    current: Option<Current>,
    number: u64,
    end_by: Option<Instant>,
    ending: bool,
}

impl Session {
    /// Makes the session's folder, beside the socket. No shell is started yet.
    pub(super) fn new(id: SessionId, socket: &Path, user_umask: Mode) -> io::Result<Self> {
        let folder = fifos::make_folder(socket)?;
        Ok(Self {
            id,
            fifos: Fifos::new(folder.clone()),
            folder,
            user_umask,
            commands: None,
            reports: None,
            said: vec![],
            shell: None,
            tries: 0,
            refused: None,
            full: None,
            queue: VecDeque::new(),
            current: None,
            number: 0,
            end_by: None,
            ending: false,
        })
    }

    /// Starts a shell. The profile is left out once it kept a shell from becoming ready.
    ///
    /// When it cannot be started, lines end with the reason; the next one tries again. A node that is full
    /// for a moment makes them wait.
    pub(super) fn start_shell(&mut self) {
        let (now, error) = (Instant::now(), self.try_start().err());
        let until = self.full.take().map_or(now + FULL_TIME, |(_, until)| until);
        let is_full = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock && now < until;
        if error.as_ref().is_some_and(is_full) {
            self.refused = None;
            self.full = Some((now + FULL_PAUSE, until));
        } else {
            self.refused = error.map(|error| error.to_string());
        }
    }

    fn try_start(&mut self) -> io::Result<()> {
        let bash = bash().ok_or_else(|| {
            io::Error::other("there is no bash on this node, neither in SHELL nor in PATH")
        })?;
        for name in ["commands", "reports"] {
            let path = self.folder.join(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            fifos::make(&path)?;
        }
        // Both ends ours as well, so that neither side ever waits for the other to open.
        let open = |name, more| openat(CWD, self.folder.join(name), more, Mode::empty());
        let both = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
        self.commands = Some(open("commands", both)?);
        self.reports = Some(open("reports", both)?);
        self.said.clear();
        let mut command = Command::new(bash);
        if self.tries == 0 {
            command.arg("--login");
        } else {
            command.args(["--noprofile", "--norc"]);
        }
        command
            .args(["-c", &line::script(), "bash"])
            .arg(&self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        let ours = umask(self.user_umask);
        let child = command.spawn();
        umask(ours);
        let child = child?;
        self.tries += 1;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        self.shell = pid.map(|pid| Shell {
            pid,
            ready: false,
            since: Instant::now(),
        });
        Ok(())
    }

    pub(super) fn reports_fd(&self) -> Option<&OwnedFd> {
        self.reports.as_ref()
    }

    pub(super) fn shell_pid(&self) -> Option<Pid> {
        self.shell.as_ref().map(|shell| shell.pid)
    }

    pub(super) fn current(&self) -> Option<RunId> {
        self.current.as_ref().map(|current| current.run)
    }

    /// Returns the lines that wait.
    pub(super) fn queue(&self) -> impl Iterator<Item = &RunDir> {
        self.queue.iter().map(|waiting| &waiting.dir)
    }

    /// Returns whether a line that comes now is the next.
    pub(super) fn is_free(&self) -> bool {
        self.queue.is_empty() && self.current.is_none()
    }

    /// Adds a line to the queue, and starts a shell if an earlier one could not be.
    pub(super) fn enqueue(&mut self, waiting: Waiting) {
        self.queue.push_back(waiting);
        if self.hopeless().is_some() {
            self.tries = self.tries.min(1);
            self.start_shell();
        }
    }

    /// Takes a waiting line out of the queue.
    pub(super) fn unqueue(&mut self, run: RunId) -> Option<RunDir> {
        let at = self.queue().position(|dir| dir.id() == run)?;
        self.queue.remove(at).map(|waiting| waiting.dir)
    }

    /// Returns the next line when the shell can take one.
    pub(super) fn next_line(&mut self) -> Option<Waiting> {
        let ready = self.shell.as_ref().is_some_and(|shell| shell.ready);
        if ready && self.current.is_none() && !self.ending {
            self.queue.pop_front()
        } else {
            None
        }
    }

    pub(super) const fn is_ending(&self) -> bool {
        self.ending
    }

    /// Returns why no shell will be ready for the lines that wait.
    pub(super) fn hopeless(&self) -> Option<String> {
        match &self.refused {
            _ if self.shell.is_some() || self.full.is_some() => None,
            Some(why) => Some(format!("the session's shell could not be started: {why}")),
            None if self.tries >= MAX_TRIES => {
                Some("the session's shell (bash) ended before it was ready".to_owned())
            }
            None => None,
        }
    }

    /// Takes back a FIFO that nobody has open any more.
    pub(super) fn give_back(&mut self, stream: StreamName, fifo: Fifo) {
        self.fifos.give_back(stream, fifo);
    }

    /// Gives a line to the shell.
    pub(super) fn give(&mut self, run: RunId, spec: &RunSpec) -> io::Result<LineStreams> {
        self.number += 1;
        let number = self.number;
        let (out, stdout) = self.fifos.take(StreamName::Stdout)?;
        let (err, stderr) = self.fifos.take(StreamName::Stderr)?;
        let mut names = Names {
            stdin: None,
            out,
            err,
        };
        let has_stdin = spec.stdin == StdinMode::Open;
        let mut stdin = None;
        if has_stdin {
            let name = format!("in-{number}");
            let path = self.folder.join(&name);
            fifos::make(&path)?;
            let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
            stdin = Some(openat(CWD, path, flags, Mode::empty())?);
            names.stdin = Some(name);
        }
        let fields = line::fields(spec, &names);
        let has_file = fields.len() > MAX_DIRECT;
        let told = if has_file {
            // A file of its own: some file systems write a file that is cut and filled again at once.
            let name = format!("line-{number}");
            let path = self.folder.join(&name);
            fs::File::create_new(path).and_then(|mut file| file.write_all(&fields))?;
            [name.as_bytes(), b"\0"].concat()
        } else {
            [b"here\0", fields.as_slice()].concat()
        };
        let shell = self.shell.as_ref().map(|shell| shell.pid);
        let (Some(commands), Some(shell)) = (&self.commands, shell) else {
            return Err(io::Error::other("the session has no shell"));
        };
        rustix::io::write(commands, &told)?;
        self.current = Some(Current {
            run,
            number,
            since: Instant::now(),
            has_stdin,
            has_file,
            started: false,
            waiting: vec![],
            kill_by: None,
        });
        let pid = shell.as_raw_nonzero().get().unsigned_abs();
        Ok(LineStreams {
            stdin,
            outputs: [(StreamName::Stdout, stdout), (StreamName::Stderr, stderr)],
            pid,
        })
    }

    /// Reads what the shell says.
    pub(super) fn listen(&mut self) -> Vec<Report> {
        let mut buffer = [0; 8 << 10];
        while let Some(fd) = &self.reports {
            match rustix::io::read(fd.as_fd(), &mut buffer) {
                Ok(count) if count > 0 => {
                    self.said
                        .extend_from_slice(buffer.get(..count).unwrap_or_default());
                }
                Err(rustix::io::Errno::INTR) => {}
                _ => break,
            }
        }
        let mut reports = vec![];
        while let Some(report) = self.next_report() {
            reports.extend(report);
        }
        reports
    }

    fn next_report(&mut self) -> Option<Option<Report>> {
        let mut fields = self.said.split(|byte| *byte == 0);
        let mut field = || fields.next().map(<[u8]>::to_vec);
        let word = field()?;
        // The last piece is what comes after the last NUL: not whole yet.
        let ended = word == b"ended";
        let (code, cwd) = if ended {
            (field()?, field()?)
        } else {
            (vec![], vec![])
        };
        field()?;
        let len = word.len() + 1 + if ended { code.len() + cwd.len() + 2 } else { 0 };
        self.said.drain(..len);
        match word.as_slice() {
            b"ready" => {
                if let Some(shell) = &mut self.shell {
                    shell.ready = true;
                    self.tries = 0;
                }
                Some(None)
            }
            b"started" => Some(self.on_started()),
            b"ended" => {
                let code = std::str::from_utf8(&code)
                    .ok()
                    .and_then(|code| code.parse().ok());
                Some(self.finish(code.unwrap_or(255), Some(cwd.into())))
            }
            _ => Some(None),
        }
    }

    fn on_started(&mut self) -> Option<Report> {
        let current = self.current.as_mut()?;
        current.started = true;
        let run = current.run;
        for signal in std::mem::take(&mut current.waiting) {
            self.signal(signal);
        }
        Some(Report::Started(run))
    }

    /// Ends the current line, whether the shell said so or is gone.
    fn finish(&mut self, code: i32, cwd: Option<ByteString>) -> Option<Report> {
        let current = self.current.take()?;
        for (name, is_there) in [("in", current.has_stdin), ("line", current.has_file)] {
            if is_there {
                let name = format!("{name}-{}", current.number);
                drop(fs::remove_file(self.folder.join(name)));
            }
        }
        Some(Report::Ended {
            run: current.run,
            code,
            killed: current.kill_by.is_some(),
            cwd,
        })
    }

    /// Takes note that the shell process ended with this code. Call after [`Self::listen`].
    pub(super) fn shell_ended(&mut self, code: i32) -> Option<Report> {
        self.shell = None;
        self.commands = None;
        self.finish(code, None)
    }

    /// Sends a signal to the current line: the shell's process group.
    pub(super) fn signal(&mut self, signal: Signal) {
        let (Some(current), Some(shell)) = (&mut self.current, &self.shell) else {
            return;
        };
        if !current.started {
            current.waiting.push(signal);
        } else if signal == Signal::KILL {
            let since = processes::ticks_before(current.since.elapsed());
            let spare = shell.pid.as_raw_nonzero().get().unsigned_abs();
            // What a line left behind alone is a child of the shim; of older lines nothing is touched.
            processes::kill_descendants(std::process::id(), Some(spare), since);
            let _ = kill_process(shell.pid, Signal::INT);
        } else {
            let _ = kill_process_group(shell.pid, signal);
        }
    }

    /// Kills the current line; the shell survives if it obeys.
    pub(super) fn kill(&mut self) {
        if let Some(current) = &mut self.current {
            current
                .kill_by
                .get_or_insert_with(|| Instant::now() + KILL_TIME);
            self.signal(Signal::KILL);
        }
    }

    /// Ends the shell; no line is given to it any more.
    pub(super) fn end(&mut self) {
        if self.ending {
            return;
        }
        self.ending = true;
        self.end_by = Some(Instant::now() + KILL_TIME);
        if let Some(commands) = &self.commands {
            // A shell whose line has just said `exit` finds it too, when it is back.
            let _ = rustix::io::write(commands, b"\0");
        }
        if let Some(shell) = &self.shell {
            let _ = kill_process_group(shell.pid, Signal::HUP);
        }
    }

    /// Returns when the shell has to be looked at without any event.
    pub(super) fn wakes_at(&self) -> Option<Instant> {
        let Some(shell) = &self.shell else {
            return self.full.filter(|_| !self.ending).map(|(at, _)| at);
        };
        let profile = (!shell.ready).then_some(shell.since + PROFILE_TIME);
        let kill = self.current.as_ref().and_then(|current| current.kill_by);
        [profile, kill, self.end_by].into_iter().flatten().min()
    }

    /// Kills a shell that did not obey in time.
    pub(super) fn on_time(&mut self, now: Instant) {
        if self.wakes_at().is_none_or(|at| at > now) {
            return;
        }
        if self.full.is_some() {
            return self.start_shell();
        }
        if let Some(shell) = &mut self.shell {
            let _ = kill_process(shell.pid, Signal::KILL);
            // Its end is told by SIGCHLD; until then nothing is due.
            shell.since = now + NEVER;
            self.end_by = None;
            if let Some(current) = &mut self.current {
                current.kill_by = current.kill_by.map(|at| at + NEVER);
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // At the end of the shim: nobody can be told.
        drop(fs::remove_dir_all(&self.folder));
    }
}

/// Returns a path's bytes as they stand in a control message.
pub(super) fn path_of(dir: &ByteString) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(dir.as_bytes()))
}
