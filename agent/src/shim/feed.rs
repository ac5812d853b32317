//! A run's stdin: what clients wrote and the command has not taken yet.
//!
//! Invariants: a sequence number is taken once from each writer; it is acknowledged when the command's
//! pipe has all of it, so a slow command slows its writers; what waits here is bounded. What was refused
//! is never acknowledged unless it was sent again and written, and while anything waits nothing of its
//! writer passes it.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
    os::fd::OwnedFd,
};

use hpcclient_protocol::RunId;
use rustix::io::Errno;

use super::control::FromShim;

/// How many bytes may wait for one run.
const MAX_WAITING: usize = 4 << 20;
/// How many holes in a writer's numbers are remembered; each takes a refusal and 4 MiB of input.
const MAX_HOLES: usize = 64;
/// What a terminal takes as the end of input.
const END_OF_TRANSMISSION: u8 = 4;

#[derive(Debug)]
struct Piece {
    writer: String,
    seq: u64,
    bytes: Vec<u8>,
    written: usize,
    eof: bool,
}

/// What is known of one writer's numbers.
#[derive(Debug, Default)]
struct Writer {
    /// The highest that was written.
    taken: u64,
    /// The lowest that was refused since then.
    refused: Option<u64>,
    /// Those below `taken` that were refused and given up by their writer.
    holes: VecDeque<Range<u64>>,
}

/// The stdin of one run.
#[derive(Debug)]
pub(super) struct Feed {
    run: RunId,
    fd: Option<OwnedFd>,
    /// Whether the command is still to come; what is written before it waits.
    expected: bool,
    /// Whether `fd` is a terminal, which is never closed for its end of input.
    terminal: bool,
    /// Whether the command has its end open; before that closing ours would leave it waiting.
    opened: bool,
    ended: bool,
    writers: BTreeMap<String, Writer>,
    waiting: VecDeque<Piece>,
    waiting_bytes: usize,
    acks: Vec<FromShim>,
}

impl Feed {
    /// A stdin that is empty when `fd` is `None`.
    pub(super) const fn new(run: RunId, fd: Option<OwnedFd>, terminal: bool, opened: bool) -> Self {
        Self {
            run,
            fd,
            expected: false,
            terminal,
            opened,
            ended: false,
            writers: BTreeMap::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            acks: vec![],
        }
    }

    /// A stdin for a line that waits in a queue.
    pub(super) const fn expecting(run: RunId) -> Self {
        let mut feed = Self::new(run, None, false, false);
        feed.expected = true;
        feed
    }

    /// Connects it to its command; without a descriptor it is empty.
    pub(super) fn connect(&mut self, fd: Option<OwnedFd>) {
        self.expected = false;
        self.fd = fd;
        if self.fd.is_none() {
            self.close("stdin of this run is closed");
        }
        self.pump();
    }

    /// Returns the descriptor when something waits to be written to it.
    pub(super) fn wants_write(&self) -> Option<&OwnedFd> {
        let only_end = |piece: &Piece| piece.written == piece.bytes.len() && !self.opened;
        match self.waiting.front() {
            Some(piece) if !only_end(piece) => self.fd.as_ref(),
            _ => None,
        }
    }

    /// Returns the descriptor, also when nothing waits.
    pub(super) const fn fd(&self) -> Option<&OwnedFd> {
        self.fd.as_ref()
    }

    /// Says that the command has opened its end.
    pub(super) fn set_opened(&mut self) {
        self.opened = true;
        self.pump();
    }

    /// Takes bytes from a writer.
    pub(super) fn offer(&mut self, writer: String, seq: u64, eof: bool, bytes: Vec<u8>) {
        let none = Writer::default();
        let known = self.writers.get(&writer).unwrap_or(&none);
        let (taken, refused) = (known.taken, known.refused);
        if known.holes.iter().any(|hole| hole.contains(&seq)) {
            let late = "it was refused before, and later input was written since";
            return self.ack(writer, seq, Some(late));
        }
        if seq <= taken {
            return self.ack(writer, taken, None);
        }
        if self
            .waiting
            .iter()
            .any(|p| p.writer == writer && p.seq >= seq)
        {
            // It waits already and is acknowledged when it is through.
            return;
        }
        if (self.fd.is_none() && !self.expected) || self.ended {
            return self.ack(writer, seq, Some("stdin of this run is closed"));
        }
        // A smaller piece that would still fit must not get before the one that did not.
        let passes = refused.is_some_and(|refused| refused < seq) && !self.waiting.is_empty();
        if passes || self.waiting_bytes + bytes.len() > MAX_WAITING {
            let known = self.writers.entry(writer.clone()).or_default();
            known.refused = Some(refused.map_or(seq, |refused| refused.min(seq)));
            let full = "stdin of this run is full; the command does not read it";
            return self.ack(writer, seq, Some(full));
        }
        if let Some(refused) = refused
            && let Some(known) = self.writers.get_mut(&writer)
        {
            known.refused = None;
            if refused < seq {
                known.holes.push_back(refused..seq);
                if known.holes.len() > MAX_HOLES {
                    known.holes.pop_front();
                }
            }
        }
        self.waiting_bytes += bytes.len();
        self.ended = eof && !self.terminal;
        self.waiting.push_back(Piece {
            writer,
            seq,
            bytes,
            written: 0,
            eof,
        });
        self.pump();
    }

    /// Writes what the command takes now.
    pub(super) fn pump(&mut self) {
        while let (Some(fd), Some(piece)) = (&self.fd, self.waiting.front_mut()) {
            if piece.eof && self.terminal {
                piece.bytes.push(END_OF_TRANSMISSION);
                self.waiting_bytes += 1;
                piece.eof = false;
            }
            let rest = piece.bytes.get(piece.written..).unwrap_or_default();
            if !rest.is_empty() {
                match rustix::io::write(fd, rest) {
                    Ok(count) => piece.written += count,
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => return,
                    Err(_) => return self.close("the command closed its stdin"),
                }
                continue;
            }
            if piece.eof && !self.opened {
                return;
            }
            if let Some(piece) = self.waiting.pop_front() {
                self.waiting_bytes -= piece.bytes.len();
                self.writers.entry(piece.writer.clone()).or_default().taken = piece.seq;
                self.ack(piece.writer, piece.seq, None);
                if piece.eof {
                    self.close("stdin of this run is closed");
                }
            }
        }
    }

    /// Ends it; what still waits is refused.
    pub(super) fn close(&mut self, why: &str) {
        self.fd = None;
        self.expected = false;
        self.waiting_bytes = 0;
        for piece in std::mem::take(&mut self.waiting) {
            self.ack(piece.writer, piece.seq, Some(why));
        }
    }

    /// Returns the answers since the last call.
    pub(super) fn take_acks(&mut self) -> Vec<FromShim> {
        std::mem::take(&mut self.acks)
    }

    fn ack(&mut self, writer: String, seq: u64, error: Option<&str>) {
        self.acks.push(FromShim::StdinAck {
            run: self.run,
            writer,
            seq,
            error: error.map(ToOwned::to_owned),
        });
    }
}

#[cfg(test)]
mod tests {
    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

    /// Offers a piece and returns the answer: a number, and whether it is a refusal.
    fn offer(feed: &mut Feed, seq: u64, bytes: Vec<u8>) -> Option<(u64, bool)> {
        feed.offer("w".to_owned(), seq, false, bytes);
        answer(feed)
    }

    fn answer(feed: &mut Feed) -> Option<(u64, bool)> {
        feed.take_acks().pop().map(|ack| match ack {
            FromShim::StdinAck { seq, error, .. } => (seq, error.is_some()),
            other => panic!("{other:?}"),
        })
    }

    fn drain(feed: &mut Feed, pipe: &OwnedFd) -> Vec<u8> {
        let (mut all, mut buffer) = (vec![], vec![0; 1 << 20]);
        while let Ok(count @ 1..) = rustix::io::read(pipe, &mut buffer) {
            all.extend_from_slice(&buffer[..count]);
            feed.pump();
        }
        all
    }

    #[test]
    fn a_refused_piece_is_acknowledged_only_when_it_was_written() {
        let (theirs, ours) = pipe_with(PipeFlags::NONBLOCK).unwrap();
        let mut feed = Feed::new(RunId::random(), Some(ours), false, true);
        assert_eq!(offer(&mut feed, 1, vec![b'a'; 3 << 20]), None);
        assert_eq!(offer(&mut feed, 2, vec![b'b'; 2 << 20]), Some((2, true)));
        // It would fit, but the one before it did not.
        assert_eq!(offer(&mut feed, 3, b"c".to_vec()), Some((3, true)));
        assert_eq!(offer(&mut feed, 2, vec![b'b'; 2 << 20]), Some((2, true)));
        assert!(drain(&mut feed, &theirs) == vec![b'a'; 3 << 20]);
        assert_eq!(answer(&mut feed), Some((1, false)));
        assert_eq!(offer(&mut feed, 2, b"b".to_vec()), Some((2, false)));
        assert_eq!(offer(&mut feed, 3, b"c".to_vec()), Some((3, false)));
        assert_eq!(offer(&mut feed, 3, b"c".to_vec()), Some((3, false)));
        assert_eq!(drain(&mut feed, &theirs), b"bc");
    }

    #[test]
    fn a_piece_that_its_writer_gave_up_blocks_nobody_and_is_never_called_written() {
        let (theirs, ours) = pipe_with(PipeFlags::NONBLOCK).unwrap();
        let mut feed = Feed::new(RunId::random(), Some(ours), false, true);
        assert_eq!(offer(&mut feed, 1, vec![b'a'; 4 << 20]), None);
        assert_eq!(offer(&mut feed, 2, b"b".to_vec()), Some((2, true)));
        drain(&mut feed, &theirs);
        assert_eq!(answer(&mut feed), Some((1, false)));
        assert_eq!(offer(&mut feed, 3, b"c".to_vec()), Some((3, false)));
        assert_eq!(offer(&mut feed, 2, b"b".to_vec()), Some((2, true)));
        assert_eq!(offer(&mut feed, 1, b"a".to_vec()), Some((3, false)));
        assert_eq!(drain(&mut feed, &theirs), b"c");
    }
}
