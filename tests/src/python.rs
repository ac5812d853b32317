//! Python with the built package, in a user's place.
//!
//! The interpreter is the repository's virtual environment, which `cargo xtask test` makes.

use std::{
    io::Write,
    path::PathBuf,
    process::{ChildStdin, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{
    Site,
    env::{Env, repository},
    process::{Child, Output},
    wait_for,
};

/// Returns the virtual environment's folder of programs.
///
/// # Errors
/// It does not exist.
pub(crate) fn programs() -> Result<PathBuf> {
    let folder = repository().join(".venv/bin");
    if !folder.join("python").exists() {
        bail!("{} has no python; run `cargo xtask test`", folder.display());
    }
    Ok(folder)
}

/// Runs a Python program to its end; `hpcclient` can be imported.
///
/// # Errors
/// It cannot be started or does not end in two minutes.
pub fn python(env: &Env, program: &str) -> Result<Output> {
    env.run_for(&mut command(env, program)?, Duration::from_secs(120))
}

fn command(env: &Env, program: &str) -> Result<Command> {
    let mut command = env.command(programs()?.join("python"));
    command.args(["-u", "-c", program]);
    Ok(command)
}

/// A Python program that is told when to go on: it runs `step` for each line it is given.
#[derive(Debug)]
pub struct Python {
    child: Child,
    stdin: ChildStdin,
    steps: usize,
}

impl Python {
    /// Starts the program: `prepare` once, then `step` each time [`Python::step`] is called.
    ///
    /// # Errors
    /// It cannot be started, or `prepare` fails.
    pub fn start(site: &Site, prepare: &str, step: &str) -> Result<Self> {
        let indented = step.replace('\n', "\n    ");
        let program = format!(
            "import sys\n{prepare}\nprint('@ready')\nfor _ in sys.stdin:\n    {indented}\n    print('@done')\n"
        );
        let mut command = command(site.env(), &program)?;
        command.stdin(Stdio::piped());
        let mut child = Child::start(&mut command, &site.env().logs(), "python-steps")?;
        let stdin = child.take_stdin().context("no pipe")?;
        let mut this = Self {
            child,
            stdin,
            steps: 0,
        };
        this.wait("@ready", 1)?;
        Ok(this)
    }

    /// Runs the step once and waits for its end.
    ///
    /// # Errors
    /// It failed; the message has its stderr.
    pub fn step(&mut self) -> Result<()> {
        self.steps += 1;
        self.stdin.write_all(b"\n")?;
        self.wait("@done", self.steps)
    }

    fn wait(&mut self, mark: &str, times: usize) -> Result<()> {
        wait_for("the python program", Duration::from_secs(60), || {
            let out = String::from_utf8_lossy(&self.child.stdout()).into_owned();
            if out.matches(mark).count() >= times {
                return Ok(Some(true));
            }
            Ok((!self.child.is_running()?).then_some(false))
        })?
        .then_some(())
        .with_context(|| {
            let bytes = self.child.stderr();
            format!("python ended: {}", String::from_utf8_lossy(&bytes))
        })
    }
}
