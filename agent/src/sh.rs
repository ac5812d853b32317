//! `hpcagent sh`: a command line against the running agent, for a person on the node or a script.
//!
//! Called by `main`. Each line runs in one session of its own, as a notebook's cells do, so it is in
//! the store and other viewers see it. Lines come from the terminal with history and completion, or
//! from a pipe, one after another.
//!
//! Invariants: stdout gets what commands write to stdout and nothing else of ours; what this program
//! says itself goes to stderr; the session's shell ends with this program, the runs stay in the
//! store.
//! Not here: the commands' stdin, which is empty. A program that asks needs a console.

mod client;
mod console;
mod editor;
mod input;
mod line;
mod show;

use std::{
    ffi::OsString,
    io::{self, IsTerminal as _},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};

use crate::place::Place;
use client::Client;
use console::Console;
use editor::Editor;
use input::{Input, Read};
use line::Line;

/// Reads lines and runs them until the input ends; the exit code is the last line's.
#[must_use]
pub fn main(args: Vec<OsString>) -> ExitCode {
    if let Some(argument) = args.into_iter().next() {
        let argument = show::visible(&argument.to_string_lossy());
        show::say(&format!("error: `sh` has no arguments: {argument}"));
        return ExitCode::from(2);
    }
    run().unwrap_or_else(|error| {
        let causes = error.chain().skip(1);
        let text = causes.fold(format!("error: {error}"), |text, cause| {
            text + &format!("\n  caused by: {cause}")
        });
        show::say(&text);
        ExitCode::FAILURE
    })
}

fn run() -> Result<ExitCode> {
    let place = Place::resolve()?;
    let history = place.history();
    let (home, host) = (place.home().to_owned(), place.host().to_owned());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let client = Client::new(place);
    let mut console = runtime.block_on(Console::open(client))?;
    let interactive = io::stdin().is_terminal();
    let mut input = if interactive {
        Input::Terminal(Box::new(Editor::open(&history)?))
    } else {
        Input::Pipe(io::stdin().lock())
    };
    let result = loop {
        let directory = console.directory().map_or(home.as_path(), Path::new);
        let prompt = prompt(&host, directory, &home);
        let text = match input.read(&prompt) {
            Ok(Read::Text(text)) => text,
            // Ctrl-C at the prompt drops what was typed.
            Ok(Read::Dropped) => continue,
            Ok(Read::End) => break Ok(()),
            Err(error) => break Err(error),
        };
        let line = match Line::parse(text) {
            Ok(line) => line,
            Err(problem) => {
                console.complain(&problem);
                continue;
            }
        };
        if let Line::Quit(code) = line {
            console.leave_with(code);
            break Ok(());
        }
        match runtime.block_on(console.take(line)) {
            Ok(()) if console.was_interrupted() && !interactive => break Ok(()),
            Ok(()) => {}
            Err(error) if is_broken_pipe(&error) => break Ok(()),
            Err(error) => console.complain(&format!("{error:#}")),
        }
        if let Some(directory) = console.directory() {
            // Completion looks where the session's shell is.
            let _ = std::env::set_current_dir(directory);
        }
    };
    runtime.block_on(console.close());
    result.map(|()| ExitCode::from(console.exit_code()))
}

/// Returns whether nobody reads our stdout any more; then there is nothing more to do.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Returns `host:directory$ `, with `~` for the home directory.
fn prompt(host: &str, directory: &Path, home: &Path) -> String {
    let shown = match directory.strip_prefix(home) {
        Ok(rest) if rest.as_os_str().is_empty() => PathBuf::from("~"),
        Ok(rest) => Path::new("~").join(rest),
        Err(_) => directory.to_owned(),
    };
    let shown = show::visible(&String::from_utf8_lossy(shown.as_os_str().as_bytes()));
    format!("{host}:{shown}$ ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prompt_names_the_host_and_the_directory() {
        let at = |directory| prompt("login01", Path::new(directory), Path::new("/home/alice"));
        assert_eq!(at("/home/alice"), "login01:~$ ");
        assert_eq!(at("/home/alice/x y"), "login01:~/x y$ ");
        assert_eq!(at("/home/alice2"), "login01:/home/alice2$ ");
        assert_eq!(at("/tmp/\u{1b}[2J"), "login01:/tmp/\\u{1b}[2J$ ");
    }
}
