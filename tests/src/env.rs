//! A place of its own for a test: folders, a clean environment, and the end of every process in it.
//!
//! Called by `site` and by tests that need no login node.
//! Invariants: nothing of the caller's environment but `PATH` reaches a child; on drop every process that names the
//! folder is killed; a failing test shows the logs.

use std::{
    ffi::OsStr,
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::{
    process::{self, Output, processes_under},
    wait_for,
};

/// The longest a command of a test may take unless the test says otherwise.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A user's machine: home, configuration, state and temporary folder under one root.
#[derive(Debug)]
pub struct Env {
    root: TempDir,
    shows_logs: bool,
}

impl Env {
    /// Makes the folders.
    ///
    /// # Errors
    /// `/tmp` cannot be written.
    pub fn new() -> Result<Self> {
        // Short, because a Unix socket's path has 108 bytes.
        let root = tempfile::Builder::new()
            .prefix("hpcc-test-")
            .tempdir_in("/tmp")?;
        for folder in ["home", "node", "node-home", "tmp", "logs"] {
            fs::create_dir(root.path().join(folder))?;
        }
        let ours = fs::Permissions::from_mode(0o700);
        fs::set_permissions(root.path().join("home"), ours)?;
        Ok(Self {
            root,
            shows_logs: true,
        })
    }

    /// Keeps the logs out of the output: for a program that is not a test.
    pub fn hide_logs(&mut self) {
        self.shows_logs = false;
    }

    /// Returns the root.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Returns a path under the root.
    #[must_use]
    pub fn path(&self, relative: &str) -> PathBuf {
        self.root().join(relative)
    }

    /// Returns the folder for the output of children.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.path("logs")
    }

    /// Returns a command with this place's environment and nothing else.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let inherited = std::env::var_os("PATH").unwrap_or_default();
        command
            .env_clear()
            .env("PATH", inherited)
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.path("tmp"))
            .env("LANG", "C.UTF-8")
            .env("TERM", "dumb")
            .env("HPCCLIENT_CONFIG_DIR", self.path("home/.config/hpcclient"))
            .env("HPCCLIENT_STATE_DIR", self.path("home/state"))
            .current_dir(self.path("home"));
        if let Ok(binary) = built("hpcclient", "HPCCLIENT_BIN") {
            command.env("HPCCLIENT_BIN", binary);
        }
        if let Ok(binary) = built("hpcagent", "HPCCLIENT_AGENT") {
            command.env("HPCCLIENT_AGENT", binary);
        }
        command
    }

    /// Returns a command for the built `hpcclient`.
    ///
    /// # Errors
    /// It was not built.
    pub fn hpcclient(&self, args: &[&str]) -> Result<Command> {
        let mut command = self.command(built("hpcclient", "HPCCLIENT_BIN")?);
        command.args(args);
        Ok(command)
    }

    /// Returns a command for the built `hpcagent`, on this machine as a node of its own.
    ///
    /// # Errors
    /// It was not built.
    pub fn hpcagent(&self, args: &[&str]) -> Result<Command> {
        let mut command = self.command(built("hpcagent", "HPCCLIENT_AGENT")?);
        command.args(args).env("HPCCLIENT_HOME", self.path("node"));
        Ok(command)
    }

    /// Puts a copy of the built `hpcagent` under the root; with `mark` it is another build, which a bridge replaces.
    ///
    /// # Errors
    /// It was not built, or there is no room.
    pub fn copy_agent(&self, relative: &str, mark: &str) -> Result<PathBuf> {
        let (path, draft) = (self.path(relative), self.path(&format!("{relative}.new")));
        fs::copy(built("hpcagent", "HPCCLIENT_AGENT")?, &draft)?;
        let mut file = fs::OpenOptions::new().append(true).open(&draft)?;
        file.write_all(mark.as_bytes())?;
        drop(file);
        // In one step, because a bridge may be reading it.
        fs::rename(&draft, &path)?;
        Ok(path)
    }

    /// Runs a command to its end, for at most a minute.
    ///
    /// # Errors
    /// It cannot be started or does not end.
    pub fn run(&self, command: &mut Command) -> Result<Output> {
        self.run_for(command, DEADLINE)
    }

    /// Runs a command to its end within a time of the caller's choice.
    ///
    /// # Errors
    /// It cannot be started or does not end.
    pub fn run_for(&self, command: &mut Command, deadline: Duration) -> Result<Output> {
        process::run(command, &self.logs(), deadline)
    }

    /// Writes a file under the root, readable by its owner only.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, relative: &str, content: &str) -> Result<PathBuf> {
        let path = self.path(relative);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(path)
    }

    /// The test runner captures this and shows it for a test that failed.
    #[expect(clippy::print_stderr, reason = "the runner captures it per test")]
    fn print_logs(&self) {
        let mut files: Vec<PathBuf> = [self.logs(), self.path("home/state")]
            .iter()
            .filter_map(|folder| fs::read_dir(folder).ok())
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        files.sort();
        for file in files {
            let bytes = fs::read(&file).unwrap_or_default();
            let tail = bytes.get(bytes.len().saturating_sub(3000)..);
            let text = String::from_utf8_lossy(tail.unwrap_or_default());
            if !text.is_empty() {
                eprintln!("--- {}\n{text}", file.display());
            }
        }
    }
}

impl Drop for Env {
    fn drop(&mut self) {
        if self.shows_logs {
            self.print_logs();
        }
        // A process that is being started now names the folder a moment later: look until none is left.
        let gone = wait_for("the end of all processes", Duration::from_secs(10), || {
            let left = processes_under(self.root());
            left.iter().copied().for_each(process::kill);
            Ok(left.is_empty().then_some(()))
        });
        drop(gone);
    }
}

/// Returns the repository's root.
#[must_use]
pub fn repository() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_path_buf()
}

/// Finds a built program: the variable's, else beside the tests, else the one of the `ci` profile.
fn built(name: &str, variable: &str) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return Ok(path.into());
    }
    let target = repository().join("target");
    for profile in ["ci", "debug"] {
        let path = target.join(profile).join(name);
        if path.exists() {
            return Ok(path);
        }
    }
    bail!("{name} is not built; run `cargo xtask test` or `cargo build --profile ci --bins`")
}
