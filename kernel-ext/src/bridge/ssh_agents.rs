//! The ssh-agent of whoever connected a cluster last: a bridge outlives the desktop session that started it.
//!
//! The control API brings the sockets, `ssh` and `renew` use them where the configuration says that
//! the agent is the environment's. They are kept in memory only.
//! Invariants: a path that is used is absolute and a socket of this user's.

use std::{
    collections::BTreeMap,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use hpcclient_protocol::{ApiError, ErrorCode};

/// The ssh-agents by cluster.
#[derive(Debug, Default)]
pub struct SshAgents(Mutex<BTreeMap<String, PathBuf>>);

impl SshAgents {
    /// Remembers the socket that a client named for a cluster. None, an empty one and one that is
    /// not there any more leave what was.
    ///
    /// # Errors
    /// `BadRequest` when the path is not absolute.
    pub(crate) async fn remember(
        &self,
        cluster: &str,
        socket: Option<PathBuf>,
    ) -> Result<(), ApiError> {
        let Some(socket) = socket.filter(|socket| !socket.as_os_str().is_empty()) else {
            return Ok(());
        };
        if !socket.is_absolute() {
            let message = "`sshAuthSock` is not an absolute path";
            return Err(ApiError::new(ErrorCode::BadRequest, message));
        }
        if is_own_socket(&socket).await {
            self.locked().insert(cluster.to_owned(), socket);
        } else {
            tracing::warn!(cluster, socket = %socket.display(), "no ssh-agent of this user's");
        }
        Ok(())
    }

    /// Returns the socket for a cluster, if one was named and it is still there.
    pub(crate) async fn of(&self, cluster: &str) -> Option<PathBuf> {
        let socket = self.locked().get(cluster).cloned()?;
        is_own_socket(&socket).await.then_some(socket)
    }

    /// A poisoned lock means that a holder panicked between two plain operations.
    fn locked(&self) -> MutexGuard<'_, BTreeMap<String, PathBuf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn is_own_socket(path: &Path) -> bool {
    is_socket_of(path, rustix::process::getuid().as_raw()).await
}

async fn is_socket_of(path: &Path, user: u32) -> bool {
    let found = tokio::fs::metadata(path).await;
    found.is_ok_and(|found| found.file_type().is_socket() && found.uid() == user)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[tokio::test]
    async fn the_last_agent_that_is_there_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let _old = UnixListener::bind(path("old")).unwrap();
        let _new = UnixListener::bind(path("new")).unwrap();
        std::fs::write(path("file"), "").unwrap();
        let agents = SshAgents::default();
        assert_eq!(agents.of("leo").await, None);
        let remembered = async |socket: Option<PathBuf>| {
            agents.remember("leo", socket).await.unwrap();
            agents.of("leo").await
        };
        assert_eq!(remembered(Some(path("old"))).await, Some(path("old")));
        assert_eq!(remembered(Some(path("new"))).await, Some(path("new")));
        for nothing in [
            None,
            Some("".into()),
            Some(path("gone")),
            Some(path("file")),
        ] {
            assert_eq!(remembered(nothing).await, Some(path("new")));
        }
        assert_eq!(agents.of("other").await, None);
        std::fs::remove_file(path("new")).unwrap();
        assert_eq!(agents.of("leo").await, None);
    }

    #[tokio::test]
    async fn a_relative_path_is_refused() {
        let agents = SshAgents::default();
        let refused = agents.remember("leo", Some("agent.sock".into())).await;
        assert_eq!(refused.unwrap_err().code, ErrorCode::BadRequest);
    }

    #[tokio::test]
    async fn a_socket_of_somebody_else_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent");
        let _agent = UnixListener::bind(&path).unwrap();
        let own = rustix::process::getuid().as_raw();
        assert!(is_socket_of(&path, own).await);
        assert!(!is_socket_of(&path, own + 1).await);
    }
}
