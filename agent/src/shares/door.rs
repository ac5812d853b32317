//! The share socket: `/tmp/hpcclient-share-<uid>[.<n>]/sock`, which every user of the node may connect to.
//!
//! Opened and closed by `keeper`. The directory is 0711 and this user's, so that nobody else can put
//! anything into it; the socket is 0666, and who connects is told by the kernel.
//! Invariants: a directory is used only when it is ours, a real directory and not open for writing to
//! others, else the next number is tried; two agents of one user have a directory each, by a lock in it. Who takes
//! all the fixed names cannot take the random ones that are tried after them.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
        net::UnixListener as StdListener,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, Mode, OFlags},
    io::Errno,
};
use tokio::net::UnixListener;

use crate::place::RUN_DIR_PARENT;

/// What the directories of all users begin with.
pub(super) const PREFIX: &str = "hpcclient-share-";

/// The socket in the directory.
pub(super) const SOCKET: &str = "sock";

/// An open door; [`Door::close`] removes it.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) listener: UnixListener,
    folder: PathBuf,
    inode: (u64, u64),
    /// Held as long as the directory is ours.
    _lock: fs::File,
}

impl Door {
    /// Opens the door in the first directory that can be used.
    ///
    /// # Errors
    /// None can; the error is the last one's.
    pub(super) fn open() -> io::Result<Self> {
        Self::open_in(Path::new(RUN_DIR_PARENT))
    }

    fn open_in(parent: &Path) -> io::Result<Self> {
        let mut last = io::Error::other("no name is left");
        for folder in folders(parent).chain(random_folders(parent)) {
            match take(&folder).and_then(|lock| bind(folder, lock)) {
                Ok(door) => return Ok(door),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Returns whether others can still find it; `/tmp` is tidied up on many systems.
    pub(super) fn is_there(&self) -> bool {
        inode(&self.folder.join(SOCKET)).is_ok_and(|inode| inode == self.inode)
    }

    /// Closes the door and leaves nothing behind.
    pub(super) fn close(self) {
        if self.is_there() {
            clear(&self.folder);
        }
    }
}

/// Removes what an agent that was killed left, under whatever name.
pub(super) fn tidy() {
    tidy_in(Path::new(RUN_DIR_PARENT));
}

fn tidy_in(parent: &Path) {
    let own = rustix::process::getuid().as_raw();
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if entry.file_name().to_str().and_then(uid_in) != Some(own) {
            continue;
        }
        let folder = entry.path();
        let is_ours =
            fs::symlink_metadata(&folder).is_ok_and(|about| about.is_dir() && about.uid() == own);
        if is_ours && take(&folder).is_ok() {
            clear(&folder);
        }
    }
}

/// Returns the number of the user in the name of a share directory.
pub(super) fn uid_in(name: &str) -> Option<u32> {
    let rest = name.strip_prefix(PREFIX)?;
    let (uid, number) = rest.split_once('.').unwrap_or((rest, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits(uid) && digits(number) {
        uid.parse().ok()
    } else {
        None
    }
}

fn clear(folder: &Path) {
    // The lock goes last but one: whoever finds the directory without it makes it anew.
    let _gone = fs::remove_file(folder.join(SOCKET));
    let _gone = fs::remove_file(folder.join(LOCK));
    let _gone = fs::remove_dir(folder);
}

fn folders(parent: &Path) -> impl Iterator<Item = PathBuf> {
    let name = format!("{PREFIX}{}", rustix::process::getuid().as_raw());
    let parent = parent.to_owned();
    (0..ATTEMPTS).map(move |number| {
        parent.join(if number == 0 {
            name.clone()
        } else {
            format!("{name}.{number}")
        })
    })
}

/// Names that nobody can have taken before.
fn random_folders(parent: &Path) -> impl Iterator<Item = PathBuf> {
    let name = format!("{PREFIX}{}", rustix::process::getuid().as_raw());
    let parent = parent.to_owned();
    (0..ATTEMPTS).map(move |_| {
        let (number, ..) = uuid::Uuid::new_v4().as_fields();
        parent.join(format!("{name}.{number}"))
    })
}

/// Makes the directory, or checks the one that is there, and locks it.
fn take(folder: &Path) -> io::Result<fs::File> {
    match rustix::fs::mkdir(folder, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = fs::File::from(rustix::fs::open(folder, flags, Mode::empty())?);
    let about = directory.metadata()?;
    if about.uid() != rustix::process::getuid().as_raw() || about.mode() & 0o022 != 0 {
        return Err(io::Error::other(
            "the directory is another user's or open to them",
        ));
    }
    directory.set_permissions(fs::Permissions::from_mode(0o711))?;
    let path = folder.join(LOCK);
    let lock = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(&path)?;
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    // Another agent may have removed it between the opening and the lock.
    let ours = lock.metadata()?;
    if inode(&path)? == (ours.dev(), ours.ino()) {
        Ok(lock)
    } else {
        Err(io::Error::other("the directory was removed meanwhile"))
    }
}

/// Listens with mode 0666 from the first moment: bound under another name, then renamed.
fn bind(folder: PathBuf, lock: fs::File) -> io::Result<Door> {
    let (draft, path) = (folder.join("new"), folder.join(SOCKET));
    let _left_over = fs::remove_file(&draft);
    let listener = StdListener::bind(&draft)?;
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o666))?;
    fs::rename(&draft, &path)?;
    listener.set_nonblocking(true)?;
    Ok(Door {
        listener: UnixListener::from_std(listener)?,
        inode: inode(&path)?,
        folder,
        _lock: lock,
    })
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    let about = fs::symlink_metadata(path)?;
    let kind = about.file_type();
    if kind.is_socket() || kind.is_file() {
        Ok((about.dev(), about.ino()))
    } else {
        Err(io::Error::other("something else is in its place"))
    }
}

const LOCK: &str = "lock";

const ATTEMPTS: u32 = 8;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    fn names(parent: &Path) -> Vec<String> {
        let entries = fs::read_dir(parent).unwrap().flatten();
        let mut names: Vec<_> = entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn two_agents_have_a_door_each_and_leave_nothing() {
        let parent = tempfile::tempdir().unwrap();
        let uid = rustix::process::getuid().as_raw();
        let (first, second) = (
            Door::open_in(parent.path()).unwrap(),
            Door::open_in(parent.path()).unwrap(),
        );
        assert_eq!(
            names(parent.path()),
            [format!("{PREFIX}{uid}"), format!("{PREFIX}{uid}.1")]
        );
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!(mode(&first.folder), 0o711);
        assert_eq!(mode(&first.folder.join(SOCKET)), 0o666);
        assert_eq!(mode(&first.folder.join(LOCK)), 0o600);
        first.close();
        assert!(second.is_there());
        let again = Door::open_in(parent.path()).unwrap();
        assert_eq!(names(parent.path()).len(), 2);
        // What a killed agent left is used again.
        let folder = again.folder.clone();
        drop(again);
        let third = Door::open_in(parent.path()).unwrap();
        assert_eq!(third.folder, folder);
        fs::remove_file(folder.join(SOCKET)).unwrap();
        assert!(!third.is_there());
        clear(&folder);
        second.close();
        assert!(names(parent.path()).is_empty());
    }

    #[tokio::test]
    async fn what_others_prepared_is_not_used() {
        let parent = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let squatted: Vec<_> = folders(parent.path()).take(4).collect();
        symlink(elsewhere.path(), &squatted[0]).unwrap();
        fs::write(&squatted[1], "").unwrap();
        fs::create_dir(&squatted[2]).unwrap();
        fs::set_permissions(&squatted[2], fs::Permissions::from_mode(0o777)).unwrap();
        let mut free = 3;
        if rustix::process::getuid().is_root() {
            fs::create_dir(&squatted[3]).unwrap();
            chown(&squatted[3], Some(65534), None).unwrap();
            free = 4;
        }
        let door = Door::open_in(parent.path()).unwrap();
        assert_eq!(Some(door.folder.clone()), folders(parent.path()).nth(free));
        assert!(names(elsewhere.path()).is_empty());
        door.close();
        assert_eq!(names(parent.path()).len(), free);
    }

    #[tokio::test]
    async fn who_takes_every_fixed_name_keeps_nobody_out() {
        let parent = tempfile::tempdir().unwrap();
        for folder in folders(parent.path()) {
            fs::write(folder, "").unwrap();
        }
        let door = Door::open_in(parent.path()).unwrap();
        let name = door.folder.file_name().unwrap().to_str().unwrap();
        assert_eq!(uid_in(name), Some(rustix::process::getuid().as_raw()));
        // What a killed agent left there is found; what is another's, or in use, stays.
        tidy_in(parent.path());
        assert!(door.is_there());
        drop(door);
        tidy_in(parent.path());
        assert_eq!(
            names(parent.path()).len(),
            usize::try_from(ATTEMPTS).unwrap()
        );
    }
}
