//! Child processes that cannot outlive the test: own process group, output in files, killed on drop.
//!
//! Called by everything that starts a program. `processes_under` finds what detached itself, by a folder that its
//! environment or executable names.
//! Not here: what is started (`sshd`, `jupyter`, `site`).

use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::wait_for;

/// What a finished program left.
#[derive(Clone, Debug)]
pub struct Output {
    /// The exit code; 128 + signal when a signal ended it.
    pub code: i32,
    /// All of stdout.
    pub stdout: Vec<u8>,
    /// All of stderr.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Returns stdout as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Returns stderr as text.
    #[must_use]
    pub fn error_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Returns itself if the exit code is 0.
    ///
    /// # Errors
    /// Another code; the message has both streams.
    pub fn success(self) -> Result<Self> {
        if self.code != 0 {
            bail!(
                "exit code {}\n--- stdout\n{}\n--- stderr\n{}",
                self.code,
                self.text(),
                self.error_text()
            );
        }
        Ok(self)
    }
}

/// A running program with its output in files.
#[derive(Debug)]
pub struct Child {
    process: std::process::Child,
    name: String,
    out: PathBuf,
    err: PathBuf,
}

impl Child {
    /// Starts a program in a process group of its own; `logs` is the folder for its output, `name` the files' stem.
    ///
    /// # Errors
    /// It cannot be started; the message names the program.
    pub fn start(command: &mut Command, logs: &Path, name: &str) -> Result<Self> {
        let (out, err) = (
            logs.join(format!("{name}.out")),
            logs.join(format!("{name}.err")),
        );
        let process = command
            .process_group(0)
            .stdout(File::create(&out).with_context(|| format!("cannot write {}", out.display()))?)
            .stderr(File::create(&err)?)
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        Ok(Self {
            process,
            name: name.to_owned(),
            out,
            err,
        })
    }

    /// Returns its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Takes the pipe to its stdin, if the command was given one.
    pub fn take_stdin(&mut self) -> Option<std::process::ChildStdin> {
        self.process.stdin.take()
    }

    /// Returns what it has written to stdout so far.
    #[must_use]
    pub fn stdout(&self) -> Vec<u8> {
        fs::read(&self.out).unwrap_or_default()
    }

    /// Returns what it has written to stderr so far.
    #[must_use]
    pub fn stderr(&self) -> Vec<u8> {
        fs::read(&self.err).unwrap_or_default()
    }

    /// Returns whether it still runs.
    ///
    /// # Errors
    /// The system cannot tell.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.process.try_wait()?.is_none())
    }

    /// Sends its process group a signal.
    pub fn signal(&self, signal: Signal) {
        signal_group(self.pid(), signal);
    }

    /// Sends it alone a signal: what it started goes on.
    pub fn signal_alone(&self, signal: Signal) {
        if let Some(pid) = to_pid(self.pid()) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It still runs at the deadline; then its group is killed.
    pub fn finish(mut self, deadline: Duration) -> Result<Output> {
        let what = format!("the end of {}", self.name);
        let ended: Result<ExitStatus> =
            wait_for(&what, deadline, || Ok(self.process.try_wait()?));
        let status = ended.with_context(|| {
            let tail = |bytes: Vec<u8>| {
                let from = bytes.len().saturating_sub(4000);
                String::from_utf8_lossy(bytes.get(from..).unwrap_or_default()).into_owned()
            };
            let (out, err) = (tail(self.stdout()), tail(self.stderr()));
            format!("--- stdout of {}\n{out}\n--- stderr\n{err}", self.name)
        })?;
        Ok(Output {
            code: code_of(status),
            stdout: self.stdout(),
            stderr: self.stderr(),
        })
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        signal_group(self.pid(), Signal::KILL);
        drop(self.process.wait());
    }
}

/// Runs a program to its end with empty stdin.
///
/// # Errors
/// It cannot be started or does not end in time.
pub fn run(command: &mut Command, logs: &Path, deadline: Duration) -> Result<Output> {
    let program = Path::new(command.get_program()).file_name();
    let stem = program.unwrap_or_default().to_string_lossy().into_owned();
    let name = (0..)
        .map(|n| format!("{stem}-{n}"))
        .find(|name| !logs.join(format!("{name}.out")).exists())
        .unwrap_or_default();
    Child::start(command.stdin(Stdio::null()), logs, &name)?.finish(deadline)
}

fn code_of(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

fn signal_group(pid: u32, signal: Signal) {
    if let Some(pid) = to_pid(pid) {
        let _ = kill_process_group(pid, signal);
    }
}

pub(crate) fn to_pid(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}

/// Sends SIGKILL to one process.
pub(crate) fn kill(pid: u32) {
    if let Some(pid) = to_pid(pid) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// Returns the live processes that belong to a folder: their executable lies in it or their environment names it, and
/// all descendants of these. The caller itself is not among them.
#[must_use]
pub fn processes_under(folder: &Path) -> Vec<u32> {
    let needle = folder.as_os_str().as_encoded_bytes();
    let mut parents = vec![];
    let mut found = vec![];
    for pid in all_pids() {
        let proc = PathBuf::from(format!("/proc/{pid}"));
        let Some((state, parent)) = state_and_parent(pid) else {
            continue;
        };
        if state == 'Z' || pid == std::process::id() {
            continue;
        }
        parents.push((pid, parent));
        let exe = fs::read_link(proc.join("exe")).unwrap_or_default();
        let environment = fs::read(proc.join("environ")).unwrap_or_default();
        let named = environment.windows(needle.len()).any(|part| part == needle);
        if exe.starts_with(folder) || named {
            found.push(pid);
        }
    }
    loop {
        let more: Vec<u32> = parents
            .iter()
            .filter(|(pid, parent)| found.contains(parent) && !found.contains(pid))
            .map(|(pid, _)| *pid)
            .collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

/// Returns the children of a process and theirs.
pub(crate) fn descendants(of: u32) -> Vec<u32> {
    let table: Vec<(u32, u32)> = all_pids()
        .filter_map(|pid| Some((pid, state_and_parent(pid)?.1)))
        .collect();
    let mut found = vec![of];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(
            table
                .iter()
                .filter(|(_, p)| *p == parent)
                .map(|(pid, _)| *pid),
        );
        next += 1;
    }
    found.split_off(1)
}

fn all_pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn state_and_parent(pid: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}
