//! Runs that go on without a supervisor: looked at until they are gone, and signalled by the agent itself.
//!
//! One task for each waits for its end: at once after a kill, else ever more rarely, at most every
//! [`LOOK_EVERY`].
//! Invariants: nothing is signalled but the process that the record names by boot, pid and start, which
//! is checked right before; only the task writes a run's end.

use std::{sync::Arc, time::Duration};

use hpcclient_protocol::{Run, RunState};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::time::timeout;

use super::{
    RunError, Runs,
    fate::{self, lives},
    live_run::LiveRun,
};
use crate::shim;

impl Runs {
    /// Starts to watch a run that is an orphan from now on.
    pub(super) fn watch_orphan(&self, live: &Arc<LiveRun>) {
        tracing::warn!(run = %live.id(), "a run lost its supervisor and goes on");
        let (runs, live) = (self.clone(), Arc::clone(live));
        self.0.tracker.spawn(async move {
            let mut pause = FIRST_LOOK;
            while lives(&live.record()) {
                tokio::select! {
                    () = tokio::time::sleep(pause) => pause = (2 * pause).min(LOOK_EVERY),
                    () = live.look.notified() => pause = FIRST_LOOK,
                    () = runs.0.stopping.cancelled() => return,
                }
            }
            runs.end_orphan(&live).await;
        });
    }

    async fn end_orphan(&self, live: &Arc<LiveRun>) {
        let (copy, was_killed) = (Arc::clone(live), live.was_withdrawn());
        let ended = self.blocking(move || {
            let dir = copy.dir().ok_or(RunError::NotFound { id: copy.id() })?;
            fate::end_orphan(dir, was_killed)
        });
        let record = ended.await.unwrap_or_else(|error| {
            tracing::error!(run = %live.id(), %error, "cannot write the end of a run");
            fate::lost(live.record(), error.to_string())
        });
        let sizes = live.watch().borrow().sizes;
        self.grow(live.id(), record, sizes);
    }

    /// Returns an orphan as it is now, and not as it was at the last look.
    pub(super) async fn look_at_orphan(&self, live: &LiveRun) -> Run {
        if live.state() == RunState::Orphaned && !lives(&live.record()) {
            live.look.notify_one();
            let _slow_disk = timeout(LOOK_ANSWER, live.ended()).await;
        }
        live.to_run()
    }

    /// Sends a signal to an orphan's process group.
    pub(super) fn signal_orphan(&self, live: &LiveRun, signal: &str) -> Result<(), RunError> {
        let record = live.record();
        let pid = record.pid.and_then(|pid| Pid::from_raw(pid.cast_signed()));
        let (Some(pid), Some(signal)) = (pid, shim::signal_by_name(signal)) else {
            return Ok(());
        };
        if lives(&record) {
            let sent = kill_process_group(pid, signal);
            live.look.notify_one();
            match sent {
                // It led no group, or has just ended: the look will tell.
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(source) => {
                    return Err(RunError::Signal {
                        id: live.id(),
                        source: source.into(),
                    });
                }
            }
        }
        Ok(())
    }

    /// Kills an orphan with all it started.
    pub(super) async fn kill_orphan(&self, live: &Arc<LiveRun>) -> Result<(), RunError> {
        let record = live.record();
        let Some((pid, started)) = record.pid.zip(record.pid_start) else {
            return Ok(());
        };
        live.withdraw(Signal::KILL);
        self.blocking(move || {
            shim::kill_tree(pid, started);
            Ok(())
        })
        .await?;
        live.look.notify_one();
        Ok(())
    }
}

const FIRST_LOOK: Duration = Duration::from_millis(50);

const LOOK_EVERY: Duration = Duration::from_secs(30);

const LOOK_ANSWER: Duration = Duration::from_secs(1);
