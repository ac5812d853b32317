//! A share as it lies on the disk: one JSON file each, written whole or not at all, mode 0600.
//!
//! Called by `shares` on a blocking thread. Not here: who may use it.

use std::{
    ffi::OsString,
    fs, io,
    io::Write as _,
    os::unix::{
        ffi::{OsStrExt as _, OsStringExt as _},
        fs::{DirBuilderExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use hpcclient_protocol::{
    ApiError, ByteString, ErrorCode, RunId, ShareId, StreamName,
    share::{Share, ShareSpec, SharedObject},
};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use super::names::User;
use crate::{clock, files::Inode};

/// A share and what is needed to keep it across starts of the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    /// As the owner asked for it, so that a retry is known again.
    pub(super) asked: ShareSpec,
    /// As it is.
    pub(super) share: Share,
    /// The guests, as the node knew them.
    pub(super) guests: Vec<User>,
    /// The boot in which it was made.
    pub(super) boot_id: String,
    /// When it ends by the clock since that boot.
    pub(super) ends_boot_ms: Option<u64>,
    /// The file that was shared, so that another one in its place is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) inode: Option<Inode>,
}

impl Record {
    pub(super) fn run(&self) -> Option<RunId> {
        match self.share.spec.object {
            SharedObject::Run { run, .. } => Some(run),
            SharedObject::File { .. } => None,
        }
    }

    pub(super) fn file(&self) -> Option<PathBuf> {
        match &self.share.spec.object {
            SharedObject::Run { .. } => None,
            SharedObject::File { path } => Some(path_of(path)),
        }
    }

    /// Returns when it ends by the clock since this boot. After a reboot only the wall clock is left to
    /// go by, and it can give no more time than the share had at first.
    pub(super) fn ends_at(&self, boot_id: &str) -> Option<u64> {
        let ends_boot_ms = self.ends_boot_ms?;
        if self.boot_id == boot_id && !boot_id.is_empty() {
            return Some(ends_boot_ms);
        }
        let expires_ms = self.share.spec.expires_ms.unwrap_or(0);
        let left = expires_ms.saturating_sub(clock::now_ms());
        let at_first = expires_ms.saturating_sub(self.share.created_ms);
        Some(clock::since_boot_ms() + left.min(at_first))
    }
}

/// Returns the streams to share: none for all that the run has.
pub(super) fn narrowed(
    asked: &[StreamName],
    is_console: bool,
) -> Result<Vec<StreamName>, ApiError> {
    let has: &[StreamName] = if is_console {
        &[StreamName::Tty]
    } else {
        &[StreamName::Stdout, StreamName::Stderr]
    };
    if let Some(stream) = asked.iter().find(|stream| !has.contains(stream)) {
        let what = format!("the run has no stream `{}`", stream.as_str());
        return Err(ApiError::new(ErrorCode::BadRequest, what));
    }
    let streams: Vec<_> = has
        .iter()
        .copied()
        .filter(|name| asked.contains(name))
        .collect();
    Ok(if streams.len() == has.len() {
        vec![]
    } else {
        streams
    })
}

/// Returns a title of one short line.
pub(super) fn one_line(text: &str) -> String {
    let line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_TITLE)
        .collect();
    line.trim().to_owned()
}

pub(super) fn path_of(path: &ByteString) -> PathBuf {
    PathBuf::from(OsString::from_vec(path.as_bytes().to_vec()))
}

pub(super) fn bytes_of(path: &Path) -> ByteString {
    path.as_os_str().as_bytes().to_vec().into()
}

/// Writes a share; it is on the disk when this returns.
pub(super) fn write(folder: &Path, record: &Record) -> Result<(), ApiError> {
    let path = path(folder, record.share.id);
    let write = || -> io::Result<()> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        let draft = path.with_extension("new");
        let no_follow = OFlags::NOFOLLOW.bits().cast_signed();
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(no_follow)
            .open(&draft)?;
        file.write_all(&serde_json::to_vec(record)?)?;
        file.sync_all()?;
        fs::rename(&draft, &path)?;
        fs::File::open(folder)?.sync_all()
    };
    write().map_err(|error| failed("the share cannot be written to", &path, &error))
}

/// Removes a share; it is gone from the disk when this returns. Returns whether it was there.
pub(super) fn remove(folder: &Path, id: ShareId) -> Result<bool, ApiError> {
    let path = path(folder, id);
    let removed = match fs::remove_file(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        done => done
            .and_then(|()| fs::File::open(folder)?.sync_all())
            .map(|()| true),
    };
    removed.map_err(|error| {
        failed(
            "the share has ended, but its file cannot be removed:",
            &path,
            &error,
        )
        .hint("remove the file, or it is shared again when the agent starts")
    })
}

/// Returns every share that can be read.
pub(super) fn read_all(folder: &Path) -> Vec<Record> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.filter(|entry| entry.path().extension().is_some_and(|end| end == "json"));
    let read = files.filter_map(|entry| {
        let record = fs::read(entry.path())
            .map_err(|error| error.to_string())
            .and_then(|bytes| serde_json::from_slice(&bytes).map_err(|error| error.to_string()));
        // What cannot be read is not shared.
        record
            .map_err(|error| tracing::warn!(path = %entry.path().display(), error, "a share cannot be read"))
            .ok()
    });
    read.collect()
}

fn path(folder: &Path, id: ShareId) -> PathBuf {
    folder.join(format!("{id}.json"))
}

fn failed(what: &str, path: &Path, error: &io::Error) -> ApiError {
    let full = rustix::io::Errno::from_io_error(error)
        .is_some_and(|errno| matches!(errno, rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT));
    let code = if full {
        ErrorCode::NoSpace
    } else {
        ErrorCode::Internal
    };
    ApiError::new(code, format!("{what} {}", path.display())).caused_by(error)
}

/// In characters; a share shows what it is, it does not carry it.
const MAX_TITLE: usize = 200;

#[cfg(test)]
pub(super) mod tests {
    use hpcclient_protocol::live::Access;

    use super::*;

    pub(in crate::shares) fn record(expires_ms: Option<u64>) -> Record {
        let asked = ShareSpec {
            object: SharedObject::File { path: "/a".into() },
            guests: vec!["bob".to_owned()],
            access: Access::View,
            expires_ms,
        };
        Record {
            share: Share {
                id: ShareId::random(),
                owner: "alice".to_owned(),
                spec: asked.clone(),
                title: "/a".to_owned(),
                created_ms: clock::now_ms(),
            },
            asked,
            guests: vec![User {
                name: "bob".to_owned(),
                uid: 1001,
            }],
            boot_id: "boot".to_owned(),
            ends_boot_ms: None,
            inode: None,
        }
    }

    #[test]
    fn what_was_written_is_read_and_what_was_removed_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("shares");
        let (one, two) = (record(None), record(Some(5)));
        write(&folder, &one).unwrap();
        write(&folder, &two).unwrap();
        fs::write(folder.join("torn.json"), "{").unwrap();
        fs::write(folder.join("x.new"), "").unwrap();
        let mut all = read_all(&folder);
        all.sort_by_key(|record| record.share.id);
        assert_eq!(all, [one.clone(), two.clone()]);
        assert!(remove(&folder, one.share.id).unwrap());
        assert!(!remove(&folder, one.share.id).unwrap());
        assert_eq!(read_all(&folder), [two]);
    }

    #[test]
    fn a_jump_of_the_wall_clock_changes_nothing_within_a_boot() {
        let now = clock::now_ms();
        // As if the clock had been set by a day, either way, after it was shared for a minute.
        for created_ms in [now - 86_400_000, now + 86_400_000] {
            let mut record = record(Some(created_ms + 60_000));
            record.share.created_ms = created_ms;
            record.ends_boot_ms = Some(12_345);
            assert_eq!(record.ends_at("boot"), Some(12_345));
            // After a reboot it ends at once, or after no more than what it had.
            let left = record.ends_at("other").unwrap()
                - clock::since_boot_ms().min(record.ends_at("other").unwrap());
            assert!(left <= 60_000, "{left}");
        }
        assert_eq!(record(None).ends_at("boot"), None);
    }

    #[test]
    fn a_run_shares_only_streams_that_it_has() {
        use StreamName::{Stderr, Stdout, Tty};
        assert_eq!(narrowed(&[], false).unwrap(), []);
        assert_eq!(narrowed(&[Stderr, Stdout], false).unwrap(), []);
        assert_eq!(narrowed(&[Stdout, Stdout], false).unwrap(), [Stdout]);
        assert_eq!(narrowed(&[Tty], true).unwrap(), []);
        assert_eq!(
            narrowed(&[Tty], false).unwrap_err().code,
            ErrorCode::BadRequest
        );
        assert_eq!(
            narrowed(&[Stdout], true).unwrap_err().code,
            ErrorCode::BadRequest
        );
    }

    #[test]
    fn a_title_is_one_line() {
        assert_eq!(one_line("a\n\x1b[2Jb "), "a  [2Jb");
        assert_eq!(one_line(&"x".repeat(1000)).len(), MAX_TITLE);
    }
}
