//! Lines that an agent stored and did not live to hand to their session's shim.
//!
//! Called when such a run is looked at by the next agent. Without this it would wait for ever in a session that goes on.
//! Invariants: the shim takes a line once, however often it is handed over, because it looks at the record first.

use std::{os::unix::ffi::OsStrExt, sync::Arc};

use hpcclient_protocol::Run;

use super::{RunError, Runs, live_run::LiveRun};
use crate::{
    shim::control::ToShim,
    store::{RunDir, RunRecord},
};

impl Runs {
    /// Hands a stored line to its session's shim, and makes it live. The caller holds the lock under which runs are
    /// settled and adopted, so the shim is not heard of it meanwhile. Blocks on the file system.
    pub(super) fn hand_again(
        &self,
        dir: &RunDir,
        run: Run,
        record: RunRecord,
    ) -> Result<Run, RunError> {
        let session = run.spec.session.as_ref();
        let Some(link) = session.and_then(|session| self.session_known(session)) else {
            return Ok(run);
        };
        let start = ToShim::Start {
            run: run.id,
            dir: dir.path().as_os_str().as_bytes().to_vec().into(),
        };
        let live = Arc::new(LiveRun::found(run, dir.clone(), record));
        live.set_turn(link.turns().join());
        live.set_link(link.clone());
        if !self.admit(&live) {
            // Who asks for it now finds it in the store, and it is looked at again.
            self.call_next_line(&live);
        } else if let Err(error) = link.send(&start, b"") {
            self.dismiss(&live);
            self.call_next_line(&live);
            tracing::warn!(run = %live.id(), %error, "a line cannot be handed over yet");
        } else {
            tracing::info!(run = %live.id(), "a line is handed over again");
        }
        Ok(live.to_run())
    }
}
