//! The bytes of one stream, in files of 64 MiB: `out-000000.raw`, `out-000001.raw`, …
//!
//! Written through `writer`, read through `reader`. A file holds raw bytes and nothing else, so
//! `cat out-*.raw` is the stream.
//! Invariants: a file is created on its first byte; writing the same bytes at the same offset again
//! is harmless, so a failed write is simply repeated; only whole files between the first and the last
//! are ever removed, lowest first.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use hpcclient_protocol::{StreamName, run::StreamSizes};

use super::{StoreError, Unsynced, index};

/// The size of a full segment in bytes; small in unit tests, so that they meet its end.
pub const SEGMENT_BYTES: u64 = if cfg!(test) { 1000 } else { 64 << 20 };

/// The streams, in the order in which the store counts them.
pub(super) const STREAMS: [StreamName; 3] =
    [StreamName::Stdout, StreamName::Stderr, StreamName::Tty];

/// Returns the file that holds a segment.
pub(super) fn path(folder: &Path, stream: StreamName, number: u64) -> PathBuf {
    folder.join(format!("{}-{number:06}.raw", prefix(stream)))
}

const fn prefix(stream: StreamName) -> &'static str {
    match stream {
        StreamName::Stdout => "out",
        StreamName::Stderr => "err",
        StreamName::Tty => "tty",
    }
}

/// Returns whether there is any segment of a stream; the first ones may be gone.
pub(super) fn any(folder: &Path, stream: StreamName) -> bool {
    let is_of_it = |name: &std::ffi::OsStr| {
        let name = name.as_encoded_bytes();
        name.starts_with(prefix(stream).as_bytes()) && name.ends_with(b".raw")
    };
    path(folder, stream, 0).exists()
        || std::fs::read_dir(folder)
            .is_ok_and(|files| files.flatten().any(|file| is_of_it(&file.file_name())))
}

/// Returns the size of one of the streams.
pub(super) const fn size_of(sizes: &StreamSizes, stream: StreamName) -> u64 {
    match stream {
        StreamName::Stdout => sizes.stdout,
        StreamName::Stderr => sizes.stderr,
        StreamName::Tty => sizes.tty,
    }
}

/// Returns the place of the size of one of the streams.
pub(super) const fn size_of_mut(sizes: &mut StreamSizes, stream: StreamName) -> &mut u64 {
    match stream {
        StreamName::Stdout => &mut sizes.stdout,
        StreamName::Stderr => &mut sizes.stderr,
        StreamName::Tty => &mut sizes.tty,
    }
}

/// One stream's segments; the one used last stays open.
#[derive(Debug)]
pub(super) struct Segments {
    folder: PathBuf,
    stream: StreamName,
    open: Option<(u64, Arc<File>)>,
    dirty: bool,
    /// Full ones that the disk may not have yet, with their numbers.
    full: Vec<(u64, Unsynced)>,
    /// How many were removed, from number 1 on.
    removed: u64,
}

/// How many full segments may be only in memory before the disk is waited for.
const MAX_FULL: usize = 8;

impl Segments {
    pub(super) const fn new(folder: PathBuf, stream: StreamName) -> Self {
        Self {
            folder,
            stream,
            open: None,
            dirty: false,
            full: vec![],
            removed: 0,
        }
    }

    /// Returns whether so much is only in memory that the disk has to be waited for.
    pub(super) const fn is_behind(&self) -> bool {
        self.full.len() >= MAX_FULL
    }

    /// Returns how many full segments a stream of this size has.
    pub(super) const fn full(&self, size: u64) -> u64 {
        size.div_ceil(SEGMENT_BYTES)
            .saturating_sub(1 + self.removed)
    }

    /// Looks which segments of a stream of this size were removed before.
    pub(super) fn find_removed(&mut self, size: u64) {
        self.removed = 0;
        while self.full(size) > 1 && !path(&self.folder, self.stream, 1 + self.removed).exists() {
            self.removed += 1;
        }
    }

    /// Removes the lowest segment after the first, and returns where it started.
    pub(super) fn remove_next(&mut self) -> u64 {
        self.removed += 1;
        let number = self.removed;
        // One that stays is passed over by readers all the same: the index says so.
        drop(fs::remove_file(path(&self.folder, self.stream, number)));
        self.full.retain(|(full, _)| *full != number);
        number * SEGMENT_BYTES
    }

    /// Closes the files; they are opened anew when they are needed.
    pub(super) fn close(&mut self) {
        self.open = None;
        self.full.clear();
    }

    /// Writes bytes at an offset, over as many segments as they need.
    pub(super) fn write(&mut self, mut offset: u64, mut bytes: &[u8]) -> Result<(), StoreError> {
        while !bytes.is_empty() {
            let (number, within) = (offset / SEGMENT_BYTES, offset % SEGMENT_BYTES);
            let room = usize::try_from(SEGMENT_BYTES - within).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            let path = path(&self.folder, self.stream, number);
            if (1..=self.removed).contains(&number) {
                // Written again after the disk failed, but not wanted any more.
                offset += now.len() as u64;
                bytes = later;
                continue;
            }
            if !matches!(&self.open, Some((open, _)) if *open == number) {
                let dirty = self.dirty();
                self.full.extend(dirty);
                let file = OpenOptions::new()
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .mode(0o600)
                    .open(&path)
                    .map_err(|source| StoreError::io("create", &path, source))?;
                self.open = Some((number, Arc::new(file)));
            }
            if let Some((_, file)) = &self.open {
                file.write_all_at(now, within)
                    .map_err(|source| StoreError::io("write", &path, source))?;
            }
            self.dirty = true;
            offset += now.len() as u64;
            bytes = later;
        }
        Ok(())
    }

    /// Returns what was written since the last call and the disk may not have yet.
    pub(super) fn take_unsynced(&mut self) -> Vec<Unsynced> {
        let mut files = std::mem::take(&mut self.full);
        files.extend(self.dirty());
        files.into_iter().map(|(_, file)| file).collect()
    }

    fn dirty(&mut self) -> Option<(u64, Unsynced)> {
        let (number, file) = self.open.as_ref().filter(|_| self.dirty)?;
        let path = path(&self.folder, self.stream, *number);
        self.dirty = false;
        Some((*number, Unsynced::new(path, Arc::clone(file))))
    }

    /// Returns the file that holds the byte at an offset.
    pub(super) fn path_of(&self, offset: u64) -> PathBuf {
        path(&self.folder, self.stream, offset / SEGMENT_BYTES)
    }

    /// Reads up to `len` bytes from an offset; fewer when a segment is shorter than the index says.
    pub(super) fn read(&mut self, mut offset: u64, len: usize) -> Result<Vec<u8>, StoreError> {
        let mut bytes = vec![0; len];
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let (number, within) = (offset / SEGMENT_BYTES, offset % SEGMENT_BYTES);
            let room = usize::try_from(SEGMENT_BYTES - within).unwrap_or(usize::MAX);
            let path = path(&self.folder, self.stream, number);
            if !matches!(&self.open, Some((open, _)) if *open == number) {
                match File::open(&path) {
                    Ok(file) => self.open = Some((number, Arc::new(file))),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                    Err(source) => return Err(StoreError::io("open", &path, source)),
                }
            }
            let Some((_, file)) = &self.open else { break };
            let end = room.min(rest.len());
            match file.read_at(rest.get_mut(..end).unwrap_or_default(), within) {
                Ok(0) => break,
                Ok(count) => {
                    filled += count;
                    offset += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(StoreError::io("read", &path, source)),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    /// Returns where the bytes go on after `from`, where a whole segment is missing and a later one is
    /// there.
    pub(super) fn after_missing(&self, from: u64) -> Result<Option<u64>, StoreError> {
        let exists = |number| path(&self.folder, self.stream, number).exists();
        let first = from / SEGMENT_BYTES;
        if exists(first) {
            return Ok(None);
        }
        let end = size_of(&index::sizes(&self.folder)?, self.stream);
        let next = (first + 1..end.div_ceil(SEGMENT_BYTES)).find(|number| exists(*number));
        Ok(next.map(|number| number * SEGMENT_BYTES))
    }

    /// Returns how many bytes the files hold from `from` on, whatever the index says.
    pub(super) fn stored(&self, from: u64) -> u64 {
        let mut size = from;
        loop {
            let (number, within) = (size / SEGMENT_BYTES, size % SEGMENT_BYTES);
            let len = path(&self.folder, self.stream, number)
                .metadata()
                .map_or(0, |file| file.len().min(SEGMENT_BYTES));
            if len <= within {
                return size;
            }
            size = number * SEGMENT_BYTES + len;
            if len < SEGMENT_BYTES {
                return size;
            }
        }
    }
}
