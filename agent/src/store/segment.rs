//! The bytes of one stream, in files of 64 MiB: `out-000000.raw`, `out-000001.raw`, …
//!
//! Written through `writer`, read through `reader`. A file holds raw bytes and nothing else, so
//! `cat out-*.raw` is the stream.
//! Invariants: a file is created on its first byte; writing the same bytes at the same offset again
//! is harmless, so a failed write is simply repeated.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use hpcclient_protocol::{StreamName, run::StreamSizes};

use super::{StoreError, Unsynced};

/// The size of a full segment in bytes; small in unit tests, so that they meet its end.
pub const SEGMENT_BYTES: u64 = if cfg!(test) { 1000 } else { 64 << 20 };

/// The streams, in the order in which the store counts them.
pub(super) const STREAMS: [StreamName; 3] =
    [StreamName::Stdout, StreamName::Stderr, StreamName::Tty];

/// Returns the file that holds a segment.
pub(super) fn path(folder: &Path, stream: StreamName, number: u64) -> PathBuf {
    let prefix = match stream {
        StreamName::Stdout => "out",
        StreamName::Stderr => "err",
        StreamName::Tty => "tty",
    };
    folder.join(format!("{prefix}-{number:06}.raw"))
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
    /// Full ones that the disk may not have yet.
    full: Vec<Unsynced>,
}

/// How many full segments may be only in memory before the writer waits for the disk.
const MAX_FULL: usize = 8;

impl Segments {
    pub(super) const fn new(folder: PathBuf, stream: StreamName) -> Self {
        Self {
            folder,
            stream,
            open: None,
            dirty: false,
            full: vec![],
        }
    }

    /// Writes bytes at an offset, over as many segments as they need.
    pub(super) fn write(&mut self, mut offset: u64, mut bytes: &[u8]) -> Result<(), StoreError> {
        while !bytes.is_empty() {
            let (number, within) = (offset / SEGMENT_BYTES, offset % SEGMENT_BYTES);
            let room = usize::try_from(SEGMENT_BYTES - within).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            let path = path(&self.folder, self.stream, number);
            if !matches!(&self.open, Some((open, _)) if *open == number) {
                self.put_aside()?;
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
        files
    }

    fn dirty(&mut self) -> Option<Unsynced> {
        let (number, file) = self.open.as_ref().filter(|_| self.dirty)?;
        let path = path(&self.folder, self.stream, *number);
        self.dirty = false;
        Some(Unsynced::new(path, Arc::clone(file)))
    }

    /// Makes place for another segment. A disk that is too slow is waited for.
    fn put_aside(&mut self) -> Result<(), StoreError> {
        let dirty = self.dirty();
        self.full.extend(dirty);
        while self.full.len() >= MAX_FULL
            && let Some(file) = self.full.first()
        {
            file.sync()?;
            self.full.remove(0);
        }
        Ok(())
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
