//! A console as it looks now, made afresh from the end of its stream for each who asks.
//!
//! Called on a blocking thread. Invariants: at most the last [`WINDOW`] bytes are read; the answer's offset lies behind a
//! whole sequence and a whole character, so that a viewer who follows from there misses nothing and sees nothing twice;
//! it ends within a limit of time, whatever the console wrote.

use std::time::{Duration, Instant};

use hpcclient_protocol::{ApiError, ErrorCode, Frame, Run, StreamName, output::Screen};

use super::{
    decode::Decoder,
    terminal::{Edge, Model},
};
use crate::store::{RunDir, RunReader, StoreError};

/// How many bytes a screen is made of; few in unit tests, so that they meet the limit.
const WINDOW: u64 = if cfg!(test) { 64 << 10 } else { 4 << 20 };
/// The most lines above the screen.
const MAX_LINES: usize = 10_000;
/// How much is read at a time.
const PIECE: usize = 64 * 1024;
/// The clock is looked at after so many characters.
const LOOK_EVERY: u32 = 1024;
/// Some sequences make a terminal work hard; nobody writes 4 MiB of them but to do harm.
const LIMIT: Duration = Duration::from_secs(if cfg!(debug_assertions) { 60 } else { 3 });
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
            } else if in_time {
                match model.feed(c) {
                    Edge::After => *whole = *at,
                    Edge::Before => *whole = *at - len as u64,
                    Edge::Inside if *at - *whole > MAX_OPEN => *whole = *at,
                    Edge::Inside => {}
                }
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

#[cfg(test)]
mod tests {
    use hpcclient_protocol::{Command, RunId, RunSpec, RunState, run::TerminalSize};
    use proptest::prelude::*;

    use super::*;
    use crate::store::{RunWriter, Store};

    const SIZE: TerminalSize = TerminalSize { cols: 40, rows: 5 };

    /// A console that wrote these pieces.
    fn console(pieces: &[&[u8]]) -> (tempfile::TempDir, RunDir, Run) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("runs")).unwrap();
        let mut spec = RunSpec::new(Command::LoginShell);
        spec.pty = Some(SIZE);
        let dir = store.create(RunId::random(), &spec, 7, "node").unwrap();
        let mut writer = RunWriter::open(&dir).unwrap();
        for piece in pieces {
            writer.append(StreamName::Tty, piece).unwrap();
        }
        (folder, dir.clone(), ended(&dir))
    }

    fn ended(dir: &RunDir) -> Run {
        let state = RunState::Exited;
        Run {
            state,
            ..dir.load().unwrap()
        }
    }

    fn fed(bytes: &[u8]) -> Model {
        let mut model = Model::new(SIZE, 1000).unwrap();
        Decoder::default().push(bytes, |c, _| {
            model.feed(c);
        });
        model
    }

    fn shown(bytes: &[u8]) -> String {
        fed(bytes).dump()
    }

    fn seen(bytes: &[u8]) -> (Vec<String>, String) {
        let mut model = fed(bytes);
        model.cut();
        model.seen()
    }

    #[test]
    fn a_viewer_goes_on_where_the_screen_ends() {
        for (whole, open) in [
            (&b"text"[..], &b"\x1b[1;3"[..]),
            (b"text", b"\x1b"),
            (b"caf", b"\xc3"),
            (b"text\x1b[m", b"\x1b]0;half a ti"),
            (b"text\x1b]0;title\x1b\\", b""),
        ] {
            let all = [whole, open].concat();
            let (_folder, dir, run) = console(&[&all]);
            let screen = screen(&dir, &run, 100).unwrap();
            assert_eq!(screen.offset, whole.len() as u64, "{all:?}");
            assert_eq!(screen.size, SIZE);
            assert_eq!(screen.data.to_lossy(), shown(whole));
        }
    }

    #[test]
    fn of_a_long_stream_the_end_is_shown_from_a_whole_line_on() {
        let line = b"\x1b[32mone of very many lines\x1b[m\r\n";
        let many = line.repeat(100);
        let pieces = vec![many.as_slice(); 40];
        let (_folder, dir, run) = console(&pieces);
        assert!(run.sizes.tty > WINDOW);
        let screen = screen(&dir, &run, 500).unwrap();
        assert_eq!((screen.offset, screen.scrollback), (run.sizes.tty, 500));
        let text = screen.data.to_lossy();
        assert!(text.starts_with("\x1b[0;38;5;2mone of very many lines\x1b[m\r\n"));
    }

    #[test]
    fn a_stream_without_lines_is_shown_too() {
        let piece = vec![b'x'; 20_000];
        let (_folder, dir, run) = console(&[&piece[..]; 5]);
        let screen = screen(&dir, &run, 10).unwrap();
        assert_eq!((screen.offset, screen.scrollback), (run.sizes.tty, 10));
    }

    #[test]
    fn the_size_is_the_last_one_and_a_gap_is_passed_over() {
        let (_folder, dir, _) = console(&[b"before\r\n"]);
        let mut writer = RunWriter::open(&dir).unwrap();
        let size = TerminalSize { cols: 90, rows: 30 };
        writer.resize(size).unwrap();
        writer.append(StreamName::Tty, &[b'a'; 2500]).unwrap();
        writer
            .append(StreamName::Tty, b"\x1b[H\x1b[2Jafter")
            .unwrap();
        std::fs::remove_file(dir.path().join("tty-000001.raw")).unwrap();
        let run = ended(&dir);
        let screen = screen(&dir, &run, 10).unwrap();
        assert_eq!((screen.size, screen.offset), (size, run.sizes.tty));
        assert!(screen.data.to_lossy().contains("after"));
    }

    #[test]
    fn a_run_without_a_terminal_has_no_screen() {
        let (_folder, dir, mut run) = console(&[b"x"]);
        run.spec.pty = None;
        let refused = screen(&dir, &run, 10).unwrap_err();
        assert_eq!(refused.to_api().code, ErrorCode::Conflict);
    }

    proptest! {
        #[test]
        fn damage_never_panics_and_the_offset_is_in_the_stream(
            bytes in prop::collection::vec(any::<u8>(), 0..3000), file in 0usize..2,
            at in any::<prop::sample::Index>(), garbage in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let (_folder, dir, run) = console(&[b"first\r\n", &bytes, b"last"]);
            let path = dir.path().join(["io.idx", "tty-000000.raw"][file]);
            let mut stored = std::fs::read(&path).unwrap();
            stored.truncate(at.index(stored.len() + 1));
            stored.extend(&garbage);
            std::fs::write(&path, stored).unwrap();
            let screen = screen(&dir, &run, 10).unwrap();
            prop_assert!(screen.offset <= run.sizes.tty);
        }

        #[test]
        fn the_screen_and_what_follows_make_the_whole(
            bytes in prop::collection::vec(
                prop_oneof![any::<u8>(), prop::sample::select(b"\x1b[]0;1mHJK\x07\\\r\n".to_vec())], 0..300,
            ), cut in any::<prop::sample::Index>(),
        ) {
            let cut = cut.index(bytes.len() + 1);
            let (_folder, dir, run) = console(&[&bytes[..cut]]);
            let screen = screen(&dir, &run, 1000).unwrap();
            let rest = &bytes[usize::try_from(screen.offset).unwrap()..];
            let again = [screen.data.as_bytes(), rest].concat();
            prop_assert_eq!(seen(&again), seen(&bytes), "{} and {}", screen.data.to_lossy().escape_debug(), rest.escape_ascii());
        }
    }
}
