//! A run's output as a file to take away: its bytes, its text, or a recording.
//!
//! Called by `http/export` on a blocking thread, a piece at a time. Invariants: what is stored when it starts is what it
//! holds; a piece is bounded; bytes that are gone leave a line in their place, never a silent jump.

use bytes::Bytes;
use hpcclient_protocol::{Frame, Run, StreamName, run::StreamSizes};
use serde::Deserialize;

use super::{cast::Cast, plain::Plain};
use crate::store::{RunDir, RunReader, StoreError};

/// How the output is shaped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub enum Form {
    /// The bytes as they were written.
    #[default]
    Raw,
    /// UTF-8 lines without escape sequences, as a terminal would leave them.
    Text,
    /// An asciicast v2 recording; consoles only.
    Cast,
}

/// How much is made at a time.
const PIECE: usize = 64 * 1024;

/// An export on its way.
#[derive(Debug)]
pub struct Export {
    reader: RunReader,
    shape: Shape,
    /// What was stored when it started.
    end: StreamSizes,
    /// The header, before anything else.
    header: String,
    done: bool,
}

#[derive(Debug)]
enum Shape {
    Raw,
    Text(Plain),
    Cast(Cast),
}

impl Export {
    /// Starts an export of one stream, or of all in the order of writing. `Cast` is for consoles; another run gets text.
    ///
    /// # Errors
    /// The output cannot be read.
    pub fn start(
        dir: &RunDir,
        run: &Run,
        form: Form,
        stream: Option<StreamName>,
    ) -> Result<Self, StoreError> {
        let reader = match stream {
            Some(stream) => dir.reader_of(stream, 0)?,
            None => dir.reader(StreamSizes::default())?,
        };
        let (shape, header) = match (form, run.spec.pty) {
            (Form::Raw, _) => (Shape::Raw, String::new()),
            (Form::Cast, Some(size)) => {
                let (cast, header) = Cast::start(run, size);
                (Shape::Cast(cast), header)
            }
            (Form::Text | Form::Cast, _) => (Shape::Text(Plain::default()), String::new()),
        };
        let grows = !run.live && !run.state.is_final();
        Ok(Self {
            reader: if grows { reader.of_growing() } else { reader },
            shape,
            end: run.sizes,
            header,
            done: false,
        })
    }

    /// Returns the next piece, never an empty one; `None` after the last.
    ///
    /// # Errors
    /// The operating system refused.
    pub fn next_piece(&mut self) -> Result<Option<Bytes>, StoreError> {
        let mut piece = std::mem::take(&mut self.header).into_bytes();
        while piece.len() < PIECE && !self.done {
            match self.next_frame()? {
                Some(frame) => self.shape.take(frame, self.reader.written_ns(), &mut piece),
                None => {
                    self.done = true;
                    self.shape.finish(&mut piece);
                }
            }
        }
        Ok(Some(Bytes::from(piece)).filter(|piece| !piece.is_empty()))
    }

    fn next_frame(&mut self) -> Result<Option<Frame>, StoreError> {
        let (at, end) = (self.reader.offsets(), self.end);
        // A run that writes as fast as it is read would have no end.
        if at.stdout >= end.stdout && at.stderr >= end.stderr && at.tty >= end.tty {
            return Ok(None);
        }
        self.reader.next(PIECE)
    }
}

impl Shape {
    fn take(&mut self, frame: Frame, at_ns: u64, piece: &mut Vec<u8>) {
        let mut text = String::new();
        match (self, frame) {
            (Self::Raw, Frame::Data { bytes, .. }) => piece.extend_from_slice(&bytes),
            (Self::Raw, Frame::Gap { offset, to, .. }) => text = missing(to - offset),
            (Self::Text(plain), Frame::Data { bytes, .. }) => plain.push(&bytes, &mut text),
            (Self::Text(plain), Frame::Gap { offset, to, .. }) => {
                plain.finish(&mut text);
                text.push_str(&missing(to - offset));
            }
            (Self::Cast(cast), Frame::Data { bytes, .. }) => cast.output(at_ns, &bytes, &mut text),
            (Self::Cast(cast), Frame::Gap { offset, to, .. }) => {
                cast.gap(at_ns, to - offset, &mut text);
            }
            (Self::Cast(cast), Frame::Resize(size)) => cast.resize(at_ns, size, &mut text),
            (_, Frame::Resize(_) | Frame::State(_) | Frame::End(_) | Frame::Ping) => {}
        }
        piece.extend_from_slice(text.as_bytes());
    }

    fn finish(&mut self, piece: &mut Vec<u8>) {
        let mut text = String::new();
        match self {
            Self::Raw => {}
            Self::Text(plain) => plain.finish(&mut text),
            Self::Cast(cast) => cast.finish(&mut text),
        }
        piece.extend_from_slice(text.as_bytes());
    }
}

fn missing(bytes: u64) -> String {
    format!("\n[{bytes} bytes are not kept]\n")
}

#[cfg(test)]
mod tests {
    use hpcclient_protocol::{Command, RunId, RunSpec, RunState, run::TerminalSize};
    use proptest::prelude::*;

    use super::*;
    use crate::store::{RunWriter, Store};

    fn made(
        pieces: &[(StreamName, &[u8])],
        pty: Option<TerminalSize>,
    ) -> (tempfile::TempDir, RunDir) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("runs")).unwrap();
        let mut spec = RunSpec::new(Command::LoginShell);
        spec.pty = pty;
        let dir = store.create(RunId::random(), &spec, 7, "node").unwrap();
        let mut writer = RunWriter::open(&dir).unwrap();
        for (stream, bytes) in pieces {
            writer.append(*stream, bytes).unwrap();
        }
        (folder, dir)
    }

    fn exported(dir: &RunDir, form: Form, stream: Option<StreamName>) -> Vec<u8> {
        let mut run = dir.load().unwrap();
        run.state = RunState::Exited;
        let mut export = Export::start(dir, &run, form, stream).unwrap();
        let mut all = vec![];
        while let Some(piece) = export.next_piece().unwrap() {
            assert!(!piece.is_empty() && piece.len() < 16 * PIECE);
            all.extend(&piece);
        }
        assert_eq!(export.next_piece().unwrap(), None);
        all
    }

    #[test]
    fn one_stream_or_all_as_bytes_or_text() {
        let (out, err) = (StreamName::Stdout, StreamName::Stderr);
        let pieces: [(_, &[u8]); 3] = [
            (out, b"1%\r2%"),
            (err, b"\x1b[31mred\xff\x1b[m\n"),
            (out, b"\r3%\n"),
        ];
        let (_folder, dir) = made(&pieces, None);
        assert_eq!(exported(&dir, Form::Raw, Some(out)), b"1%\r2%\r3%\n");
        assert_eq!(exported(&dir, Form::Text, Some(out)), b"3%\n");
        assert_eq!(
            exported(&dir, Form::Text, Some(err)),
            "red\u{fffd}\n".as_bytes()
        );
        assert_eq!(
            exported(&dir, Form::Raw, None),
            b"1%\r2%\x1b[31mred\xff\x1b[m\n\r3%\n"
        );
        assert_eq!(exported(&dir, Form::Raw, Some(StreamName::Tty)), b"");
    }

    #[test]
    fn a_console_is_a_recording_and_what_is_gone_is_told() {
        let size = TerminalSize { cols: 80, rows: 24 };
        let tty = StreamName::Tty;
        let (first, rest) = ([b'x'; 1000], [b'y'; 1500]);
        let (_folder, dir) = made(&[(tty, &first), (tty, &rest)], Some(size));
        RunWriter::open(&dir)
            .unwrap()
            .resize(TerminalSize { cols: 9, rows: 3 })
            .unwrap();
        RunWriter::open(&dir).unwrap().append(tty, b"end").unwrap();
        std::fs::remove_file(dir.path().join("tty-000000.raw")).unwrap();
        let text = String::from_utf8(exported(&dir, Form::Cast, None)).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert!(
            lines[0].contains("\"width\":80")
                && lines[1].ends_with(",\"m\",\"1000 bytes are not kept\"]")
        );
        assert!(
            lines[2].contains("yyyy") && lines[3].contains(",\"r\",\"9x3\"]"),
            "{text}"
        );
        assert!(lines[4].ends_with(",\"o\",\"end\"]") && lines.len() == 5);
        let raw = exported(&dir, Form::Raw, Some(tty));
        assert!(raw.starts_with(b"\n[1000 bytes are not kept]\nyyy") && raw.ends_with(b"yend"));
    }

    proptest! {
        #[test]
        fn damage_never_panics_and_all_of_it_comes_to_an_end(
            bytes in prop::collection::vec(any::<u8>(), 1..3000), file in 0usize..2,
            at in any::<prop::sample::Index>(), garbage in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let size = TerminalSize { cols: 80, rows: 24 };
            let (_folder, dir) = made(&[(StreamName::Tty, &bytes), (StreamName::Tty, b"more")], Some(size));
            let path = dir.path().join(["io.idx", "tty-000000.raw"][file]);
            let mut stored = std::fs::read(&path).unwrap();
            stored.truncate(at.index(stored.len() + 1));
            stored.extend(&garbage);
            std::fs::write(&path, stored).unwrap();
            for form in [Form::Raw, Form::Text, Form::Cast] {
                drop(exported(&dir, form, None));
            }
        }
    }
}
