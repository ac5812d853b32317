//! The record of what guests did: one JSON line each in `node/<host>/audit.ndjson`, mode 0600.
//!
//! Written by `http::guests` before the thing is done: what cannot be recorded is not done. Read by
//! `http::audit`.
//! Invariants: the record takes at most two files of [`FILE_BYTES`]; lines go in order of the actions.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hpcclient_protocol::{ApiError, ErrorCode, share::AuditEntry};
use rustix::fs::OFlags;
use tokio::{sync::Mutex, time::timeout};

/// The record; clones are the same.
#[derive(Clone, Debug)]
pub struct Audit(Arc<Mutex<PathBuf>>);

impl Audit {
    /// Names the record in this folder; it is made with its first line.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self(Arc::new(Mutex::new(folder.join("audit.ndjson"))))
    }

    /// Adds a line.
    ///
    /// # Errors
    /// It cannot be written within a few seconds.
    pub async fn record(&self, entry: AuditEntry) -> Result<(), ApiError> {
        let path = Arc::clone(&self.0);
        let write = async {
            let path = path.lock_owned().await;
            tokio::task::spawn_blocking(move || append(&path, &entry)).await
        };
        let failed = match timeout(LIMIT, write).await {
            Ok(Ok(Ok(()))) => return Ok(()),
            Ok(Ok(Err(error))) => error,
            Ok(Err(_)) | Err(_) => io::Error::other("the file system does not answer"),
        };
        let what = "the owner's record of what guests do cannot be written, so nothing is done";
        Err(ApiError::new(ErrorCode::Unavailable, what).caused_by(&failed))
    }

    /// Returns the newest entries, newest first.
    ///
    /// # Errors
    /// The record cannot be read.
    pub async fn newest(&self, limit: usize) -> Result<Vec<AuditEntry>, ApiError> {
        let path = Arc::clone(&self.0).lock_owned().await;
        let read = tokio::task::spawn_blocking(move || read(&path, limit)).await;
        let failed = match read {
            Ok(Ok(entries)) => return Ok(entries),
            Ok(Err(error)) => error,
            Err(error) => io::Error::other(error),
        };
        Err(
            ApiError::new(ErrorCode::Internal, "the audit record cannot be read")
                .caused_by(&failed),
        )
    }
}

fn append(path: &Path, entry: &AuditEntry) -> io::Result<()> {
    let mut line = serde_json::to_vec(entry)?;
    line.push(b'\n');
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
    }
    if fs::symlink_metadata(path).is_ok_and(|about| about.len() + line.len() as u64 > FILE_BYTES) {
        fs::rename(path, older(path))?;
    }
    fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)?
        .write_all(&line)
}

fn read(path: &Path, limit: usize) -> io::Result<Vec<AuditEntry>> {
    let mut entries = Vec::new();
    for path in [path.to_owned(), older(path)] {
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            read => read?,
        };
        let lines = text
            .rsplit(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty());
        // A line that was cut by a full disk is passed over.
        let known = lines.filter_map(|line| serde_json::from_slice(line).ok());
        entries.extend(known.take(limit - entries.len()));
    }
    Ok(entries)
}

fn older(path: &Path) -> PathBuf {
    path.with_file_name("audit.1.ndjson")
}

/// Some twenty thousand actions.
const FILE_BYTES: u64 = 4 << 20;

const LIMIT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use hpcclient_protocol::ShareId;

    use super::*;

    fn entry(number: u64, object: &str) -> AuditEntry {
        AuditEntry {
            t_ms: number,
            guest: "bob".to_owned(),
            uid: 1001,
            share: ShareId::random(),
            action: "read".to_owned(),
            object: object.to_owned(),
        }
    }

    #[tokio::test]
    async fn the_newest_come_first_and_the_record_stays_small_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::new(&folder.path().join("node"));
        assert_eq!(audit.newest(10).await.unwrap(), []);
        let long = "x".repeat(100_000);
        for number in 0..100 {
            audit.record(entry(number, &long)).await.unwrap();
        }
        let numbers = |entries: Vec<AuditEntry>| entries.iter().map(|e| e.t_ms).collect::<Vec<_>>();
        assert_eq!(numbers(audit.newest(3).await.unwrap()), [99, 98, 97]);
        let all = numbers(audit.newest(1000).await.unwrap());
        assert!(all.len() > 41 && all.len() < 100, "{}", all.len());
        assert!(all.windows(2).all(|pair| pair[0] == pair[1] + 1));
        let path = folder.path().join("node/audit.ndjson");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        // A torn line costs itself only.
        let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"tMs\":\n").unwrap();
        audit.record(entry(100, "y")).await.unwrap();
        assert_eq!(numbers(audit.newest(2).await.unwrap()), [100, 99]);
    }

    #[tokio::test]
    async fn what_cannot_be_recorded_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("node"), "").unwrap();
        let audit = Audit::new(&folder.path().join("node"));
        let error = audit.record(entry(1, "x")).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::Unavailable);
    }
}
