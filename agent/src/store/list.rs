//! Finds runs: by id with one look, and the newest ones by walking the months backwards.
//!
//! Invariants: the month comes from the id's own time, so it never depends on a clock; what is not
//! a run's folder is passed over.

use std::{fs, io, path::Path};

use hpcclient_protocol::RunId;
use jiff::{Timestamp, tz::TimeZone};

use super::{RunDir, Store, StoreError};

/// Ids whose time is no time; it sorts after every month, as such ids sort after every other.
const NO_MONTH: &str = "other";

impl Store {
    /// Returns a run's folder, if there is one.
    #[must_use]
    pub fn find(&self, id: RunId) -> Option<RunDir> {
        let dir = RunDir::at(id, self.place(id));
        dir.path().is_dir().then_some(dir)
    }

    /// Returns the newest runs, newest first; with `before`, those older than that one.
    ///
    /// # Errors
    /// A folder cannot be listed.
    pub fn newest(&self, before: Option<RunId>, limit: usize) -> Result<Vec<RunDir>, StoreError> {
        let mut months = names(self.root())?;
        months.sort_unstable_by(|a, b| b.cmp(a));
        if let Some(before) = before {
            let last = month(before);
            months.retain(|month| *month <= last);
        }
        let mut found = Vec::new();
        for month in months {
            let folder = self.root().join(month);
            let mut ids: Vec<RunId> = names(&folder)?
                .iter()
                .filter_map(|name| name.parse().ok())
                .filter(|id| before.is_none_or(|before| *id < before))
                .collect();
            ids.sort_unstable_by(|a, b| b.cmp(a));
            let room = limit.saturating_sub(found.len());
            found.extend(
                ids.into_iter()
                    .take(room)
                    .map(|id| RunDir::at(id, folder.join(id.to_string()))),
            );
            if found.len() >= limit {
                break;
            }
        }
        Ok(found)
    }
}

/// Returns the month in which an id was made, as `2026-11`.
pub(super) fn month(id: RunId) -> String {
    let hex: String = id
        .to_string()
        .chars()
        .filter(|c| *c != '-')
        .take(12)
        .collect();
    i64::from_str_radix(&hex, 16)
        .ok()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok())
        .map(|time| time.to_zoned(TimeZone::UTC).date())
        .map_or_else(
            || NO_MONTH.to_owned(),
            |date| format!("{:04}-{:02}", date.year(), date.month()),
        )
}

pub(super) fn names(folder: &Path) -> Result<Vec<String>, StoreError> {
    let failed = |source| StoreError::io("list", folder, source);
    let mut names = Vec::new();
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        // A stray file among the months.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(names),
        Err(source) => return Err(failed(source)),
    };
    for entry in entries {
        if let Ok(name) = entry.map_err(failed)?.file_name().into_string() {
            names.push(name);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use hpcclient_protocol::{Command, RunSpec};

    use super::*;

    #[test]
    fn the_month_is_the_ids_own() {
        let id = "0199f3a2-7c1e-7b04-9a6e-2f1d4c5b6a70".parse().unwrap();
        assert_eq!(month(id), "2025-10");
        let no_time = "ffffffff-ffff-4b04-9a6e-2f1d4c5b6a70".parse().unwrap();
        assert_eq!(month(no_time), NO_MONTH);
    }

    #[test]
    fn a_clock_that_jumps_does_not_reorder_runs() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().to_owned()).unwrap();
        let spec = RunSpec::new(Command::Shell("true".into()));
        let mut made = vec![];
        for node_clock_ms in [9_000_000_000_000, 5, 1_700_000_000_000, 0] {
            let id = RunId::random();
            store.create(id, &spec, node_clock_ms, "node").unwrap();
            made.insert(0, id);
        }
        let listed = store.newest(None, 9).unwrap();
        let listed: Vec<RunId> = listed.iter().map(RunDir::id).collect();
        assert_eq!(listed, made);
        let older = store.newest(Some(made[1]), 9).unwrap();
        assert_eq!(older.iter().map(RunDir::id).collect::<Vec<_>>(), made[2..]);
    }

    #[test]
    fn runs_are_found_and_listed_newest_first_over_months() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().to_owned()).unwrap();
        let spec = RunSpec::new(Command::Shell("true".into()));
        let mut ids: Vec<RunId> = (0..5).map(|_| RunId::random()).collect();
        ids.insert(0, "0199f3a2-7c1e-7b04-9a6e-2f1d4c5b6a70".parse().unwrap());
        for id in &ids {
            store.create(*id, &spec, 1, "node").unwrap();
        }
        fs::write(folder.path().join("stray"), "x").unwrap();
        let listed = |before, limit| -> Vec<RunId> {
            let dirs = store.newest(before, limit).unwrap();
            dirs.iter().map(RunDir::id).collect()
        };
        ids.reverse();
        assert_eq!(listed(None, 100), ids);
        assert_eq!(listed(None, 2), ids[..2]);
        assert_eq!(listed(Some(ids[1]), 100), ids[2..]);
        assert_eq!(store.find(ids[3]).unwrap().load().unwrap().id, ids[3]);
        assert_eq!(store.find(RunId::random()), None);
        let again = store.create(ids[0], &spec, 1, "node").unwrap_err();
        assert!(matches!(again, StoreError::Exists { id } if id == ids[0]));
    }
}
