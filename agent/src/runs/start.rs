//! Makes a run: its folder, then its shim or its place in a session's queue.
//!
//! Called by `Runs::put`, in a task of its own. Starting costs one trip to the blocking pool for the
//! store and, where there is no shim yet, one for the process.
//! Invariants: the folder exists before anything runs; a run that cannot be started is `Lost` with a
//! reason, never forgotten; a shim outlives the agent.

use std::{
    ffi::OsString,
    os::{fd::OwnedFd, unix::net::UnixStream as StdStream},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use hpcclient_protocol::{Command, RunSpec, RunState};
use tokio::process::{Child, Command as Process};

use super::{
    Link, RunError, Runs,
    live_run::{LiveRun, Stage},
    slots::Slot,
    waiting::HOLDS,
};
use crate::{
    clock,
    environment::Variables,
    shim::{self, control::ToShim},
    store::{RunRecord, StoreError},
};

impl Runs {
    /// Makes a reserved run and starts it.
    pub(super) async fn begin(self, live: Arc<LiveRun>) {
        match self.create(&live).await {
            Ok(true) => {}
            Ok(false) => {
                self.forget(&live, Stage::Known);
                return self.wait_again_if_left(live.id()).await;
            }
            Err(error) => return self.forget(&live, Stage::Failed(Arc::new(error))),
        }
        let slot = if is_line(live.spec()) {
            None
        } else {
            self.ask_for_room(HOLDS);
            self.0.slots.try_take()
        };
        // Whoever made the run is told when it cannot start, unless it has to wait first.
        if is_line(live.spec()) || slot.is_some() {
            self.0.events.tell(|| live.to_run());
            match self.launch(&live, slot).await {
                Ok(()) => {
                    end_withdrawn(&live);
                    return live.set_stage(Stage::Stored);
                }
                Err(error) if error.is_full() => {}
                Err(error) => {
                    let error = Arc::new(error);
                    self.give_up(&live, &error).await;
                    return live.set_stage(Stage::Failed(error));
                }
            }
        }
        self.launch_in_turn(&live).await;
    }

    /// Makes the folder; `false` when the store has the id already.
    async fn create(&self, live: &Arc<LiveRun>) -> Result<bool, RunError> {
        let (runs, copy) = (self.clone(), Arc::clone(live));
        let work = move || {
            let live = copy;
            let id = live.id();
            if let Err(error) = runs.check_directory(&live) {
                return match runs.0.store.find(id) {
                    Some(_) => Ok(false),
                    None => Err(error),
                };
            }
            let host = runs.0.place.host();
            match runs
                .0
                .store
                .create(id, live.spec(), live.created_ms(), host)
            {
                Ok(dir) => live.set_dir(dir),
                Err(StoreError::Exists { .. }) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
            Ok(true)
        };
        // The trip to another thread takes as long as the work itself, but the runtime never waits
        // for a network, nor again for a disk that has just been slow.
        // Only a program's directory is looked at, and that may be on any disk.
        let is_shell = matches!(live.spec().command, Command::Shell(_));
        let is_local = is_shell && self.0.store.is_local();
        let is_quick = is_local && self.0.store_is_quick.load(Ordering::Relaxed);
        let started = Instant::now();
        let made = if is_quick {
            work()
        } else {
            self.blocking(work).await
        };
        let is_quick = started.elapsed() < QUICK;
        self.0.store_is_quick.store(is_quick, Ordering::Relaxed);
        made
    }

    fn forget(&self, live: &Arc<LiveRun>, stage: Stage) {
        self.dismiss(live);
        live.set_stage(stage);
    }

    /// Hands a stored run to a shim.
    pub(super) async fn launch(
        &self,
        live: &Arc<LiveRun>,
        slot: Option<Slot>,
    ) -> Result<(), RunError> {
        let dir = live
            .dir()
            .ok_or(RunError::NotFound { id: live.id() })?
            .path()
            .to_path_buf();
        if let (Command::Shell(_), Some(session)) = (&live.spec().command, &live.spec().session) {
            drop(slot);
            let start = ToShim::Start {
                run: live.id(),
                dir: path_bytes(&dir).into(),
            };
            // A shell may have ended a moment ago; then the line starts the next one.
            for _ in 0..2 {
                let link = self.session_link(session).await?;
                live.set_link(link.clone());
                let turn = link.turns().join();
                live.set_turn(turn.clone());
                match link.send(&start, b"") {
                    Err(RunError::Gone) => drop(turn.leave()),
                    sent => return sent,
                }
            }
            return Err(RunError::Gone);
        }
        let variables = self.0.environment.login().await;
        let cwd = self.directory_for(live);
        let socket = self.0.place.run_socket(live.id());
        let arguments = ["run".into(), dir.into_os_string(), socket.into_os_string()];
        let stream = self.start_shim(arguments, variables, cwd).await?;
        let link = Link::new(stream, None).map_err(|source| RunError::Spawn { source })?;
        live.set_link(link.clone());
        self.attend(link, slot);
        Ok(())
    }

    /// Starts a shim that is nobody's child; the stream is its first control connection. Why a shim
    /// could not start comes through it.
    pub(super) async fn start_shim<const N: usize>(
        &self,
        arguments: [OsString; N],
        variables: Arc<Variables>,
        cwd: PathBuf,
    ) -> Result<StdStream, RunError> {
        let spawn = move || spawn_launcher(&arguments, &variables, &cwd);
        let (stream, mut launcher) = self.blocking(spawn).await?;
        // It ends as soon as it has started the shim, or could not.
        match launcher.wait().await {
            Ok(ended) if ended.code() == Some(i32::from(shim::NODE_IS_FULL)) => {
                let source = std::io::ErrorKind::WouldBlock.into();
                Err(RunError::Spawn { source })
            }
            Ok(_) => Ok(stream),
            Err(source) => Err(RunError::Spawn { source }),
        }
    }

    /// Starts the task that listens to a shim until it is gone.
    pub(super) fn attend(&self, link: Link, slot: Option<Slot>) {
        let runs = self.clone();
        self.0.tracker.spawn(async move {
            let listen = link.attend(|message| {
                let (runs, link) = (runs.clone(), link.clone());
                async move { runs.hear(&link, message).await }
            });
            // When the agent stops, shims go on: nothing of theirs is lost.
            if runs.0.stopping.run_until_cancelled(listen).await.is_none() {
                return;
            }
            runs.bury(&link).await;
            drop(slot);
        });
    }

    pub(super) async fn give_up(&self, live: &Arc<LiveRun>, error: &RunError) {
        let cause = std::error::Error::source(error);
        let reason = cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"));
        let record = RunRecord {
            reason: Some(reason),
            ended_ms: Some(clock::now_ms()),
            ..RunRecord::new(RunState::Lost)
        };
        self.close(live, record).await;
    }

    /// Writes the last record of a run that has no shim, and tells it.
    pub(super) async fn close(&self, live: &Arc<LiveRun>, record: RunRecord) {
        if let Some(dir) = live.dir().cloned() {
            let copy = record.clone();
            let written = self.blocking(move || Ok(dir.write_record(&copy)?)).await;
            if let Err(error) = written {
                tracing::warn!(run = %live.id(), %error, "cannot write a run's last state");
            }
        }
        let sizes = live.watch().borrow().sizes;
        self.grow(live.id(), record, sizes);
    }
}

/// Below this a run was made without any wait.
const QUICK: Duration = Duration::from_millis(2);

/// Kills a run that was withdrawn while its shim was being started: nobody could tell the shim.
pub(super) fn end_withdrawn(live: &LiveRun) {
    if live.was_withdrawn()
        && let Some(link) = live.link()
    {
        // A shim that is gone has nothing left to kill.
        drop(link.send(&ToShim::Kill { run: live.id() }, b""));
    }
}

/// Whether a session's shell runs it.
pub(super) fn is_line(spec: &RunSpec) -> bool {
    matches!(spec.command, Command::Shell(_)) && spec.session.is_some()
}

fn spawn_launcher(
    arguments: &[OsString],
    variables: &Variables,
    cwd: &Path,
) -> Result<(StdStream, Child), RunError> {
    let spawn = || {
        let (ours, theirs) = StdStream::pair()?;
        // The running binary, also after its file was replaced or removed.
        let child = Process::new("/proc/self/exe")
            .arg0("hpcagent")
            .args(["shim", "launch"])
            .args(arguments)
            .env_clear()
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .current_dir(cwd)
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok((ours, child))
    };
    spawn().map_err(|source| RunError::Spawn { source })
}

pub(super) fn existing(path: PathBuf) -> PathBuf {
    if path.is_dir() { path } else { "/".into() }
}

fn path_bytes(path: &Path) -> Vec<u8> {
    std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()).to_vec()
}
