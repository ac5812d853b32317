//! Puts a stored run together: `spec.json`, the newest record, the sizes of its streams.
//!
//! Invariants: damage is told, not hidden and not fatal: such a run is `Lost` with the reason.

use std::fs;

use hpcclient_protocol::{Command, Run, RunId, RunSpec, RunState};
use serde::{Deserialize, Serialize};

use super::{Marks, RunDir, RunRecord, StoreError, index};

/// The file that is written once, when a run is made.
pub(super) const FILE_NAME: &str = "spec.json";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Birth {
    id: RunId,
    spec: RunSpec,
    created_ms: u64,
    host: String,
}

/// Returns what `spec.json` holds.
pub(super) fn birth_json(id: RunId, spec: &RunSpec, created_ms: u64, host: &str) -> Vec<u8> {
    let birth = Birth {
        id,
        spec: spec.clone(),
        created_ms,
        host: host.to_owned(),
    };
    // Plain data: serde_json cannot fail on it.
    serde_json::to_vec(&birth).unwrap_or_default()
}

impl RunDir {
    /// Returns what was asked for.
    ///
    /// # Errors
    /// `spec.json` cannot be read, or is damaged.
    pub fn spec(&self) -> Result<RunSpec, StoreError> {
        self.birth().map(|birth| birth.spec)
    }

    /// Returns the run as it is stored. It does not look whether its shim still lives: `live` is false.
    ///
    /// # Errors
    /// There is no such folder. A damaged file is no error but a run in state `Lost`.
    pub fn load(&self) -> Result<Run, StoreError> {
        if !self.path().is_dir() {
            return Err(StoreError::NotFound { id: self.id() });
        }
        let mut damage = Vec::new();
        let mut note = |error: StoreError| damage.push(error.in_one_line());
        let birth = self.birth().unwrap_or_else(|error| {
            note(error);
            Birth {
                id: self.id(),
                spec: RunSpec::new(Command::Shell("".into())),
                created_ms: 0,
                host: String::new(),
            }
        });
        let record = self.record().unwrap_or_else(|error| {
            note(error);
            RunRecord::new(RunState::Lost)
        });
        let sizes = index::sizes(self.path()).unwrap_or_else(|error| {
            note(error);
            hpcclient_protocol::run::StreamSizes::default()
        });
        let (state, reason) = if damage.is_empty() {
            (record.state, record.reason)
        } else {
            (RunState::Lost, Some(damage.join("; ")))
        };
        let Marks { name, pinned } = self.marks();
        Ok(Run {
            id: self.id(),
            spec: birth.spec,
            state,
            exit_code: record.exit_code,
            signal: record.signal,
            reason,
            created_ms: birth.created_ms,
            started_ms: record.started_ms,
            ended_ms: record.ended_ms,
            sizes,
            durable: record.durable.unwrap_or_default(),
            name,
            pinned,
            position: None,
            cwd_after: record.cwd_after,
            host: birth.host,
            live: false,
            pid: record.pid,
        })
    }

    fn birth(&self) -> Result<Birth, StoreError> {
        let path = self.path().join(FILE_NAME);
        let json = fs::read(&path).map_err(|source| StoreError::io("read", &path, source))?;
        let birth: Birth = serde_json::from_slice(&json).map_err(|error| StoreError::Damaged {
            path: path.clone(),
            what: error.to_string(),
        })?;
        if birth.id == self.id() {
            Ok(birth)
        } else {
            Err(StoreError::Damaged {
                path,
                what: format!("it is of run {}", birth.id),
            })
        }
    }
}
