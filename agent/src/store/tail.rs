//! What was written to a run and the disk may not have yet.
//!
//! Kept by `writer` until the disk has answered. After a failed fsync Linux calls the pages clean, so
//! that the next fsync succeeds without them: they have to be written again, and for that to be known.
//! Invariants: entries are in the order of writing and none is forgotten before the disk has its bytes
//! and its record; bytes are kept until it has them.

use super::index::{Entry, Kind};

/// What was written, oldest first.
#[derive(Debug, Default)]
pub(super) struct Tail {
    entries: Vec<Entry>,
    /// The bytes that the disk may not have: the last ones of all.
    bytes: Vec<u8>,
    /// How many bytes all entries have.
    total: usize,
}

impl Tail {
    /// Adds what was written. Only data has bytes.
    pub(super) fn note(&mut self, entry: Entry, bytes: &[u8]) {
        self.entries.push(entry);
        self.bytes.extend_from_slice(bytes);
        self.total += bytes.len();
    }

    /// Adds what was written after this. Of that the disk has nothing.
    pub(super) fn extend(&mut self, later: Self) {
        if self.bytes.is_empty() {
            self.bytes = later.bytes;
        } else {
            self.bytes.extend_from_slice(&later.bytes);
        }
        self.entries.extend_from_slice(&later.entries);
        self.total += later.total;
    }

    /// Forgets the bytes: the disk has them, but perhaps not their records.
    pub(super) fn forget_bytes(&mut self) {
        self.bytes = Vec::new();
    }

    /// Returns how many entries it has.
    pub(super) const fn entries(&self) -> usize {
        self.entries.len()
    }

    /// Returns how many bytes it keeps.
    pub(super) const fn kept(&self) -> usize {
        self.bytes.len()
    }

    /// Returns each entry, with the bytes that the disk may not have.
    pub(super) fn pieces(&self) -> impl Iterator<Item = (Entry, Option<&[u8]>)> {
        let mut at = 0;
        let saved = self.total - self.bytes.len();
        self.entries.iter().map(move |entry| {
            let len = match entry.kind {
                Kind::Data => usize::try_from(entry.len).unwrap_or(usize::MAX),
                Kind::Resize | Kind::Gap => 0,
            };
            let start = at;
            at += len;
            let kept = start
                .checked_sub(saved)
                .and_then(|start| self.bytes.get(start..start + len));
            (*entry, kept)
        })
    }
}
