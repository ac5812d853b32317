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
        let feeding = crate::tasks::blocking(move || {
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
        let located = crate::tasks::blocking(move || fed.locate(&dir, stream, hits)).await;
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

#[cfg(test)]
mod tests {
    use hpcclient_protocol::{Command, RunId, RunSpec, RunState};
    use proptest::prelude::*;

    use super::*;
    use crate::store::{RunWriter, Store};

    fn made(pieces: &[(StreamName, &[u8])]) -> (tempfile::TempDir, RunDir) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("runs")).unwrap();
        let spec = RunSpec::new(Command::Shell("true".into()));
        let dir = store.create(RunId::random(), &spec, 7, "node").unwrap();
        let mut writer = RunWriter::open(&dir).unwrap();
        for (stream, bytes) in pieces {
            for bytes in bytes.chunks(4000) {
                writer.append(*stream, bytes).unwrap();
                // A test need not wait for the disk.
                drop(writer.take_unsynced(true));
            }
        }
        (folder, dir)
    }

    fn asked(pattern: &str) -> Question {
        Question {
            pattern: pattern.as_bytes().to_vec(),
            fixed: false,
            ignore_case: false,
            stream: None,
            limit: 100,
        }
    }

    fn found(
        dir: &RunDir,
        question: Question,
        limits: Limits,
    ) -> Result<SearchResult, SearchError> {
        let mut run = dir.load().unwrap();
        run.state = RunState::Exited;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(search_within(dir, &run, question, (), limits))
    }

    fn places(result: &SearchResult) -> Vec<(StreamName, u64, u64, String)> {
        let hits = result.hits.iter();
        hits.map(|hit| (hit.stream, hit.line, hit.offset, hit.text.to_lossy()))
            .collect()
    }

    const OUT: StreamName = StreamName::Stdout;

    #[test]
    fn lines_are_found_in_all_streams_with_their_places_and_times() {
        let before = crate::clock::now_ms();
        let (_folder, dir) = made(&[
            (OUT, b"first\nan Err"),
            (StreamName::Stderr, b"error: no -e\n"),
            (OUT, b"or here\nlast error"),
        ]);
        let result = found(&dir, asked("[Ee]rror"), LIMITS).unwrap();
        assert_eq!(
            places(&result),
            [
                (OUT, 2, 6, "an Error here".into()),
                (OUT, 3, 20, "last error".into()),
                (StreamName::Stderr, 1, 0, "error: no -e".into()),
            ]
        );
        assert!(result.cut.is_none() && result.hits.iter().all(|hit| hit.t_ms >= before));
        let fixed = Question {
            fixed: true,
            ignore_case: true,
            ..asked("ERROR: NO -E")
        };
        assert_eq!(places(&found(&dir, fixed, LIMITS).unwrap()).len(), 1);
        let one = Question {
            limit: 1,
            ..asked("error|Error")
        };
        let result = found(&dir, one, LIMITS).unwrap();
        assert_eq!((result.hits.len(), result.cut.is_some()), (1, true));
        assert_eq!(
            places(&found(&dir, asked("-e"), LIMITS).unwrap()).len(),
            1,
            "no option of grep"
        );
        assert_eq!(
            found(&dir, asked("nowhere"), LIMITS).unwrap(),
            SearchResult::default()
        );
    }

    #[test]
    fn a_bad_pattern_is_refused_in_the_words_of_grep() {
        for pieces in [vec![], vec![(OUT, &b"text"[..])]] {
            let (_folder, dir) = made(&pieces);
            let refused = found(&dir, asked("a(b"), LIMITS).unwrap_err().to_api();
            assert_eq!(refused.code, ErrorCode::BadRequest);
            assert!(refused.message.contains("Unmatched ( or \\("), "{refused}");
        }
    }

    #[test]
    fn what_is_too_much_is_told() {
        let long = vec![b'x'; 4 << 20];
        let (_folder, dir) = made(&[(OUT, b"yes\n"), (OUT, &long), (OUT, b"\nyes\n")]);
        let limits = Limits {
            memory: 10 << 20,
            ..LIMITS
        };
        let result = found(&dir, asked("yes"), limits).unwrap();
        assert_eq!(
            result.cut.as_deref(),
            Some("a line is too long to be searched")
        );
        // With more room the line is passed, and when it matches it is cut.
        let result = found(&dir, asked("^xxx|yes"), LIMITS).unwrap();
        let lengths: Vec<_> = result
            .hits
            .iter()
            .map(|hit| hit.text.as_bytes().len())
            .collect();
        assert_eq!((lengths, result.cut), (vec![3, 4096, 3], None));
        let limits = Limits {
            time: Duration::ZERO,
            ..LIMITS
        };
        let result = found(&dir, asked("yes"), limits).unwrap();
        assert!(result.cut.unwrap().contains("took longer"));
    }

    #[test]
    fn parts_that_are_gone_end_lines_and_move_no_offset() {
        let piece: Vec<u8> = (0..100)
            .flat_map(|n| format!("line {n:04}\n").into_bytes())
            .collect();
        let pieces = [(OUT, piece.as_slice()); 4];
        let (_folder, dir) = made(&pieces);
        std::fs::remove_file(dir.path().join("out-000000.raw")).unwrap();
        std::fs::remove_file(dir.path().join("out-000002.raw")).unwrap();
        let result = found(&dir, asked("line 0042"), LIMITS).unwrap();
        assert_eq!(
            places(&result),
            [
                (OUT, 43, 1420, "line 0042".into()),
                (OUT, 143, 3420, "line 0042".into()),
            ]
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn damage_never_panics_and_hits_are_where_they_say(
            file in 0usize..2, at in any::<prop::sample::Index>(), cut in any::<bool>(),
            garbage in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let pieces = [(OUT, &b"a needle in hay\n"[..]); 30];
            let (_folder, dir) = made(&pieces);
            let path = dir.path().join(["io.idx", "out-000000.raw"][file]);
            let mut stored = std::fs::read(&path).unwrap();
            let at = at.index(stored.len() + 1);
            if cut {
                stored.truncate(at);
            }
            let end = stored.len().min(at + garbage.len());
            stored[at..end].copy_from_slice(&garbage[..end - at]);
            std::fs::write(&path, stored).unwrap();
            for hit in found(&dir, asked("^a needle in hay$"), LIMITS).unwrap().hits {
                prop_assert_eq!(hit.offset % 16, 0);
            }
        }
    }
}
