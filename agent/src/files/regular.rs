//! A regular file, opened for reading without the risk that opening or reading hangs.
//!
//! Called by `http/files` on a blocking thread. Invariants: what is opened was a regular file
//! before (so no device sees an open) and is one after (so nobody swapped it); kernel file systems
//! are refused, since their files have no size and may wait for an event.

use std::{
    fs::{File, Metadata},
    os::{
        fd::AsRawFd as _,
        unix::{
            ffi::OsStrExt as _,
            fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
        },
    },
    path::{Path, PathBuf},
};

use bytes::Bytes;
use rustix::fs::{OFlags, fstatfs};

use super::FileError;

/// File systems that the kernel makes up: proc, sysfs, debugfs, tracefs, securityfs, both cgroups,
/// bpf, configfs and selinuxfs.
const KERNEL_FILE_SYSTEMS: [u64; 10] = [
    0x9fa0,
    0x6265_6572,
    0x6462_6720,
    0x7472_6163,
    0x7363_6673,
    0x0027_e0eb,
    0x6367_7270,
    0xcafe_4a11,
    0x6265_6570,
    0xf97c_ff8c,
];

/// An open regular file.
#[derive(Debug)]
pub struct RegularFile {
    file: File,
    path: PathBuf,
    size: u64,
    inode: Inode,
}

/// What a file is, wherever it is moved: its device and its number there.
pub type Inode = (u64, u64);

impl RegularFile {
    /// Opens a file; links are followed.
    ///
    /// # Errors
    /// It does not exist, may not be read or is not a regular stored file.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let bytes = path.as_os_str().as_bytes();
        let failed = |source| FileError::io(bytes, source);
        refuse_others(path, &path.metadata().map_err(failed)?)?;
        let safe = OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = File::options()
            .read(true)
            .custom_flags(safe.bits().cast_signed())
            .open(path)
            .map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        refuse_others(path, &metadata)?;
        let system = fstatfs(&file).map_err(|errno| FileError::io(bytes, errno))?;
        // The type's width differs between architectures; the numbers have 32 bits.
        let kind = u64::try_from(system.f_type & 0xffff_ffff).unwrap_or(0);
        if KERNEL_FILE_SYSTEMS.contains(&kind) {
            let path = bytes.to_vec().into();
            return Err(FileError::Kernel { path });
        }
        Ok(Self {
            file,
            path: path.to_owned(),
            size: metadata.len(),
            inode: (metadata.dev(), metadata.ino()),
        })
    }

    /// Opens a file of this user where it really is.
    ///
    /// # Errors
    /// As [`Self::open_own`].
    pub fn own(path: &Path) -> Result<Self, FileError> {
        let failed = |source| FileError::io(path.as_os_str().as_bytes(), source);
        Self::open_own(&path.canonicalize().map_err(failed)?)
    }

    /// Opens the file of this user that was shared under this path, or the one that took its place where only
    /// this user can have put it there. Elsewhere somebody could move any file of this user to the path.
    ///
    /// # Errors
    /// As [`Self::open_own`]; it is another file in a directory that others may change.
    pub fn open_shared(path: &Path, known: Option<Inode>) -> Result<Self, FileError> {
        let this = Self::open_own(path)?;
        if known == Some(this.inode) || path.ancestors().skip(1).all(only_we_change) {
            Ok(this)
        } else {
            let path = path.as_os_str().as_bytes().to_vec().into();
            Err(FileError::NotOwn { path })
        }
    }

    /// Opens a file of this user that is at this path itself: with a link anywhere on the way, somebody
    /// who can write a directory of it could lead to another file.
    ///
    /// # Errors
    /// As [`Self::open`]; it belongs to another user, or a link leads elsewhere.
    fn open_own(path: &Path) -> Result<Self, FileError> {
        let this = Self::open(path)?;
        let bytes = || path.as_os_str().as_bytes();
        let failed = |source| FileError::io(bytes(), source);
        let about = this.file.metadata().map_err(failed)?;
        let is_ours = about.uid() == rustix::process::getuid().as_raw();
        let there = std::fs::read_link(format!("/proc/self/fd/{}", this.file.as_raw_fd()));
        // What is open says where it is, so nothing can change between a look and the opening.
        if is_ours && there.map_err(failed)? == path {
            Ok(this)
        } else {
            let path = bytes().to_vec().into();
            Err(FileError::NotOwn { path })
        }
    }

    /// Returns the size when it was opened.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Returns which file it is.
    #[must_use]
    pub const fn inode(&self) -> Inode {
        self.inode
    }

    /// Returns the path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads at most `len` bytes from `offset` on; nothing at the end of the file.
    ///
    /// # Errors
    /// The operating system refused.
    pub fn read_at(&self, offset: u64, len: usize) -> Result<Bytes, FileError> {
        let mut buffer = vec![0; len];
        let read = self.file.read_at(&mut buffer, offset);
        let bytes = self.path.as_os_str().as_bytes();
        buffer.truncate(read.map_err(|source| FileError::io(bytes, source))?);
        Ok(buffer.into())
    }
}

/// Returns whether nobody but this user and root can move this user's files in or out of a directory.
fn only_we_change(directory: &Path) -> bool {
    std::fs::symlink_metadata(directory).is_ok_and(|about| {
        let ours = [0, rustix::process::getuid().as_raw()].contains(&about.uid());
        let (open_to_others, sticky) = (about.mode() & 0o022 != 0, about.mode() & 0o1000 != 0);
        about.is_dir() && ours && (sticky || !open_to_others)
    })
}

fn refuse_others(path: &Path, metadata: &Metadata) -> Result<(), FileError> {
    let path = || path.as_os_str().as_bytes().to_vec().into();
    if metadata.is_dir() {
        Err(FileError::IsDirectory { path: path() })
    } else if !metadata.is_file() {
        Err(FileError::Special { path: path() })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_could_hang_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("pipe");
        let kind = rustix::fs::FileType::Fifo;
        let mode = rustix::fs::Mode::RUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, kind, mode, 0).unwrap();
        let open = |path: &Path| RegularFile::open(path).unwrap_err();
        assert!(matches!(open(&fifo), FileError::Special { .. }));
        let tty = Path::new("/dev/tty");
        assert!(matches!(open(tty), FileError::Special { .. }));
        let kernel = Path::new("/proc/self/status");
        assert!(matches!(open(kernel), FileError::Kernel { .. }));
        let directory = open(folder.path());
        assert!(matches!(directory, FileError::IsDirectory { .. }));
    }

    #[test]
    fn only_the_users_own_file_at_its_own_path_is_opened_for_others() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        let secret = folder.join("secret");
        fs::create_dir_all(folder.join("open")).unwrap();
        fs::create_dir_all(&secret).unwrap();
        fs::write(folder.join("open/f"), b"shown").unwrap();
        fs::write(secret.join("f"), b"hidden").unwrap();
        let path = folder.join("open/f");
        assert_eq!(RegularFile::own(&path).unwrap().path(), path);
        assert_eq!(RegularFile::open_own(&path).unwrap().size(), 5);
        let refused =
            |path: &Path| matches!(RegularFile::open_own(path), Err(FileError::NotOwn { .. }));
        // The file became a link.
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(secret.join("f"), &path).unwrap();
        assert!(refused(&path));
        // A directory on the way became a link.
        fs::remove_dir_all(folder.join("open")).unwrap();
        std::os::unix::fs::symlink(&secret, folder.join("open")).unwrap();
        assert!(refused(&path));
        assert_eq!(RegularFile::own(&path).unwrap().path(), secret.join("f"));
        if rustix::process::getuid().is_root() {
            std::os::unix::fs::chown(secret.join("f"), Some(65534), None).unwrap();
            assert!(refused(&secret.join("f")));
        }
    }

    #[test]
    fn another_file_in_its_place_is_opened_only_where_nobody_else_can_have_put_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap().join("a/b");
        fs::create_dir_all(&folder).unwrap();
        let (path, other) = (folder.join("f"), folder.join("other"));
        fs::write(&path, "shown").unwrap();
        fs::write(&other, "another").unwrap();
        let known = Some(RegularFile::own(&path).unwrap().inode());
        let size = || RegularFile::open_shared(&path, known).map(|file| file.size());
        let open_to = |folder: &Path, mode| {
            fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
        };
        for at in [folder.as_path(), folder.parent().unwrap()] {
            fs::write(&path, "shown").unwrap();
            open_to(at, 0o775);
            assert_eq!(size().unwrap(), 5, "the file itself");
            let (aside, there) = (folder.join("aside"), folder.join("f"));
            fs::rename(&there, &aside).unwrap();
            fs::rename(&other, &there).unwrap();
            for (mode, opens) in [
                (0o775, false),
                (0o757, false),
                (0o1777, true),
                (0o755, true),
            ] {
                open_to(at, mode);
                match size() {
                    Ok(size) => assert!(opens && size == 7, "{mode:o}"),
                    Err(error) => assert!(
                        !opens && matches!(error, FileError::NotOwn { .. }),
                        "{mode:o}"
                    ),
                }
            }
            fs::rename(&there, &other).unwrap();
            fs::rename(&aside, &there).unwrap();
        }
    }

    #[test]
    fn bytes_come_from_their_offset() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        fs::write(&path, b"0123456789").unwrap();
        let file = RegularFile::open(&path).unwrap();
        assert_eq!(file.size(), 10);
        assert_eq!(file.read_at(3, 4).unwrap(), b"3456"[..]);
        assert_eq!(file.read_at(8, 100).unwrap(), b"89"[..]);
        assert!(file.read_at(10, 1).unwrap().is_empty());
    }
}
