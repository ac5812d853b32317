//! Appends to a run's streams. One writer a run: its shim.
//!
//! Invariants: data first, then its index record; a failed append changes nothing that a reader
//! sees, and repeating it with the same bytes is the way to go on after the disk has room again;
//! nothing is called durable before the disk said so, and what it refused is written again first.
//! Not here: when the disk is asked (`shim::kept`, `shim::durable`).

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use hpcclient_protocol::{
    StreamName,
    run::{StreamSizes, TerminalSize},
};

use super::{
    RunDir, StoreError, Unsynced,
    index::{self, Entry, Kind, RECORD},
    segment::{self, SEGMENT_BYTES, STREAMS, Segments},
    tail::Tail,
};
use crate::clock::steady_ns;

/// How much of a run's output is kept where its spec does not say it.
pub const KEEP_BYTES: u64 = 1 << 30;
/// Of a stream the first and the last full segment stay in any case.
const KEEP_FULL: u64 = 2;
/// How many pieces may be only in memory before the disk is waited for.
const MAX_PIECES: usize = 16 << 10;
/// How many bytes may be; the last piece, a quarter of a MiB at most, goes over it: 4 MiB with it.
const MAX_BYTES: usize = (4 << 20) - (256 << 10);
/// From so many on the disk is asked at once.
const MANY_BYTES: usize = 1 << 20;
/// From so many on where the last answer was waited for: what is asked for together takes such a disk one
/// time of answering, and while it answers only the rest up to `MAX_BYTES` can be written.
const MOST_BYTES: usize = 3 << 20;

/// Writes the streams of one run.
#[derive(Debug)]
pub struct RunWriter {
    index: Arc<File>,
    index_path: PathBuf,
    index_len: u64,
    index_dirty: bool,
    segments: [Segments; 3],
    sizes: StreamSizes,
    /// How many full segments all streams may have together.
    keep: u64,
    unsaved: Unsaved,
    asked: Asked,
    /// From how many bytes on, that it was not asked for, the disk is asked at once.
    enough: usize,
    durable: StreamSizes,
}

/// What was written and the disk may not have.
#[derive(Debug, Default)]
pub struct Unsaved {
    tail: Tail,
    /// Where its first record is in the index.
    index_at: u64,
    /// The sizes after it, once the run was left.
    sizes: StreamSizes,
}

/// How much of that the disk was asked for last: the first of it.
#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    entries: usize,
    bytes: usize,
    sizes: StreamSizes,
    /// Whether it was asked to take the index too.
    index: bool,
}

impl RunWriter {
    /// Opens a run for writing, after what is there.
    ///
    /// # Errors
    /// The index cannot be opened or read.
    pub fn open(dir: &RunDir) -> Result<Self, StoreError> {
        let index_path = dir.path().join(index::FILE_NAME);
        let index = open_index(&index_path)?;
        let index_len = index::whole(&index, &index_path)?;
        let sizes = if index_len == 0 {
            StreamSizes::default()
        } else {
            index::sizes(dir.path())?
        };
        let mut segments = STREAMS.map(|stream| Segments::new(dir.path().to_owned(), stream));
        for (stream, segments) in STREAMS.into_iter().zip(&mut segments) {
            segments.find_removed(segment::size_of(&sizes, stream));
        }
        Ok(Self {
            index: Arc::new(index),
            index_path,
            index_len,
            index_dirty: false,
            segments,
            sizes,
            keep: u64::MAX,
            unsaved: Unsaved {
                index_at: index_len,
                ..Unsaved::default()
            },
            asked: Asked::default(),
            enough: MANY_BYTES,
            durable: StreamSizes::default(),
        })
    }

    /// Keeps so many bytes, in whole segments, beside those being written: of more, the first segment of
    /// each stream and the last ones.
    #[must_use]
    pub fn keeping(mut self, bytes: u64) -> Self {
        self.keep = bytes.div_ceil(SEGMENT_BYTES);
        self
    }

    /// Returns the sizes of the streams.
    #[must_use]
    pub const fn sizes(&self) -> StreamSizes {
        self.sizes
    }

    /// Returns how much of them the disk has for sure.
    #[must_use]
    pub const fn durable(&self) -> StreamSizes {
        self.durable
    }

    /// Returns whether so much is only in memory that the disk should be asked now.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.unsaved.tail.kept() >= self.asked.bytes + self.enough
            || self.pieces() >= MAX_PIECES / 2
    }

    /// Returns whether so much is only in memory that nothing more should be written before the disk has
    /// answered.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.unsaved.tail.kept() >= MAX_BYTES
            || self.pieces() >= MAX_PIECES
            || self.segments.iter().any(Segments::is_behind)
    }

    /// Returns whether the disk may not have everything.
    #[must_use]
    pub fn is_unsaved(&self) -> bool {
        self.pieces() > 0
    }

    fn pieces(&self) -> usize {
        self.unsaved.tail.entries()
    }

    /// Appends bytes to a stream.
    ///
    /// # Errors
    /// The operating system refused. Nothing was appended; call again with the same bytes.
    pub fn append(&mut self, stream: StreamName, bytes: &[u8]) -> Result<(), StoreError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let offset = segment::size_of(&self.sizes, stream);
        // First, because on a full disk it makes room.
        self.remove_middle(stream, offset + bytes.len() as u64)?;
        self.segments_of(stream).write(offset, bytes)?;
        let entry = Entry {
            t_ns: steady_ns(),
            offset,
            len: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
            crc: crc32fast::hash(bytes),
            stream,
            kind: Kind::Data,
        };
        self.put(entry, bytes)
    }

    /// Notes that the terminal has another size from here on.
    ///
    /// # Errors
    /// The operating system refused; nothing was noted.
    pub fn resize(&mut self, size: TerminalSize) -> Result<(), StoreError> {
        self.put(Entry::resize(steady_ns(), self.sizes.tty, size), b"")
    }

    /// Returns what was written since the last call and the disk may not have yet, in the order in
    /// which it has to get it: bytes before the index of them. Tell the disk's answer with
    /// [`Self::set_saved`] or [`Self::write_again`] before the next call.
    ///
    /// Without the index, which may wait while much is written, nothing becomes durable.
    pub fn take_unsynced(&mut self, with_index: bool) -> Vec<Unsynced> {
        self.asked = Asked {
            entries: self.pieces(),
            bytes: self.unsaved.tail.kept(),
            sizes: self.sizes,
            index: with_index || self.pieces() >= MAX_PIECES / 2,
        };
        let segments = self.segments.iter_mut();
        let mut files: Vec<_> = segments.flat_map(Segments::take_unsynced).collect();
        if self.asked.index && std::mem::take(&mut self.index_dirty) {
            let index = Arc::clone(&self.index);
            files.push(Unsynced::new(self.index_path.clone(), index));
        }
        files
    }

    /// Notes that the disk has all that it was asked for. Returns whether that is everything written
    /// until then, with its records.
    pub fn set_saved(&mut self) -> bool {
        self.enough = if self.is_behind() {
            MOST_BYTES
        } else {
            MANY_BYTES
        };
        let asked = std::mem::take(&mut self.asked);
        self.unsaved.tail.forget_bytes(asked.bytes);
        if asked.index {
            self.durable = asked.sizes;
            self.unsaved.index_at += (asked.entries * RECORD) as u64;
            self.unsaved.tail.forget_entries(asked.entries);
        }
        asked.index
    }

    /// Writes again what the disk refused, and what came after it, into files that are opened anew.
    ///
    /// # Errors
    /// The operating system refused; call again.
    pub fn write_again(&mut self) -> Result<(), StoreError> {
        self.asked = Asked::default();
        self.segments.iter_mut().for_each(Segments::close);
        self.index = Arc::new(open_index(&self.index_path)?);
        // The pieces are borrowed while they are written.
        let mut unsaved = std::mem::take(&mut self.unsaved);
        let done = self.rewrite(&mut unsaved);
        self.unsaved = unsaved;
        done
    }

    /// Leaves the run: what the disk may not have, and what is needed should it refuse.
    #[must_use]
    pub fn leave(mut self) -> (Vec<Unsynced>, Unsaved) {
        let files = self.take_unsynced(true);
        self.unsaved.sizes = self.sizes;
        self.unsaved.tail.shrink();
        (files, self.unsaved)
    }

    fn rewrite(&mut self, unsaved: &mut Unsaved) -> Result<(), StoreError> {
        let mut at = unsaved.index_at;
        for (entry, kept) in unsaved.tail.pieces() {
            if let (Kind::Data, Some(bytes)) = (entry.kind, kept) {
                self.segments_of(entry.stream).write(entry.offset, bytes)?;
            }
            self.index
                .write_all_at(&entry.to_bytes(), at)
                .map_err(|source| StoreError::io("write", &self.index_path, source))?;
            at += RECORD as u64;
        }
        self.index_dirty = true;
        Ok(())
    }

    /// Removes full segments until those that are left with `stream` at its new size are few enough.
    fn remove_middle(&mut self, stream: StreamName, size: u64) -> Result<(), StoreError> {
        if size.div_ceil(SEGMENT_BYTES)
            <= segment::size_of(&self.sizes, stream).div_ceil(SEGMENT_BYTES)
        {
            return Ok(());
        }
        let mut sizes = self.sizes;
        *segment::size_of_mut(&mut sizes, stream) = size;
        loop {
            let full = |(stream, segments): (StreamName, &Segments)| {
                (segments.full(segment::size_of(&sizes, stream)), stream)
            };
            let each = || STREAMS.into_iter().zip(&self.segments).map(full);
            let all: u64 = each().map(|(full, _)| full).sum();
            match each().max_by_key(|(full, _)| *full) {
                Some((full, most)) if all > self.keep && full > KEEP_FULL => {
                    let offset = self.segments_of(most).remove_next();
                    let len = u32::try_from(SEGMENT_BYTES).unwrap_or(u32::MAX);
                    self.put(Entry::gap(steady_ns(), most, offset, len), b"")?;
                }
                _ => return Ok(()),
            }
        }
    }

    /// Makes records for bytes that the index does not know; see [`RunDir::recover`].
    pub(super) fn adopt(&mut self) -> Result<StreamSizes, StoreError> {
        for stream in STREAMS {
            let size = segment::size_of(&self.sizes, stream);
            let end = self.segments_of(stream).stored(size);
            let mut at = size;
            while at < end {
                let step = usize::try_from(end - at).unwrap_or(usize::MAX).min(1 << 20);
                let bytes = Segments::read(self.segments_of(stream), at, step)?;
                if bytes.is_empty() {
                    break;
                }
                let entry = Entry {
                    t_ns: steady_ns(),
                    offset: at,
                    len: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
                    crc: crc32fast::hash(&bytes),
                    stream,
                    kind: Kind::Data,
                };
                self.put(entry, b"")?;
                at += bytes.len() as u64;
            }
        }
        Ok(self.sizes)
    }

    fn put(&mut self, entry: Entry, bytes: &[u8]) -> Result<(), StoreError> {
        self.index
            .write_all_at(&entry.to_bytes(), self.index_len)
            .map_err(|source| StoreError::io("write", &self.index_path, source))?;
        self.index_len += RECORD as u64;
        self.index_dirty = true;
        self.unsaved.tail.note(entry, bytes);
        if entry.kind == Kind::Data {
            *segment::size_of_mut(&mut self.sizes, entry.stream) = entry.end();
        }
        Ok(())
    }

    const fn segments_of(&mut self, stream: StreamName) -> &mut Segments {
        let [out, err, tty] = &mut self.segments;
        match stream {
            StreamName::Stdout => out,
            StreamName::Stderr => err,
            StreamName::Tty => tty,
        }
    }
}

impl Unsaved {
    /// Returns the sizes of the streams when the run was left.
    #[must_use]
    pub const fn sizes(&self) -> StreamSizes {
        self.sizes
    }

    /// Returns how many bytes of memory it takes, about.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.tail.kept() + self.tail.entries() * RECORD
    }

    /// Writes again what the disk refused of a run that was left, and waits until it has it.
    ///
    /// # Errors
    /// The operating system refused; call again.
    pub fn save(&mut self, dir: &RunDir) -> Result<(), StoreError> {
        let mut writer = RunWriter::open(dir)?;
        writer.unsaved = std::mem::take(self);
        let sizes = writer.unsaved.sizes;
        let saved = writer.write_again().and_then(|()| {
            writer
                .take_unsynced(true)
                .iter()
                .try_for_each(Unsynced::sync)
        });
        *self = writer.unsaved;
        self.sizes = sizes;
        saved
    }
}

fn open_index(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|source| StoreError::io("open", path, source))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use hpcclient_protocol::{Command, Frame, RunId, RunSpec};
    use proptest::prelude::*;

    use super::*;
    use crate::store::Store;

    fn made() -> (tempfile::TempDir, RunDir) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("runs")).unwrap();
        let spec = RunSpec::new(Command::Shell("true".into()));
        let dir = store.create(RunId::random(), &spec, 7, "node").unwrap();
        (folder, dir)
    }

    /// What a reader from these offsets on gets of each stream: bytes, and `None` where they are gone.
    fn read(dir: &RunDir, from: StreamSizes) -> [Vec<Option<u8>>; 3] {
        let mut reader = dir.reader(from).unwrap();
        let mut seen = [vec![], vec![], vec![]];
        let at = |stream| STREAMS.iter().position(|known| *known == stream).unwrap();
        while let Some(frame) = reader.next(700).unwrap() {
            match frame {
                Frame::Data {
                    stream,
                    offset,
                    bytes,
                } => {
                    let seen = &mut seen[at(stream)];
                    assert_eq!(offset, segment::size_of(&from, stream) + seen.len() as u64);
                    seen.extend(bytes.iter().map(|byte| Some(*byte)));
                }
                Frame::Gap { stream, offset, to } => {
                    let seen = &mut seen[at(stream)];
                    assert_eq!(offset, segment::size_of(&from, stream) + seen.len() as u64);
                    seen.extend((offset..to).map(|_| None));
                }
                other => panic!("{other:?}"),
            }
        }
        seen
    }

    fn files(dir: &RunDir) -> u64 {
        let files = fs::read_dir(dir.path()).unwrap().flatten();
        files
            .filter(|file| file.file_name().to_string_lossy().ends_with(".raw"))
            .count() as u64
    }

    proptest! {
        #[test]
        fn of_much_the_first_and_the_last_bytes_stay_and_the_rest_is_a_gap(
            pieces in prop::collection::vec((0usize..2, 1usize..1100, any::<u8>()), 1..60),
            keep in 1u64..8, reopened in any::<prop::sample::Index>(), from in any::<[u16; 2]>(),
        ) {
            let (_folder, dir) = made();
            let mut writer = RunWriter::open(&dir).unwrap().keeping(keep * SEGMENT_BYTES - 1);
            let mut model = [vec![], vec![]];
            for (number, (stream, len, byte)) in pieces.iter().enumerate() {
                if number == reopened.index(pieces.len()) {
                    writer = RunWriter::open(&dir).unwrap().keeping(keep * SEGMENT_BYTES);
                }
                let bytes: Vec<u8> = (0..*len).map(|n| byte.wrapping_add(u8::try_from(n % 251).unwrap())).collect();
                writer.append(STREAMS[*stream], &bytes).unwrap();
                model[*stream].extend(bytes);
                // Full segments: as many as wanted, or two of each stream. And one of each being written.
                prop_assert!(files(&dir) <= keep.max(4) + 2);
            }
            let sizes = StreamSizes { stdout: model[0].len() as u64, stderr: model[1].len() as u64, tty: 0 };
            prop_assert_eq!(dir.load().unwrap().sizes, sizes);
            let all: u64 = model.iter().map(|all| all.len() as u64).sum();
            let cut = |n: usize| u64::from(from[n]) % (model[n].len() as u64 + 1);
            for from in [StreamSizes::default(), StreamSizes { stdout: cut(0), stderr: cut(1), tty: 0 }] {
                let seen = read(&dir, from);
                let mut missing = 0;
                for (n, model) in model.iter().enumerate() {
                    let start = usize::try_from(segment::size_of(&from, STREAMS[n])).unwrap();
                    prop_assert_eq!(seen[n].len(), model.len() - start);
                    for (at, seen) in (start..).zip(&seen[n]) {
                        let segment = usize::try_from(SEGMENT_BYTES).unwrap();
                        let is_end = at < segment || at + segment >= model.len();
                        prop_assert!(*seen == Some(model[at]) || (seen.is_none() && !is_end), "{n} {at}");
                        missing += u64::from(seen.is_none());
                    }
                }
                prop_assert!(missing == 0 || all - missing >= (keep - 1) * SEGMENT_BYTES);
            }
        }

        #[test]
        fn what_the_disk_refused_and_lost_is_written_again(
            pieces in prop::collection::vec((0usize..3, 1usize..700), 1..40),
            refused in prop::collection::vec(any::<(bool, bool, bool)>(), 1..40),
        ) {
            let (_folder, dir) = made();
            let mut writer = RunWriter::open(&dir).unwrap();
            let mut number = 0u8;
            let (mut saved, mut durable) = (StreamSizes::default(), StreamSizes::default());
            let mut model: [Vec<Option<u8>>; 3] = Default::default();
            for ((stream, len), (ask, with_index, is_refused)) in pieces.iter().zip(refused.iter().cycle()) {
                number = number.wrapping_add(1);
                writer.append(STREAMS[*stream], &vec![number; *len]).unwrap();
                model[*stream].extend(vec![Some(number); *len]);
                if !ask {
                    continue;
                }
                drop(writer.take_unsynced(*with_index));
                let mut is_durable = *with_index;
                if *is_refused {
                    // The worst that a disk can do with what it did not take.
                    lose(&dir, saved, durable);
                    writer.write_again().unwrap();
                    prop_assert!(!writer.take_unsynced(true).is_empty());
                    is_durable = true;
                }
                prop_assert_eq!(writer.set_saved(), is_durable);
                saved = writer.sizes();
                if is_durable {
                    durable = saved;
                }
                prop_assert_eq!(writer.durable(), durable);
            }
            let (_, mut unsaved) = writer.leave();
            lose(&dir, saved, durable);
            unsaved.save(&dir).unwrap();
            prop_assert_eq!(read(&dir, StreamSizes::default()), model);
        }
    }

    /// Fills all bytes that the disk has not with others, and so the records.
    fn lose(dir: &RunDir, saved: StreamSizes, durable: StreamSizes) {
        for stream in STREAMS {
            let mut at = segment::size_of(&saved, stream);
            while let Ok(file) = OpenOptions::new().write(true).open(segment::path(
                dir.path(),
                stream,
                at / SEGMENT_BYTES,
            )) {
                let start = at % SEGMENT_BYTES;
                let len = file.metadata().unwrap().len().saturating_sub(start);
                file.write_all_at(&vec![0xff; usize::try_from(len).unwrap()], start)
                    .unwrap();
                at = (at / SEGMENT_BYTES + 1) * SEGMENT_BYTES;
            }
        }
        let path = dir.path().join(index::FILE_NAME);
        let bytes = fs::read(&path).unwrap();
        let mut kept: Vec<u8> = vec![];
        for record in bytes.chunks(RECORD) {
            let entry = Entry::parse(record).unwrap();
            let is_durable = entry.end() <= segment::size_of(&durable, entry.stream);
            kept.extend(if is_durable {
                record.to_vec()
            } else {
                vec![0; RECORD]
            });
        }
        fs::write(path, kept).unwrap();
    }
}
