//! Running programs from the repository's root, with their words on failure.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, bail};

/// Prints a line for the user, on stderr: stdout belongs to the task's result.
#[expect(clippy::print_stderr, reason = "a task talks to its user")]
pub(crate) fn say(line: &str) {
    eprintln!("{line}");
}

/// Returns the repository's root.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// Returns a path under the repository's root.
pub(crate) fn path(relative: &str) -> PathBuf {
    root().join(relative)
}

/// Returns a command that starts in the repository's root.
pub(crate) fn command(program: impl AsRef<OsStr>, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(root());
    command
}

/// Returns a command for the cargo that runs this task.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    command(cargo, args)
}

/// Returns a command for a program of the virtual environment, which comes first on its `PATH`.
pub(crate) fn venv(program: &str, args: &[&str]) -> Result<Command> {
    let folder = path(".venv/bin");
    let mut command = command(folder.join(program), args);
    let inherited = std::env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(folder).chain(std::env::split_paths(&inherited));
    command
        .env("PATH", std::env::join_paths(all)?)
        .env("VIRTUAL_ENV", path(".venv"));
    Ok(command)
}

/// Runs a command with the user's terminal.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", show(command)))?;
    if !status.success() {
        bail!("{} failed: {status}", show(command));
    }
    Ok(())
}

/// Runs a command and returns its stdout; the error has both streams.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", show(command)))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("{} failed: {}\n{text}{error}", show(command), output.status);
    }
    Ok(text)
}

/// Does a step with a line before it and its time after it.
pub(crate) fn step<T>(what: &str, action: impl FnOnce() -> Result<T>) -> Result<T> {
    say(&format!("· {what}"));
    let start = Instant::now();
    let result = action().with_context(|| format!("{what} failed"))?;
    say(&format!("  done in {:.1} s", start.elapsed().as_secs_f32()));
    Ok(result)
}

fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.take(5).map(OsStr::to_string_lossy).collect();
    format!("`{}`", words.join(" "))
}
