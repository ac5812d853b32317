//! The line editor: keys, history in a file, completion of paths and of our commands.
//!
//! Called by `input` for a terminal. Invariants: the history file is 0600 and lines are added to it
//! one by one, so two shells at the same time lose none; a history that cannot be written is no
//! reason not to work.

use std::{
    fs,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use rustyline::{
    CompletionType, Config, Context, Helper,
    completion::{Completer, FilenameCompleter, Pair},
    error::ReadlineError,
    highlight::Highlighter,
    hint::Hinter,
    history::FileHistory,
    validate::Validator,
};

use super::{input::Read, line::COMMANDS};

/// How many lines are remembered.
const HISTORY: usize = 10_000;

/// The editor of one terminal.
pub(super) struct Editor {
    inner: rustyline::Editor<Completion, FileHistory>,
    history: PathBuf,
}

impl Editor {
    /// Takes the terminal and the history.
    pub(super) fn open(history: &Path) -> Result<Self> {
        let config = Config::builder()
            .max_history_size(HISTORY)
            .and_then(|config| config.history_ignore_dups(true))
            .context("cannot set up the history")?
            .history_ignore_space(true)
            .completion_type(CompletionType::List)
            .build();
        let mut inner =
            rustyline::Editor::with_config(config).context("cannot use this terminal")?;
        inner.set_helper(Some(Completion {
            paths: FilenameCompleter::new(),
        }));
        // Made before it is written, so that it is never open to others.
        let made = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(history);
        drop(made);
        // There is none the first time.
        let _ = inner.load_history(history);
        let history = history.to_owned();
        Ok(Self { inner, history })
    }

    /// Lets the person edit one line.
    pub(super) fn read(&mut self, prompt: &str) -> Result<Read> {
        match self.inner.readline(prompt) {
            Ok(text) => Ok(Read::Text(text.into_bytes())),
            Err(ReadlineError::Interrupted) => Ok(Read::Dropped),
            Err(ReadlineError::Eof) => Ok(Read::End),
            Err(error) => Err(error).context("cannot read from the terminal"),
        }
    }

    /// Adds a command to the history.
    pub(super) fn remember(&mut self, text: &str) {
        if matches!(self.inner.add_history_entry(text), Ok(true)) {
            let _ = self.inner.append_history(&self.history);
        }
    }
}

struct Completion {
    paths: FilenameCompleter,
}

impl Completer for Completion {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        pos: usize,
        _context: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        match our_commands(line.get(..pos).unwrap_or(line)) {
            Some(found) => Ok((0, found)),
            None => self.paths.complete_path(line, pos),
        }
    }
}

impl Helper for Completion {}

impl Highlighter for Completion {}

impl Hinter for Completion {
    type Hint = String;
}

// Whether a line is whole is asked of bash, by `input`.
impl Validator for Completion {}

/// Returns the commands of ours that start so, if this is the start of one.
fn our_commands(typed: &str) -> Option<Vec<Pair>> {
    if !typed.starts_with(':') || typed.contains(char::is_whitespace) {
        return None;
    }
    let found = COMMANDS.iter().filter_map(|(usage, _)| {
        let name = usage.split(' ').next()?;
        let space = if usage.len() > name.len() { " " } else { "" };
        name.starts_with(typed).then(|| Pair {
            display: (*usage).to_owned(),
            replacement: format!("{name}{space}"),
        })
    });
    Some(found.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_commands_complete_at_the_start_of_a_line() {
        let complete = |typed| {
            let found = our_commands(typed)?.into_iter();
            Some(found.map(|pair| pair.replacement).collect::<Vec<_>>())
        };
        assert_eq!(complete(":a"), Some(vec![":attach ".to_owned()]));
        assert_eq!(complete(":").map(|all| all.len()), Some(COMMANDS.len()));
        assert_eq!(complete(":x"), Some(vec![]));
        assert_eq!(complete("ls :a"), None);
        assert_eq!(complete(":attach 1"), None);
    }
}
