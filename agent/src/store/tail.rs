//! What was written to a run and the disk may not have yet.
//!
//! Kept by `writer` until the disk has answered. After a failed fsync Linux calls the pages clean, so
//! that the next fsync succeeds without them: they have to be written again, and for that to be known.
//! Invariants: entries are in the order of writing and none is forgotten before the disk has its bytes
//! and its record; bytes are kept until it has them; memory is what is kept, and nothing when that is
//! nothing.

use std::collections::VecDeque;

use super::index::{Entry, Kind};

/// From so many bytes on they are given all the room that they may ever need: growing by and by takes
/// room for the copies, and what is not used of it takes none.
const MANY: usize = 64 << 10;
const ROOM: usize = 4 << 20;

/// What was written, oldest first.
#[derive(Debug, Default)]
pub(super) struct Tail {
    entries: VecDeque<Entry>,
    /// The bytes that the disk may not have: the last ones of all.
    bytes: VecDeque<u8>,
    /// How many bytes all entries have.
    total: usize,
}

impl Tail {
    /// Adds what was written. Only data has bytes.
    pub(super) fn note(&mut self, entry: Entry, bytes: &[u8]) {
        self.entries.push_back(entry);
        if self.bytes.len() + bytes.len() > MANY {
            self.bytes
                .reserve_exact(ROOM.saturating_sub(self.bytes.len()));
        }
        self.bytes.extend(bytes);
        self.total += bytes.len();
    }

    /// Forgets the first so many bytes: the disk has them, but perhaps not their records.
    pub(super) fn forget_bytes(&mut self, count: usize) {
        self.bytes.drain(..count.min(self.bytes.len()));
        if self.bytes.is_empty() {
            self.bytes = VecDeque::new();
        }
    }

    /// Forgets the first so many entries, whose bytes were forgotten.
    pub(super) fn forget_entries(&mut self, count: usize) {
        let gone = self.entries.drain(..count.min(self.entries.len()));
        self.total -= gone.map(|entry| len(&entry)).sum::<usize>();
        if self.entries.is_empty() {
            self.entries = VecDeque::new();
        }
    }

    /// Gives back the room that was for more.
    pub(super) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
        self.entries.shrink_to_fit();
    }

    /// Returns how many entries it has.
    pub(super) fn entries(&self) -> usize {
        self.entries.len()
    }

    /// Returns how many bytes it keeps.
    pub(super) fn kept(&self) -> usize {
        self.bytes.len()
    }

    /// Returns each entry, with the bytes that the disk may not have.
    pub(super) fn pieces(&mut self) -> impl Iterator<Item = (Entry, Option<&[u8]>)> {
        let mut at = 0;
        let saved = self.total - self.bytes.len();
        let bytes: &[u8] = self.bytes.make_contiguous();
        self.entries.iter().map(move |entry| {
            let start = at;
            at += len(entry);
            let kept = start
                .checked_sub(saved)
                .and_then(|start| bytes.get(start..start + len(entry)));
            (*entry, kept)
        })
    }
}

/// Returns how many bytes an entry brought.
fn len(entry: &Entry) -> usize {
    match entry.kind {
        Kind::Data => usize::try_from(entry.len).unwrap_or(usize::MAX),
        Kind::Resize | Kind::Gap => 0,
    }
}
