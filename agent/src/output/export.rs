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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
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
