//! Finds again what lives on this node after the agent was started anew, and buries what died.
//!
//! Called by `serve` before the first connection, and whenever a shim's connection ends.
//! Invariants: a run is called `Lost` only when its shim is certainly gone, named by boot id, pid and
//! start time; what the dead shim had appended is indexed before that.

use std::{
    fs, io,
    os::unix::{fs::FileTypeExt, net::UnixStream as StdStream},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use hpcclient_protocol::{Run, RunId, RunState, SessionId};
use tokio::time::timeout;

use super::{
    Link, RunError, Runs,
    live_run::{LiveRun, lock},
    start::is_line,
};
use crate::{
    clock,
    store::{RunDir, RunRecord},
};

/// A shim's socket that answered.
struct Found {
    stream: StdStream,
    session: Option<SessionId>,
}

impl Runs {
    /// Connects to every shim of this node, and settles the runs that have none any more.
    pub async fn adopt(&self) {
        let run_dir = self.0.place.run_dir().to_path_buf();
        let found = self
            .blocking(move || Ok(answering(run_dir)))
            .await
            .unwrap_or_default();
        let mut links = Vec::new();
        for Found { stream, session } in found {
            let Ok(link) = Link::new(stream, session) else {
                continue;
            };
            if let Some(session) = link.session() {
                self.adopt_session(session, &link);
            }
            let slot = match link.session() {
                Some(_) => None,
                None => Arc::clone(&self.0.slots).try_acquire_owned().ok(),
            };
            self.attend(link.clone(), None, slot);
            links.push(link);
        }
        for link in &links {
            // One that hangs on a dead disk greets later, and is adopted then.
            if timeout(GREETING_LIMIT, link.greeted()).await.is_err() {
                tracing::warn!(session = ?link.session(), "a supervisor does not answer yet");
            }
        }
        let counts = self.counts();
        tracing::info!(
            runs = counts.queued + counts.running,
            sessions = counts.sessions,
            "adopted"
        );
        let runs = self.clone();
        let sweep = self.0.tracker.spawn(async move {
            let looking = runs.clone();
            let swept = runs.blocking(move || looking.sweep());
            if let Some(Err(error)) = runs.0.stopping.run_until_cancelled(swept).await {
                tracing::warn!(%error, "cannot look through the stored runs");
            }
        });
        // A program in a session must not start before the session's directory is known.
        if counts.sessions > 0 {
            let _panicked = sweep.await;
        }
    }

    /// Takes the runs that a shim says it keeps.
    pub(super) async fn adopt_runs(&self, link: &Link, ids: Vec<RunId>) {
        for id in ids {
            if self.live(id).is_some() {
                continue;
            }
            let runs = self.clone();
            let loaded = self.blocking(move || {
                let dir = runs.0.store.find(id).ok_or(RunError::NotFound { id })?;
                Ok((dir.load()?, dir.record()?, dir))
            });
            match loaded.await {
                // It may have ended since the shim spoke.
                Ok((run, _, _)) if run.state.is_final() => {}
                Ok((run, record, dir)) => {
                    let live = LiveRun::adopted(run, dir, record, link.clone());
                    lock(&self.0.live)
                        .entry(id)
                        .or_insert_with(|| Arc::new(live));
                }
                Err(error) => tracing::warn!(run = %id, %error, "cannot adopt a run"),
            }
        }
        link.set_greeted();
    }

    /// Settles the runs of a shim that is gone.
    pub(super) async fn bury(&self, link: &Link) {
        self.drop_link(link);
        let of_link = |live: &&Arc<LiveRun>| live.link().is_some_and(|known| known.is(link));
        let orphans: Vec<_> = lock(&self.0.live)
            .values()
            .filter(of_link)
            .cloned()
            .collect();
        for live in orphans {
            let Some(dir) = live.dir().cloned() else {
                continue;
            };
            let settled = self.blocking(move || {
                let record = dir.record()?;
                let record = if record.state.is_final() {
                    record
                } else {
                    lose(&dir, record, KILLED)?
                };
                Ok((record, dir.load()?.sizes))
            });
            match settled.await {
                Ok((record, sizes)) => self.grow(live.id(), record, sizes),
                Err(error) => {
                    tracing::error!(run = %live.id(), %error, "cannot settle a run");
                    let reason = Some(format!("{KILLED}; {error}"));
                    let record = RunRecord {
                        reason,
                        ..RunRecord::new(RunState::Lost)
                    };
                    let sizes = live.watch().borrow().sizes;
                    self.grow(live.id(), record, sizes);
                }
            }
        }
    }

    /// Makes a stored run `Lost` unless its shim still lives. Blocks on the file system.
    pub(super) fn settle(&self, dir: &RunDir, run: Run) -> Result<Run, RunError> {
        let record = dir.record()?;
        let reason = match (&record.boot_id, record.shim_pid) {
            (Some(boot), _) if self.0.boot_id.as_ref().is_some_and(|now| now != boot) => REBOOTED,
            (_, Some(pid)) if alive_since(pid).is_some_and(|at| Some(at) == record.shim_start) => {
                return Ok(run);
            }
            (_, Some(_)) => KILLED,
            // The line waits in the queue of a session's shim, or never came there.
            (_, None) => match run.spec.session.clone() {
                Some(id) if self.is_session_alive(&id) && is_line(&run.spec) => {
                    return self.hand_again(dir, run, &id);
                }
                _ => NEVER_STARTED,
            },
        };
        if record.state.is_final() || self.live(run.id).is_some() {
            return Ok(dir.load()?);
        }
        lose(dir, record, reason)?;
        tracing::warn!(run = %run.id, reason, "a run is lost");
        Ok(dir.load()?)
    }

    /// Looks through the newest runs: settles them, and learns where adopted sessions stand.
    fn sweep(&self) -> Result<(), RunError> {
        let mut unknown = self.session_ids();
        for dir in self.0.store.newest(None, SWEEP)? {
            let Ok(run) = self.read(&dir) else { continue };
            if run.state == RunState::Lost
                && let Err(error) = dir.record().map(drop).and_then(|()| dir.spec().map(drop))
            {
                tracing::warn!(run = %run.id, error = %error.in_one_line(), "a stored run is damaged");
            }
            // A session of the same name on another node has a shell and a directory of its own.
            if !self.is_ours(&run) {
                continue;
            }
            let Some((session, cwd)) = run.spec.session.zip(run.cwd_after) else {
                continue;
            };
            if let Some(at) = unknown.iter().position(|id| *id == session) {
                unknown.swap_remove(at);
                self.set_session_cwd(&session, &cwd);
            }
        }
        Ok(())
    }

    fn is_session_alive(&self, id: &SessionId) -> bool {
        lock(&self.0.sessions)
            .get(id)
            .is_some_and(super::session::Session::is_alive)
    }
}

/// Writes that a run is lost, after indexing what its shim had appended.
fn lose(dir: &RunDir, record: RunRecord, reason: &str) -> Result<RunRecord, RunError> {
    dir.recover()?;
    let record = RunRecord {
        state: RunState::Lost,
        reason: Some(reason.to_owned()),
        ended_ms: Some(clock::now_ms()),
        ..record
    };
    dir.write_record(&record)?;
    Ok(record)
}

fn answering(run_dir: PathBuf) -> Vec<Found> {
    let Ok(entries) = fs::read_dir(run_dir) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let (name, path) = (entry.file_name(), entry.path());
        let Some(name) = name.to_str() else { continue };
        let session = name
            .strip_prefix("s-")
            .and_then(|id| id.parse::<SessionId>().ok());
        let run = name
            .strip_prefix("r-")
            .and_then(|id| id.parse::<RunId>().ok());
        let is_socket = entry.file_type().is_ok_and(|kind| kind.is_socket());
        if !is_socket || (session.is_none() && run.is_none()) {
            continue;
        }
        match StdStream::connect(&path) {
            Ok(stream) => found.push(Found { stream, session }),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                let _gone = fs::remove_file(&path);
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot reach a supervisor");
            }
        }
    }
    found
}

/// Returns when a process started, in ticks since boot, if it lives and not only waits to be reaped.
fn alive_since(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in parentheses and may hold anything; field 22 is the start.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let state = fields.next()?;
    let start = fields.nth(18)?.parse().ok()?;
    (state != "Z").then_some(start)
}

const REBOOTED: &str = "the node was rebooted while it ran";
const KILLED: &str = "its supervisor was killed, so nobody saw how it ended";
const NEVER_STARTED: &str = "the agent ended before it was started";

const GREETING_LIMIT: Duration = Duration::from_secs(2);

/// Older runs are settled when someone looks at them.
const SWEEP: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_start() {
        let ours = alive_since(std::process::id());
        assert!(ours.is_some_and(|at| at > 0));
        assert_eq!(alive_since(std::process::id()), ours);
        assert_eq!(alive_since(u32::MAX), None);
    }
}
