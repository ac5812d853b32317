//! A console as it looks now, made afresh from the end of its stream for each who asks.
//!
//! Called on a blocking thread. Invariants: at most the last [`WINDOW`] bytes are read; the answer's offset lies behind a
//! whole sequence and a whole character, so that a viewer who follows from there misses nothing and sees nothing twice;
//! it ends within a limit of time, whatever the console wrote.

use std::time::{Duration, Instant};

use hpcclient_protocol::{ApiError, ErrorCode, Frame, Run, StreamName, output::Screen};

use super::{decode::Decoder, terminal::Model};
use crate::store::{RunDir, RunReader, StoreError};

/// What a screen is made of.
const WINDOW: u64 = 4 << 20;
/// The most lines above the screen.
const MAX_LINES: usize = 10_000;
/// How much is read at a time.
const PIECE: usize = 64 * 1024;
/// The clock is looked at after so many characters.
const LOOK_EVERY: u32 = 1024;
/// Some sequences make a terminal work hard; nobody writes 4 MiB of them but to do harm.
const LIMIT: Duration = Duration::from_secs(3);
/// An unfinished sequence that is longer is not waited for.
const MAX_OPEN: u64 = 256 * 1024;

/// Why there is no screen.
#[derive(Debug, thiserror::Error)]
pub enum ScreenError {
    /// The run is no console.
    #[error("run {0} is no console and has no screen")]
    NoConsole(hpcclient_protocol::RunId),
    /// What it wrote takes too long.
    #[error("what run {0} wrote last takes too long to be made a screen of")]
    Hard(hpcclient_protocol::RunId),
    /// It cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ScreenError {
    /// Returns the error in the words of the API.
    #[must_use]
    pub fn to_api(&self) -> ApiError {
        match self {
            Self::NoConsole(_) => ApiError::new(ErrorCode::Conflict, self.to_string()),
            Self::Hard(_) => ApiError::new(ErrorCode::Unavailable, self.to_string())
                .hint("follow its tty stream from its end instead"),
            Self::Store(error) => error.to_api(),
        }
    }
}

/// Returns a console's screen after what is stored of it, with at most `lines` lines above it.
///
/// # Errors
/// The run is no console, its output cannot be read, or takes too long.
pub fn screen(dir: &RunDir, run: &Run, lines: usize) -> Result<Screen, ScreenError> {
    let Some(size) = run.spec.pty else {
        return Err(ScreenError::NoConsole(run.id));
    };
    let end = run.sizes.tty;
    let start = end.saturating_sub(WINDOW);
    let mut reader = dir.reader_of(StreamName::Tty, start)?;
    if !run.live && !run.state.is_final() {
        reader = reader.of_growing();
    }
    let model = Model::new(size, lines.min(MAX_LINES)).ok_or(ScreenError::NoConsole(run.id))?;
    let mut making = Making {
        model,
        decoder: Decoder::default(),
        at: start,
        whole: start,
        // Older than the window, the first line is probably not whole.
        skips: start > 0,
        steps: 0,
        until: Instant::now() + LIMIT,
    };
    if !making.read(&mut reader, end)? {
        return Err(ScreenError::Hard(run.id));
    }
    // A window without a line's end is shown from its start.
    if making.skips && making.at > start {
        making.skips = false;
        making.decoder = Decoder::default();
        (making.at, making.whole) = (start, start);
        if !making.read(&mut dir.reader_of(StreamName::Tty, start)?, end)? {
            return Err(ScreenError::Hard(run.id));
        }
    }
    Ok(making.finish())
}

struct Making {
    model: Model,
    decoder: Decoder,
    /// The offset after what was decoded.
    at: u64,
    /// The offset after the last whole sequence.
    whole: u64,
    /// Whether nothing is taken before the next line.
    skips: bool,
    steps: u32,
    until: Instant,
}

impl Making {
    /// Takes everything up to `end`; `false` when it takes too long.
    fn read(&mut self, reader: &mut RunReader, end: u64) -> Result<bool, StoreError> {
        while let Some(frame) = reader.next(PIECE)? {
            if Instant::now() > self.until {
                return Ok(false);
            }
            match frame {
                Frame::Data { offset, bytes, .. } => {
                    if offset >= end {
                        break;
                    }
                    if !self.take(&bytes) {
                        return Ok(false);
                    }
                }
                Frame::Gap { to, .. } => {
                    self.decoder = Decoder::default();
                    self.model.cut();
                    (self.at, self.whole) = (to, to);
                }
                Frame::Resize(size) => self.model.resize(size),
                Frame::State(_) | Frame::End(_) | Frame::Ping => {}
            }
        }
        Ok(true)
    }

    fn take(&mut self, bytes: &[u8]) -> bool {
        let Self {
            model,
            decoder,
            at,
            whole,
            skips,
            steps,
            until,
        } = self;
        let mut in_time = true;
        decoder.push(bytes, |c, len| {
            *at += len as u64;
            *steps += 1;
            if *steps >= LOOK_EVERY {
                *steps = 0;
                in_time = in_time && Instant::now() < *until;
            }
            if *skips {
                *skips = c != '\n';
                *whole = *at;
            } else if in_time && (model.feed(c) || *at - *whole > MAX_OPEN) {
                *whole = *at;
            }
        });
        in_time
    }

    fn finish(self) -> Screen {
        Screen {
            size: self.model.size(),
            offset: self.whole,
            scrollback: u32::try_from(self.model.scrollback()).unwrap_or(u32::MAX),
            data: self.model.dump().into(),
        }
    }
}
