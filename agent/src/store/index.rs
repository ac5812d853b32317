//! `io.idx`: which bytes were written when, to which stream, in the order of writing.
//!
//! ```text
//!   t_ns u64 | offset u64 | len u32 | crc32 u32 | stream u8 | kind u8 | 0 u16 | check u32
//! ```
//!
//! 32 bytes a record, big endian. `crc32` is of the data, `check` is of the 28 bytes before it.
//! A resize has the columns and rows in `len`; a gap says that `len` bytes, which were indexed before,
//! are not kept any more.
//! Invariants: a record is appended after its data; a record whose check fails is passed over when
//! whole ones follow it, and is "not there yet" at the end.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use hpcclient_protocol::{
    StreamName,
    run::{StreamSizes, TerminalSize},
};

use super::{
    StoreError,
    segment::{self, STREAMS},
};

/// The file's name in a run's folder.
pub(super) const FILE_NAME: &str = "io.idx";
/// The size of a record.
pub(super) const RECORD: usize = 32;
/// How much of the file is read at a time, and kept for each viewer.
const BLOCK: usize = 64 * RECORD;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Data = 1,
    Resize = 2,
    Gap = 3,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) t_ns: u64,
    pub(super) offset: u64,
    pub(super) len: u32,
    pub(super) crc: u32,
    pub(super) stream: StreamName,
    pub(super) kind: Kind,
}

impl Entry {
    pub(super) fn resize(t_ns: u64, offset: u64, size: TerminalSize) -> Self {
        Self {
            t_ns,
            offset,
            len: u32::from(size.cols) << 16 | u32::from(size.rows),
            crc: 0,
            stream: StreamName::Tty,
            kind: Kind::Resize,
        }
    }

    /// Says that `len` bytes from an offset on are not kept.
    pub(super) const fn gap(t_ns: u64, stream: StreamName, offset: u64, len: u32) -> Self {
        Self {
            t_ns,
            offset,
            len,
            crc: 0,
            stream,
            kind: Kind::Gap,
        }
    }

    /// Returns the size that a resize carries.
    pub(super) fn terminal_size(&self) -> TerminalSize {
        let half = |value: u32| u16::try_from(value & 0xffff).unwrap_or_default();
        TerminalSize {
            cols: half(self.len >> 16),
            rows: half(self.len),
        }
    }

    /// Returns the offset after the last byte.
    pub(super) fn end(&self) -> u64 {
        match self.kind {
            Kind::Resize => self.offset,
            Kind::Data | Kind::Gap => self.offset.saturating_add(u64::from(self.len)),
        }
    }

    pub(super) fn to_bytes(self) -> [u8; RECORD] {
        let mut bytes = Vec::with_capacity(RECORD);
        bytes.extend_from_slice(&self.t_ns.to_be_bytes());
        bytes.extend_from_slice(&self.offset.to_be_bytes());
        bytes.extend_from_slice(&self.len.to_be_bytes());
        bytes.extend_from_slice(&self.crc.to_be_bytes());
        bytes.extend_from_slice(&[self.stream as u8, self.kind as u8, 0, 0]);
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
        bytes.try_into().unwrap_or([0; RECORD])
    }

    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (head, check) = bytes.split_last_chunk::<4>()?;
        if head.len() + 4 != RECORD || crc32fast::hash(head) != u32::from_be_bytes(*check) {
            return None;
        }
        let (t_ns, rest) = head.split_first_chunk::<8>()?;
        let (offset, rest) = rest.split_first_chunk::<8>()?;
        let (len, rest) = rest.split_first_chunk::<4>()?;
        let (crc, rest) = rest.split_first_chunk::<4>()?;
        let (stream, kind) = match rest {
            [stream, kind, 0, 0] => (StreamName::from_number(*stream)?, *kind),
            _ => return None,
        };
        let kind = match kind {
            1 => Kind::Data,
            2 => Kind::Resize,
            3 => Kind::Gap,
            _ => return None,
        };
        Some(Self {
            t_ns: u64::from_be_bytes(*t_ns),
            offset: u64::from_be_bytes(*offset),
            len: u32::from_be_bytes(*len),
            crc: u32::from_be_bytes(*crc),
            stream,
            kind,
        })
    }
}

/// Walks the index forwards, also while it grows.
#[derive(Debug)]
pub(super) struct Cursor {
    path: PathBuf,
    file: Option<File>,
    /// Where the next record starts in the file.
    at: u64,
    block: Vec<u8>,
    /// How much of `block` was handed out.
    used: usize,
}

impl Cursor {
    /// Starts at the record that starts `at` in the file.
    pub(super) fn new(folder: &Path, at: u64) -> Self {
        Self {
            path: folder.join(FILE_NAME),
            file: None,
            at,
            block: Vec::new(),
            used: 0,
        }
    }

    /// Returns the next whole record, or `None` when there is none now.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, StoreError> {
        let mut passed = 0;
        loop {
            let rest = self.block.get(self.used + passed..).unwrap_or_default();
            let Some(record) = rest.get(..RECORD) else {
                // At the end: forget the block from here on, so that the tail is read afresh.
                if !self.fill(passed)? {
                    return Ok(None);
                }
                // What looked bad may have been half written: it is judged again.
                passed = 0;
                continue;
            };
            passed += RECORD;
            if let Some(entry) = Entry::parse(record) {
                self.used += passed;
                return Ok(Some(entry));
            }
        }
    }

    /// Reads the next block, keeping nothing but the place; says whether it holds a record after
    /// the `passed` bytes of bad ones.
    fn fill(&mut self, passed: usize) -> Result<bool, StoreError> {
        self.at += self.used as u64;
        self.used = 0;
        self.block.clear();
        if self.file.is_none() {
            match File::open(&self.path) {
                Ok(file) => self.file = Some(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                Err(source) => return Err(StoreError::io("open", &self.path, source)),
            }
        }
        let Some(file) = &self.file else {
            return Ok(false);
        };
        self.block = read_at(file, &self.path, self.at, passed + BLOCK)?;
        let more = self.block.len() >= passed + RECORD;
        if !more {
            // What could not be read whole is asked for again next time.
            self.block.clear();
        }
        Ok(more)
    }
}

/// Walks what the index holds now backwards, from its end.
#[derive(Debug)]
pub(super) struct Backwards {
    path: PathBuf,
    file: Option<File>,
    /// Where the block starts in the file.
    start: u64,
    /// What of it was not handed out.
    block: Vec<u8>,
}

impl Backwards {
    pub(super) fn new(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join(FILE_NAME);
        let (file, start) = match File::open(&path) {
            Ok(file) => {
                let end = whole(&file, &path)?;
                (Some(file), end)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => (None, 0),
            Err(source) => return Err(StoreError::io("open", &path, source)),
        };
        Ok(Self {
            path,
            file,
            start,
            block: vec![],
        })
    }

    /// Returns the record before the last one, and where it starts in the file. Bad ones are passed over.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Entry)>, StoreError> {
        loop {
            while let Some(left) = self.block.len().checked_sub(RECORD) {
                let entry = self.block.get(left..).and_then(Entry::parse);
                self.block.truncate(left);
                if let Some(entry) = entry {
                    return Ok(Some((self.start + left as u64, entry)));
                }
            }
            let (Some(file), 1..) = (&self.file, self.start) else {
                return Ok(None);
            };
            let start = self.start.saturating_sub(BLOCK as u64);
            let len = usize::try_from(self.start - start).unwrap_or(BLOCK);
            self.block = read_at(file, &self.path, start, len)?;
            self.start = start;
        }
    }
}

/// Returns the sizes that the index tells, by walking it backwards until each stream was met.
pub(super) fn sizes(folder: &Path) -> Result<StreamSizes, StoreError> {
    let (mut sizes, mut missing) = (StreamSizes::default(), STREAMS.to_vec());
    let (mut records, mut seen) = (Backwards::new(folder)?, 0);
    while !missing.is_empty()
        && let Some((_, entry)) = records.next()?
    {
        if entry.kind == Kind::Data && missing.contains(&entry.stream) {
            *segment::size_of_mut(&mut sizes, entry.stream) = entry.end();
            missing.retain(|stream| *stream != entry.stream);
        }
        seen += 1;
        if seen == BLOCK / RECORD {
            // A stream without a file never had a byte: it need not be looked for to the start.
            missing.retain(|stream| segment::any(folder, *stream));
        }
    }
    Ok(sizes)
}

/// Returns the length of the part of an index that is whole records.
pub(super) fn whole(file: &File, path: &Path) -> Result<u64, StoreError> {
    let len = file
        .metadata()
        .map_err(|source| StoreError::io("read", path, source))?
        .len();
    Ok(len - len % RECORD as u64)
}

fn read_at(file: &File, path: &Path, at: u64, len: usize) -> Result<Vec<u8>, StoreError> {
    let mut bytes = vec![0; len];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, at + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(StoreError::io("read", path, source)),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}
