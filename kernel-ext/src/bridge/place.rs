//! The bridge's folder: its lock, its address and its log; and how a running bridge is found.
//!
//! Used by the bridge itself and by every command through `ensure`.
//! Invariants: the folder is this user's and 0700, its files 0600; an address is handed out only
//! while the bridge that wrote it holds the lock, so a token never goes to whoever took over a dead
//! bridge's port.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use hpcclient_protocol::{ApiError, ErrorCode, bridge::BridgeAddress};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use crate::env_vars;

/// How often the lock is tried, and the pause between: whoever looks for a bridge holds it shared
/// for a moment, and must not be taken for a bridge.
const LOCK_TRIES: u32 = 40;
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// A log beyond this size is put aside when a bridge starts.
const LOG_LIMIT: u64 = 8 << 20;

/// The bridge's folder.
#[derive(Clone, Debug)]
pub struct Place {
    dir: PathBuf,
}

/// The right to be the bridge of this folder; it ends with the process or the value.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Place {
    /// Opens the folder that the environment names, and makes it if it is missing.
    ///
    /// # Errors
    /// It cannot be made, or others could write into it.
    pub fn open() -> Result<Self, ApiError> {
        let xdg = || env_vars::path(env_vars::XDG_STATE_HOME).map(|d| d.join("hpcclient/bridge"));
        let home = || env_vars::path(env_vars::HOME);
        let dir = env_vars::path(env_vars::STATE_DIR)
            .or_else(xdg)
            .or_else(|| home().map(|d| d.join(".local/state/hpcclient/bridge")))
            .ok_or_else(|| ApiError::new(ErrorCode::BadRequest, "HOME is not set"))?;
        Self::at(dir)
    }

    /// Opens a folder, and makes it if it is missing.
    ///
    /// # Errors
    /// It cannot be made, or others could write into it.
    pub fn at(dir: PathBuf) -> Result<Self, ApiError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.map_err(|error| failed("make", &dir, &error))?;
        let seen = fs::metadata(&dir).map_err(|error| failed("read", &dir, &error))?;
        let is_mine = seen.uid() == rustix::process::geteuid().as_raw();
        if !is_mine || seen.mode() & 0o077 != 0 {
            let message = format!("the folder {} is open to other users", dir.display());
            let fix = format!(
                "run `chmod 700 {}`, or set {}",
                dir.display(),
                env_vars::STATE_DIR
            );
            return Err(ApiError::new(ErrorCode::Forbidden, message).hint(fix));
        }
        Ok(Self { dir })
    }

    /// Returns the log's path.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.dir.join("bridge.log")
    }

    /// Returns the path of a file of the command line in this private folder.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Opens the log for appending; one that has grown large is put aside.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open_log(&self) -> Result<File, ApiError> {
        let log = self.log();
        if fs::metadata(&log).is_ok_and(|seen| seen.len() > LOG_LIMIT) {
            // Two starters may race to put it aside; either result is a log.
            let _ = fs::rename(&log, self.dir.join("bridge.log.1"));
        }
        let opened = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&log);
        opened.map_err(|error| failed("open", &log, &error))
    }

    /// Takes the lock, or returns `None` when a bridge holds it.
    ///
    /// # Errors
    /// The file system fails.
    pub fn lock(&self) -> Result<Option<Lock>, ApiError> {
        let path = self.lock_path();
        let mut file = self.open_lock()?;
        let mut tries_left = LOCK_TRIES;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK) if tries_left > 0 => {
                    tries_left -= 1;
                    std::thread::sleep(LOCK_PAUSE);
                }
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(error) => return Err(failed("lock", &path, &error)),
            }
        }
        // An address of a bridge that was killed must be gone before this one shows itself.
        self.forget_address();
        let owner = Owner::this_process().to_text();
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(owner.as_bytes()));
        written.map_err(|error| failed("write", &path, &error))?;
        Ok(Some(Lock { _file: file }))
    }

    /// Publishes the address; only the holder of the lock does.
    ///
    /// # Errors
    /// The file system fails.
    pub fn publish(&self, _lock: &Lock, address: &BridgeAddress) -> Result<(), ApiError> {
        let (path, draft) = (self.address_path(), self.dir.join(".bridge.json"));
        let write = || {
            let mut options = OpenOptions::new();
            let mut file = options
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&draft)?;
            serde_json::to_writer(&file, address)?;
            file.write_all(b"\n")?;
            fs::rename(&draft, &path)
        };
        write().map_err(|error| failed("write", &path, &error))
    }

    /// Removes the address; only the holder of the lock does.
    pub fn forget_address(&self) {
        // It may be missing already, and an address without a lock is not used anyway.
        let _ = fs::remove_file(self.address_path());
    }

    /// Returns the address of the bridge that runs, or `None` when none does or it is starting.
    ///
    /// # Errors
    /// The file system fails, or the bridge of a shared home runs on another machine.
    pub fn running(&self) -> Result<Option<BridgeAddress>, ApiError> {
        let path = self.lock_path();
        let mut file = self.open_lock()?;
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            // Closing the file gives the lock back.
            Ok(()) => return Ok(None),
            Err(Errno::WOULDBLOCK) => {}
            Err(error) => return Err(failed("lock", &path, &error)),
        }
        let mut text = String::new();
        let read = file.read_to_string(&mut text);
        read.map_err(|error| failed("read", &path, &error))?;
        let Some(owner) = Owner::from_text(&text) else {
            return Ok(None);
        };
        let here = Owner::this_process();
        if owner.host != here.host {
            let message = format!("the bridge of this home runs on {}, not here", owner.host);
            return Err(ApiError::new(ErrorCode::Conflict, message).hint(format!(
                "set {} to a folder of this machine",
                env_vars::STATE_DIR
            )));
        }
        let Ok(json) = fs::read(self.address_path()) else {
            return Ok(None);
        };
        let address = serde_json::from_slice::<BridgeAddress>(&json).ok();
        Ok(address.filter(|address| address.pid == owner.pid))
    }

    /// Returns whether a bridge holds the lock.
    ///
    /// # Errors
    /// The file system fails.
    pub fn is_taken(&self) -> Result<bool, ApiError> {
        match flock(self.open_lock()?, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(false),
            Err(Errno::WOULDBLOCK) => Ok(true),
            Err(error) => Err(failed("lock", &self.lock_path(), &error)),
        }
    }

    fn open_lock(&self) -> Result<File, ApiError> {
        let path = self.lock_path();
        let mut options = OpenOptions::new();
        let opened = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path);
        opened.map_err(|error| failed("open", &path, &error))
    }

    fn lock_path(&self) -> PathBuf {
        self.dir.join("bridge.lock")
    }

    fn address_path(&self) -> PathBuf {
        self.dir.join("bridge.json")
    }
}

/// Who wrote the lock file.
struct Owner {
    pid: u32,
    host: String,
}

impl Owner {
    fn this_process() -> Self {
        Self {
            pid: std::process::id(),
            host: rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
        }
    }

    fn to_text(&self) -> String {
        format!("{} {}\n", self.pid, self.host)
    }

    fn from_text(text: &str) -> Option<Self> {
        let (pid, host) = text.trim_end().split_once(' ')?;
        let pid = pid.parse().ok()?;
        Some(Self {
            pid,
            host: host.to_owned(),
        })
    }
}

fn failed(verb: &str, path: &Path, error: &(dyn std::error::Error + 'static)) -> ApiError {
    let message = format!("cannot {verb} {}", path.display());
    let is_full = error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::StorageFull);
    let code = if is_full {
        ErrorCode::NoSpace
    } else {
        ErrorCode::Internal
    };
    ApiError::new(code, message).caused_by(error)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn address(pid: u32) -> BridgeAddress {
        BridgeAddress {
            url: "http://127.0.0.1:1/".to_owned(),
            token: "secret".to_owned(),
            pid,
            version: "0".to_owned(),
        }
    }

    #[test]
    fn an_address_counts_only_while_its_writer_holds_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::at(dir.path().join("bridge")).unwrap();
        assert_eq!(place.running().unwrap(), None);
        let lock = place.lock().unwrap().unwrap();
        assert!(place.lock().unwrap().is_none(), "one bridge a folder");
        assert_eq!(place.running().unwrap(), None, "it has not published yet");
        let mine = address(std::process::id());
        place.publish(&lock, &mine).unwrap();
        assert_eq!(place.running().unwrap(), Some(mine));
        let mode = fs::metadata(place.address_path())
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(lock);
        assert_eq!(
            place.running().unwrap(),
            None,
            "the file alone is not trusted"
        );
        place
            .publish(&place.lock().unwrap().unwrap(), &address(1))
            .unwrap();
        let _lock = place.lock().unwrap().unwrap();
        assert_eq!(
            place.running().unwrap(),
            None,
            "a dead bridge's address is gone"
        );
    }

    #[test]
    fn whoever_looks_for_a_bridge_does_not_stop_one_from_starting() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::at(dir.path().join("bridge")).unwrap();
        let looking = place.open_lock().unwrap();
        flock(&looking, FlockOperation::LockShared).unwrap();
        let start = std::time::Instant::now();
        let looker = std::thread::spawn(move || {
            while start.elapsed() < 4 * LOCK_PAUSE {
                std::thread::yield_now();
            }
            drop(looking);
        });
        assert!(place.lock().unwrap().is_some());
        looker.join().unwrap();
    }

    #[test]
    fn a_folder_that_others_can_enter_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let error = Place::at(dir.path().to_owned()).unwrap_err();
        assert_eq!(error.code, ErrorCode::Forbidden);
        assert!(error.hints[0].contains("chmod 700"));
    }
}
