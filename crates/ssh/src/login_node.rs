//! The embedded login node of `hpcclient demo`: an SSH server on loopback, for this user only.
//!
//! Started by the command line's `demo` and by tests that need a server but no OpenSSH. It accepts
//! exactly one key, runs commands as the process's own user and forwards to Unix sockets.
//!
//! Invariants:
//! * It listens on 127.0.0.1 only, and nothing but the generated key opens it.
//! * Connections, channels and the time to log in are bounded; every task is tracked, and `stop`
//!   returns after the last one ended and its commands are gone.
//!
//! Not here: terminals, login shells, TCP forwarding, SFTP. The agent needs none of them.

mod connection;
mod exec;
mod forward;
mod keys;

use std::{
    ffi::OsString,
    io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use russh::{MethodKind, MethodSet, server};
use tokio::{
    net::TcpListener,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use connection::Login;
use keys::Keys;

/// More clients than this wait until one leaves.
const MAX_CONNECTIONS: usize = 32;
/// How long to rest when the machine has no descriptor for a new connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the caller decides.
#[derive(Clone, Debug)]
pub struct LoginNodeOptions {
    /// Where the client key and the `known_hosts` file go. Made with mode 0700 if it is missing;
    /// the two files of an earlier node are replaced.
    pub folder: PathBuf,
    /// The only user name that may log in.
    pub user: String,
    /// The whole environment of the commands; `HOME` is also their directory.
    pub env: Vec<(OsString, OsString)>,
}

/// A running login node. Dropping it ends it too, without waiting.
#[derive(Debug)]
pub struct LoginNode {
    port: u16,
    host_key: String,
    identity_file: PathBuf,
    known_hosts: PathBuf,
    cancel: CancellationToken,
    tasks: TaskTracker,
}

/// Says why the login node could not start.
#[derive(Debug, thiserror::Error)]
pub enum LoginNodeError {
    /// A file of the folder could not be written.
    #[error("cannot write {path}", path = path.display())]
    Write {
        /// The file or the folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A key could not be made.
    #[error("cannot generate a key")]
    Key(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No port on loopback.
    #[error("cannot listen on 127.0.0.1")]
    Listen(#[source] io::Error),
}

impl LoginNode {
    /// Starts the server on a free port of 127.0.0.1, with new keys.
    ///
    /// # Errors
    /// The folder cannot be written or there is no port.
    pub async fn start(options: LoginNodeOptions) -> Result<Self, LoginNodeError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .map_err(LoginNodeError::Listen)?;
        let port = listener
            .local_addr()
            .map_err(LoginNodeError::Listen)?
            .port();
        let keys = Keys::generate()?;
        let files = keys.write(&options.folder, port)?;
        let login = Arc::new(Login {
            user: options.user,
            key: keys.client.public_key().key_data().clone(),
            env: options.env,
        });
        let host_key = keys.host_line();
        let config = Arc::new(server_config(keys));
        let (cancel, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(accept(
            listener,
            config,
            login,
            cancel.clone(),
            tasks.clone(),
        ));
        Ok(Self {
            port,
            host_key,
            identity_file: files.identity,
            known_hosts: files.known_hosts,
            cancel,
            tasks,
        })
    }

    /// Returns the port on 127.0.0.1.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Returns the host's public key as `ssh-ed25519 AAAA…`.
    #[must_use]
    pub fn host_key(&self) -> &str {
        &self.host_key
    }

    /// Returns the file with the private key that may log in.
    #[must_use]
    pub fn identity_file(&self) -> &Path {
        &self.identity_file
    }

    /// Returns the `known_hosts` file that names this server.
    #[must_use]
    pub fn known_hosts(&self) -> &Path {
        &self.known_hosts
    }

    /// Ends every connection and its commands, and waits for that.
    pub async fn stop(self) {
        self.cancel.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for LoginNode {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

fn server_config(keys: Keys) -> server::Config {
    server::Config {
        keys: vec![keys.host],
        methods: MethodSet::from([MethodKind::PublicKey].as_slice()),
        max_auth_attempts: 6,
        auth_rejection_time: Duration::from_millis(200),
        // The probe that every client sends first tells nothing, so it need not be slow.
        auth_rejection_time_initial: Some(Duration::ZERO),
        // A bridge keeps its connection for days.
        inactivity_timeout: None,
        keepalive_interval: Some(Duration::from_secs(30)),
        // The input of one channel that its reader has not taken yet: 64 MiB at most. Beyond that
        // the whole connection waits, because russh hands messages out in order. The agent's
        // HTTP/2 keeps far below it.
        channel_buffer_size: 2048,
        nodelay: true,
        ..server::Config::default()
    }
}

async fn accept(
    listener: TcpListener,
    config: Arc<server::Config>,
    login: Arc<Login>,
    cancel: CancellationToken,
    tasks: TaskTracker,
) {
    let free = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Some((permit, stream)) = next_client(&listener, &free, &cancel).await {
        let connection = connection::serve(
            stream,
            Arc::clone(&config),
            Arc::clone(&login),
            cancel.child_token(),
            tasks.clone(),
        );
        tasks.spawn(async move {
            connection.await;
            drop(permit);
        });
    }
}

async fn next_client(
    listener: &TcpListener,
    free: &Arc<Semaphore>,
    cancel: &CancellationToken,
) -> Option<(OwnedSemaphorePermit, tokio::net::TcpStream)> {
    let next = async {
        let permit = Arc::clone(free).acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => return Some((permit, stream)),
                Err(error) => {
                    tracing::warn!(%error, "login node cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    cancel.run_until_cancelled(next).await.flatten()
}
