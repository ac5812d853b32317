//! The file system under a directory: type, room, whether programs run from it.
//!
//! Called by `node`. Type and options are the kernel's own list of mounts, which never hangs.
//! Invariants: what a dead disk holds up is a thread of its own, of which there are at most
//! [`LOOKERS`]; the runtime and its pool never wait for it.

use std::{
    ffi::OsString,
    fs,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use hpcclient_protocol::{ByteString, node::Disk};
use tokio::{
    sync::{Semaphore, oneshot},
    time::timeout,
};

static LOOKERS: Semaphore = Semaphore::const_new(8);

const LIMIT: Duration = Duration::from_secs(3);

const STACK: usize = 256 * 1024;

/// Looks at the disk of a directory; nothing when it does not answer.
pub(super) async fn look(path: &Path) -> Option<Disk> {
    let place = LOOKERS.try_acquire().ok()?;
    let (tell, told) = oneshot::channel();
    let path = path.to_path_buf();
    let work = move || {
        // Nobody listens any more when it took too long.
        let _late = tell.send(see(&path));
        drop(place);
    };
    std::thread::Builder::new()
        .stack_size(STACK)
        .spawn(work)
        .ok()?;
    timeout(LIMIT, told).await.ok()?.ok()?
}

fn see(path: &Path) -> Option<Disk> {
    let real = fs::canonicalize(path).ok()?;
    let room = rustix::fs::statvfs(&real).ok()?;
    let mounts = fs::read("/proc/self/mountinfo").ok()?;
    let mount = mount_of(&real, &mounts)?;
    Some(Disk {
        kind: mount.kind,
        mount: ByteString::from(mount.point.into_os_string().into_vec()),
        free_bytes: room.f_bavail.saturating_mul(room.f_frsize),
        // A file system without a fixed number of files says 0 of 0.
        free_files: (room.f_files > 0).then_some(room.f_favail),
        no_exec: mount.no_exec,
        read_only: mount.read_only,
    })
}

#[derive(Debug, PartialEq, Eq)]
struct Mount {
    point: PathBuf,
    kind: String,
    no_exec: bool,
    read_only: bool,
}

/// Finds the mount that a path lies on; of several at one point the last covers the others.
fn mount_of(path: &Path, mounts: &[u8]) -> Option<Mount> {
    let depth = |mount: &Mount| mount.point.components().count();
    mounts
        .split(|byte| *byte == b'\n')
        .filter_map(read_mount)
        .filter(|mount| path.starts_with(&mount.point))
        .max_by_key(depth)
}

/// Reads a line of `/proc/self/mountinfo`; proc(5) describes it.
fn read_mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let point = unescaped(fields.nth(4)?);
    let options = fields.next()?;
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    let has = |name: &[u8]| options.split(|byte| *byte == b',').any(|is| is == name);
    Some(Mount {
        point: PathBuf::from(OsString::from_vec(point)),
        kind: std::ffi::OsStr::from_bytes(kind)
            .to_string_lossy()
            .into_owned(),
        no_exec: has(b"noexec"),
        read_only: has(b"ro"),
    })
}

/// Undoes the kernel's `\040` for a space and its like.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = after
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|digits| str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        if let Some(byte) = octal {
            plain.push(byte);
            rest = after.get(3..).unwrap_or_default();
        } else {
            plain.push(*first);
            rest = after;
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_lies_on_the_innermost_mount() {
        let mounts = b"22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
            30 22 0:40 / /home rw,nosuid - nfs4 server:/home rw,vers=4.2\n\
            31 22 0:41 / /home/my\\040dir rw,noexec shared:9 master:2 - lustre mds@tcp:/x rw\n\
            32 22 0:42 / /homework ro - xfs /dev/sdb rw\n\
            junk\n";
        for (path, point, kind, no_exec, read_only) in [
            ("/home/me", "/home", "nfs4", false, false),
            ("/home/my dir/x", "/home/my dir", "lustre", true, false),
            ("/homework", "/homework", "xfs", false, true),
            ("/etc", "/", "ext4", false, false),
        ] {
            let found = mount_of(Path::new(path), mounts).unwrap();
            let expected = Mount {
                point: point.into(),
                kind: kind.to_owned(),
                no_exec,
                read_only,
            };
            assert_eq!(found, expected, "{path}");
        }
        assert_eq!(mount_of(Path::new("/"), b""), None);
    }

    #[tokio::test]
    async fn a_real_directory_has_a_disk_and_a_missing_one_has_none() {
        let folder = tempfile::tempdir().unwrap();
        let disk = look(folder.path()).await.unwrap();
        assert!(!disk.kind.is_empty() && disk.free_bytes > 0, "{disk:?}");
        assert_eq!(look(Path::new("/nowhere/at/all")).await, None);
    }
}
