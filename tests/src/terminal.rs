//! `hpcclient` in a terminal that `script` makes, as a person has it.
//!
//! Called by the tests of consoles. What it shows is what came to the terminal, with its escape sequences.

use std::{
    io::Write,
    process::{ChildStdin, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};

use crate::{Child, Env, process::Output, wait_for};

/// A terminal of 100 by 30 in which `hpcclient` runs.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    keys: ChildStdin,
}

impl Terminal {
    /// Starts `hpcclient` with these arguments, which a shell reads; `name` is what its logs are called.
    ///
    /// # Errors
    /// `script` or `hpcclient` is missing; the message names it.
    pub fn start(env: &Env, name: &str, args: &str) -> Result<Self> {
        let plain = env.hpcclient(&[])?;
        let program = plain.get_program().to_owned();
        let line = format!("stty cols 100 rows 30; {} {args}", program.display());
        let mut command = Command::new("script");
        command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        command.env_clear();
        for (key, value) in plain.get_envs() {
            command.envs(value.map(|value| (key, value)));
        }
        command.env("SHELL", "/bin/sh").stdin(Stdio::piped());
        let mut child = Child::start(&mut command, &env.logs(), name)?;
        let keys = child.take_stdin().context("no pipe")?;
        Ok(Self { child, keys })
    }

    /// Presses keys.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn types(&mut self, keys: &[u8]) -> Result<()> {
        self.keys.write_all(keys)?;
        Ok(self.keys.flush()?)
    }

    /// Returns all that was ever shown.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.child.stdout()).into_owned()
    }

    /// Waits until a text was shown.
    ///
    /// # Errors
    /// It was not within half a minute; the message has what was.
    pub fn shows(&self, text: &str) -> Result<()> {
        wait_for(text, PATIENCE, || {
            Ok(self.text().contains(text).then_some(()))
        })
        .with_context(|| self.text())
    }

    /// Waits for the end of `hpcclient`.
    ///
    /// # Errors
    /// It does not end within half a minute.
    pub fn finish(self) -> Result<Output> {
        self.child.finish(PATIENCE)
    }
}

const PATIENCE: Duration = Duration::from_secs(30);
