//! `state.rec`: a run's state in two slots, so that a torn write keeps the state before it.
//!
//! ```text
//!   2 × 2048 bytes: seq u64 | len u16 | crc32 u32 | JSON of RunRecord | zeros     (big endian)
//! ```
//!
//! Written by the agent at create and when a shim is gone, else by the shim only.
//! Invariants: both slots are really written at create, so that an exit fits on a full disk; a write
//! goes to the slot with the older `seq`; the CRC covers `seq`, `len` and the JSON.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use hpcclient_protocol::{ByteString, RunState, run::StreamSizes};
use serde::{Deserialize, Serialize};

use super::{RunDir, StoreError, Unsynced};

/// The file's name in a run's folder.
pub(super) const FILE_NAME: &str = "state.rec";
const SLOT: usize = 2048;
const HEAD: usize = 14;
const ROOM: usize = SLOT - HEAD;

/// What is known of a run's life; everything that changes after it was created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunRecord {
    /// Where it is in its life.
    pub state: RunState,
    /// The exit code; 128 + signal number when a signal ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended it, such as `KILL`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// Why it is stalled or lost, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When its process started, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<u64>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<u64>,
    /// The session's directory after the line; absent when it is too long for the slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd_after: Option<ByteString>,
    /// The command's process id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// When that process started, in clock ticks since boot; with `boot_id` it names one process for
    /// ever, also when its shim is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid_start: Option<u64>,
    /// The process id of the shim that keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shim_pid: Option<u32>,
    /// When that shim started, in clock ticks since boot: with the pid and the boot id it names one
    /// process for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shim_start: Option<u64>,
    /// The node's boot id while it ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// Whether it waits for a supervisor, and none was ever started for it: the next agent may start one
    /// without running anything twice.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub waiting: bool,
    /// How much of each stream the disk has for sure, once the run is over and was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durable: Option<StreamSizes>,
}

impl RunRecord {
    /// Returns the record of a run that is in this state and of which nothing else is known.
    #[must_use]
    pub const fn new(state: RunState) -> Self {
        Self {
            state,
            exit_code: None,
            signal: None,
            reason: None,
            started_ms: None,
            ended_ms: None,
            cwd_after: None,
            pid: None,
            pid_start: None,
            shim_pid: None,
            shim_start: None,
            boot_id: None,
            waiting: false,
            durable: None,
        }
    }
}

/// An open `state.rec`, for one who writes it more than once.
#[derive(Debug)]
pub struct RecordFile {
    file: Arc<File>,
    path: PathBuf,
    seq: u64,
}

impl RecordFile {
    /// Opens the file of a run, and returns its newest record that is whole.
    ///
    /// # Errors
    /// It cannot be opened or read. A damaged file is opened; the next write mends it.
    pub fn open(dir: &RunDir) -> Result<(Self, Option<RunRecord>), StoreError> {
        let path = dir.path().join(FILE_NAME);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|source| StoreError::io("open", &path, source))?;
        let (seq, record) = match newest(&read_slots(&file, &path)?) {
            Some((seq, record)) => (seq, Some(record)),
            None => (0, None),
        };
        let file = Arc::new(file);
        Ok((Self { file, path, seq }, record))
    }

    /// Writes a record over the older slot.
    ///
    /// # Errors
    /// The operating system refused; the record before this one stays.
    pub fn write(&mut self, record: &RunRecord) -> Result<(), StoreError> {
        let seq = self.seq + 1;
        self.file
            .write_all_at(&slot(seq, record), place(seq))
            .map_err(|source| StoreError::io("write", &self.path, source))?;
        self.seq = seq;
        Ok(())
    }

    /// Returns the file, for one who waits until the disk has it.
    #[must_use]
    pub fn unsynced(&self) -> Unsynced {
        Unsynced::new(self.path.clone(), Arc::clone(&self.file))
    }
}

impl RunDir {
    /// Returns the newest record that is whole.
    ///
    /// # Errors
    /// The file cannot be read, or neither slot is whole.
    pub fn record(&self) -> Result<RunRecord, StoreError> {
        let path = self.path().join(FILE_NAME);
        let file = File::open(&path).map_err(|source| StoreError::io("open", &path, source))?;
        match newest(&read_slots(&file, &path)?) {
            Some((_, record)) => Ok(record),
            None => Err(StoreError::Damaged {
                path,
                what: "neither slot holds a record".to_owned(),
            }),
        }
    }

    /// Writes a record. Only for a run whose shim is not there; a shim keeps a [`RecordFile`].
    ///
    /// # Errors
    /// The operating system refused; the record before this one stays.
    pub fn write_record(&self, record: &RunRecord) -> Result<(), StoreError> {
        RecordFile::open(self)?.0.write(record)
    }
}

/// Creates the file with a first record.
pub(super) fn create(folder: &Path, record: &RunRecord) -> Result<(), StoreError> {
    let path = folder.join(FILE_NAME);
    let mut bytes = vec![0; SLOT];
    bytes.extend_from_slice(&slot(1, record));
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .and_then(|file| file.write_all_at(&bytes, 0))
        .map_err(|source| StoreError::io("write", &path, source))
}

const fn place(seq: u64) -> u64 {
    (seq % 2) * SLOT as u64
}

fn read_slots(file: &File, path: &Path) -> Result<Vec<u8>, StoreError> {
    let mut bytes = vec![0; 2 * SLOT];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(source) => return Err(StoreError::io("read", path, source)),
        }
    }
    Ok(bytes)
}

fn newest(bytes: &[u8]) -> Option<(u64, RunRecord)> {
    bytes
        .chunks(SLOT)
        .filter_map(parse)
        .max_by_key(|(seq, _)| *seq)
}

fn parse(slot: &[u8]) -> Option<(u64, RunRecord)> {
    let (seq, rest) = slot.split_first_chunk::<8>()?;
    let (len, rest) = rest.split_first_chunk::<2>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let json = rest.get(..usize::from(u16::from_be_bytes(*len)))?;
    let seq = u64::from_be_bytes(*seq);
    // A seq near the end of its range was never counted up to: it is garbage that met its CRC.
    let believable = (1..u64::MAX / 2).contains(&seq);
    if !believable || checksum(seq, *len, json) != u32::from_be_bytes(*crc) {
        return None;
    }
    Some((seq, serde_json::from_slice(json).ok()?))
}

fn checksum(seq: u64, len: [u8; 2], json: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&seq.to_be_bytes());
    crc.update(&len);
    crc.update(json);
    crc.finalize()
}

fn slot(seq: u64, record: &RunRecord) -> Vec<u8> {
    let json = fit(record);
    let len = u16::try_from(json.len()).unwrap_or_default().to_be_bytes();
    let mut bytes = Vec::with_capacity(SLOT);
    bytes.extend_from_slice(&seq.to_be_bytes());
    bytes.extend_from_slice(&len);
    bytes.extend_from_slice(&checksum(seq, len, &json).to_be_bytes());
    bytes.extend_from_slice(&json);
    bytes.resize(SLOT, 0);
    bytes
}

/// Returns the record as JSON that fits its slot: a long reason is cut, and a directory that is too
/// long is left out, because half a path would name another directory.
fn fit(record: &RunRecord) -> Vec<u8> {
    // A record is plain data: serde_json cannot fail on it.
    let json = |record: &RunRecord| serde_json::to_vec(record).unwrap_or_default();
    let first = json(record);
    if first.len() <= ROOM {
        return first;
    }
    let mut record = record.clone();
    if let Some(reason) = &mut record.reason {
        cut(reason, 500);
    }
    for text in [&mut record.signal, &mut record.boot_id]
        .into_iter()
        .flatten()
    {
        cut(text, 64);
    }
    if json(&record).len() > ROOM {
        record.cwd_after = None;
    }
    while json(&record).len() > ROOM {
        // Only a reason full of escapes is still too long here.
        let half = record.reason.as_ref().map_or(0, |reason| reason.len() / 2);
        match &mut record.reason {
            Some(reason) if half > 0 => cut(reason, half),
            _ => break,
        }
    }
    json(&record)
}

fn cut(text: &mut String, max: usize) {
    if text.len() > max {
        let mut end = max;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use hpcclient_protocol::RunId;
    use proptest::prelude::*;

    use super::*;

    fn made() -> (tempfile::TempDir, RunDir) {
        let folder = tempfile::tempdir().unwrap();
        create(folder.path(), &RunRecord::new(RunState::Queued)).unwrap();
        let dir = RunDir::at(RunId::random(), folder.path().to_owned());
        (folder, dir)
    }

    fn exited(code: i32) -> RunRecord {
        RunRecord {
            exit_code: Some(code),
            ..RunRecord::new(RunState::Exited)
        }
    }

    #[test]
    fn the_newest_record_is_read_back() {
        let (_folder, dir) = made();
        assert_eq!(dir.record().unwrap(), RunRecord::new(RunState::Queued));
        for code in 0..5 {
            dir.write_record(&exited(code)).unwrap();
            assert_eq!(dir.record().unwrap(), exited(code));
        }
        let size = std::fs::metadata(dir.path().join(FILE_NAME)).unwrap().len();
        assert_eq!(size, 4096);
    }

    #[test]
    fn a_record_too_long_for_its_slot_is_cut_and_keeps_its_exit_code() {
        let (_folder, dir) = made();
        let mut record = exited(7);
        record.reason = Some("\u{1}é".repeat(3000));
        record.cwd_after = Some(vec![0xff; 4000].into());
        dir.write_record(&record).unwrap();
        let back = dir.record().unwrap();
        assert_eq!((back.exit_code, back.cwd_after), (Some(7), None));
        assert!(back.reason.unwrap().ends_with('…'));
    }

    proptest! {
        #[test]
        fn damage_of_one_slot_keeps_the_record_of_the_other(
            at in 0usize..SLOT, bytes in prop::collection::vec(any::<u8>(), 1..200), writes in 1i32..4,
        ) {
            let (_folder, dir) = made();
            for code in 0..writes {
                dir.write_record(&exited(code)).unwrap();
            }
            let path = dir.path().join(FILE_NAME);
            let mut file = std::fs::read(&path).unwrap();
            // The newest write is seq `writes + 1`; tear it.
            let start = usize::try_from(place(u64::from(writes.unsigned_abs()) + 1)).unwrap();
            for (to, from) in file[start + at..start + SLOT].iter_mut().zip(&bytes) {
                *to = *from;
            }
            std::fs::write(&path, &file).unwrap();
            let before = if writes == 1 { RunRecord::new(RunState::Queued) } else { exited(writes - 2) };
            let now = dir.record().unwrap();
            prop_assert!(now == before || now == exited(writes - 1));
        }

        #[test]
        fn any_file_is_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..5000)) {
            let (_folder, dir) = made();
            std::fs::write(dir.path().join(FILE_NAME), &bytes).unwrap();
            drop(dir.record());
            dir.write_record(&exited(1)).unwrap();
            prop_assert_eq!(dir.record().unwrap(), exited(1));
        }
    }
}
