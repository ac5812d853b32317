//! A file that was written and whose bytes may be only in the node's memory.
//!
//! The shim's loop hands these to a thread of its own, because a disk takes milliseconds to answer.
//! Invariants: the handle is the one that was written, so the disk's error is told to it.

use std::{fs::File, io, path::PathBuf, sync::Arc};

use super::StoreError;

/// One such file.
#[derive(Debug)]
pub struct Unsynced {
    path: PathBuf,
    file: Option<Arc<File>>,
}

impl Unsynced {
    pub(super) const fn new(path: PathBuf, file: Arc<File>) -> Self {
        Self {
            path,
            file: Some(file),
        }
    }

    /// Waits until the disk has it.
    ///
    /// # Errors
    /// The disk has it not.
    pub fn sync(&self) -> Result<(), StoreError> {
        let synced = match &self.file {
            Some(file) => file.sync_data(),
            // Linux keeps an error that nobody was told for the next one who opens the file.
            None => match File::open(&self.path) {
                Ok(file) => file.sync_data(),
                // A segment that is not kept any more.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                Err(error) => Err(error),
            },
        };
        synced.map_err(|source| StoreError::io("sync", &self.path, source))
    }

    /// Closes the file; it is opened again when its time comes.
    pub fn close(&mut self) {
        self.file = None;
    }
}
