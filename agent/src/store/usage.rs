//! How much room the runs take, and how a run is deleted.
//!
//! Called by `runs::prune` and `runs::marks`. Measuring looks at every file of the store once: not often,
//! and never on the runtime.
//! Invariants: a run goes away at once and whole, whoever reads it; what a crash leaves of one that was
//! being deleted is no run, and is removed with the next measuring.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, SystemTime},
};

use hpcclient_protocol::RunId;

use super::{RunDir, Store, StoreError, list::names, record};

/// What a stored run takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its folder.
    pub dir: RunDir,
    /// Bytes on the disk.
    pub bytes: u64,
    /// When its state changed last: for one that ended, when that was.
    pub changed: SystemTime,
}

impl Store {
    /// Returns what every run takes, in no order, and removes what is left of old drafts.
    ///
    /// # Errors
    /// The store cannot be listed. Single runs that cannot be looked at count as nothing.
    pub fn measure(&self) -> Result<Vec<Stored>, StoreError> {
        let mut all = Vec::new();
        for month in names(self.root())? {
            let folder = self.root().join(month);
            for name in names(&folder)? {
                let path = folder.join(&name);
                if let Ok(id) = name.parse::<RunId>() {
                    all.extend(weigh(RunDir::at(id, path)));
                } else if name.starts_with(DRAFT) || name.starts_with(DELETED) {
                    remove_old(&path);
                }
            }
        }
        Ok(all)
    }

    /// Deletes a run that nobody writes any more.
    ///
    /// # Errors
    /// `NotFound`, or the operating system refused; then the run is still there or gone as a whole.
    pub fn delete(&self, dir: &RunDir) -> Result<(), StoreError> {
        let gone = dir.path().with_file_name(format!("{DELETED}{}", dir.id()));
        fs::rename(dir.path(), &gone).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => StoreError::NotFound { id: dir.id() },
            _ => StoreError::io("delete", dir.path(), source),
        })?;
        // It is no run any more; what cannot be removed now is removed later.
        drop(fs::remove_dir_all(&gone));
        Ok(())
    }

    /// Returns how many bytes the whole disk has, for this user where the disk says so.
    #[must_use]
    pub fn disk_bytes(&self) -> Option<u64> {
        let disk = rustix::fs::statvfs(self.root()).ok()?;
        Some(disk.f_blocks.saturating_mul(disk.f_frsize))
    }
}

fn weigh(dir: RunDir) -> Option<Stored> {
    let (mut bytes, mut changed) = (0, None);
    for entry in fs::read_dir(dir.path()).ok()?.flatten() {
        let Ok(meta) = entry.metadata() else { continue };
        bytes += meta.blocks().saturating_mul(512);
        if entry.file_name() == record::FILE_NAME {
            changed = meta.modified().ok();
        }
    }
    let changed = changed.unwrap_or(SystemTime::UNIX_EPOCH);
    Some(Stored {
        dir,
        bytes,
        changed,
    })
}

/// Removes what was left half made or half deleted. A new one may be somebody's work at this moment.
fn remove_old(path: &Path) {
    let age = fs::symlink_metadata(path)
        .and_then(|meta| meta.modified())
        .ok()
        .and_then(|changed| changed.elapsed().ok());
    if age.is_some_and(|age| age > ABANDONED) {
        drop(fs::remove_dir_all(path));
    }
}

/// How the names of runs begin that are being made.
pub(super) const DRAFT: &str = ".new-";

const DELETED: &str = ".gone-";

const ABANDONED: Duration = Duration::from_secs(60 * 60);

#[cfg(test)]
mod tests {
    use hpcclient_protocol::{Command, RunSpec};

    use super::*;

    #[test]
    fn every_run_is_weighed_and_a_deleted_one_is_gone_for_all() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().to_owned()).unwrap();
        let spec = RunSpec::new(Command::Shell("true".into()));
        let [small, large] = [(); 2].map(|()| {
            let id = RunId::random();
            store.create(id, &spec, 1, "node").unwrap()
        });
        fs::write(large.path().join("out-000000.raw"), vec![1; 100_000]).unwrap();
        let month = large.path().parent().unwrap();
        for name in [".new-x", ".gone-y"] {
            let left = month.join(name);
            fs::create_dir(&left).unwrap();
            let old = SystemTime::now() - 2 * ABANDONED;
            fs::File::open(&left).unwrap().set_modified(old).unwrap();
        }
        let fresh = month.join(".new-fresh");
        fs::create_dir(&fresh).unwrap();
        let measured = store.measure().unwrap();
        let of = |dir: &RunDir| measured.iter().find(|run| run.dir == *dir).unwrap().bytes;
        assert_eq!(measured.len(), 2);
        assert!(of(&large) >= of(&small) + 100_000);
        assert!(
            fresh.exists() && !month.join(".new-x").exists() && !month.join(".gone-y").exists()
        );
        store.delete(&large).unwrap();
        assert_eq!(store.find(large.id()), None);
        assert_eq!(store.newest(None, 9).unwrap(), [small]);
        let again = store.delete(&large).unwrap_err();
        assert!(matches!(again, StoreError::NotFound { .. }));
        assert!(!month.join(format!(".gone-{}", large.id())).exists());
    }
}
