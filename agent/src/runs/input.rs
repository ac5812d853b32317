//! What viewers send to a run: stdin, signals, a terminal's size, the end.
//!
//! Called by `http::runs` and `http::live`.
//! Invariants: stdin is acknowledged when the shim has taken it, and a number that was taken once
//! is not written again; nothing is sent to a run that has ended.

use std::{sync::Arc, time::Duration};

use hpcclient_protocol::{
    Run, RunId, RunState,
    run::{StdinAck, StdinMode, TerminalSize},
};
use rustix::process::Signal;
use tokio::{sync::oneshot, time::timeout};

use super::{
    RunError, Runs,
    live_run::{LiveRun, lock},
};
use crate::shim::{self, control::ToShim};

/// A piece of stdin.
#[derive(Clone, Debug)]
pub struct Piece {
    /// Who writes; each has its own numbers.
    pub writer: String,
    /// Its number, from 1.
    pub seq: u64,
    /// Whether stdin ends after it.
    pub eof: bool,
}

/// The answer to a piece of stdin, to wait for.
#[derive(Debug)]
pub struct Taken(oneshot::Receiver<Result<u64, RunError>>);

impl Taken {
    /// Waits until it was taken.
    ///
    /// # Errors
    /// It was not.
    pub async fn wait(self) -> Result<StdinAck, RunError> {
        let seq = self.0.await.map_err(|_| RunError::Stopping)??;
        Ok(StdinAck { seq })
    }
}

impl Runs {
    /// Sends a piece of stdin to a run; pieces go in the order of the calls.
    ///
    /// # Errors
    /// The run has ended or has no stdin, or its shim cannot be reached.
    pub async fn write_stdin(
        &self,
        id: RunId,
        piece: Piece,
        data: &[u8],
    ) -> Result<Taken, RunError> {
        let live = self.reachable(id).await?;
        let spec = live.spec();
        if spec.stdin == StdinMode::Closed && spec.pty.is_none() {
            return Err(RunError::Without { id, what: "stdin" });
        }
        if piece.writer.len() > MAX_WRITER || piece.seq == 0 {
            let what = format!("`writer` has up to {MAX_WRITER} bytes and `seq` counts from 1");
            return Err(RunError::BadRequest { what });
        }
        let link = live.linked().await?;
        let taken = live.wait_for_ack(&piece.writer, piece.seq);
        let Piece { writer, seq, eof } = piece;
        link.send(
            &ToShim::Stdin {
                run: id,
                writer,
                seq,
                eof,
            },
            data,
        )?;
        Ok(Taken(taken))
    }

    /// Sends a signal to a run's process group.
    ///
    /// # Errors
    /// The run has ended, the signal is unknown, or the shim cannot be reached.
    pub async fn signal(&self, id: RunId, signal: &str) -> Result<Run, RunError> {
        if !SIGNALS.contains(&signal) {
            let what = format!("no such signal; there are {}", SIGNALS.join(", "));
            return Err(RunError::BadRequest { what });
        }
        let live = self.reachable(id).await?;
        if live.state() == RunState::Orphaned {
            self.signal_orphan(&live, signal)?;
            return Ok(self.look_at_orphan(&live).await);
        }
        if waits_for_slot(&live) {
            if let Some(signal) = shim::signal_by_name(signal).filter(|_| ends(signal)) {
                live.withdraw(signal);
                let _lasting = timeout(KILL_ANSWER, live.ended()).await;
            }
            return Ok(live.to_run());
        }
        let signal = signal.to_owned();
        live.linked()
            .await?
            .send(&ToShim::Signal { run: id, signal }, b"")?;
        Ok(live.to_run())
    }

    /// Kills every process of a run, and waits a moment for its end. One that has ended stays so.
    ///
    /// # Errors
    /// There is no such run, or its shim cannot be reached.
    pub async fn kill(&self, id: RunId) -> Result<Run, RunError> {
        let live = match self.reachable(id).await {
            Ok(live) => live,
            Err(RunError::Ended { .. }) => return self.get(id).await,
            Err(error) => return Err(error),
        };
        self.kill_live(&live).await?;
        let _lasting = timeout(KILL_ANSWER, live.ended()).await;
        Ok(live.to_run())
    }

    async fn kill_live(&self, live: &Arc<LiveRun>) -> Result<(), RunError> {
        if live.state() == RunState::Orphaned {
            return self.kill_orphan(live).await;
        }
        match live.link() {
            Some(link) => link.send(&ToShim::Kill { run: live.id() }, b"")?,
            None => live.withdraw(Signal::KILL),
        }
        Ok(())
    }

    /// Waits until a run has a terminal that can get this size.
    ///
    /// # Errors
    /// The run has ended or has no terminal, or no terminal has such a size.
    pub async fn await_terminal(&self, id: RunId, size: TerminalSize) -> Result<(), RunError> {
        if size.cols == 0 || size.rows == 0 {
            let what = "a terminal has at least one column and one row".to_owned();
            return Err(RunError::BadRequest { what });
        }
        let live = self.reachable(id).await?;
        if live.spec().pty.is_none() {
            return Err(RunError::Without {
                id,
                what: "terminal",
            });
        }
        live.linked().await.map(drop)
    }

    /// Changes the size of a run's terminal. Called by `presence`, which knows whose size counts.
    ///
    /// # Errors
    /// The run has ended or has not started, or the shim cannot be reached.
    pub fn resize(&self, id: RunId, size: TerminalSize) -> Result<(), RunError> {
        let live = self.live(id).ok_or(RunError::Ended { id })?;
        let link = live.link().ok_or(RunError::Busy)?;
        link.send(&ToShim::Resize { run: id, size }, b"")
    }

    /// Ends every session and kills every run, and waits up to `limit` until all are gone.
    pub async fn end_all(&self, limit: Duration) {
        let runs: Vec<Arc<LiveRun>> = lock(&self.0.live).values().cloned().collect();
        let mut links: Vec<_> = runs.iter().filter_map(|live| live.link()).collect();
        for live in &runs {
            // One whose shim is gone ends by itself.
            let _gone = self.kill_live(live).await;
        }
        for id in self.session_ids() {
            links.extend(self.session_known(&id));
            let _gone = self.end_session(&id);
        }
        let all_gone = async {
            for link in links {
                link.closed().await;
            }
            for live in runs {
                live.ended().await;
            }
        };
        if timeout(limit, all_gone).await.is_err() {
            tracing::warn!("some runs did not end in time");
        }
    }

    /// Returns a run that other nodes' agents know no more of than this one.
    ///
    /// # Errors
    /// There is none, or it lives on another node.
    pub async fn get_here(&self, id: RunId) -> Result<Run, RunError> {
        let run = self.get(id).await?;
        if run.state.is_final() || self.is_ours(&run) {
            Ok(run)
        } else {
            Err(RunError::OtherNode { id, host: run.host })
        }
    }

    async fn reachable(&self, id: RunId) -> Result<Arc<LiveRun>, RunError> {
        if let Some(live) = self.live(id) {
            return Ok(live);
        }
        let (_, run) = self.stored(id).await?;
        if run.state.is_final() {
            Err(RunError::Ended { id })
        } else if self.is_ours(&run) {
            Err(RunError::Unreachable { id })
        } else {
            Err(RunError::OtherNode { id, host: run.host })
        }
    }
}

/// Returns whether a run waits for a supervisor: then it ends at once, and nobody else has to be asked.
fn waits_for_slot(live: &LiveRun) -> bool {
    live.link().is_none() && live.turn().is_some_and(|turn| turn.waits())
}

/// Returns whether a signal ends what has not started, as a session's shim has it.
fn ends(signal: &str) -> bool {
    !["STOP", "CONT", "USR1", "USR2"].contains(&signal)
}

const SIGNALS: [&str; 9] = [
    "INT", "TERM", "KILL", "HUP", "QUIT", "USR1", "USR2", "STOP", "CONT",
];

const MAX_WRITER: usize = 64;

const KILL_ANSWER: Duration = Duration::from_secs(2);
