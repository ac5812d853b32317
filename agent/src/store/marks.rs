//! `marks.json`: what the user noted on a run. There is none until something is noted.
//!
//! Written by the agent of the run's node only.
//! Invariants: a reader sees the old marks or the new ones; what cannot be read is no marks.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
};

use serde::{Deserialize, Serialize};

use super::{RunDir, StoreError};

const FILE_NAME: &str = "marks.json";
const DRAFT: &str = ".marks.new";

/// What is noted on a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Marks {
    /// What the user calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether it is kept however old it gets.
    pub pinned: bool,
}

impl RunDir {
    /// Returns what is noted on it.
    #[must_use]
    pub fn marks(&self) -> Marks {
        fs::read(self.path().join(FILE_NAME))
            .ok()
            .and_then(|json| serde_json::from_slice(&json).ok())
            .unwrap_or_default()
    }

    /// Returns whether it is pinned, or may be because what is noted cannot be read: for one who deletes.
    #[must_use]
    pub fn may_be_pinned(&self) -> bool {
        match fs::read(self.path().join(FILE_NAME)) {
            Ok(json) => serde_json::from_slice(&json).map_or(true, |marks: Marks| marks.pinned),
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }

    /// Notes this instead. One call at a time.
    ///
    /// # Errors
    /// It cannot be written; then the old marks hold.
    pub fn write_marks(&self, marks: &Marks) -> Result<(), StoreError> {
        let (draft, path) = (self.path().join(DRAFT), self.path().join(FILE_NAME));
        // Plain data: serde_json cannot fail on it.
        let json = serde_json::to_vec(marks).unwrap_or_default();
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&draft)
            .and_then(|mut file| {
                file.write_all(&json)?;
                file.sync_all()
            })
            .and_then(|()| fs::rename(&draft, &path))
            .map_err(|source| StoreError::io("write", path, source))
    }
}

#[cfg(test)]
mod tests {
    use hpcclient_protocol::RunId;

    use super::*;

    #[test]
    fn marks_are_read_back_and_damage_is_no_marks() {
        let folder = tempfile::tempdir().unwrap();
        let dir = RunDir::at(RunId::random(), folder.path().to_owned());
        assert_eq!(dir.marks(), Marks::default());
        assert!(!dir.may_be_pinned());
        let marks = Marks {
            name: Some("naïve \u{202e}".to_owned()),
            pinned: true,
        };
        dir.write_marks(&marks).unwrap();
        assert_eq!(dir.marks(), marks);
        fs::write(folder.path().join(FILE_NAME), "{\"pinned\":").unwrap();
        assert_eq!(dir.marks(), Marks::default());
        assert!(dir.may_be_pinned(), "nobody knows");
    }
}
