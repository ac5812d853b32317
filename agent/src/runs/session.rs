//! Sessions: one shim with one login shell each, started by the first line and kept for the next.
//!
//! Invariants: one shell per session, also when two first lines come at once; the directory that an
//! `argv` of the session starts in is where its last line ended.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use hpcclient_protocol::{ByteString, Command, SessionId};
use tokio::sync::OnceCell;

use super::{
    Link, RunError, Runs,
    live_run::{LiveRun, lock},
    start::existing,
    turns::Turn,
};
use crate::{environment, shim::control::ToShim};

/// What the agent knows of a session.
#[derive(Debug, Default)]
pub(super) struct Session {
    link: Arc<OnceCell<Link>>,
    cwd: Option<PathBuf>,
}

impl Session {
    /// Returns whether its shell lives.
    pub(super) fn is_alive(&self) -> bool {
        self.link.get().is_some_and(|link| !link.is_closed())
    }
}

impl Runs {
    /// Returns the connection to a session's shim, and starts the shim when there is none.
    pub(super) async fn session_link(&self, id: &SessionId) -> Result<Link, RunError> {
        loop {
            let cell = Arc::clone(&lock(&self.0.sessions).entry(id.clone()).or_default().link);
            let link = cell.get_or_try_init(|| self.start_session(id)).await?;
            if !link.is_closed() {
                return Ok(link.clone());
            }
            self.drop_link(link);
        }
    }

    async fn start_session(&self, id: &SessionId) -> Result<Link, RunError> {
        let socket = self.0.place.session_socket(id);
        let cwd = existing(self.0.place.home().to_path_buf());
        let arguments = [
            "session".into(),
            id.as_str().into(),
            socket.into_os_string(),
        ];
        // The shell is a login shell and reads the profile, so it starts from what the agent has.
        let stream = self
            .start_shim(arguments, environment::own().into(), cwd)
            .await?;
        let link = Link::new(stream, Some(id.clone()));
        let link = link.map_err(|source| RunError::Spawn { source })?;
        self.attend(link.clone(), None);
        Ok(link)
    }

    /// Takes the connection to the shim of a session that was found alive.
    pub(super) fn adopt_session(&self, id: &SessionId, link: &Link) {
        let link = Arc::new(OnceCell::new_with(Some(link.clone())));
        // Where it stands stays known when only the connection is another one.
        lock(&self.0.sessions).entry(id.clone()).or_default().link = link;
    }

    /// Forgets a session's shim after it ended. The session's next line starts another.
    pub(super) fn drop_link(&self, link: &Link) {
        let Some(id) = link.session() else { return };
        let mut sessions = lock(&self.0.sessions);
        if sessions
            .get(id)
            .and_then(|s| s.link.get())
            .is_some_and(|known| known.is(link))
        {
            sessions.remove(id);
        }
    }

    /// Remembers where a session's last line ended.
    pub(super) fn set_session_cwd(&self, id: &SessionId, cwd: &ByteString) {
        if let Some(session) = lock(&self.0.sessions).get_mut(id) {
            session.cwd = Some(Path::new(OsStr::from_bytes(cwd.as_bytes())).to_path_buf());
        }
    }

    /// Returns the directory to start a run's shim in; the run's own `cwd` is taken from there.
    pub(super) fn directory_for(&self, live: &LiveRun) -> PathBuf {
        let home = self.0.place.home().to_path_buf();
        self.session_cwd(live).unwrap_or_else(|| existing(home))
    }

    /// Checks that the session's directory, where a program is to start, is still there: to start it
    /// in another one could do harm.
    pub(super) fn check_directory(&self, live: &LiveRun) -> Result<(), RunError> {
        if live
            .spec()
            .cwd
            .as_ref()
            .is_some_and(|cwd| cwd.as_bytes().starts_with(b"/"))
        {
            return Ok(());
        }
        match self.session_cwd(live) {
            Some(path) if !path.is_dir() => Err(RunError::DirectoryGone { path }),
            _ => Ok(()),
        }
    }

    fn session_cwd(&self, live: &LiveRun) -> Option<PathBuf> {
        if matches!(live.spec().command, Command::Shell(_)) {
            return None;
        }
        let session = live.spec().session.as_ref()?;
        lock(&self.0.sessions).get(session)?.cwd.clone()
    }

    /// Gives up the place of a run that does not wait any more, and tells which line is the next then.
    pub(super) fn call_next_line(&self, live: &LiveRun) {
        let Some(turn) = live.turn().filter(Turn::leave) else {
            return;
        };
        if self.0.events.is_watched() {
            let is_next = |live: &&Arc<LiveRun>| {
                let other = live.turn();
                other.is_some_and(|other| other.is_beside(&turn) && other.is_first())
            };
            let next = lock(&self.0.live).values().find(is_next).cloned();
            // The ones behind it only moved up: who wants to know asks.
            if let Some(next) = next {
                self.0.events.tell(|| next.to_run());
            }
        }
    }

    /// Ends a session's shell.
    ///
    /// # Errors
    /// There is no such session.
    pub fn end_session(&self, id: &SessionId) -> Result<(), RunError> {
        let link = self
            .session_known(id)
            .ok_or_else(|| RunError::NoSession { id: id.clone() })?;
        link.send(&ToShim::End, b"")?;
        self.drop_link(&link);
        Ok(())
    }

    pub(super) fn session_known(&self, id: &SessionId) -> Option<Link> {
        lock(&self.0.sessions)
            .get(id)
            .and_then(|session| session.link.get().cloned())
    }

    pub(super) fn session_ids(&self) -> Vec<SessionId> {
        lock(&self.0.sessions).keys().cloned().collect()
    }
}
