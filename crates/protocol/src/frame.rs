//! Binary frames: a run's streams by offset, in one body or one WebSocket.
//!
//! Written by the agent, read by every viewer. A frame is a 14-byte header, then its payload:
//!
//! ```text
//!   type u8 | stream u8 | offset u64 | length u32 | payload      (big endian)
//! ```
//!
//! Invariants: a viewer applies a `Data` byte only at its own offset, so bytes that come twice are
//! seen once; a body that ends without `End` was cut, and its reader resumes by offset.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
#[cfg(feature = "schema")]
use utoipa::ToSchema;

use crate::{Run, run::TerminalSize};

/// The header's size in bytes.
pub const HEADER_LEN: usize = 14;

/// The largest payload in bytes; a longer one is a broken or hostile peer.
pub const MAX_PAYLOAD: usize = 1 << 20;

/// One of a run's streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase")]
#[repr(u8)]
pub enum StreamName {
    /// What the command writes to descriptor 1.
    Stdout = 1,
    /// What the command writes to descriptor 2.
    Stderr = 2,
    /// What a console shows.
    Tty = 3,
}

impl StreamName {
    /// Returns the stream with this number on the wire and in the index.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Stdout),
            2 => Some(Self::Stderr),
            3 => Some(Self::Tty),
            _ => None,
        }
    }

    /// Returns the name as it stands in URLs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Tty => "tty",
        }
    }
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Bytes of a stream from an offset on.
    Data {
        /// The stream.
        stream: StreamName,
        /// The offset of the first byte.
        offset: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// Bytes that are not kept any more: the viewer goes on at `to`.
    Gap {
        /// The stream.
        stream: StreamName,
        /// Where the gap starts.
        offset: u64,
        /// The offset of the next byte that exists.
        to: u64,
    },
    /// A console changed its size before the next `Data`.
    Resize(TerminalSize),
    /// The run, first of all and whenever its state changes.
    State(Box<Run>),
    /// The run at its end; nothing follows.
    End(Box<Run>),
    /// Nothing, to show that the other side lives.
    Ping,
}

/// Says why bytes are not a frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The type is none of ours.
    #[error("unknown frame type {0}")]
    Type(u8),
    /// The stream is none of ours.
    #[error("unknown stream {0}")]
    Stream(u8),
    /// The payload is longer than [`MAX_PAYLOAD`].
    #[error("a frame of {0} bytes is over the limit of {MAX_PAYLOAD}")]
    TooLong(usize),
    /// The payload of a fixed-size frame has another size.
    #[error("frame type {0} has a payload of the wrong size")]
    Size(u8),
    /// A run is not JSON of the shape we know.
    #[error("a frame's run cannot be read")]
    Run(#[source] serde_json::Error),
}

const DATA: u8 = 1;
const GAP: u8 = 2;
const RESIZE: u8 = 3;
const STATE: u8 = 4;
const END: u8 = 5;
const PING: u8 = 6;

impl Frame {
    /// Appends the frame's bytes.
    pub fn encode(&self, to: &mut BytesMut) {
        match self {
            Self::Data {
                stream,
                offset,
                bytes,
            } => {
                header(to, DATA, *stream as u8, *offset, bytes.len());
                to.put_slice(bytes);
            }
            Self::Gap {
                stream,
                offset,
                to: end,
            } => {
                header(to, GAP, *stream as u8, *offset, 8);
                to.put_u64(*end);
            }
            Self::Resize(size) => {
                header(to, RESIZE, StreamName::Tty as u8, 0, 4);
                to.put_u16(size.cols);
                to.put_u16(size.rows);
            }
            Self::State(run) => put_run(to, STATE, run),
            Self::End(run) => put_run(to, END, run),
            Self::Ping => header(to, PING, 0, 0, 0),
        }
    }

    /// Returns the frame's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut bytes = BytesMut::new();
        self.encode(&mut bytes);
        bytes.freeze()
    }
}

fn header(to: &mut BytesMut, kind: u8, stream: u8, offset: u64, len: usize) {
    to.reserve(HEADER_LEN + len);
    to.put_u8(kind);
    to.put_u8(stream);
    to.put_u64(offset);
    to.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
}

fn put_run(to: &mut BytesMut, kind: u8, run: &Run) {
    // A Run is plain data: strings, numbers, options. serde_json cannot fail on it.
    let json = serde_json::to_vec(run).unwrap_or_default();
    header(to, kind, 0, 0, json.len());
    to.put_slice(&json);
}

/// Puts frames together from bytes that arrive in any pieces.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    buffer: BytesMut,
}

impl FrameDecoder {
    /// Takes bytes from the wire.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the next whole frame, or `None` until more bytes come.
    ///
    /// # Errors
    /// The bytes are not frames; the connection is of no more use.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(mut head) = self.buffer.get(..HEADER_LEN) else {
            return Ok(None);
        };
        let (kind, stream, offset) = (head.get_u8(), head.get_u8(), head.get_u64());
        let len = head.get_u32() as usize;
        if !(DATA..=PING).contains(&kind) {
            return Err(FrameError::Type(kind));
        }
        if len > MAX_PAYLOAD {
            return Err(FrameError::TooLong(len));
        }
        if self.buffer.len() < HEADER_LEN + len {
            return Ok(None);
        }
        self.buffer.advance(HEADER_LEN);
        let mut payload = self.buffer.split_to(len).freeze();
        let stream = || StreamName::from_number(stream).ok_or(FrameError::Stream(stream));
        let sized = |wanted| {
            if len == wanted {
                Ok(())
            } else {
                Err(FrameError::Size(kind))
            }
        };
        let run = |json: &[u8]| serde_json::from_slice(json).map_err(FrameError::Run);
        Ok(Some(match kind {
            DATA => Frame::Data {
                stream: stream()?,
                offset,
                bytes: payload,
            },
            GAP => {
                sized(8)?;
                Frame::Gap {
                    stream: stream()?,
                    offset,
                    to: payload.get_u64(),
                }
            }
            RESIZE => {
                sized(4)?;
                Frame::Resize(TerminalSize {
                    cols: payload.get_u16(),
                    rows: payload.get_u16(),
                })
            }
            STATE => Frame::State(Box::new(run(&payload)?)),
            END => Frame::End(Box::new(run(&payload)?)),
            _ => {
                sized(0)?;
                Frame::Ping
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames() -> impl Strategy<Value = Frame> {
        let stream = prop_oneof![
            Just(StreamName::Stdout),
            Just(StreamName::Stderr),
            Just(StreamName::Tty)
        ];
        let data =
            (stream.clone(), any::<u64>(), any::<Vec<u8>>()).prop_map(|(stream, offset, bytes)| {
                Frame::Data {
                    stream,
                    offset,
                    bytes: bytes.into(),
                }
            });
        let gap = (stream, any::<u64>(), any::<u64>())
            .prop_map(|(stream, offset, to)| Frame::Gap { stream, offset, to });
        let size =
            any::<(u16, u16)>().prop_map(|(cols, rows)| Frame::Resize(TerminalSize { cols, rows }));
        prop_oneof![data, gap, size, Just(Frame::Ping)]
    }

    proptest! {
        #[test]
        fn frames_survive_any_cutting(frames in prop::collection::vec(frames(), 0..8), cut in 1usize..40) {
            let mut wire = BytesMut::new();
            frames.iter().for_each(|frame| frame.encode(&mut wire));
            let (mut decoder, mut seen) = (FrameDecoder::default(), vec![]);
            for piece in wire.chunks(cut) {
                decoder.push(piece);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    seen.push(frame);
                }
            }
            prop_assert_eq!(seen, frames);
        }

        #[test]
        fn garbage_never_panics(bytes: Vec<u8>) {
            let mut decoder = FrameDecoder::default();
            decoder.push(&bytes);
            while let Ok(Some(_)) = decoder.next_frame() {}
        }
    }

    #[test]
    fn a_huge_length_is_refused_before_it_is_buffered() {
        let mut wire = BytesMut::new();
        header(&mut wire, DATA, 1, 0, MAX_PAYLOAD + 1);
        let mut decoder = FrameDecoder::default();
        decoder.push(&wire);
        assert!(matches!(decoder.next_frame(), Err(FrameError::TooLong(_))));
    }
}
