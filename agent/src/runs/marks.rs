//! What users do to runs themselves: name, pin and delete them.
//!
//! Called by `http::runs`.
//! Invariants: one change at a time; only the agent of a run's node changes it; a run that lives or is
//! shared is not deleted.

use std::{collections::HashSet, time::Duration};

use hpcclient_protocol::{Run, RunId, run::RunMarks};
use tokio::time::{Instant, sleep};

use super::{RunError, Runs, fate::is_written, live_run::lock};
use crate::store::Marks;

impl Runs {
    /// Changes what is noted on a run.
    ///
    /// # Errors
    /// There is no such run, it is another node's, the name is none, or it cannot be written.
    pub async fn mark(&self, id: RunId, marks: RunMarks) -> Result<Run, RunError> {
        if let Some(name) = &marks.name {
            check_name(name)?;
        }
        let runs = self.clone();
        let run = self.blocking(move || runs.note(id, marks)).await?;
        self.0.events.tell(|| run.clone());
        Ok(run)
    }

    fn note(&self, id: RunId, marks: RunMarks) -> Result<Run, RunError> {
        let _one = lock(&self.0.marking);
        let dir = self.0.store.find(id).ok_or(RunError::NotFound { id })?;
        let run = self.read(&dir)?;
        if !self.is_ours(&run) {
            return Err(RunError::OtherNode { id, host: run.host });
        }
        let marks = Marks {
            name: match marks.name {
                None => run.name,
                Some(name) => Some(name).filter(|name| !name.is_empty()),
            },
            pinned: marks.pinned.unwrap_or(run.pinned),
        };
        dir.write_marks(&marks)?;
        if let Some(live) = self.live(id) {
            live.set_marks(marks);
        }
        self.read(&dir)
    }

    /// Deletes a run that has ended, with all its output.
    ///
    /// # Errors
    /// There is no such run, it lives or still writes, is shared or another node's, or it cannot be removed.
    pub async fn delete(&self, id: RunId) -> Result<(), RunError> {
        let until = Instant::now() + LAST_WORDS;
        let run = loop {
            let runs = self.clone();
            match self.blocking(move || runs.remove(id)).await {
                // It may have ended a moment ago, and its shim still waits for the disk.
                Err(RunError::Written { .. }) if Instant::now() < until => sleep(LOOK_AGAIN).await,
                removed => break removed?,
            }
        };
        self.note_deleted(&run);
        self.0.events.tell_gone(id);
        Ok(())
    }

    fn remove(&self, id: RunId) -> Result<Run, RunError> {
        let _one = lock(&self.0.marking);
        let dir = self.0.store.find(id).ok_or(RunError::NotFound { id })?;
        let run = self.read(&dir)?;
        if !self.is_ours(&run) {
            return Err(RunError::OtherNode { id, host: run.host });
        }
        if !run.state.is_final() {
            return Err(RunError::Living { id });
        }
        if is_written(&dir.record()?, self.0.boot_id.as_deref()) {
            return Err(RunError::Written { id });
        }
        if self.is_shared(id) {
            return Err(RunError::IsShared { id });
        }
        self.0.store.delete(&dir)?;
        Ok(run)
    }

    /// Says which runs are shared with others: they are not deleted. To be called before
    /// [`Self::adopt`], and with every change.
    pub fn set_shared(&self, runs: HashSet<RunId>) {
        *lock(&self.0.shared) = runs;
    }

    /// Returns whether a run is shared with others.
    #[must_use]
    pub fn is_shared(&self, id: RunId) -> bool {
        lock(&self.0.shared).contains(&id)
    }
}

fn check_name(name: &str) -> Result<(), RunError> {
    if name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
        let what =
            format!("a name has up to {MAX_NAME} characters, none of them a control character");
        return Err(RunError::BadRequest { what });
    }
    Ok(())
}

const MAX_NAME: usize = 80;

/// A shim whose run has ended asks the disk within a second.
const LAST_WORDS: Duration = Duration::from_secs(4);

const LOOK_AGAIN: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_and_plain() {
        assert!(check_name(&"é".repeat(80)).is_ok());
        assert!(check_name("").is_ok(), "takes the name away");
        for bad in [&"e".repeat(81), "a\nb", "a\u{1b}[31m", "a\0", "\u{85}"] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }
}
