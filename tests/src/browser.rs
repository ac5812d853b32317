//! Real Chromium, driven by a script of `tests/browser` with Playwright's library.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result};

use crate::env::{Env, repository};

/// Runs a script of `tests/browser` with these variables; it fails if the page or its console reported an error.
///
/// # Errors
/// The script failed; the message has what it printed.
pub fn run_spec(env: &Env, script: &str, variables: &[(&str, &str)]) -> Result<()> {
    let mut command = env.command("node");
    command
        .arg(repository().join("tests/browser").join(script))
        .env("ARTIFACTS", artifacts()?)
        .env("CHROMIUM", "/usr/bin/chromium")
        .env("PROFILE", env.path("chromium"))
        .envs(variables.iter().copied());
    let output = env
        .run_for(&mut command, Duration::from_secs(240))
        .context("install node 20.19 or newer")?;
    output.success()?;
    Ok(())
}

/// Returns the folder for pictures, which CI keeps.
fn artifacts() -> Result<PathBuf> {
    let folder = repository().join("artifacts");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}
