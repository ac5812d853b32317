//! Finds again what lives on this node after the agent was started anew, and buries what died.
//!
//! Called by `serve` before the first connection, and whenever a shim's connection ends.
//! Invariants: a shim that greets late is adopted then, once, and its run is not settled meanwhile.
//! Not here: what became of a run that has no shim (`runs::fate`).

use std::{
    fs, io,
    os::unix::{fs::FileTypeExt, net::UnixStream as StdStream},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use hpcclient_protocol::{RunId, RunState, SessionId};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Link, RunError, Runs,
    fate::{lives, lost},
    live_run::{LiveRun, lock},
};
use crate::{node::processes, store::RunDir};

/// A shim's socket that answered.
struct Found {
    stream: StdStream,
    session: Option<SessionId>,
}

impl Runs {
    /// Connects to every shim of this node, and settles the runs that have none any more.
    pub async fn adopt(&self) {
        let run_dir = self.0.place.run_dir().to_path_buf();
        let (found, room) = tokio::join!(
            self.blocking(move || Ok(answering(run_dir))),
            self.blocking(|| Ok(processes::room())),
        );
        let (found, dead) = found.unwrap_or_default();
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
                None => Some(self.0.slots.occupy()),
            };
            self.attend(link.clone(), slot);
            links.push(link);
        }
        // Before what waits is let go: it would all start, as on a node without a limit.
        self.set_room(room.ok().flatten());
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
        let (runs, known) = (self.clone(), CancellationToken::new());
        let is_known = known.clone();
        self.0.tracker.spawn(async move {
            let _end = known.clone().drop_guard();
            let looking = runs.clone();
            let swept = runs.blocking(move || looking.sweep(dead, &known));
            if let Some(Err(error)) = runs.0.stopping.run_until_cancelled(swept).await {
                tracing::warn!(%error, "cannot look through the stored runs");
            }
        });
        self.keep_in_bounds();
        // A program in a session must not start before the session's directory is known.
        if counts.sessions > 0 {
            is_known.cancelled().await;
        }
    }

    /// Takes the runs that a shim says it keeps.
    pub(super) async fn adopt_runs(&self, link: &Link, ids: Vec<RunId>) {
        let is_linked = |live: Arc<LiveRun>| live.link().is_some_and(|known| !known.is_closed());
        for id in ids {
            if self.live(id).is_some_and(is_linked) {
                continue;
            }
            let (runs, copy) = (self.clone(), link.clone());
            if let Err(error) = self.blocking(move || runs.adopt_run(id, &copy)).await {
                tracing::warn!(run = %id, %error, "cannot adopt a run");
            }
        }
        link.set_greeted();
    }

    fn adopt_run(&self, id: RunId, link: &Link) -> Result<(), RunError> {
        let _one = lock(&self.0.settling);
        if let Some(live) = self.live(id) {
            // It is being made, and its link is set in a moment; or it lost its link and has one again.
            if live.link().is_some() {
                live.set_link(link.clone());
            }
            return Ok(());
        }
        let dir = self.0.store.find(id).ok_or(RunError::NotFound { id })?;
        let (run, record) = (dir.load()?, dir.record()?);
        // It may have ended since the shim spoke.
        if run.state.is_final() {
            return Ok(());
        }
        let live = Arc::new(LiveRun::found(run, dir, record));
        if live.state() == RunState::Queued && link.session().is_some() {
            // A shim names the lines that wait in the order of their turns.
            live.set_turn(link.turns().join());
        }
        live.set_link(link.clone());
        self.admit(&live);
        Ok(())
    }

    /// Settles the runs of a shim whose connection ended, or finds the shim again.
    pub(super) async fn bury(&self, link: &Link) {
        let mut pause = CUT_PAUSE;
        while self.settle_runs_of(link).await {
            // A shim closes its connection a moment before it is gone, and one that lives listens.
            if self.find_again(link).await {
                return;
            }
            if self
                .0
                .stopping
                .run_until_cancelled(sleep(pause))
                .await
                .is_none()
            {
                return;
            }
            pause = (2 * pause).min(MAX_CUT_PAUSE);
        }
        self.drop_link(link);
    }

    /// Settles the runs of a shim whose connection ended; says whether one is kept by a shim that lives.
    async fn settle_runs_of(&self, link: &Link) -> bool {
        let of_link = |live: &&Arc<LiveRun>| live.link().is_some_and(|known| known.is(link));
        let left: Vec<_> = lock(&self.0.live)
            .values()
            .filter(of_link)
            .cloned()
            .collect();
        let mut is_kept = false;
        for live in left {
            // A terminal that is gone ends its command, which takes a moment.
            for _ in 0..DYING_LOOKS {
                if !lives(&live.record()) {
                    break;
                }
                sleep(DYING_LOOK).await;
            }
            let (runs, copy, link) = (self.clone(), Arc::clone(&live), link.clone());
            let settled = self.blocking(move || {
                let record = runs.settle_live(&copy, link.failure())?;
                let sizes = copy.dir().map(|dir| dir.load().map(|run| run.sizes));
                Ok((record, sizes.transpose()?.unwrap_or_default()))
            });
            match settled.await {
                Ok((None, _)) => is_kept = true,
                Ok((Some(record), sizes)) => {
                    let is_orphan = record.state == RunState::Orphaned;
                    self.grow(live.id(), record, sizes);
                    if is_orphan {
                        self.watch_orphan(&live);
                    }
                }
                Err(error) => {
                    tracing::error!(run = %live.id(), %error, "cannot settle a run");
                    let reason = format!("its supervisor was killed; {error}");
                    let sizes = live.watch().borrow().sizes;
                    self.grow(live.id(), lost(live.record(), reason), sizes);
                }
            }
        }
        is_kept
    }

    /// Connects to a shim again that lives and whose connection was cut.
    async fn find_again(&self, link: &Link) -> bool {
        let path = match link.session() {
            Some(session) => self.0.place.session_socket(session),
            None => {
                let of_link = |live: &&Arc<LiveRun>| live.link().is_some_and(|l| l.is(link));
                let run = lock(&self.0.live).values().find(of_link).map(|l| l.id());
                match run {
                    Some(run) => self.0.place.run_socket(run),
                    None => return false,
                }
            }
        };
        // It is cut again and again only by a defect; that must not spin.
        sleep(CUT_PAUSE).await;
        let connected = self.blocking(move || Ok(StdStream::connect(path).ok()));
        let Ok(Some(stream)) = connected.await else {
            return false;
        };
        let Ok(new) = Link::new(stream, link.session().cloned()) else {
            return false;
        };
        tracing::warn!("the connection to a supervisor was cut, and is there again");
        if let Some(session) = new.session() {
            self.adopt_session(session, &new);
        }
        let slot = new.session().is_none().then(|| self.0.slots.occupy());
        self.attend(new.clone(), slot);
        let _late = timeout(GREETING_LIMIT, new.greeted()).await;
        // What ended while nobody listened is not named in the greeting: it is settled with this link.
        for live in lock(&self.0.live).values() {
            if live.link().is_some_and(|known| known.is(link)) {
                live.set_link(new.clone());
            }
        }
        true
    }

    /// Looks through the newest runs: settles them, and learns where adopted sessions stand. `known` is
    /// cancelled when that is known of all.
    fn sweep(&self, dead: Vec<RunId>, known: &CancellationToken) -> Result<(), RunError> {
        for dir in dead.into_iter().filter_map(|id| self.0.store.find(id)) {
            // However old it is: its process may have been left behind.
            let _settled = self.read(&dir);
        }
        let (mut unknown, mut waiting) = (self.session_ids(), Vec::new());
        let mut before = None;
        for _ in 0..SWEEPS {
            if unknown.is_empty() {
                known.cancel();
            }
            let dirs = match self.0.store.newest(before, SWEEP) {
                Ok(dirs) => dirs,
                Err(error) => {
                    self.wait_again(waiting);
                    return Err(error.into());
                }
            };
            before = dirs.last().map(RunDir::id);
            for dir in dirs {
                let Ok(run) = self.read(&dir) else { continue };
                if run.state == RunState::Lost
                    && let Err(error) = dir.record().map(drop).and_then(|()| dir.spec().map(drop))
                {
                    let error = error.in_one_line();
                    tracing::warn!(run = %run.id, error, "a stored run is damaged");
                }
                // A session of the same name on another node has a shell and a directory of its own.
                if !self.is_ours(&run) {
                    continue;
                }
                let is_left = run.state == RunState::Queued && self.live(run.id).is_none();
                if is_left && dir.record().is_ok_and(|record| record.waiting) {
                    waiting.push(dir);
                }
                let Some((session, cwd)) = run.spec.session.zip(run.cwd_after) else {
                    continue;
                };
                if let Some(at) = unknown.iter().position(|id| *id == session) {
                    unknown.swap_remove(at);
                    self.set_session_cwd(&session, &cwd);
                }
            }
            if before.is_none() || self.0.stopping.is_cancelled() {
                break;
            }
        }
        self.wait_again(waiting);
        Ok(())
    }

    pub(super) fn is_session_alive(&self, id: &SessionId) -> bool {
        lock(&self.0.sessions)
            .get(id)
            .is_some_and(super::session::Session::is_alive)
    }
}

/// Connects to the sockets of this node's shims; those of dead ones are removed, and their runs named.
fn answering(run_dir: PathBuf) -> (Vec<Found>, Vec<RunId>) {
    let (mut found, mut dead) = (Vec::new(), Vec::new());
    let Ok(entries) = fs::read_dir(run_dir) else {
        return (found, dead);
    };
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
                dead.extend(run);
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot reach a supervisor");
            }
        }
    }
    (found, dead)
}

const GREETING_LIMIT: Duration = Duration::from_secs(2);

const SWEEP: usize = 300;

/// Older runs are settled when someone looks at them.
const SWEEPS: usize = 10;

/// How long a command may take to end with its terminal, before it is called an orphan.
const DYING_LOOKS: u32 = 10;

const DYING_LOOK: Duration = Duration::from_millis(20);

const CUT_PAUSE: Duration = Duration::from_millis(100);

const MAX_CUT_PAUSE: Duration = Duration::from_secs(10);
