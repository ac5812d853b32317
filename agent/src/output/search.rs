//! Searches a run's stored output with the node's `grep`.
//!
//! Called by `http/search`. A blocking thread feeds the bytes to the child, the answer comes back line by line.
//! Invariants: memory is the hits alone, at most [`MAX_BYTES`]; every limit that ended a search is told in `cut`; bytes
//! that are gone end a line and are never joined over; when the asker goes away the child is killed.

use std::{
    io::{self, PipeWriter, Write as _},
    time::Duration,
};

use hpcclient_protocol::{
    ApiError, ErrorCode, Frame, Run, StreamName,
    output::{SearchHit, SearchResult},
    run::StreamSizes,
};
use tokio::time::{Instant, timeout_at};

use super::{
    grep::{Ended, Grep},
    plain,
};
use crate::store::{RunDir, StoreError};

/// What is looked for.
#[derive(Clone, Debug)]
pub struct Question {
    /// The pattern, without NUL bytes: an extended regular expression, or the text itself.
    pub pattern: Vec<u8>,
    /// Whether it is text and no expression.
    pub fixed: bool,
    /// Whether `a` is `A`.
    pub ignore_case: bool,
    /// In which stream; without it in each that the run has.
    pub stream: Option<StreamName>,
    /// How many lines are enough.
    pub limit: usize,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// `grep` does not understand the pattern.
    #[error("the pattern cannot be searched for: {0}")]
    Pattern(String),
    /// `grep` cannot be run.
    #[error("cannot run grep on this node")]
    Grep(#[from] io::Error),
    /// The output cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The agent is stopping.
    #[error("the agent is stopping")]
    Stopping,
}

impl SearchError {
    /// Returns the error in the words of the API.
    #[must_use]
    pub fn to_api(&self) -> ApiError {
        match self {
            Self::Pattern(_) => ApiError::new(ErrorCode::BadRequest, self.to_string())
                .hint("with `fixed=true` the pattern is plain text"),
            Self::Grep(source) => {
                ApiError::new(ErrorCode::Unavailable, self.to_string()).caused_by(source)
            }
            Self::Store(error) => error.to_api(),
            Self::Stopping => ApiError::new(ErrorCode::Unavailable, self.to_string()),
        }
    }
}

/// How far a search goes.
#[derive(Clone, Copy, Debug)]
struct Limits {
    time: Duration,
    /// Of the child's address space.
    memory: u64,
}

const LIMITS: Limits = Limits {
    time: Duration::from_secs(20),
    memory: 256 << 20,
};
/// The most bytes of all lines in an answer.
const MAX_BYTES: usize = 1 << 20;
/// The most places at which bytes are gone that are kept in mind.
const MAX_GAPS: usize = 10_000;
/// How much is fed at a time.
const PIECE: usize = 64 * 1024;

/// Returns the lines that match. `guard` is held until the search is over, also when nobody waits for it any more.
///
/// # Errors
/// The pattern is none, `grep` is not there, or the output cannot be read.
pub async fn search(
    dir: &RunDir,
    run: &Run,
    question: Question,
    guard: impl Clone + Send + 'static,
) -> Result<SearchResult, SearchError> {
    search_within(dir, run, question, guard, LIMITS).await
}

async fn search_within(
    dir: &RunDir,
    run: &Run,
    mut question: Question,
    guard: impl Clone + Send + 'static,
    limits: Limits,
) -> Result<SearchResult, SearchError> {
    let until = Instant::now() + limits.time;
    let mut found = SearchResult::default();
    let limit = question.limit;
    for stream in [StreamName::Stdout, StreamName::Stderr, StreamName::Tty] {
        let is_asked = question.stream.is_none_or(|asked| asked == stream);
        if !is_asked || (size_of(&run.sizes, stream) == 0 && !is_only(run, &question, stream)) {
            continue;
        }
        let (grep, writer) = Grep::start(&question, limits.memory)?;
        let source = Source {
            dir: dir.clone(),
            stream,
            end: size_of(&run.sizes, stream),
            grows: !run.live && !run.state.is_final(),
        };
        let held = guard.clone();
        let feeding = tokio::task::spawn_blocking(move || {
            let fed = source.feed(writer);
            drop(held);
            fed
        });
        let mut hits = Vec::new();
        let collected = timeout_at(until, collect(grep, question.limit, &mut hits)).await;
        // The child is gone by now, so whoever feeds it ends too.
        let fed = feeding.await.map_err(|_| SearchError::Stopping)??;
        found.cut = match collected {
            Ok(cut) => cut?,
            Err(_) => Some(format!(
                "the search took longer than {} s",
                limits.time.as_secs()
            )),
        };
        if found.cut.is_none() && fed.is_torn {
            found.cut = Some("too many parts of the output are gone".to_owned());
        }
        let dir = dir.clone();
        let located = tokio::task::spawn_blocking(move || fed.locate(&dir, stream, hits)).await;
        found
            .hits
            .extend(located.map_err(|_| SearchError::Stopping)??);
        question.limit = limit.saturating_sub(found.hits.len());
        if found.cut.is_some() {
            break;
        }
    }
    Ok(found)
}

/// Returns whether a stream is searched though it is empty, so that a bad pattern is always told.
fn is_only(run: &Run, question: &Question, stream: StreamName) -> bool {
    let main = match (question.stream, run.spec.pty) {
        (Some(stream), _) => stream,
        (None, Some(_)) => StreamName::Tty,
        (None, None) => StreamName::Stdout,
    };
    stream == main
}

const fn size_of(sizes: &StreamSizes, stream: StreamName) -> u64 {
    match stream {
        StreamName::Stdout => sizes.stdout,
        StreamName::Stderr => sizes.stderr,
        StreamName::Tty => sizes.tty,
    }
}

/// Reads what the child finds; returns what ended it early.
async fn collect(
    mut grep: Grep,
    limit: usize,
    hits: &mut Vec<super::grep::Match>,
) -> Result<Option<String>, SearchError> {
    let mut bytes = 0;
    while let Some(hit) = grep.next().await? {
        if hits.len() == limit {
            return Ok(Some("more lines match than were asked for".to_owned()));
        }
        bytes += hit.text.len();
        if bytes > MAX_BYTES {
            return Ok(Some(format!(
                "the lines that match are over {MAX_BYTES} bytes"
            )));
        }
        hits.push(hit);
    }
    match grep.end().await? {
        Ended::Well => Ok(None),
        Ended::NoMemory => Ok(Some("a line is too long to be searched".to_owned())),
        Ended::Refused(words) => Err(SearchError::Pattern(words)),
    }
}

/// What is fed to the child.
struct Source {
    dir: RunDir,
    stream: StreamName,
    end: u64,
    grows: bool,
}

/// Which of the child's offsets is which of the stream's.
#[derive(Debug, Default)]
struct Fed {
    /// From the first number on, the child's offsets are so far from the stream's; in order.
    jumps: Vec<(u64, u64)>,
    is_torn: bool,
}

impl Source {
    fn feed(self, mut writer: PipeWriter) -> Result<Fed, StoreError> {
        let mut reader = self.dir.reader_of(self.stream, 0)?;
        if self.grows {
            reader = reader.of_growing();
        }
        let (mut fed, mut count, mut last) = (Fed::default(), 0_u64, b'\n');
        while let Some(frame) = reader.next(PIECE)? {
            match frame {
                Frame::Data { offset, bytes, .. } => {
                    // What comes while it is searched is not of this search.
                    if offset >= self.end || writer.write_all(&bytes).is_err() {
                        break;
                    }
                    count += bytes.len() as u64;
                    last = bytes.last().copied().unwrap_or(last);
                }
                Frame::Gap { to, .. } => {
                    if last != b'\n' {
                        if writer.write_all(b"\n").is_err() {
                            break;
                        }
                        (count, last) = (count + 1, b'\n');
                    }
                    fed.jumps.pop_if(|(at, _)| *at == count);
                    fed.jumps.push((count, to));
                    if fed.jumps.len() > MAX_GAPS {
                        fed.is_torn = true;
                        break;
                    }
                }
                _ => {}
            }
        }
        Ok(fed)
    }
}

impl Fed {
    /// Returns the stream's offset of one of the child's.
    fn offset(&self, at: u64) -> u64 {
        let after = self.jumps.partition_point(|(from, _)| *from <= at);
        match after.checked_sub(1).and_then(|n| self.jumps.get(n)) {
            Some((from, to)) => to + (at - from),
            None => at,
        }
    }

    /// Says where in the stream the matches are, and when they were written.
    fn locate(
        &self,
        dir: &RunDir,
        stream: StreamName,
        matches: Vec<super::grep::Match>,
    ) -> Result<Vec<SearchHit>, StoreError> {
        let offsets: Vec<_> = matches.iter().map(|hit| self.offset(hit.offset)).collect();
        let times = dir.times(stream, &offsets)?;
        let times = times.into_iter().chain(std::iter::repeat(0));
        let hits = matches.into_iter().zip(offsets).zip(times);
        Ok(hits
            .map(|((hit, offset), t_ms)| SearchHit {
                stream,
                line: hit.line,
                offset,
                t_ms,
                // A console's line is for people, and its escape sequences are not.
                text: match stream {
                    StreamName::Tty => plain::line(&hit.text).into(),
                    _ => hit.text.into(),
                },
            })
            .collect())
    }
}
