//! A server that a test plays itself, for what sshd does not do.

use std::net::Shutdown;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::server::until;
use futures_util::future::BoxFuture;
use hpcclient_ssh::{Destination, DestinationOptions, Prompt, Prompter, StrictHostKeyChecking};
use russh::keys::key::safe_rng;
use russh::keys::{Algorithm, PrivateKey};
use russh::server;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Where the play is. Ends when dropped.
pub(crate) struct Stage {
    folder: tempfile::TempDir,
    port: u16,
    open: Sockets,
    _tasks: JoinSet<()>,
}

/// A handle on each connection.
type Sockets = Arc<Mutex<Vec<std::net::TcpStream>>>;

impl Stage {
    /// Plays a server with an actor for each session.
    pub(crate) async fn set<H>(actor: impl Fn() -> H + Send + 'static) -> Self
    where
        H: server::Handler<Error = russh::Error> + Send + 'static,
    {
        let key = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap();
        let config = server::Config {
            keys: vec![key],
            auth_rejection_time: Duration::ZERO,
            auth_rejection_time_initial: Some(Duration::ZERO),
            ..server::Config::default()
        };
        Self::with(config, actor).await
    }

    pub(crate) async fn with<H>(
        config: server::Config,
        actor: impl Fn() -> H + Send + 'static,
    ) -> Self
    where
        H: server::Handler<Error = russh::Error> + Send + 'static,
    {
        let public = config.keys[0].public_key().to_openssh().unwrap();
        let config = Arc::new(config);
        Self::raw(&public, move |stream| {
            let session = server::run_stream(Arc::clone(&config), stream, actor());
            Box::pin(async move {
                if let Ok(running) = session.await {
                    let _ = running.await;
                }
            })
        })
        .await
    }

    /// Plays a server that does with its connections what it likes, and is known by a key.
    pub(crate) async fn raw(
        public: &str,
        serve: impl Fn(TcpStream) -> BoxFuture<'static, ()> + Send + 'static,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let line = format!("[127.0.0.1]:{port} {public}\n");
        std::fs::write(folder.path().join("known_hosts"), line).unwrap();
        let open = Sockets::default();
        let sockets = Arc::clone(&open);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut sessions = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let stream = stream.into_std().unwrap();
                sockets.lock().unwrap().push(stream.try_clone().unwrap());
                sessions.spawn(serve(TcpStream::from_std(stream).unwrap()));
            }
        });
        Self {
            folder,
            port,
            open,
            _tasks: tasks,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// How the server is reached, which is known, without a key to log in with.
    pub(crate) fn destination(&self) -> Destination {
        Destination {
            host_alias: "played".to_owned(),
            hostname: "127.0.0.1".to_owned(),
            user: "alice".to_owned(),
            port: self.port,
            identity_files: vec![],
            identities_only: false,
            identity_agent: None,
            known_hosts: vec![self.path("known_hosts")],
            host_key_alias: None,
            strict_host_key_checking: StrictHostKeyChecking::Yes,
            connect_timeout: Duration::from_secs(10),
            server_alive_interval: Duration::from_secs(15),
            jumps: vec![],
            proxy_command: None,
            certificate_files: vec![],
            preferred_authentications: vec![],
            gssapi: false,
            hash_known_hosts: false,
            update_host_keys: false,
            preferred_address: None,
            only_openssh: None,
            options: DestinationOptions::default(),
            notes: vec![],
        }
    }
}

/// Gives its answers in order, and one of them only after the server has hung up.
pub(crate) struct Late {
    open: Sockets,
    port: u16,
    at: usize,
    noticed: bool,
    answers: Vec<String>,
    asked: AtomicUsize,
}

impl Late {
    /// With `noticed` also after the client has seen that, which it cannot within a dialogue.
    pub(crate) fn at(stage: &Stage, at: usize, noticed: bool, answers: &[&str]) -> Arc<Self> {
        Arc::new(Self {
            open: Arc::clone(&stage.open),
            port: stage.port,
            at,
            noticed,
            answers: answers.iter().map(|answer| (*answer).to_owned()).collect(),
            asked: AtomicUsize::new(0),
        })
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Prompter for Late {
    fn ask(&self, _prompt: Prompt) -> BoxFuture<'_, Option<String>> {
        let nth = self.asked.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            if nth == self.at {
                for socket in self.open.lock().unwrap().drain(..) {
                    let _ = socket.shutdown(Shutdown::Both);
                }
                if self.noticed {
                    until("the client has noticed", || !holds(self.port)).await;
                }
            }
            self.answers.get(nth).cloned()
        })
    }

    fn progress(&self, _message: &str) {}
}

/// Whether a client's connection to a port is open on its side.
fn holds(port: u16) -> bool {
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    table.lines().skip(1).any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields[2].ends_with(&format!(":{port:04X}")) && ["01", "08"].contains(&fields[3])
    })
}
