//! Lines that an agent stored and did not live to hand to their session's shim.
//!
//! Called when such a run is looked at by the next agent. Without this it would wait for ever in a session that goes on.
//! Invariants: the shim takes a line once, however often it is handed over, because it looks at the record first.

use std::{os::unix::ffi::OsStrExt, sync::Arc};

use hpcclient_protocol::{Run, RunState, SessionId};

use super::{
    RunError, Runs,
    live_run::{LiveRun, lock},
};
use crate::{shim::control::ToShim, store::RunDir};

impl Runs {
    /// Hands a stored line to its session's shim once more, and makes it live. Blocks on the file system.
    pub(super) fn hand_again(
        &self,
        dir: &RunDir,
        run: Run,
        session: &SessionId,
    ) -> Result<Run, RunError> {
        let Some(link) = self.session_known(session) else {
            return Ok(run);
        };
        let id = run.id;
        let live = LiveRun::adopted(run, dir.clone(), dir.record()?, link.clone());
        let live = Arc::new(live);
        let known = Arc::clone(
            lock(&self.0.live)
                .entry(id)
                .or_insert_with(|| Arc::clone(&live)),
        );
        if !Arc::ptr_eq(&known, &live) {
            return Ok(known.to_run());
        }
        // From here on the shim is heard; what it said of this run before is in the store.
        let record = dir.record()?;
        if record.state == RunState::Queued && record.shim_pid.is_none() {
            let dir = dir.path().as_os_str().as_bytes().to_vec().into();
            link.send(&ToShim::Start { run: id, dir }, b"")?;
            tracing::info!(run = %id, "a line is handed over again");
            return Ok(live.to_run());
        }
        let stored = dir.load()?;
        self.grow(id, record, stored.sizes);
        Ok(self.live(id).map_or(stored, |live| live.to_run()))
    }
}
