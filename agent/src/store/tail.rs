//! What was written to a run and the disk may not have yet.
//!
//! Kept by `writer` until the disk has answered. After a failed fsync Linux calls the pages clean, so
//! that the next fsync succeeds without them: they have to be written again, and for that to be known.
//! Invariants: entries are in the order of writing and none is forgotten; of their bytes the last are
//! kept, at most [`MAX_BYTES`]. Those before are still in their file's pages, unless the file system
//! dropped them; their CRC tells.

use super::index::{Entry, Kind};

/// How many bytes are kept.
const MAX_BYTES: usize = 3 << 19;

/// What was written, oldest first.
#[derive(Debug, Default)]
pub(super) struct Tail {
    entries: Vec<Entry>,
    /// The last of the bytes of all entries, whole pieces.
    bytes: Vec<u8>,
    /// How many bytes all entries have.
    total: usize,
}

impl Tail {
    /// Adds what was written. Only data has bytes.
    pub(super) fn note(&mut self, entry: Entry, bytes: &[u8]) {
        if self.bytes.len() + bytes.len() > MAX_BYTES {
            self.bytes.clear();
        }
        self.entries.push(entry);
        self.bytes.extend_from_slice(bytes);
        self.total += bytes.len();
    }

    /// Adds what was written after this.
    pub(super) fn extend(&mut self, later: Self) {
        if later.total > later.bytes.len() || self.bytes.len() + later.bytes.len() > MAX_BYTES {
            self.bytes = later.bytes;
        } else {
            self.bytes.extend_from_slice(&later.bytes);
        }
        self.entries.extend_from_slice(&later.entries);
        self.total += later.total;
    }

    /// Returns how many entries it has.
    pub(super) const fn entries(&self) -> usize {
        self.entries.len()
    }

    /// Returns how many bytes it has in memory.
    pub(super) const fn kept(&self) -> usize {
        self.bytes.len()
    }

    /// Returns whether the next piece may push out others.
    pub(super) const fn is_full(&self) -> bool {
        self.total > MAX_BYTES / 2
    }

    /// Returns each entry, with its bytes where they are kept.
    pub(super) fn pieces(&self) -> impl Iterator<Item = (Entry, Option<&[u8]>)> {
        let mut at = 0;
        let pushed_out = self.total - self.bytes.len();
        self.entries.iter().map(move |entry| {
            let len = match entry.kind {
                Kind::Data => usize::try_from(entry.len).unwrap_or(usize::MAX),
                Kind::Resize | Kind::Gap => 0,
            };
            let start = at;
            at += len;
            let kept = start
                .checked_sub(pushed_out)
                .and_then(|start| self.bytes.get(start..start + len));
            (*entry, kept)
        })
    }
}

#[cfg(test)]
mod tests {
    use hpcclient_protocol::StreamName;
    use proptest::prelude::*;

    use super::*;

    fn piece(number: usize, len: usize) -> (Entry, Vec<u8>) {
        let entry = Entry {
            t_ns: 0,
            offset: number as u64,
            len: u32::try_from(len).unwrap(),
            crc: 0,
            stream: StreamName::Stdout,
            kind: Kind::Data,
        };
        (entry, vec![u8::try_from(number % 251).unwrap(); len])
    }

    proptest! {
        #[test]
        fn every_entry_stays_and_the_last_bytes_with_it(
            lens in prop::collection::vec(1usize..400_000, 1..30), cut in any::<prop::sample::Index>(),
        ) {
            let (mut first, mut second) = (Tail::default(), Tail::default());
            let cut = cut.index(lens.len());
            for (number, len) in lens.iter().enumerate() {
                let (entry, bytes) = piece(number, *len);
                if number < cut { &mut first } else { &mut second }.note(entry, &bytes);
            }
            first.extend(second);
            prop_assert!(first.kept() <= MAX_BYTES);
            let (mut is_kept, mut count) = (false, 0);
            for ((entry, bytes), (number, len)) in first.pieces().zip(lens.iter().enumerate()) {
                prop_assert_eq!(entry, piece(number, *len).0);
                if let Some(bytes) = bytes {
                    prop_assert!(bytes == piece(number, *len).1);
                }
                // What is kept is the end of it, without a hole.
                prop_assert!(bytes.is_some() || !is_kept);
                is_kept = bytes.is_some();
                count += 1;
            }
            prop_assert_eq!(count, lens.len());
            prop_assert!(is_kept);
        }
    }
}
