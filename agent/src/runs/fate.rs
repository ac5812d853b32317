//! What became of a run whose end nobody told: kept, orphaned or lost.
//!
//! Called when a run is read that no shim speaks for, and when a shim's connection ends.
//! Invariants: a process is known by boot id, pid and start time, never by its pid alone; a run is
//! called `Lost` only when its shim and its process are certainly gone; what the dead shim had
//! appended is indexed before that; one run at a time is settled or adopted, so that a shim that
//! greets late is never buried meanwhile.

use std::{fs, sync::Arc};

use hpcclient_protocol::{Run, RunState};

use super::{
    RunError, Runs,
    live_run::{LiveRun, lock},
    start::is_line,
};
use crate::{
    clock,
    store::{RunDir, RunRecord},
};

/// What became of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Its shim lives, or one is about to take it, or it waits for one.
    Kept,
    /// A line of a session that lives, which nobody handed to the session's shim.
    NotHanded,
    /// Its shim is gone, its process lives.
    Orphaned,
    /// Both are gone.
    Lost(&'static str),
}

impl Runs {
    /// Reads a run that does not live here, and settles it when nobody keeps it any more. Blocks on the
    /// file system.
    pub(super) fn settle(&self, dir: &RunDir) -> Result<Run, RunError> {
        let _one = lock(&self.0.settling);
        // It may have been adopted or settled since the caller looked.
        let live = self.live(dir.id());
        if let Some(live) = live.as_ref().filter(|live| live.dir().is_some()) {
            return Ok(live.to_run());
        }
        let run = dir.load()?;
        if run.state.is_final() || !self.is_ours(&run) {
            return Ok(run);
        }
        if live.is_some() {
            // It is being made at this moment, and starts in the next.
            return Ok(Run { live: true, ..run });
        }
        let record = dir.record()?;
        match self.fate(&run, &record) {
            Fate::Kept => Ok(Run { live: true, ..run }),
            Fate::NotHanded => self.hand_again(dir, run, record),
            Fate::Lost(reason) => {
                lose(dir, record, reason)?;
                tracing::warn!(run = %run.id, reason, "a run is lost");
                let run = dir.load()?;
                self.0.events.tell(|| run.clone());
                Ok(run)
            }
            Fate::Orphaned => {
                let record = orphan(dir, record)?;
                let live = Arc::new(LiveRun::found(dir.load()?, dir.clone(), record));
                if self.admit(&live) {
                    self.0.events.tell(|| live.to_run());
                    self.watch_orphan(&live);
                }
                Ok(live.to_run())
            }
        }
    }

    /// Settles a run that lived until its shim's connection ended. Returns its record; nothing when its
    /// shim lives on. Blocks on the file system.
    /// `failure` is why the shim could not start, if it said so.
    pub(super) fn settle_live(
        &self,
        live: &LiveRun,
        failure: Option<&str>,
    ) -> Result<Option<RunRecord>, RunError> {
        let _one = lock(&self.0.settling);
        let dir = live.dir().ok_or(RunError::NotFound { id: live.id() })?;
        let record = dir.record()?;
        if record.state.is_final() {
            return Ok(Some(record));
        }
        match self.fate(&live.to_run(), &record) {
            _ if record.shim_pid.is_none() => {
                lose(dir, record, failure.unwrap_or(KILLED_WAITING)).map(Some)
            }
            Fate::Kept | Fate::NotHanded => Ok(None),
            Fate::Orphaned => orphan(dir, record).map(Some),
            Fate::Lost(reason) => lose(dir, record, reason).map(Some),
        }
    }

    fn fate(&self, run: &Run, record: &RunRecord) -> Fate {
        if was_rebooted(record, self.0.boot_id.as_deref()) {
            return Fate::Lost(REBOOTED);
        }
        match record.shim_pid {
            Some(pid) if is_alive(Some(pid), record.shim_start) => Fate::Kept,
            Some(_) if is_alive(record.pid, record.pid_start) => Fate::Orphaned,
            Some(_) if record.state == RunState::Orphaned => Fate::Lost(ORPHAN_ENDED),
            Some(_) if record.state == RunState::Queued => Fate::Lost(KILLED_WAITING),
            Some(_) => Fate::Lost(KILLED),
            None if record.waiting => Fate::Kept,
            None if is_line(&run.spec) => match &run.spec.session {
                Some(session) if self.is_session_alive(session) => Fate::NotHanded,
                _ => Fate::Lost(NEVER_STARTED),
            },
            // A shim that hangs on a dead disk listens before it says anything. The sockets of dead ones were
            // removed when this agent started.
            None if self.0.place.run_socket(run.id).exists() => Fate::Kept,
            None => Fate::Lost(NEVER_STARTED),
        }
    }
}

/// Returns whether the command of an orphaned run lives.
pub(super) fn lives(record: &RunRecord) -> bool {
    is_alive(record.pid, record.pid_start)
}

/// Writes that an orphaned run has ended.
pub(super) fn end_orphan(dir: &RunDir, was_killed: bool) -> Result<RunRecord, RunError> {
    let reason = if was_killed {
        ORPHAN_KILLED
    } else {
        ORPHAN_ENDED
    };
    lose(dir, dir.record()?, reason)
}

/// Returns the record that says that a run is lost for good.
pub(super) fn lost(record: RunRecord, reason: impl Into<String>) -> RunRecord {
    RunRecord {
        state: RunState::Lost,
        reason: Some(reason.into()),
        // Its end was seen if only its last output could not be written.
        ended_ms: record.ended_ms.or_else(|| Some(clock::now_ms())),
        ..record
    }
}

/// Writes that a run is lost, after indexing what its shim had appended.
fn lose(dir: &RunDir, record: RunRecord, reason: &str) -> Result<RunRecord, RunError> {
    dir.recover()?;
    let record = lost(record, reason);
    dir.write_record(&record)?;
    Ok(record)
}

/// Writes that a run goes on without its shim, after indexing what that had appended.
fn orphan(dir: &RunDir, record: RunRecord) -> Result<RunRecord, RunError> {
    if record.state == RunState::Orphaned {
        return Ok(record);
    }
    dir.recover()?;
    let pid = record.pid.unwrap_or_default();
    let reason = format!(
        "its supervisor was killed: it goes on as process {pid}, but its output is not stored any more \
         and its end will not be seen; kill it unless it writes its results to files"
    );
    let record = RunRecord {
        state: RunState::Orphaned,
        reason: Some(reason),
        ..record
    };
    dir.write_record(&record)?;
    Ok(record)
}

/// Returns whether the shim of a run that has ended still writes: what its command left behind may go on.
/// `boot_now` is this boot of the node.
pub(super) fn is_written(record: &RunRecord, boot_now: Option<&str>) -> bool {
    // The disk is asked after the last byte. A session's shim lives on after that.
    record.started_ms.is_some()
        && record.durable.is_none()
        && !was_rebooted(record, boot_now)
        && is_alive(record.shim_pid, record.shim_start)
}

fn was_rebooted(record: &RunRecord, boot_now: Option<&str>) -> bool {
    let then = record.boot_id.as_deref();
    then.zip(boot_now).is_some_and(|(then, now)| then != now)
}

fn is_alive(pid: Option<u32>, started: Option<u64>) -> bool {
    pid.and_then(alive_since)
        .is_some_and(|at| Some(at) == started)
}

/// Returns when a process started, in ticks since boot, if it lives and not only waits to be reaped.
fn alive_since(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in parentheses and may hold anything; field 22 is the start.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let state = fields.next()?;
    let start = fields.nth(18)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(start)
}

const REBOOTED: &str = "the node was rebooted while it ran";
const KILLED: &str = "its supervisor was killed, so nobody saw how it ended";
const KILLED_WAITING: &str = "its supervisor was killed before it started";
const NEVER_STARTED: &str = "the agent ended before it was started";
const ORPHAN_ENDED: &str =
    "its supervisor was killed while it ran; it has ended since, and nobody saw how";
const ORPHAN_KILLED: &str = "its supervisor was killed while it ran; then it was killed as asked";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_start() {
        let ours = alive_since(std::process::id());
        assert!(ours.is_some_and(|at| at > 0));
        let me = Some(std::process::id());
        assert!(is_alive(me, ours));
        assert!(!is_alive(me, ours.map(|at| at + 1)), "another had this pid");
        assert!(!is_alive(me, None));
        assert_eq!(alive_since(u32::MAX), None);
    }

    #[test]
    fn a_shim_writes_until_the_disk_has_all_of_its_run() {
        let me = std::process::id();
        let mut record = RunRecord {
            started_ms: Some(1),
            shim_pid: Some(me),
            shim_start: alive_since(me),
            boot_id: Some("now".to_owned()),
            ..RunRecord::new(RunState::Exited)
        };
        assert!(is_written(&record, Some("now")));
        assert!(!is_written(&record, Some("next")));
        record.durable = Some(hpcclient_protocol::run::StreamSizes::default());
        assert!(!is_written(&record, Some("now")));
    }

    #[test]
    fn a_run_whose_end_was_noted_keeps_it_when_its_shim_is_lost() {
        let noted = RunRecord {
            exit_code: Some(9),
            ended_ms: Some(5),
            ..RunRecord::new(RunState::Stalled)
        };
        let lost = lost(noted, KILLED);
        assert_eq!((lost.exit_code, lost.ended_ms), (Some(9), Some(5)));
    }

    #[test]
    fn another_boot_is_told_only_when_both_are_known() {
        let mut record = RunRecord::new(RunState::Running);
        assert!(!was_rebooted(&record, Some("now")));
        record.boot_id = Some("then".to_owned());
        assert!(was_rebooted(&record, Some("now")));
        assert!(!was_rebooted(&record, Some("then")));
        assert!(!was_rebooted(&record, None));
    }
}
