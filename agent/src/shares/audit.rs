//! The record of what guests did: one JSON line each in `node/<host>/audit.<uid>.ndjson`, mode 0600.
//!
//! Written by `http::guests` before the thing is done: what cannot be recorded is not done. Read by `http::audit`;
//! the keeper has what is summed written.
//! Invariants: each guest has two files of at most [`FILE_BYTES`], so that nobody pushes out what another did. The first
//! of several alike is a line at once; the others become one within [`SUM_EVERY`], and only these are lost when the
//! agent is killed.

use std::{
    collections::{HashMap, hash_map::Entry},
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hpcclient_protocol::{ApiError, ErrorCode, ShareId, share::AuditEntry};
use rustix::fs::OFlags;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

/// The record; clones are the same.
#[derive(Clone, Debug)]
pub struct Audit(Arc<Mutex<Book>>);

#[derive(Debug)]
struct Book {
    folder: PathBuf,
    sums: HashMap<(u32, ShareId, String), Sum>,
}

/// What a guest did again since the line about it.
#[derive(Debug)]
struct Sum {
    written: Instant,
    /// The last time, if it is not written yet.
    last: Option<AuditEntry>,
    times: u64,
    bytes: Option<u64>,
}

impl Audit {
    /// Names the folder of the record; its files are made with their first lines.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self(Arc::new(Mutex::new(Book {
            folder: folder.to_owned(),
            sums: HashMap::new(),
        })))
    }

    /// Adds what a guest does, or adds it to the sum of its like.
    ///
    /// # Errors
    /// It cannot be written within a few seconds.
    pub async fn record(&self, entry: AuditEntry) -> Result<(), ApiError> {
        self.add(entry, None).await
    }

    /// As [`Self::record`], of something that is counted in bytes.
    ///
    /// # Errors
    /// As [`Self::record`].
    pub async fn record_bytes(&self, entry: AuditEntry, bytes: u64) -> Result<(), ApiError> {
        self.add(entry, Some(bytes)).await
    }

    /// Writes the sums.
    ///
    /// # Errors
    /// As [`Self::record`]; what could not be written is tried again.
    pub async fn settle(&self) -> Result<(), ApiError> {
        self.with_book(Book::settle).await
    }

    /// Returns the newest entries, newest first.
    ///
    /// # Errors
    /// The record cannot be read.
    pub async fn newest(&self, limit: usize) -> Result<Vec<AuditEntry>, ApiError> {
        self.settle().await?;
        let book = Arc::clone(&self.0).lock_owned().await;
        let read = crate::tasks::blocking(move || read(&book.folder, limit)).await;
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

    async fn add(&self, entry: AuditEntry, bytes: Option<u64>) -> Result<(), ApiError> {
        self.with_book(move |book| book.add(entry, bytes)).await
    }

    async fn with_book(
        &self,
        work: impl FnOnce(&mut Book) -> io::Result<()> + Send + 'static,
    ) -> Result<(), ApiError> {
        let book = Arc::clone(&self.0);
        let write = async {
            let mut book = book.lock_owned().await;
            crate::tasks::blocking(move || work(&mut book)).await
        };
        let failed = match timeout(LIMIT, write).await {
            Ok(Ok(Ok(()))) => return Ok(()),
            Ok(Ok(Err(error))) => error,
            Ok(Err(_)) | Err(_) => io::Error::other("the file system does not answer"),
        };
        let what = "the owner's record of what guests do cannot be written, so nothing is done";
        Err(ApiError::new(ErrorCode::Unavailable, what).caused_by(&failed))
    }
}

impl Book {
    fn add(&mut self, entry: AuditEntry, bytes: Option<u64>) -> io::Result<()> {
        match self
            .sums
            .entry((entry.uid, entry.share, entry.action.clone()))
        {
            Entry::Vacant(place) => {
                append(&self.folder, &line(entry, 1, bytes))?;
                place.insert(Sum {
                    written: Instant::now(),
                    last: None,
                    times: 0,
                    bytes: None,
                });
                Ok(())
            }
            Entry::Occupied(place) => {
                let sum = place.into_mut();
                sum.times += 1;
                sum.bytes = bytes.map(|bytes| sum.bytes.unwrap_or(0).saturating_add(bytes));
                sum.last = Some(entry);
                if sum.written.elapsed() >= SUM_EVERY {
                    sum.write(&self.folder)?;
                }
                Ok(())
            }
        }
    }

    fn settle(&mut self) -> io::Result<()> {
        for sum in self.sums.values_mut() {
            sum.write(&self.folder)?;
        }
        self.sums.retain(|_, sum| sum.written.elapsed() < SUM_EVERY);
        Ok(())
    }
}

impl Sum {
    fn write(&mut self, folder: &Path) -> io::Result<()> {
        if let Some(last) = &self.last {
            append(folder, &line(last.clone(), self.times, self.bytes))?;
            (self.last, self.times, self.bytes) = (None, 0, None);
            self.written = Instant::now();
        }
        Ok(())
    }
}

/// Returns an entry in the words for what was done so often.
fn line(mut entry: AuditEntry, times: u64, bytes: Option<u64>) -> AuditEntry {
    if let Some(bytes) = bytes {
        entry.action = format!("{} {bytes} bytes into", entry.action);
    } else if times > 1 {
        entry.action = format!("{times} times {}", entry.action);
    }
    entry
}

fn append(folder: &Path, entry: &AuditEntry) -> io::Result<()> {
    let mut line = serde_json::to_vec(entry)?;
    line.push(b'\n');
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let path = folder.join(format!("audit.{}.ndjson", entry.uid));
    if fs::symlink_metadata(&path).is_ok_and(|about| about.len() + line.len() as u64 > FILE_BYTES) {
        fs::rename(
            &path,
            folder.join(format!("audit.{}.old.ndjson", entry.uid)),
        )?;
    }
    fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)?
        .write_all(&line)
}

fn read(folder: &Path, limit: usize) -> io::Result<Vec<AuditEntry>> {
    let mut entries = Vec::new();
    let files = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(entries),
        files => files?,
    };
    for file in files {
        let file = file?;
        let name = file.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with("audit.") || !name.ends_with(".ndjson") {
            continue;
        }
        let text = fs::read(file.path())?;
        let lines = text
            .rsplit(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty());
        // A line that was cut by a full disk is passed over.
        let known = lines.filter_map(|line| serde_json::from_slice::<AuditEntry>(line).ok());
        entries.extend(known.take(limit));
    }
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.t_ms));
    entries.truncate(limit);
    Ok(entries)
}

/// Some five thousand lines.
const FILE_BYTES: u64 = 1 << 20;

const SUM_EVERY: Duration = Duration::from_secs(10);

const LIMIT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

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
        assert!(all.len() > 9 && all.len() < 100, "{}", all.len());
        assert!(all.windows(2).all(|pair| pair[0] == pair[1] + 1));
        let path = folder.path().join("node/audit.1001.ndjson");
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

    #[tokio::test]
    async fn what_is_done_again_is_one_sum_and_nothing_of_it_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::new(folder.path());
        let first = entry(1, "console");
        let of = |t_ms, action: &str| AuditEntry {
            t_ms,
            action: action.to_owned(),
            ..first.clone()
        };
        for key in 1..=500 {
            audit.record_bytes(of(key, "typed"), 1).await.unwrap();
        }
        audit.record(of(501, "read")).await.unwrap();
        for time in 502..=504 {
            audit.record(of(time, "read")).await.unwrap();
        }
        let told = audit.newest(100).await.unwrap();
        let told: Vec<_> = told
            .iter()
            .map(|entry| (entry.t_ms, entry.action.as_str()))
            .collect();
        assert_eq!(
            told,
            [
                (504, "3 times read"),
                (501, "read"),
                (500, "typed 499 bytes into"),
                (1, "typed 1 bytes into")
            ]
        );
    }

    #[tokio::test]
    async fn one_guest_does_not_push_out_what_another_did() {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::new(folder.path());
        let mut of_carol = entry(0, "x");
        of_carol.uid = 1002;
        audit.record(of_carol.clone()).await.unwrap();
        let long = "x".repeat(500_000);
        for number in 1..20 {
            audit.record(entry(number, &long)).await.unwrap();
        }
        let all = audit.newest(1000).await.unwrap();
        assert_eq!(all.last(), Some(&of_carol));
    }
}
