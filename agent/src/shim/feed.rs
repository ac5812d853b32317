//! A run's stdin: what clients wrote and the command has not taken yet.
//!
//! Invariants: a sequence number is taken once from each writer; it is acknowledged when the command's
//! pipe has all of it, so a slow command slows its writers; what waits here is bounded.

use std::{
    collections::{BTreeMap, VecDeque},
    os::fd::OwnedFd,
};

use hpcclient_protocol::RunId;
use rustix::io::Errno;

use super::control::FromShim;

/// How many bytes may wait for one run.
const MAX_WAITING: usize = 4 << 20;
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
    taken: BTreeMap<String, u64>,
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
            taken: BTreeMap::new(),
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
        let taken = self.taken.get(&writer).copied().unwrap_or_default();
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
        if self.waiting_bytes + bytes.len() > MAX_WAITING {
            let full = "stdin of this run is full; the command does not read it";
            return self.ack(writer, seq, Some(full));
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
                self.taken.insert(piece.writer.clone(), piece.seq);
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
