//! Where lines come from, and when one is whole.
//!
//! Called by the loop in `sh`. A line whose quotes, blocks or here-documents are open is continued;
//! bash says so (`bash -n` reads and runs nothing), and without bash each line is whole.

use std::{
    io::{BufRead, Read as _, StdinLock},
    os::unix::ffi::OsStrExt as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};

use super::editor::Editor;

/// More text than this in one command is a mistake.
const MAX_TEXT: u64 = 1 << 20;

/// The source of lines.
pub(super) enum Input {
    /// A person.
    Terminal(Box<Editor>),
    /// A script.
    Pipe(StdinLock<'static>),
}

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// One command, perhaps of several lines.
    Text(Vec<u8>),
    /// The person dropped it.
    Dropped,
    /// Nothing follows.
    End,
}

impl Input {
    /// Reads one command.
    pub(super) fn read(&mut self, prompt: &str) -> Result<Read> {
        let mut text = match self.read_line(prompt)? {
            Read::Text(text) => text,
            other => return Ok(other),
        };
        while is_open(&text) {
            match self.read_line("> ")? {
                Read::Text(more) => {
                    text.push(b'\n');
                    text.extend(more);
                }
                Read::Dropped => return Ok(Read::Dropped),
                // The shell says better than we can what is missing.
                Read::End => break,
            }
        }
        if let Self::Terminal(editor) = self {
            editor.remember(&String::from_utf8_lossy(&text));
        }
        Ok(Read::Text(text))
    }

    fn read_line(&mut self, prompt: &str) -> Result<Read> {
        match self {
            Self::Terminal(editor) => editor.read(prompt),
            Self::Pipe(lines) => read_piped(lines),
        }
    }
}

fn read_piped(lines: &mut impl BufRead) -> Result<Read> {
    let mut text = vec![];
    let count = lines
        .take(MAX_TEXT)
        .read_until(b'\n', &mut text)
        .context("cannot read stdin")?;
    if count == 0 {
        return Ok(Read::End);
    }
    if text.last() == Some(&b'\n') {
        text.pop();
    }
    Ok(Read::Text(text))
}

/// Returns whether the shell would read on.
fn is_open(text: &[u8]) -> bool {
    let blank = text.iter().all(u8::is_ascii_whitespace);
    if blank || text.starts_with(b":") || text.contains(&0) || text.len() as u64 > MAX_TEXT {
        return false;
    }
    let trailing = text.iter().rev().take_while(|byte| **byte == b'\\').count();
    if trailing % 2 == 1 {
        return true;
    }
    let checked = Command::new("bash")
        .arg("-nc")
        .arg(std::ffi::OsStr::from_bytes(text))
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output();
    let said = checked.map(|output| output.stderr).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let marks = [
        "unexpected end of file",
        "unexpected EOF while looking for",
        "delimited by end-of-file",
    ];
    marks.iter().any(|mark| said.contains(mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_line_is_continued() {
        for open in [
            "echo 'a",
            "for i in 1 2; do",
            "cat <<E\nx",
            "echo a \\",
            "f() {",
        ] {
            assert!(is_open(open.as_bytes()), "{open}");
        }
        for whole in [
            "",
            "ls",
            "echo 'a'",
            "cat <<E\nx\nE",
            "echo a\\\\",
            "fi",
            ":runs",
        ] {
            assert!(!is_open(whole.as_bytes()), "{whole}");
        }
    }

    #[test]
    fn a_pipe_is_read_line_by_line() {
        let mut lines: &[u8] = b"one\n\nthr\xe9e";
        let mut next = || read_piped(&mut lines).unwrap();
        assert_eq!(next(), Read::Text(b"one".to_vec()));
        assert_eq!(next(), Read::Text(vec![]));
        assert_eq!(next(), Read::Text(b"thr\xe9e".to_vec()));
        assert_eq!(next(), Read::End);
    }
}
