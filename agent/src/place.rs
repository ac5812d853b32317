//! Where the agent keeps things: the state root in the home directory, the run directory on the node.
//!
//! Called by every way to start the agent. The run directory holds this node's sockets and locks;
//! its random name is recorded in `<state>/node/<host>.json`, so every start finds the same one.
//! The state root may be shared by many nodes: under `node/` each file bears its node's name, under
//! `runs/` each folder has one writer.
//! Invariants: a run directory is used only when it is ours, a real directory and mode 0700; all
//! starts on one node agree on it, also when two come at the same time.
//! Not here: what lies in the state root (`store`), who listens on the socket (`serve`).

use std::{
    env, fs, io,
    io::Write,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use hpcclient_protocol::{RunId, SessionId};
use rustix::{
    fs::{FlockOperation, Mode, OFlags},
    io::Errno,
};
use serde::{Deserialize, Serialize};

/// The paths of this agent on this node.
#[derive(Clone, Debug)]
pub struct Place {
    state: PathBuf,
    run_dir: PathBuf,
    host: String,
    home: PathBuf,
}

impl Place {
    /// Finds the paths, and makes what does not exist yet.
    ///
    /// # Errors
    /// The home directory is unknown, or a directory can be neither used nor made.
    pub fn resolve() -> Result<Self> {
        let home = env::home_dir()
            .filter(|home| home.is_absolute())
            .context("the home directory is unknown: set HOME")?;
        let state = state_root(&home)?;
        Self::at(state, home)
    }

    /// The same with a given state root.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub fn at(state: PathBuf, home: PathBuf) -> Result<Self> {
        let host = host_name();
        let nodes = state.join("node");
        make_private(&nodes)?;
        let run_dir = agree_on_run_dir(&nodes, &host)?;
        Ok(Self {
            state,
            run_dir,
            host,
            home,
        })
    }

    /// Returns where runs are stored.
    #[must_use]
    pub fn runs(&self) -> PathBuf {
        self.state.join("runs")
    }

    /// Returns the node-local directory of sockets and locks.
    #[must_use]
    pub fn run_dir(&self) -> &Path {
        &self.run_dir
    }

    /// Returns the agent's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.run_dir.join("agent.sock")
    }

    /// Returns the daemon's log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.run_dir.join("agent.log")
    }

    /// Returns the socket of the shim that keeps a run. Short, since a socket's path may have 107 bytes.
    #[must_use]
    pub fn run_socket(&self, run: RunId) -> PathBuf {
        self.run_dir.join(format!("r-{run}"))
    }

    /// Returns the socket of the shim that keeps a session.
    #[must_use]
    pub fn session_socket(&self, session: &SessionId) -> PathBuf {
        self.run_dir.join(format!("s-{session}"))
    }

    /// Returns the file that `hpcagent sh` keeps its lines in. Each node has its own: appending to one
    /// file from two nodes loses lines on network file systems.
    #[must_use]
    pub fn history(&self) -> PathBuf {
        self.state
            .join("node")
            .join(format!("{}.history", self.host))
    }

    /// Returns the folder of what this node's agent keeps in the state root for itself.
    #[must_use]
    pub fn node_folder(&self) -> PathBuf {
        self.state.join("node").join(&self.host)
    }

    /// Returns the node's name.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the user's home directory.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Takes the lock of the one agent of this node, or returns `None` when another has it.
    ///
    /// # Errors
    /// The lock file cannot be made.
    pub fn lock(&self) -> Result<Option<Lock>> {
        let path = self.run_dir.join("agent.lock");
        ensure_own_directory(&self.run_dir)
            .with_context(|| format!("cannot use {}", self.run_dir.display()))?;
        loop {
            let file = open_private(&path, fs::OpenOptions::new().read(true).write(true))
                .with_context(|| format!("cannot open {}", path.display()))?;
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot lock {}", path.display()));
                }
            }
            let lock = Lock {
                file,
                path: path.clone(),
            };
            // Someone may have removed the file between open and lock; then the lock means nothing.
            if lock.holds() {
                return Ok(Some(lock));
            }
        }
    }

    /// Removes the run directory with all that is in it.
    ///
    /// # Errors
    /// Something in it cannot be removed.
    pub fn remove_run_dir(&self) -> io::Result<()> {
        fs::remove_dir_all(&self.run_dir)
    }
}

/// The lock that only the serving agent holds; it ends with the process.
#[derive(Debug)]
pub struct Lock {
    file: fs::File,
    path: PathBuf,
}

impl Lock {
    /// Returns whether the file of this name is still the one that is locked.
    #[must_use]
    pub fn holds(&self) -> bool {
        let (Ok(ours), Ok(there)) = (self.file.metadata(), fs::symlink_metadata(&self.path)) else {
            return false;
        };
        (ours.dev(), ours.ino()) == (there.dev(), there.ino())
    }
}

/// Returns the node's name as the kernel has it, safe as a file name.
#[must_use]
pub fn host_name() -> String {
    let uname = rustix::system::uname();
    let name = uname.nodename().to_string_lossy().replace('/', "_");
    if name.is_empty() || name.starts_with('.') {
        "node".to_owned()
    } else {
        name
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NodeRecord {
    run_dir: PathBuf,
}

fn state_root(home: &Path) -> Result<PathBuf> {
    let absolute = |name: &str| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|p| p.is_absolute())
    };
    if env::var_os("HPCCLIENT_HOME").is_some() {
        let root = absolute("HPCCLIENT_HOME").context("HPCCLIENT_HOME is not an absolute path")?;
        return Ok(root.join("state"));
    }
    let base = absolute("XDG_STATE_HOME").unwrap_or_else(|| home.join(".local/state"));
    Ok(base.join("hpcclient/agent"))
}

fn make_private(path: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make {}", path.display()))
}

fn open_private(path: &Path, options: &mut fs::OpenOptions) -> io::Result<fs::File> {
    let no_follow = OFlags::NOFOLLOW.bits().cast_signed();
    options
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(no_follow)
        .open(path)
}

/// Returns the run directory that the record names, or makes one and records it.
fn agree_on_run_dir(nodes: &Path, host: &str) -> Result<PathBuf> {
    let record = nodes.join(format!("{host}.json"));
    // The lock orders starts at the same time. Where the file system has no locks, the hard link
    // below still lets only one record win.
    let lock_path = nodes.join(format!("{host}.lock"));
    let lock = open_private(&lock_path, fs::OpenOptions::new().read(true).write(true))
        .with_context(|| format!("cannot write {}", lock_path.display()))?;
    let _ordered = rustix::fs::flock(&lock, FlockOperation::LockExclusive);
    for _ in 0..ATTEMPTS {
        if let Some(known) = read_record(&record) {
            // After a reboot the directory is gone. Its name is only known to this user, so it is
            // made again, and two starts at the same time agree without talking.
            match ensure_own_directory(&known) {
                Ok(()) => return Ok(known),
                Err(error) => {
                    tracing::warn!(path = %known.display(), %error, "run directory is not usable");
                    let _gone = fs::remove_file(&record);
                }
            }
        }
        let fresh = random_run_dir()?;
        match rustix::fs::mkdir(&fresh, Mode::RWXU) {
            Ok(()) => {}
            Err(Errno::EXIST) => continue,
            Err(error) => {
                return Err(error).with_context(|| format!("cannot make {}", fresh.display()));
            }
        }
        ensure_own_directory(&fresh).with_context(|| format!("cannot use {}", fresh.display()))?;
        if write_record(&record, &fresh)? {
            return Ok(fresh);
        }
        let _unused = fs::remove_dir(&fresh);
    }
    bail!("no directory for sockets could be made in {RUN_DIR_PARENT}")
}

fn random_run_dir() -> Result<PathBuf> {
    let mut random = [0u8; 6];
    getrandom::fill(&mut random).context("the system gives no random bytes")?;
    let name = random
        .iter()
        .fold(String::new(), |name, byte| name + &format!("{byte:02x}"));
    let uid = rustix::process::getuid().as_raw();
    Ok(Path::new(RUN_DIR_PARENT).join(format!("hpcc-{uid}-{name}")))
}

/// Makes the directory unless it exists, and refuses one that is a link, another's or open to others.
fn ensure_own_directory(path: &Path) -> io::Result<()> {
    match rustix::fs::mkdir(path, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = fs::File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let meta = directory.metadata()?;
    if meta.uid() != rustix::process::getuid().as_raw() {
        return Err(io::Error::other("the directory belongs to another user"));
    }
    if meta.mode() & 0o7777 != 0o700 {
        return Err(io::Error::other("the directory is open to other users"));
    }
    Ok(())
}

fn read_record(path: &Path) -> Option<PathBuf> {
    let record: NodeRecord = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    record.run_dir.is_absolute().then_some(record.run_dir)
}

/// Writes the record unless there is one; returns whether it was written.
fn write_record(record: &Path, run_dir: &Path) -> Result<bool> {
    let run_dir = run_dir.to_path_buf();
    let json = serde_json::to_vec(&NodeRecord { run_dir }).context("cannot encode the record")?;
    let draft = record.with_extension(format!("{}.new", std::process::id()));
    let written = open_private(&draft, fs::OpenOptions::new().write(true))
        .and_then(|mut file| file.set_len(0).and_then(|()| file.write_all(&json)));
    written.with_context(|| format!("cannot write {}", draft.display()))?;
    let linked = fs::hard_link(&draft, record);
    let won = match linked {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Ok(read_record(record).is_none())
        }
        // Without hard links a rename must do: two first starts in the same instant may then differ.
        Err(_) => fs::rename(&draft, record).map(|()| true),
    };
    if matches!(&won, Ok(true)) && read_record(record).is_none() {
        // What lies there is damaged: replace it.
        fs::rename(&draft, record).with_context(|| format!("cannot write {}", record.display()))?;
    }
    let _draft = fs::remove_file(&draft);
    won.with_context(|| format!("cannot write {}", record.display()))
}

/// Local to each node, there on every system, and short enough for a socket's path.
pub(crate) const RUN_DIR_PARENT: &str = "/tmp";

const ATTEMPTS: usize = 16;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn place(root: &tempfile::TempDir) -> Place {
        Place::at(root.path().join("state"), root.path().to_path_buf()).unwrap()
    }

    #[test]
    fn every_start_finds_the_same_private_directory() {
        let root = tempfile::tempdir().unwrap();
        let (first, second) = (place(&root), place(&root));
        assert_eq!(first.run_dir(), second.run_dir());
        let mode = fs::metadata(first.run_dir()).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o700);
        first.remove_run_dir().unwrap();
        let after_reboot = place(&root);
        assert_eq!(after_reboot.run_dir(), first.run_dir());
        after_reboot.remove_run_dir().unwrap();
    }

    #[test]
    fn starts_at_the_same_time_agree() {
        let root = tempfile::tempdir().unwrap();
        let found: Vec<PathBuf> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..8).map(|_| scope.spawn(|| place(&root))).collect();
            starts
                .into_iter()
                .map(|start| start.join().unwrap().run_dir().to_path_buf())
                .collect()
        });
        assert!(found.windows(2).all(|pair| pair[0] == pair[1]), "{found:?}");
        fs::remove_dir_all(&found[0]).unwrap();
    }

    #[test]
    fn of_starts_at_the_same_time_exactly_one_gets_the_lock() {
        let root = tempfile::tempdir().unwrap();
        let first = place(&root);
        for round in 0..100 {
            if round % 3 == 0 {
                // Whoever tidies /tmp may take the file away between two starts.
                let _none_yet = fs::remove_file(first.run_dir().join("agent.lock"));
            }
            let barrier = std::sync::Barrier::new(4);
            let start = || {
                let place = place(&root);
                barrier.wait();
                place.lock().unwrap()
            };
            let locks: Vec<_> = std::thread::scope(|scope| {
                let starts: Vec<_> = (0..4).map(|_| scope.spawn(start)).collect();
                starts
                    .into_iter()
                    .map(|start| start.join().unwrap())
                    .collect()
            });
            let serving: Vec<_> = locks.iter().flatten().collect();
            assert_eq!(serving.len(), 1, "round {round}");
            assert!(serving[0].holds());
        }
        first.remove_run_dir().unwrap();
    }

    #[test]
    fn a_directory_that_others_prepared_is_not_used() {
        let root = tempfile::tempdir().unwrap();
        let first = place(&root);
        let squatted = first.run_dir().to_path_buf();
        fs::set_permissions(&squatted, fs::Permissions::from_mode(0o755)).unwrap();
        let second = place(&root);
        assert_ne!(second.run_dir(), squatted);
        fs::remove_dir(&squatted).unwrap();
        second.remove_run_dir().unwrap();
        symlink(root.path(), second.run_dir()).unwrap();
        let third = place(&root);
        assert_ne!(third.run_dir(), second.run_dir());
        fs::remove_file(second.run_dir()).unwrap();
        third.remove_run_dir().unwrap();
    }

    #[test]
    fn a_damaged_record_is_replaced() {
        let root = tempfile::tempdir().unwrap();
        let nodes = root.path().join("state/node");
        make_private(&nodes).unwrap();
        fs::write(nodes.join(format!("{}.json", host_name())), "{").unwrap();
        let found = place(&root);
        assert_eq!(place(&root).run_dir(), found.run_dir());
        found.remove_run_dir().unwrap();
    }

    #[test]
    fn the_lock_is_held_once() {
        let root = tempfile::tempdir().unwrap();
        let place = place(&root);
        let held = place.lock().unwrap().unwrap();
        assert!(place.lock().unwrap().is_none());
        assert!(held.holds());
        fs::remove_file(place.run_dir().join("agent.lock")).unwrap();
        assert!(!held.holds());
        assert!(place.lock().unwrap().is_some());
        place.remove_run_dir().unwrap();
    }
}
