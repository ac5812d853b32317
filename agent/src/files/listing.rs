//! A directory as a sorted page.
//!
//! Called by `http/files` on a blocking thread. The directory is read whole for every page, since
//! nobody promises that it stays as it is; sorting happens here, because a viewer has one page only.
//!
//! Invariants: memory grows with the names alone, about 60 bytes each, and no further than
//! [`MAX_ENTRIES`]; only the page's entries are looked at one by one, unless the order needs all; a
//! name that cannot be looked at is listed nevertheless.

use std::{
    cmp::{Ordering, Reverse},
    ffi::CStr,
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    path::{Path, PathBuf},
};

use hpcclient_protocol::{
    ByteString,
    file::{FileEntry, FileKind, Listing, SortKey},
};
use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, open, statat},
    io::Errno,
};

use super::FileError;

/// The most entries of a page.
pub const MAX_PAGE: usize = 5_000;
/// The most entries of a directory.
pub const MAX_ENTRIES: usize = 1_000_000;

/// Which part of a directory is asked for, in which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// The index of its first entry.
    pub offset: usize,
    /// How many entries at most; [`MAX_PAGE`] is the limit.
    pub limit: usize,
    /// The order.
    pub sort: SortKey,
}

/// Lists a directory.
///
/// # Errors
/// It does not exist, is not a directory, may not be read or has too many entries.
pub fn list(path: &Path, page: Page) -> Result<Listing, FileError> {
    list_up_to(path, page, MAX_ENTRIES)
}

fn list_up_to(path: &Path, page: Page, max_entries: usize) -> Result<Listing, FileError> {
    let bytes = path.as_os_str().as_bytes();
    let failed = |errno| FileError::io(bytes, errno);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let directory = open(path, flags, Mode::empty()).map_err(|errno| match errno {
        // It is said of a part of the path as well; then the system's own words are better.
        Errno::NOTDIR if path.symlink_metadata().is_ok() => FileError::NotDirectory {
            path: bytes.to_vec().into(),
        },
        errno => failed(errno),
    })?;
    let mut names = Names::read(&directory, page.sort, max_entries, bytes)?;
    names.sort();
    let limit = page.limit.min(MAX_PAGE);
    let rows = names.rows.iter().skip(page.offset).take(limit);
    Ok(Listing {
        path: shown(path).into_os_string().as_bytes().to_vec().into(),
        entries: rows
            .map(|row| entry(&directory, names.name(row), row.kind))
            .collect(),
        offset: page.offset as u64,
        total: names.rows.len() as u64,
    })
}

/// Returns the path to show: as asked for, but without `..`.
fn shown(path: &Path) -> PathBuf {
    let climbs = path
        .components()
        .any(|part| part == std::path::Component::ParentDir);
    match path.canonicalize() {
        Ok(real) if climbs => real,
        _ => path.to_owned(),
    }
}

/// All names of a directory in one buffer.
struct Names {
    bytes: Vec<u8>,
    rows: Vec<Row>,
}

struct Row {
    start: usize,
    len: u16,
    kind: FileKind,
    /// Whether it is sorted among the directories.
    directory: bool,
    /// The reverse of what the order looks at before the name.
    key: Reverse<i64>,
}

impl Names {
    fn read(
        directory: &OwnedFd,
        sort: SortKey,
        max_entries: usize,
        path: &[u8],
    ) -> Result<Self, FileError> {
        let failed = |errno| FileError::io(path, errno);
        let (mut bytes, mut rows) = (vec![], vec![]);
        for found in Dir::read_from(directory).map_err(failed)? {
            let found = found.map_err(failed)?;
            let name = found.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            if rows.len() == max_entries {
                return Err(FileError::TooMany {
                    path: path.to_vec().into(),
                    limit: max_entries,
                });
            }
            let start = bytes.len();
            bytes.extend_from_slice(name.to_bytes());
            rows.push(Row::new(directory, name, start, found.file_type(), sort));
        }
        Ok(Self { bytes, rows })
    }

    fn name(&self, row: &Row) -> &[u8] {
        let end = row.start + usize::from(row.len);
        self.bytes.get(row.start..end).unwrap_or_default()
    }

    fn sort(&mut self) {
        let mut rows = std::mem::take(&mut self.rows);
        rows.sort_unstable_by(|a, b| self.compare(a, b));
        self.rows = rows;
    }

    fn compare(&self, a: &Row, b: &Row) -> Ordering {
        (Reverse(a.directory), a.key)
            .cmp(&(Reverse(b.directory), b.key))
            .then_with(|| self.name(a).cmp(self.name(b)))
    }
}

impl Row {
    fn new(directory: &OwnedFd, name: &CStr, start: usize, told: FileType, sort: SortKey) -> Self {
        let stat = if told == FileType::Unknown || sort != SortKey::Name {
            statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).ok()
        } else {
            None
        };
        let kind = stat.as_ref().map_or_else(|| kind_of(told), stat_kind);
        let leads_to_directory =
            kind == FileKind::Symlink && target_kind(directory, name) == Some(FileKind::Directory);
        let key = stat.as_ref().map_or(0, |stat| match sort {
            SortKey::Name => 0,
            SortKey::Size => stat.st_size,
            SortKey::Modified => modified_ms(stat),
        });
        Self {
            start,
            // The kernel's limit is 255.
            len: u16::try_from(name.to_bytes().len()).unwrap_or(u16::MAX),
            kind,
            directory: kind == FileKind::Directory || leads_to_directory,
            key: Reverse(key),
        }
    }
}

/// Looks at one entry. One that is gone or may not be looked at keeps its name and kind.
fn entry(directory: &OwnedFd, name: &[u8], kind: FileKind) -> FileEntry {
    let bytes = ByteString::from(name.to_vec());
    let looked = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).ok();
    let kind = looked.as_ref().map_or(kind, stat_kind);
    let target_kind = match kind {
        FileKind::Symlink => target_kind(directory, name),
        _ => None,
    };
    FileEntry {
        name: bytes,
        kind,
        target_kind,
        size: looked
            .as_ref()
            .and_then(|stat| u64::try_from(stat.st_size).ok())
            .unwrap_or(0),
        modified_ms: looked.as_ref().map_or(0, modified_ms),
        mode: looked.as_ref().map_or(0, |stat| stat.st_mode & 0o7777),
    }
}

fn target_kind(directory: &OwnedFd, name: impl rustix::path::Arg) -> Option<FileKind> {
    let stat = statat(directory, name, AtFlags::empty()).ok()?;
    Some(stat_kind(&stat))
}

fn stat_kind(stat: &Stat) -> FileKind {
    kind_of(FileType::from_raw_mode(stat.st_mode))
}

const fn kind_of(kind: FileType) -> FileKind {
    match kind {
        FileType::RegularFile => FileKind::File,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        _ => FileKind::Other,
    }
}

fn modified_ms(stat: &Stat) -> i64 {
    let nanoseconds = i64::try_from(stat.st_mtime_nsec).unwrap_or(0);
    stat.st_mtime
        .saturating_mul(1000)
        .saturating_add(nanoseconds / 1_000_000)
}

#[cfg(test)]
mod tests {
    use std::{
        ffi::OsStr,
        fs::{self, File},
        os::unix::fs::symlink,
        time::{Duration, SystemTime},
    };

    use hpcclient_protocol::{ApiError, ErrorCode};

    use super::*;

    fn all(path: &Path, sort: SortKey) -> Listing {
        let page = Page {
            offset: 0,
            limit: MAX_PAGE,
            sort,
        };
        list(path, page).unwrap()
    }

    fn names(listing: &Listing) -> Vec<&[u8]> {
        listing
            .entries
            .iter()
            .map(|entry| entry.name.as_bytes())
            .collect()
    }

    fn touch(path: &Path, size: usize, age: u64) {
        fs::write(path, vec![b'x'; size]).unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 - age);
        File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_modified(time)
            .unwrap();
    }

    #[test]
    fn directories_come_first_in_every_order() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        touch(&at("small-new"), 1, 0);
        touch(&at("big-old"), 300, 20);
        touch(&at("middle"), 20, 10);
        fs::create_dir(at("zoo")).unwrap();
        symlink("zoo", at("link")).unwrap();
        let by = |sort| {
            let listing = all(folder.path(), sort);
            let names = names(&listing).into_iter().map(<[u8]>::to_vec);
            names
                .map(|name| String::from_utf8(name).unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            by(SortKey::Name),
            ["link", "zoo", "big-old", "middle", "small-new"]
        );
        assert_eq!(by(SortKey::Size)[2..], ["big-old", "middle", "small-new"]);
        assert_eq!(
            by(SortKey::Modified)[2..],
            ["small-new", "middle", "big-old"]
        );
    }

    #[test]
    fn an_entry_is_what_it_is_and_says_where_a_link_leads() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &[u8]| folder.path().join(OsStr::from_bytes(name));
        fs::create_dir(at(b"d")).unwrap();
        touch(&at(b"n\xe9\n<b>"), 7, 0);
        symlink("d", at(b"to-d")).unwrap();
        symlink("nowhere", at(b"to-nothing")).unwrap();
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, at(b"pipe"), fifo, Mode::RUSR, 0).unwrap();
        let listing = all(folder.path(), SortKey::Name);
        let entry = |name: &[u8]| {
            let found = listing.entries.iter().find(|e| e.name.as_bytes() == name);
            found.unwrap().clone()
        };
        let file = entry(b"n\xe9\n<b>");
        assert_eq!((file.kind, file.size), (FileKind::File, 7));
        assert_eq!(file.modified_ms, 1_000_000_000);
        assert_eq!(entry(b"to-d").target_kind, Some(FileKind::Directory));
        assert_eq!(entry(b"to-nothing").kind, FileKind::Symlink);
        assert_eq!(entry(b"to-nothing").target_kind, None);
        assert_eq!(entry(b"pipe").kind, FileKind::Other);
        assert_eq!(
            listing.path,
            ByteString::from(folder.path().as_os_str().as_bytes().to_vec())
        );
    }

    #[test]
    fn pages_join_to_the_whole_also_for_many_entries() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..12_000 {
            File::create(folder.path().join(format!("f{number:06}"))).unwrap();
        }
        let (mut seen, mut offset) = (vec![], 0);
        loop {
            let page = Page {
                offset,
                limit: usize::MAX,
                sort: SortKey::Name,
            };
            let listing = list(folder.path(), page).unwrap();
            assert_eq!(listing.total, 12_000);
            if listing.entries.is_empty() {
                break;
            }
            offset += listing.entries.len();
            seen.extend(listing.entries.into_iter().map(|entry| entry.name));
        }
        assert_eq!(seen.len(), 12_000);
        assert!(seen.is_sorted());
        let page = Page {
            offset: 0,
            limit: 1,
            sort: SortKey::Name,
        };
        let error = list_up_to(folder.path(), page, 100).unwrap_err();
        assert!(matches!(error, FileError::TooMany { .. }));
    }

    #[test]
    fn what_is_no_directory_is_said_so() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f");
        touch(&file, 1, 0);
        let code = |path: &Path| {
            let page = Page {
                offset: 0,
                limit: 1,
                sort: SortKey::Name,
            };
            let error = ApiError::from(list(path, page).unwrap_err());
            (error.code, error.message)
        };
        let said = code(&file);
        assert_eq!(said.0, ErrorCode::Conflict);
        assert!(said.1.starts_with("not a directory: /"), "{}", said.1);
        assert_eq!(code(&folder.path().join("no")).0, ErrorCode::NotFound);
        assert_eq!(code(&file.join("x")).0, ErrorCode::Conflict);
    }
}
