//! Reads a run's streams as frames, in the order of writing, from any offsets, also while it runs.
//!
//! Called by the agent for every viewer; it holds one record and one block of the index, so a viewer
//! costs little. It blocks on the file system: not for an async task.
//! Invariants: no byte without an index record; every byte once; bytes that are gone or damaged
//! are a `Gap`, never a silent jump.

use hpcclient_protocol::{
    Frame, StreamName,
    frame::MAX_PAYLOAD,
    run::{StreamSizes, TerminalSize},
};

use super::{
    RunDir, StoreError,
    index::{self, Backwards, Cursor, Entry, Kind},
    segment::{self, STREAMS, Segments},
};

/// How much of a record is looked at at a time before it is handed out in parts.
const STEP: usize = 64 << 10;

/// A cursor over a run's output.
#[derive(Debug)]
pub struct RunReader {
    cursor: Cursor,
    segments: [Segments; 3],
    /// The next offset of each stream.
    next: StreamSizes,
    /// A record of which not everything was handed out.
    open: Option<Entry>,
    /// When the record was written that was handed out last.
    t_ns: u64,
    /// A size from before the place where the reader starts, which still holds there.
    size: Option<TerminalSize>,
    /// The record whose bytes were found to be those that were written; it is handed out in parts.
    checked: Option<Entry>,
    /// Whether another node is writing it now.
    grows: bool,
}

impl RunDir {
    /// Returns a reader that goes on after what a viewer has.
    ///
    /// # Errors
    /// `BadOffset` when a stream is shorter than that; else the index cannot be read.
    pub fn reader(&self, from: StreamSizes) -> Result<RunReader, StoreError> {
        if from != StreamSizes::default() {
            let sizes = index::sizes(self.path())?;
            for stream in STREAMS {
                let (offset, size) = (
                    segment::size_of(&from, stream),
                    segment::size_of(&sizes, stream),
                );
                if offset > size {
                    return Err(StoreError::BadOffset {
                        stream: stream.as_str(),
                        offset,
                        size,
                    });
                }
            }
        }
        self.reader_at(from)
    }

    /// Returns a reader of one stream alone, from an offset on.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn reader_of(&self, stream: StreamName, from: u64) -> Result<RunReader, StoreError> {
        let mut next = NOTHING;
        *segment::size_of_mut(&mut next, stream) = from;
        self.reader_at(next)
    }

    fn reader_at(&self, next: StreamSizes) -> Result<RunReader, StoreError> {
        let (at, size) = self.place_of(&next)?;
        Ok(RunReader {
            cursor: Cursor::new(self.path(), at),
            segments: STREAMS.map(|stream| Segments::new(self.path().to_owned(), stream)),
            next,
            open: None,
            t_ns: 0,
            size,
            checked: None,
            grows: false,
        })
    }

    /// Returns where in the index the records start that a reader from these offsets needs, and the size that the
    /// terminal has there, by walking the index backwards: near the end of a large run it is a short way.
    fn place_of(&self, next: &StreamSizes) -> Result<(u64, Option<TerminalSize>), StoreError> {
        let offset = |stream: &StreamName| segment::size_of(next, *stream);
        let mut ahead = STREAMS.to_vec();
        ahead.retain(|stream| offset(stream) != u64::MAX);
        if ahead.iter().all(|stream| offset(stream) == 0) {
            return Ok((0, None));
        }
        // Before it is asked which files there are: a record's file is older than the record.
        let mut records = Backwards::new(self.path())?;
        if ahead
            .iter()
            .any(|stream| offset(stream) == 0 && segment::any(self.path(), *stream))
        {
            return Ok((0, None));
        }
        ahead.retain(|stream| offset(stream) > 0);
        let wants_size = ahead.contains(&StreamName::Tty);
        let mut place = None;
        while let Some((at, entry)) = records.next()? {
            // A gap is noted when its bytes go, long after those behind it were written.
            if entry.kind == Kind::Data && entry.offset <= offset(&entry.stream) {
                ahead.retain(|stream| *stream != entry.stream);
            }
            if ahead.is_empty() {
                let place = *place.get_or_insert(at);
                if entry.kind == Kind::Resize && at < place {
                    return Ok((place, Some(entry.terminal_size())));
                }
                if !wants_size {
                    return Ok((place, None));
                }
            }
        }
        Ok((place.unwrap_or(0), None))
    }
}

/// Offsets of which no stream has a byte.
const NOTHING: StreamSizes = StreamSizes {
    stdout: u64::MAX,
    stderr: u64::MAX,
    tty: u64::MAX,
};

impl RunReader {
    /// Returns a reader of a run that another node is writing: a network file system may show the
    /// index before the bytes, so what is missing there is not yet here, and not a `Gap`.
    #[must_use]
    pub fn of_growing(self) -> Self {
        Self {
            grows: true,
            ..self
        }
    }

    /// Returns the offsets after what was handed out so far.
    #[must_use]
    pub const fn offsets(&self) -> StreamSizes {
        self.next
    }

    /// Passes over what lies before these offsets, without a `Gap`. The sizes of the terminal on the way still come.
    pub fn pass_to(&mut self, to: StreamSizes) {
        for stream in STREAMS {
            let next = segment::size_of_mut(&mut self.next, stream);
            *next = (*next).max(segment::size_of(&to, stream));
        }
    }

    /// Returns when the bytes were written that [`Self::next`] returned last, in nanoseconds since 1970 by the node's
    /// clock.
    #[must_use]
    pub const fn written_ns(&self) -> u64 {
        self.t_ns
    }

    /// Returns the next `Data` of at most `max` bytes, `Gap` or `Resize`; `None` when there is
    /// nothing more now. Call again after growth.
    ///
    /// # Errors
    /// The operating system refused. The reader is still good: call again.
    pub fn next(&mut self, max: usize) -> Result<Option<Frame>, StoreError> {
        if let Some(size) = self.size.take() {
            return Ok(Some(Frame::Resize(size)));
        }
        loop {
            let entry = match self.open.take() {
                Some(entry) => entry,
                None => match self.cursor.next()? {
                    Some(entry) => entry,
                    None => return Ok(None),
                },
            };
            let at = segment::size_of(&self.next, entry.stream);
            self.t_ns = entry.t_ns;
            match entry.kind {
                // A size from before the viewer's offset still holds: the last one is always told.
                Kind::Resize => return Ok(Some(Frame::Resize(entry.terminal_size()))),
                Kind::Data | Kind::Gap if entry.end() <= at => {}
                Kind::Data if entry.offset > at => {
                    self.open = Some(entry);
                    return Ok(Some(self.gap(entry.stream, entry.offset)));
                }
                Kind::Gap => return Ok(Some(self.gap(entry.stream, entry.end()))),
                Kind::Data => match self.data(entry, at, max) {
                    Ok(frame) => return Ok(frame),
                    Err(error) => {
                        self.open = Some(entry);
                        return Err(error);
                    }
                },
            }
        }
    }

    fn gap(&mut self, stream: StreamName, to: u64) -> Frame {
        let next = segment::size_of_mut(&mut self.next, stream);
        let offset = std::mem::replace(next, to);
        Frame::Gap { stream, offset, to }
    }

    fn data(&mut self, entry: Entry, at: u64, max: usize) -> Result<Option<Frame>, StoreError> {
        let stream = entry.stream;
        let left = usize::try_from(entry.end() - at).unwrap_or(usize::MAX);
        let mut wanted = left.min(max.clamp(1, MAX_PAYLOAD));
        let segments = self.segments_of(stream);
        let bytes = segments.read(at, wanted)?;
        if bytes.len() < wanted
            && let Some(to) = segments.after_missing(at + bytes.len() as u64)?
        {
            if bytes.is_empty() {
                self.open = Some(entry);
                return Ok(Some(self.gap(stream, to)));
            }
            // The piece went over a segment's end, and the next one is not kept.
            wanted = bytes.len();
        }
        let whole = at == entry.offset && bytes.len() as u64 == u64::from(entry.len);
        // Data is written before its record: when some is missing, the rest is not to be trusted.
        let good = bytes.len() == wanted
            && if whole {
                crc32fast::hash(&bytes) == entry.crc
            } else {
                self.checked == Some(entry) || self.check(entry)?
            };
        if !good {
            if self.grows {
                self.open = Some(entry);
                return Ok(None);
            }
            let path = self.segments_of(stream).path_of(entry.offset);
            tracing::warn!(path = %path.display(), from = at, to = entry.end(), "stored output is damaged");
            return Ok(Some(self.gap(stream, entry.end())));
        }
        let end = at + bytes.len() as u64;
        *segment::size_of_mut(&mut self.next, stream) = end;
        if end < entry.end() {
            self.open = Some(entry);
        }
        Ok(Some(Frame::Data {
            stream,
            offset: at,
            bytes: bytes.into(),
        }))
    }

    /// Reads a record that is handed out in parts once as a whole, and says whether its bytes are those that were written.
    fn check(&mut self, entry: Entry) -> Result<bool, StoreError> {
        let (mut crc, mut at) = (crc32fast::Hasher::new(), entry.offset);
        while at < entry.end() {
            let left = usize::try_from(entry.end() - at).unwrap_or(usize::MAX);
            let bytes = self.segments_of(entry.stream).read(at, left.min(STEP))?;
            if bytes.is_empty() {
                // Where a part was pruned, the rest cannot be checked and is what it is.
                return Ok(self.segments_of(entry.stream).after_missing(at)?.is_some());
            }
            crc.update(&bytes);
            at += bytes.len() as u64;
        }
        let good = crc.finalize() == entry.crc;
        self.checked = good.then_some(entry);
        Ok(good)
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

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use hpcclient_protocol::{Command, RunId, RunSpec, RunState};
    use proptest::prelude::*;

    use super::*;
    use crate::store::{RunRecord, RunWriter, SEGMENT_BYTES, Store};

    fn made() -> (tempfile::TempDir, RunDir) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("runs")).unwrap();
        let spec = RunSpec::new(Command::Shell("true".into()));
        let dir = store.create(RunId::random(), &spec, 7, "node").unwrap();
        (folder, dir)
    }

    type Piece = (usize, Vec<u8>);

    fn pieces() -> impl Strategy<Value = Vec<Piece>> {
        let bytes = prop_oneof![
            prop::collection::vec(any::<u8>(), 1..40),
            prop::collection::vec(any::<u8>(), 900..1100),
        ];
        prop::collection::vec((0usize..3, bytes), 0..12)
    }

    fn write(writer: &mut RunWriter, pieces: &[Piece], model: &mut [Vec<u8>; 3]) {
        for (stream, bytes) in pieces {
            writer.append(STREAMS[*stream], bytes).unwrap();
            model[*stream].extend_from_slice(bytes);
        }
    }

    fn sizes(model: &[Vec<u8>; 3]) -> StreamSizes {
        StreamSizes {
            stdout: model[0].len() as u64,
            stderr: model[1].len() as u64,
            tty: model[2].len() as u64,
        }
    }

    /// Reads on and checks each byte against the model; returns the bytes that were in gaps.
    fn read(reader: &mut RunReader, max: usize, model: &[Vec<u8>; 3]) -> u64 {
        let mut missed = 0;
        while let Some(frame) = reader.next(max).unwrap() {
            match frame {
                Frame::Data {
                    stream,
                    offset,
                    bytes,
                } => {
                    let at = usize::try_from(offset).unwrap();
                    let known = &model[STREAMS.iter().position(|s| *s == stream).unwrap()];
                    assert_eq!(&known[at..at + bytes.len()], &bytes[..]);
                    assert!(bytes.len() <= max);
                }
                Frame::Gap { offset, to, .. } => missed += to - offset,
                _ => {}
            }
        }
        missed
    }

    proptest! {
        #[test]
        fn a_reader_sees_the_model_from_any_offset_also_while_it_grows(
            first in pieces(), second in pieces(), max in 1usize..1500, from in any::<[u16; 3]>(),
        ) {
            let (_folder, dir) = made();
            let mut model = [vec![], vec![], vec![]];
            write(&mut RunWriter::open(&dir).unwrap(), &first, &mut model);
            let cut = |n: usize| u64::from(from[n]) % (model[n].len() as u64 + 1);
            let from = StreamSizes { stdout: cut(0), stderr: cut(1), tty: cut(2) };
            let mut reader = dir.reader(from).unwrap();
            prop_assert_eq!(read(&mut reader, max, &model), 0);
            prop_assert_eq!(reader.offsets(), sizes(&model));
            // Another writer goes on where the first was.
            write(&mut RunWriter::open(&dir).unwrap(), &second, &mut model);
            prop_assert_eq!(read(&mut reader, max, &model), 0);
            prop_assert_eq!(reader.offsets(), sizes(&model));
            prop_assert_eq!(dir.load().unwrap().sizes, sizes(&model));
        }

        #[test]
        fn damage_of_any_file_is_told_and_never_passed_on(
            pieces in pieces(), victim in any::<prop::sample::Index>(),
            at in any::<prop::sample::Index>(), garbage in prop::collection::vec(any::<u8>(), 0..80),
            cut in any::<bool>(),
        ) {
            let (_folder, dir) = made();
            let mut model = [vec![], vec![], vec![]];
            write(&mut RunWriter::open(&dir).unwrap(), &pieces, &mut model);
            let mut files: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|f| f.unwrap().path()).collect();
            files.sort();
            let file = victim.get(&files);
            let mut bytes = fs::read(file).unwrap();
            let at = at.index(bytes.len() + 1);
            if cut {
                bytes.truncate(at);
            }
            for (n, byte) in garbage.iter().enumerate() {
                if at + n < bytes.len() {
                    bytes[at + n] = *byte;
                } else {
                    bytes.push(*byte);
                }
            }
            fs::write(file, bytes).unwrap();
            let run = dir.load().unwrap();
            prop_assert!(run.state == RunState::Queued || run.reason.is_some());
            let mut reader = dir.reader(StreamSizes::default()).unwrap();
            read(&mut reader, MAX_PAYLOAD, &model);
            prop_assert!(reader.offsets().stdout <= sizes(&model).stdout);
        }
    }

    #[test]
    fn damage_in_a_record_that_is_handed_out_in_parts_is_a_gap() {
        let (_folder, dir) = made();
        let mut writer = RunWriter::open(&dir).unwrap();
        let piece = vec![b'x'; 300];
        writer.append(StreamName::Stdout, &piece).unwrap();
        writer.append(StreamName::Stdout, &piece).unwrap();
        let path = segment::path(dir.path(), StreamName::Stdout, 0);
        let mut bytes = fs::read(&path).unwrap();
        bytes[450] = b'y';
        fs::write(&path, bytes).unwrap();
        let mut model = [[&piece[..], &piece].concat(), vec![], vec![]];
        let mut reader = dir.reader(StreamSizes::default()).unwrap();
        assert_eq!(read(&mut reader, 100, &model), 300);
        // Also from the middle of it, and what comes after it is good.
        writer.append(StreamName::Stdout, b"after").unwrap();
        model[0].extend(b"after");
        let from = StreamSizes {
            stdout: 400,
            ..StreamSizes::default()
        };
        assert_eq!(read(&mut dir.reader(from).unwrap(), 100, &model), 200);
    }

    #[test]
    fn bytes_without_a_record_are_not_read_until_they_are_recovered() {
        let (_folder, dir) = made();
        let mut writer = RunWriter::open(&dir).unwrap();
        let all = vec![b'x'; usize::try_from(SEGMENT_BYTES).unwrap() + 5];
        writer.append(StreamName::Stdout, b"first").unwrap();
        writer.append(StreamName::Stdout, &all).unwrap();
        let index = dir.path().join(index::FILE_NAME);
        // The writer died in the middle of its second record.
        fs::OpenOptions::new()
            .write(true)
            .open(&index)
            .unwrap()
            .set_len(40)
            .unwrap();
        let mut reader = dir.reader(StreamSizes::default()).unwrap();
        assert!(
            matches!(reader.next(100).unwrap(), Some(Frame::Data { bytes, .. }) if bytes == "first")
        );
        assert_eq!(reader.next(100).unwrap(), None);
        assert_eq!(dir.recover().unwrap().stdout, 5 + all.len() as u64);
        let mut model = [b"first".to_vec(), vec![], vec![]];
        model[0].extend_from_slice(&all);
        assert_eq!(read(&mut reader, 300, &model), 0);
        assert_eq!(reader.offsets(), sizes(&model));
    }

    #[test]
    fn an_offset_beyond_the_end_is_refused_and_sizes_are_frames_too() {
        let (_folder, dir) = made();
        let mut writer = RunWriter::open(&dir).unwrap();
        writer.append(StreamName::Tty, b"abc").unwrap();
        writer.resize(TerminalSize { cols: 90, rows: 30 }).unwrap();
        let beyond = StreamSizes {
            tty: 4,
            ..StreamSizes::default()
        };
        let refused = dir.reader(beyond).unwrap_err();
        assert!(matches!(
            refused,
            StoreError::BadOffset {
                stream: "tty",
                offset: 4,
                size: 3
            }
        ));
        let mut reader = dir
            .reader(StreamSizes {
                tty: 3,
                ..StreamSizes::default()
            })
            .unwrap();
        let size = TerminalSize { cols: 90, rows: 30 };
        assert_eq!(reader.next(10).unwrap(), Some(Frame::Resize(size)));
        assert_eq!(reader.next(10).unwrap(), None);
    }

    #[test]
    fn bytes_that_another_node_has_not_sent_yet_are_waited_for() {
        let (_folder, dir) = made();
        let mut writer = RunWriter::open(&dir).unwrap();
        writer.append(StreamName::Stdout, b"here").unwrap();
        writer.append(StreamName::Stdout, b"later").unwrap();
        let segment = segment::path(dir.path(), StreamName::Stdout, 0);
        let late = fs::read(&segment).unwrap();
        fs::write(&segment, &late[..6]).unwrap();
        let mut reader = dir.reader(StreamSizes::default()).unwrap().of_growing();
        let is = |frame: Option<Frame>, text: &str| matches!(frame, Some(Frame::Data { bytes, .. }) if bytes == text);
        assert!(is(reader.next(100).unwrap(), "here"));
        assert_eq!(reader.next(100).unwrap(), None);
        fs::write(&segment, late).unwrap();
        assert!(is(reader.next(100).unwrap(), "later"));
    }

    #[test]
    fn a_missing_segment_is_a_gap() {
        let (_folder, dir) = made();
        let mut writer = RunWriter::open(&dir).unwrap();
        for byte in [b'a', b'b', b'c'] {
            let bytes = vec![byte; usize::try_from(SEGMENT_BYTES).unwrap()];
            writer.append(StreamName::Stdout, &bytes).unwrap();
        }
        fs::remove_file(segment::path(dir.path(), StreamName::Stdout, 1)).unwrap();
        let mut reader = dir.reader(StreamSizes::default()).unwrap();
        let mut seen = vec![];
        while let Some(frame) = reader.next(MAX_PAYLOAD).unwrap() {
            seen.push(match frame {
                Frame::Data { offset, .. } => (true, offset),
                Frame::Gap { offset, .. } => (false, offset),
                other => panic!("{other:?}"),
            });
        }
        assert_eq!(seen, [(true, 0), (false, 1000), (true, 2000)]);
    }

    #[test]
    fn files_are_private() {
        use std::os::unix::fs::PermissionsExt;
        let (folder, dir) = made();
        RunWriter::open(&dir)
            .unwrap()
            .append(StreamName::Stdout, b"x")
            .unwrap();
        dir.write_record(&RunRecord::new(RunState::Running))
            .unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder.path().join("runs")), 0o700);
        assert_eq!(mode(dir.path()), 0o700);
        for file in fs::read_dir(dir.path()).unwrap() {
            assert_eq!(mode(&file.unwrap().path()), 0o600);
        }
    }
}
