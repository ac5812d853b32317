//! What a line means: a command for the shell, or one of ours, which start with a colon.
//!
//! Called by the loop in `sh`. Not here: doing it (`console`).

use hpcclient_protocol::{ByteString, RunId};

/// Our own commands and what they do.
pub(super) const COMMANDS: [(&str, &str); 5] = [
    (":runs", "the newest runs, numbered"),
    (
        ":attach N|ID",
        "a run's output from its start; Ctrl-C leaves it running",
    ),
    (":kill N|ID", "kill every process of a run"),
    (":help", "this text"),
    (":quit", "leave; Ctrl-D and `exit` do it too"),
];

/// A line that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Nothing to do.
    Empty,
    /// For the session's shell.
    Shell(ByteString),
    /// List runs.
    Runs,
    /// Show a run.
    Attach(Which),
    /// Kill a run.
    Kill(Which),
    /// Say what can be typed.
    Help,
    /// Leave, with this code or the last one's.
    Quit(Option<u8>),
}

/// A run as a person names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// By its number in the last list.
    Number(usize),
    /// By its id.
    Id(RunId),
}

impl Line {
    /// Understands a line; the error is for the person.
    pub(super) fn parse(bytes: Vec<u8>) -> Result<Self, String> {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            return Ok(Self::Empty);
        }
        let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let rest = rest.trim();
        // `exit` ends only the line in a session; who types it here wants to leave.
        if matches!(word, "exit" | "logout") && !rest.contains(|c: char| !c.is_ascii_digit()) {
            return Ok(Self::Quit(rest.parse().ok()));
        }
        // A colon alone, or before something else than a letter, is the shell's own.
        let name = word.strip_prefix(':').unwrap_or_default();
        if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return Ok(Self::Shell(bytes.into()));
        }
        match name {
            "runs" => Ok(Self::Runs),
            "attach" => Which::parse(rest).map(Self::Attach),
            "kill" => Which::parse(rest).map(Self::Kill),
            "help" => Ok(Self::Help),
            "quit" => Ok(Self::Quit(None)),
            _ => Err(format!("there is no `{word}`; `:help` lists what there is")),
        }
    }
}

impl Which {
    fn parse(text: &str) -> Result<Self, String> {
        let number = text.parse().ok().filter(|number| *number > 0);
        number
            .map(Self::Number)
            .or_else(|| text.parse().ok().map(Self::Id))
            .ok_or_else(|| "name a run by its number in `:runs` or by its id".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Line, String> {
        Line::parse(text.as_bytes().to_vec())
    }

    #[test]
    fn our_commands_are_told_from_the_shells() {
        assert_eq!(parse("  "), Ok(Line::Empty));
        assert_eq!(parse("# note"), Ok(Line::Empty));
        assert_eq!(parse(": > file"), Ok(Line::Shell(": > file".into())));
        assert_eq!(parse("exit; ls"), Ok(Line::Shell("exit; ls".into())));
        assert_eq!(parse("exit 3"), Ok(Line::Quit(Some(3))));
        assert_eq!(parse(":quit"), Ok(Line::Quit(None)));
        assert_eq!(parse(":attach 2"), Ok(Line::Attach(Which::Number(2))));
        let id = RunId::random();
        assert_eq!(parse(&format!(":kill {id}")), Ok(Line::Kill(Which::Id(id))));
        assert!(parse(":attach").unwrap_err().contains("`:runs`"));
        assert!(parse(":kill 0").is_err());
        assert!(parse(":wat").unwrap_err().contains("`:help`"));
    }

    #[test]
    fn a_line_that_is_not_utf8_stays_as_it_is() {
        let bytes = b"ls n\xe9".to_vec();
        assert_eq!(Line::parse(bytes.clone()), Ok(Line::Shell(bytes.into())));
    }
}
