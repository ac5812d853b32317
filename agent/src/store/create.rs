//! Makes the store's folders, and a new run in them.
//!
//! Invariants: a run's folder is filled under another name and then renamed, so two requests for
//! one id have one winner and nobody sees half a run; no fsync here, a call waits for it.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use hpcclient_protocol::{RunId, RunSpec, RunState};

use rustix::fs::FsWord;

use super::{RunDir, RunRecord, Store, StoreError, index, list, load, record, usage::DRAFT};

/// Below this many free bytes a new run is refused.
pub const LOW_BYTES: u64 = 64 << 20;
/// Above this many free bytes the answer holds for [`ROOM_HOLDS`].
const PLENTY_BYTES: u64 = 4 << 30;
/// Below this many free files a new run is refused.
pub const LOW_INODES: u64 = 1000;
/// On a network disk the question costs as much as a file.
const ROOM_HOLDS: Duration = Duration::from_secs(1);
/// The file systems of a node's own disks and memory: ext, XFS, Btrfs, tmpfs, overlayfs, ZFS.
const LOCAL: [FsWord; 6] = [
    0xef53,
    0x5846_5342,
    0x9123_683e,
    0x0102_1994,
    0x794c_7630,
    0x2fc1_2fc1,
];

impl Store {
    /// Opens the store, making its folder when there is none.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn open(root: PathBuf) -> Result<Self, StoreError> {
        make_folder(&root)?;
        Ok(Self {
            is_local: is_local(&root),
            root,
            room_until: Arc::default(),
        })
    }

    /// Makes a run in state `Queued`.
    ///
    /// # Errors
    /// `Exists` when the id is taken; `NoSpace` when little is left; else it cannot be written.
    pub fn create(
        &self,
        id: RunId,
        spec: &RunSpec,
        created_ms: u64,
        host: &str,
    ) -> Result<RunDir, StoreError> {
        let dir = RunDir::at(id, self.place(id));
        if dir.path().exists() {
            return Err(StoreError::Exists { id });
        }
        self.room()?;
        let month = dir.path().parent().unwrap_or(&self.root);
        let draft = month.join(format!("{DRAFT}{id}-{:08x}", draft_number()?));
        make_draft(&draft, month)?;
        let made =
            fill(&draft, id, spec, created_ms, host).and_then(|()| publish(&draft, dir.path(), id));
        if made.is_err() {
            // Best effort: a leftover draft is ignored by every reader.
            drop(fs::remove_dir_all(&draft));
        }
        made.map(|()| dir)
    }

    /// Returns where a run's folder is or would be.
    pub(super) fn place(&self, id: RunId) -> PathBuf {
        self.root.join(list::month(id)).join(id.to_string())
    }

    /// Refuses when so little is left that the run could hardly write its output.
    fn room(&self) -> Result<(), StoreError> {
        let mut known = self
            .room_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if known.is_some_and(|until| Instant::now() < until) {
            return Ok(());
        }
        let Ok(free) = rustix::fs::statvfs(&self.root) else {
            // Some file systems do not tell; the write itself will.
            return Ok(());
        };
        let free_bytes = free.f_bavail.saturating_mul(free.f_frsize);
        // A file system without a fixed number of files says 0 of 0.
        let counts_files = free.f_files > 0;
        if free_bytes < LOW_BYTES || (counts_files && free.f_favail < LOW_INODES) {
            return Err(StoreError::NoSpace {
                path: self.root.clone(),
                free_bytes,
                free_inodes: free.f_favail,
            });
        }
        // What a second can fill is asked again each time.
        *known = (free_bytes > PLENTY_BYTES).then(|| Instant::now() + ROOM_HOLDS);
        Ok(())
    }
}

fn draft_number() -> Result<u32, StoreError> {
    getrandom::u32().map_err(|error| {
        StoreError::io("read", "/dev/urandom", io::Error::other(error.to_string()))
    })
}

fn make_folder(path: &Path) -> Result<(), StoreError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| StoreError::io("create", path, source))
}

/// Makes the draft's folder, and the month's with the first run of a month.
fn make_draft(draft: &Path, month: &Path) -> Result<(), StoreError> {
    let make = || DirBuilder::new().mode(0o700).create(draft);
    let made = match make() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_folder(month)?;
            make()
        }
        made => made,
    };
    made.map_err(|source| StoreError::io("create", draft, source))
}

fn is_local(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|disk| LOCAL.contains(&disk.f_type))
}

fn fill(
    draft: &Path,
    id: RunId,
    spec: &RunSpec,
    created_ms: u64,
    host: &str,
) -> Result<(), StoreError> {
    let json = load::birth_json(id, spec, created_ms, host);
    put(&draft.join(load::FILE_NAME), &json)?;
    put(&draft.join(index::FILE_NAME), b"")?;
    record::create(draft, &RunRecord::new(RunState::Queued))
}

fn put(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(bytes))
        .map_err(|source| StoreError::io("write", path, source))
}

fn publish(draft: &Path, path: &Path, id: RunId) -> Result<(), StoreError> {
    fs::rename(draft, path).map_err(|source| match source.kind() {
        io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists => {
            StoreError::Exists { id }
        }
        _ => StoreError::io("create", path, source),
    })
}
