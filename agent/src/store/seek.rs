//! Finds the place in a stream where somebody wants to start reading: its last lines, or a time.
//!
//! Called by `http` before it makes a reader. It blocks on the file system. Memory is one piece of a stream, whatever
//! the lengths of lines.
//! A gap is noted when its bytes go, out of the order of the stream: that they are gone is seen by the missing file.
//! Invariants: the last lines are looked for from the end backwards, and never beyond bytes that are gone; times are
//! those of the index, which a clock that was set can make run backwards: what counts is the first record that fits.

use hpcclient_protocol::StreamName;

use super::{
    RunDir, StoreError,
    index::{Backwards, Cursor, Entry, Kind},
    segment::{self, Segments},
};

/// How much of a stream is looked at together.
const PIECE: u64 = 64 * 1024;

impl RunDir {
    /// Returns the offset where the last `lines` lines before `end` start. A line without its end counts. Where bytes
    /// are gone before as many lines, it is the offset after them.
    ///
    /// # Errors
    /// The operating system refused.
    pub fn last_lines(&self, stream: StreamName, lines: u64, end: u64) -> Result<u64, StoreError> {
        let mut records = Backwards::new(self.path())?;
        let mut segments = Segments::new(self.path().to_owned(), stream);
        // The offset down to which everything was looked at, and how many line ends there were.
        let (mut at, mut found, mut last) = (None, 0, end);
        while let Some((_, entry)) = records.next()? {
            if entry.stream != stream || entry.kind != Kind::Data || entry.offset >= end {
                continue;
            }
            let mut to = entry.end().min(end);
            if at.is_none() {
                last = to;
            }
            if at.is_some_and(|at| at != to) || lines == 0 {
                return Ok(at.unwrap_or(to));
            }
            while to > entry.offset {
                let from = to.saturating_sub(PIECE).max(entry.offset);
                let bytes = segments.read(from, usize::try_from(to - from).unwrap_or(0))?;
                if bytes.len() as u64 != to - from {
                    return Ok(to);
                }
                for (n, _) in bytes.iter().enumerate().rev().filter(|(_, b)| **b == b'\n') {
                    let start = from + n as u64 + 1;
                    // The last line's own end starts no line.
                    if start != last {
                        found += 1;
                    }
                    if found == lines {
                        return Ok(start);
                    }
                }
                to = from;
            }
            at = Some(entry.offset);
        }
        Ok(at.unwrap_or(0))
    }

    /// Returns the offsets between which a stream was written from `since` until `until`, in milliseconds since 1970,
    /// both included. The second is `u64::MAX` where nothing later was written.
    ///
    /// # Errors
    /// The operating system refused.
    pub fn span(
        &self,
        stream: StreamName,
        since: Option<u64>,
        until: Option<u64>,
    ) -> Result<(u64, u64), StoreError> {
        let mut records = Cursor::new(self.path(), 0);
        let (mut from, mut end) = (since.is_none().then_some(0), 0);
        while let Some(entry) = records.next()? {
            if entry.stream != stream || entry.kind != Kind::Data {
                continue;
            }
            let ms = entry.t_ns / 1_000_000;
            if from.is_none() && since.is_some_and(|since| ms >= since) {
                from = Some(entry.offset);
            }
            if let Some(from) = from {
                match until {
                    Some(until) if ms > until => return Ok((from, entry.offset)),
                    Some(_) => {}
                    None => return Ok((from, u64::MAX)),
                }
            }
            end = entry.end();
        }
        Ok((from.unwrap_or(end), u64::MAX))
    }

    /// Returns when the bytes at these offsets, which are in order, were written, in milliseconds since 1970; fewer
    /// where the index does not know.
    ///
    /// # Errors
    /// The operating system refused.
    pub fn times(&self, stream: StreamName, offsets: &[u64]) -> Result<Vec<u64>, StoreError> {
        let mut records = Cursor::new(self.path(), 0);
        let mut times = Vec::with_capacity(offsets.len());
        let mut ahead = offsets.iter().peekable();
        let holds = |entry: &Entry, offset: u64| entry.end() > offset;
        while ahead.peek().is_some()
            && let Some(entry) = records.next()?
        {
            if entry.stream != stream || entry.kind != Kind::Data {
                continue;
            }
            while ahead.next_if(|offset| holds(&entry, **offset)).is_some() {
                times.push(entry.t_ns / 1_000_000);
            }
        }
        Ok(times)
    }

    /// Returns whether anything of a stream was ever stored.
    #[must_use]
    pub fn has(&self, stream: StreamName) -> bool {
        segment::any(self.path(), stream)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use hpcclient_protocol::{Command, Frame, RunId, RunSpec};
    use proptest::prelude::*;

    use super::*;
    use crate::store::{RunWriter, SEGMENT_BYTES, Store};

    fn made() -> (tempfile::TempDir, RunDir) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("runs")).unwrap();
        let spec = RunSpec::new(Command::Shell("true".into()));
        let dir = store.create(RunId::random(), &spec, 7, "node").unwrap();
        (folder, dir)
    }

    fn written(pieces: &[&[u8]]) -> (tempfile::TempDir, RunDir) {
        let (folder, dir) = made();
        let mut writer = RunWriter::open(&dir).unwrap();
        for piece in pieces {
            writer.append(StreamName::Stdout, piece).unwrap();
            writer.append(StreamName::Stderr, b"other\n").unwrap();
        }
        (folder, dir)
    }

    /// What `tail -n` prints.
    fn tail(all: &[u8], lines: usize) -> usize {
        let body = all.strip_suffix(b"\n").unwrap_or(all);
        let mut starts: Vec<_> = (0..body.len()).filter(|n| body[*n] == b'\n').collect();
        let Some(skip) = starts.len().checked_sub(lines) else {
            return 0;
        };
        starts.drain(..skip);
        starts.first().map_or(all.len(), |n| n + 1)
    }

    proptest! {
        #[test]
        fn the_last_lines_are_those_of_tail(
            pieces in prop::collection::vec(
                prop_oneof![
                    "[ab\n]{1,20}".prop_map(String::into_bytes),
                    prop::collection::vec(any::<u8>(), 900..1100),
                ], 0..8,
            ), lines in 0usize..12, end in any::<prop::sample::Index>(),
        ) {
            let pieces: Vec<_> = pieces.iter().map(Vec::as_slice).collect();
            let (_folder, dir) = written(&pieces);
            let all = pieces.concat();
            let from = dir.last_lines(StreamName::Stdout, lines as u64, u64::MAX).unwrap();
            prop_assert_eq!(from, tail(&all, lines) as u64);
            let end = end.index(all.len() + 1);
            let from = dir.last_lines(StreamName::Stdout, lines as u64, end as u64).unwrap();
            prop_assert_eq!(from, tail(&all[..end], lines) as u64);
        }

        #[test]
        fn damage_ends_the_search_and_no_more(
            victim in 0usize..2, at in any::<prop::sample::Index>(), cut in any::<bool>(),
            garbage in prop::collection::vec(any::<u8>(), 0..80), lines in 0u64..40,
        ) {
            let (_folder, dir) = written(&[&b"a line\n"[..]; 20]);
            let file = dir.path().join(["io.idx", "out-000000.raw"][victim]);
            let mut bytes = fs::read(&file).unwrap();
            let at = at.index(bytes.len() + 1);
            if cut {
                bytes.truncate(at);
            }
            for (n, byte) in garbage.iter().enumerate().filter(|(n, _)| at + n < bytes.len()).collect::<Vec<_>>() {
                bytes[at + n] = *byte;
            }
            fs::write(&file, bytes).unwrap();
            let from = dir.last_lines(StreamName::Stdout, lines, u64::MAX).unwrap();
            prop_assert!(from <= 140);
            let (since, until) = dir.span(StreamName::Stdout, Some(1), Some(u64::MAX)).unwrap();
            prop_assert!(since <= until);
            prop_assert!(dir.times(StreamName::Stdout, &[0, 7, 139]).unwrap().len() <= 3);
        }
    }

    #[test]
    fn a_missing_first_or_middle_segment_bounds_the_last_lines() {
        let size = usize::try_from(SEGMENT_BYTES).unwrap();
        let full = [b'x'; 100].repeat(size / 100);
        let (_folder, dir) = written(&[&full, &full, &full, b"one\ntwo\n"]);
        let last = |lines| dir.last_lines(StreamName::Stdout, lines, u64::MAX).unwrap();
        assert_eq!(last(1), 3 * SEGMENT_BYTES + 4);
        fs::remove_file(segment::path(dir.path(), StreamName::Stdout, 1)).unwrap();
        assert_eq!(last(9), 2 * SEGMENT_BYTES);
        fs::remove_file(segment::path(dir.path(), StreamName::Stdout, 0)).unwrap();
        assert_eq!(last(9), 2 * SEGMENT_BYTES);
        assert_eq!(dir.load().unwrap().sizes.stdout, 3 * SEGMENT_BYTES + 8);
        let mut reader = dir.reader_of(StreamName::Stdout, last(1)).unwrap();
        let frame = reader.next(100).unwrap();
        assert!(matches!(frame, Some(Frame::Data { bytes, .. }) if bytes == "two\n"));
        let mut reader = dir.reader_of(StreamName::Stdout, 0).unwrap();
        let gap = reader.next(100).unwrap();
        assert!(matches!(gap, Some(Frame::Gap { offset: 0, .. })), "{gap:?}");
    }

    #[test]
    fn times_are_those_of_the_records() {
        let (_folder, dir) = made();
        // As a clock that was set back writes them.
        let times: [u64; 4] = [1_000, 2_000, 1_500, 3_000];
        let mut index = vec![];
        for (n, ms) in times.iter().enumerate() {
            let entry = Entry {
                t_ns: ms * 1_000_000,
                offset: 5 * n as u64,
                len: 5,
                crc: crc32fast::hash(b"line\n"),
                stream: StreamName::Stdout,
                kind: Kind::Data,
            };
            index.extend(entry.to_bytes());
        }
        fs::write(dir.path().join("io.idx"), index).unwrap();
        fs::write(
            segment::path(dir.path(), StreamName::Stdout, 0),
            b"line\n".repeat(4),
        )
        .unwrap();
        let span = |since, until| dir.span(StreamName::Stdout, since, until).unwrap();
        assert_eq!(span(None, None), (0, u64::MAX));
        assert_eq!(span(Some(1_001), None), (5, u64::MAX));
        assert_eq!(span(Some(2_000), Some(2_000)), (5, 15));
        assert_eq!(span(None, Some(999)), (0, 0));
        assert_eq!(span(Some(3_001), None), (20, u64::MAX));
        let known = dir.times(StreamName::Stdout, &[0, 7, 10, 19, 20]).unwrap();
        assert_eq!(known, [1_000, 2_000, 1_500, 3_000]);
    }
}
