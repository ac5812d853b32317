//! The node's own `grep` as a child with limits, and what it says.
//!
//! Called by `search`. The pattern is one argument and never seen by a shell.
//! Invariants: no line is kept longer than [`MAX_TEXT`]; the child dies with the future that waits for it.
//! Not here: what is searched (`search`).

use std::{
    ffi::OsStr,
    io::{self, PipeWriter},
    os::unix::ffi::OsStrExt,
    process::Stdio,
};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, ChildStdout, Command},
};

use super::Question;

/// How much of a line that matches is kept.
pub(super) const MAX_TEXT: usize = 4096;
/// The longest thing that stands before a line: its number and its offset.
const MAX_PREFIX: usize = 48;
/// How much of what it complains about is kept.
const MAX_WORDS: u64 = 2048;

/// A grep that runs.
#[derive(Debug)]
pub(super) struct Grep {
    child: Child,
    lines: BufReader<ChildStdout>,
}

/// A line that matches.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Match {
    /// Its number, from 1.
    pub(super) line: u64,
    /// The offset of its first byte in what was searched.
    pub(super) offset: u64,
    /// The line without its end, cut at [`MAX_TEXT`].
    pub(super) text: Vec<u8>,
}

/// How it ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It saw everything.
    Well,
    /// A line did not fit its memory.
    NoMemory,
    /// It refused, with these words.
    Refused(String),
}

impl Grep {
    /// Starts it with as much memory as `memory` bytes; what is written to the pipe is searched.
    pub(super) fn start(question: &Question, memory: u64) -> io::Result<(Self, PipeWriter)> {
        let (reader, writer) = io::pipe()?;
        let mut command = Command::new("grep");
        // By lines, so that what it found is known also when it is ended.
        command.args(["-a", "-n", "-b", "--line-buffered"]);
        command.arg(if question.fixed { "-F" } else { "-E" });
        if question.ignore_case {
            command.arg("-i");
        }
        command.arg("-m").arg((question.limit + 1).to_string());
        command.arg("-e").arg(OsStr::from_bytes(&question.pattern));
        let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
        let mut child = command
            .env_clear()
            .env("PATH", path)
            .env("LC_ALL", "C.UTF-8")
            .stdin(reader)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        // It reads nothing before something is written, so the limit holds before it needs memory.
        let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let limit = Rlimit {
            current: Some(memory),
            maximum: Some(memory),
        };
        prlimit(pid, Resource::As, limit)?;
        let lines = child.stdout.take().map(BufReader::new);
        let lines = lines.ok_or_else(|| io::Error::other("grep has no output"))?;
        Ok((Self { child, lines }, writer))
    }

    /// Returns the next line that matches.
    pub(super) async fn next(&mut self) -> io::Result<Option<Match>> {
        let mut line = Vec::new();
        loop {
            let block = self.lines.fill_buf().await?;
            if block.is_empty() {
                return Ok(parse(&line));
            }
            let end = block.iter().position(|byte| *byte == b'\n');
            let part = block.get(..end.unwrap_or(block.len())).unwrap_or_default();
            let room = (MAX_PREFIX + MAX_TEXT).saturating_sub(line.len());
            line.extend(part.iter().take(room));
            let used = part.len() + usize::from(end.is_some());
            self.lines.consume(used);
            if end.is_some() {
                return Ok(parse(&line));
            }
        }
    }

    /// Returns how it ended, after its last line.
    pub(super) async fn end(mut self) -> io::Result<Ended> {
        let mut words = Vec::new();
        if let Some(stderr) = self.child.stderr.take() {
            stderr.take(MAX_WORDS).read_to_end(&mut words).await?;
        }
        let status = self.child.wait().await?;
        let words = String::from_utf8_lossy(&words).trim().to_owned();
        Ok(match status.code() {
            Some(0 | 1) => Ended::Well,
            Some(_) if !words.contains("memory exhausted") => Ended::Refused(words),
            _ => Ended::NoMemory,
        })
    }
}

/// Reads `line:offset:text`.
fn parse(line: &[u8]) -> Option<Match> {
    let mut parts = line.splitn(3, |byte| *byte == b':');
    let mut number = || std::str::from_utf8(parts.next()?).ok()?.parse().ok();
    let (line, offset) = (number()?, number()?);
    let text = parts.next()?;
    let text = text.get(..MAX_TEXT).unwrap_or(text).to_vec();
    Some(Match { line, offset, text })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_grep_prints_is_read() {
        let found = parse(b"12:345:a:b").unwrap();
        assert_eq!(
            (found.line, found.offset, &found.text[..]),
            (12, 345, &b"a:b"[..])
        );
        assert_eq!(parse(b"Binary file (standard input) matches"), None);
        let long = [b"1:0:".to_vec(), vec![b'x'; 9000]].concat();
        assert_eq!(parse(&long).unwrap().text.len(), MAX_TEXT);
    }

    proptest! {
        #[test]
        fn whatever_it_prints_is_read_without_panic(line in prop::collection::vec(any::<u8>(), 0..60)) {
            drop(parse(&line));
        }
    }
}
