//! Where runs are kept: one folder a run, under `runs/<yyyy-mm>/<run id>/`.
//!
//! The agent creates runs and reads them; the run's shim is the only one that writes streams.
//! Invariants: a folder appears whole or not at all; a data byte is in its segment before its index
//! record exists; damage never panics and never hides what is intact; files 0600, folders 0700.
//! Not here: processes (`shim`), who may ask (`http`).

mod create;

mod error;
mod index;
mod list;
mod load;
mod marks;
mod reader;
mod record;
mod recover;
mod seek;
mod segment;
mod tail;
mod unsynced;
mod usage;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Instant,
};

use hpcclient_protocol::RunId;

pub use create::{LOW_BYTES, LOW_INODES};
pub use error::StoreError;
pub use marks::Marks;
pub use reader::RunReader;
pub use record::{RecordFile, RunRecord};
pub use segment::SEGMENT_BYTES;
pub use unsynced::Unsynced;
pub use usage::Stored;
pub use writer::{KEEP_BYTES, RunWriter, Unsaved};

/// All runs of this user on this cluster.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    /// Whether the disk is this node's own, which answers at once or never will.
    is_local: bool,
    /// Until when there is room for sure enough not to ask.
    room_until: Arc<Mutex<Option<Instant>>>,
}

impl Store {
    /// Returns the folder that holds every run.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns whether the runs are on a disk of this node, and not behind a network.
    #[must_use]
    pub const fn is_local(&self) -> bool {
        self.is_local
    }
}

/// The folder of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunDir {
    id: RunId,
    path: PathBuf,
}

impl RunDir {
    /// Names a run's folder that exists already, such as the one a shim is told to write.
    #[must_use]
    pub const fn at(id: RunId, path: PathBuf) -> Self {
        Self { id, path }
    }

    /// Returns the run's id.
    #[must_use]
    pub const fn id(&self) -> RunId {
        self.id
    }

    /// Returns the folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}
