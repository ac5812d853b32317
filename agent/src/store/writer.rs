//! Appends to a run's streams. One writer a run: its shim.
//!
//! Invariants: data first, then its index record; a failed append changes nothing that a reader
//! sees, and repeating it with the same bytes is the way to go on after the disk has room again.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::PathBuf,
    sync::Arc,
};

use hpcclient_protocol::{
    StreamName,
    run::{StreamSizes, TerminalSize},
};

use super::{
    RunDir, StoreError, Unsynced,
    index::{self, Entry, Kind, RECORD},
    segment::{self, STREAMS, Segments},
};
use crate::clock::steady_ns;

/// Writes the streams of one run.
#[derive(Debug)]
pub struct RunWriter {
    index: Arc<File>,
    index_path: PathBuf,
    index_len: u64,
    index_dirty: bool,
    segments: [Segments; 3],
    sizes: StreamSizes,
}

impl RunWriter {
    /// Opens a run for writing, after what is there.
    ///
    /// # Errors
    /// The index cannot be opened or read.
    pub fn open(dir: &RunDir) -> Result<Self, StoreError> {
        let index_path = dir.path().join(index::FILE_NAME);
        let index = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&index_path)
            .map_err(|source| StoreError::io("open", &index_path, source))?;
        let index_len = index::whole(&index, &index_path)?;
        let sizes = if index_len == 0 {
            StreamSizes::default()
        } else {
            index::sizes(dir.path())?
        };
        Ok(Self {
            index: Arc::new(index),
            index_path,
            index_len,
            index_dirty: false,
            segments: STREAMS.map(|stream| Segments::new(dir.path().to_owned(), stream)),
            sizes,
        })
    }

    /// Returns the sizes of the streams.
    #[must_use]
    pub const fn sizes(&self) -> StreamSizes {
        self.sizes
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
        self.segments_of(stream).write(offset, bytes)?;
        self.put(Entry {
            t_ns: steady_ns(),
            offset,
            len: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
            crc: crc32fast::hash(bytes),
            stream,
            kind: Kind::Data,
        })
    }

    /// Notes that the terminal has another size from here on.
    ///
    /// # Errors
    /// The operating system refused; nothing was noted.
    pub fn resize(&mut self, size: TerminalSize) -> Result<(), StoreError> {
        self.put(Entry::resize(steady_ns(), self.sizes.tty, size))
    }

    /// Returns what was written since the last call and the disk may not have yet, in the order in
    /// which it has to get it: bytes before the index of them.
    pub fn take_unsynced(&mut self) -> Vec<Unsynced> {
        let segments = self.segments.iter_mut();
        let mut files: Vec<_> = segments.flat_map(Segments::take_unsynced).collect();
        if std::mem::take(&mut self.index_dirty) {
            let index = Arc::clone(&self.index);
            files.push(Unsynced::new(self.index_path.clone(), index));
        }
        files
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
                self.put(Entry {
                    t_ns: steady_ns(),
                    offset: at,
                    len: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
                    crc: crc32fast::hash(&bytes),
                    stream,
                    kind: Kind::Data,
                })?;
                at += bytes.len() as u64;
            }
        }
        Ok(self.sizes)
    }

    fn put(&mut self, entry: Entry) -> Result<(), StoreError> {
        self.index
            .write_all_at(&entry.to_bytes(), self.index_len)
            .map_err(|source| StoreError::io("write", &self.index_path, source))?;
        self.index_len += RECORD as u64;
        self.index_dirty = true;
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
