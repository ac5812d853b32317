//! The `ssh` program as transport, against a real server: one login for everything, its questions, its errors.

mod questions;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hpcclient_ssh::{
    AgentBinary, AgentLine, AgentStream, Connection, Destination, DestinationOptions, NoPrompts,
    Prompter, SshError, TransportChoice, Workshop,
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::agent::{Daemon, agent_binary, node, status};
use crate::server::{Server, children, until, user};

/// A user's machine: what `ssh` asks with, and where.
struct Machine {
    folder: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("ws").tempdir_in("/tmp");
        Self {
            folder: folder.unwrap(),
        }
    }

    async fn open(
        &self,
        destination: &Destination,
        prompter: Arc<dyn Prompter>,
    ) -> Result<Connection, SshError> {
        let tests = std::env::current_exe().unwrap();
        let built = tests.parent().and_then(Path::parent).unwrap();
        let askpass = built.join("examples/askpass");
        assert!(askpass.exists(), "cargo builds it with the tests");
        let workshop = Workshop {
            askpass,
            folder: self.folder.path().to_owned(),
        };
        let opened = Connection::open(destination, &workshop, prompter).await;
        let left: Vec<_> = std::fs::read_dir(self.folder.path()).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
        opened
    }
}

/// The server as a user names it, with a key that it takes.
fn options(server: &Server) -> DestinationOptions {
    std::fs::write(server.path("known_hosts"), server.known_line()).unwrap();
    DestinationOptions {
        destination: "127.0.0.1".to_owned(),
        user: Some(user()),
        port: Some(server.port),
        identity_file: Some(server.path("id")),
        known_hosts: Some(server.path("known_hosts")),
        ssh_config: Some(config(server, "")),
        transport: TransportChoice::Openssh,
        ..DestinationOptions::default()
    }
}

fn config(server: &Server, lines: &str) -> PathBuf {
    let path = server.path("ssh_config");
    let ours = "IdentitiesOnly yes\nIdentityAgent none\nGlobalKnownHostsFile none\n";
    std::fs::write(&path, format!("{lines}\n{ours}")).unwrap();
    path
}

async fn connect(server: &Server) -> Connection {
    let destination = Destination::resolve(&options(server)).await.unwrap();
    let opened = Machine::new().open(&destination, Arc::new(NoPrompts)).await;
    opened.unwrap()
}

async fn refused(options: &DestinationOptions, prompter: Arc<dyn Prompter>) -> SshError {
    let destination = Destination::resolve(options).await.unwrap();
    let opened = Machine::new().open(&destination, prompter).await;
    opened.unwrap_err()
}

async fn start_agent(connection: &Connection, server: &Server) -> Daemon {
    let line = connection
        .ensure_agent(&agent_binary(), &node(server), &NoPrompts)
        .await;
    Daemon::new(line.unwrap())
}

async fn stream(connection: &Connection, daemon: &Daemon) -> AgentStream {
    let opened = connection.open_agent_stream(&daemon.line, &daemon.socket);
    opened.await.unwrap().0
}

fn logins(server: &Server) -> usize {
    let log = std::fs::read_to_string(server.path("log")).unwrap();
    log.matches("Accepted publickey").count()
}

#[tokio::test]
async fn one_session_of_one_login_is_enough_for_everything() {
    for lines in ["", "MaxSessions 1\nDisableForwarding yes"] {
        let server = Server::with(lines);
        let connection = connect(&server).await;
        let daemon = start_agent(&connection, &server).await;
        for _ in 0..3 {
            let answer = status(stream(&connection, &daemon).await).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            assert!(answer.contains(&daemon.socket), "{answer}");
        }
        let again = start_agent(&connection, &server).await;
        assert_eq!(again.pid, daemon.pid);
        assert_eq!(logins(&server), 1);
        connection.close().await;
        until("the session ends", || {
            children(server.process_id()).is_empty()
        })
        .await;
    }
}

#[tokio::test]
async fn every_login_shell_and_its_noise_will_do() {
    for shell in ["sh", "bash --login", "tcsh", "csh", "fish"] {
        let name = shell.split(' ').next().unwrap();
        let server = Server::with(&format!(
            "ForceCommand printf 'Welcome! no end of line'; echo oops >&2; exec {shell} -c \"$SSH_ORIGINAL_COMMAND\""
        ));
        assert!(Path::new("/bin").join(name).exists() || Path::new("/usr/bin").join(name).exists());
        let connection = connect(&server).await;
        let daemon = start_agent(&connection, &server).await;
        let answer = status(stream(&connection, &daemon).await).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{shell}: {answer}");
    }
}

#[tokio::test]
async fn an_agent_that_died_comes_back_without_another_login() {
    let server = Server::start();
    let connection = connect(&server).await;
    let first = start_agent(&connection, &server).await;
    let mut open = stream(&connection, &first).await;
    kill_process(Pid::from_raw(first.pid).unwrap(), Signal::KILL).unwrap();
    // Nobody reads this any more: it is in the way of what comes next. A line of it has no end.
    let mut sent = 0;
    while sent < 300_000 && open.write_all(b"\0\xff PRI * HTTP/2.0 ").await.is_ok() {
        sent += 18;
    }
    let mut rest = vec![];
    open.read_to_end(&mut rest).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&rest), "");
    drop(open);
    let second = start_agent(&connection, &server).await;
    assert_ne!(first.pid, second.pid);
    let answer = status(stream(&connection, &second).await).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(logins(&server), 1);
}

#[tokio::test]
async fn a_stream_has_the_login_for_itself_and_dropping_it_ends_the_login() {
    let server = Server::start();
    let connection = connect(&server).await;
    let daemon = start_agent(&connection, &server).await;
    let open = stream(&connection, &daemon).await;
    let second = connection.open_agent_stream(&daemon.line, &daemon.socket);
    let refused = second.await.unwrap_err().to_string();
    assert!(refused.contains("in use"), "{refused}");
    let hop = connection.open_node_stream("login2", &daemon.line).await;
    assert!(matches!(hop, Err(SshError::Hop { .. })), "{hop:?}");
    let answer = status(open).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    drop(stream(&connection, &daemon).await);
    let next = connection.open_agent_stream(&daemon.line, &daemon.socket);
    let ended = next.await.unwrap_err();
    assert!(
        matches!(&ended, SshError::Closed { reason } if reason.contains("does not end")),
        "{ended}"
    );
    let mut closed = connection.closed();
    closed.wait_for(Option::is_some).await.unwrap();
    until("the session ends", || {
        children(server.process_id()).is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_program_that_is_no_agent_does_not_end_the_conversation() {
    let server = Server::start();
    let connection = connect(&server).await;
    let binary = AgentBinary {
        path: PathBuf::from("/bin/true").canonicalize().unwrap(),
    };
    let failed = connection
        .ensure_agent(&binary, &node(&server), &NoPrompts)
        .await;
    assert!(
        matches!(failed, Err(SshError::AgentStart { .. })),
        "{failed:?}"
    );
    let daemon = start_agent(&connection, &server).await;
    let gone = AgentLine {
        exec: "/nonexistent/hpcagent".to_owned(),
        ..daemon.line.clone()
    };
    let failed = connection
        .open_agent_stream(&gone, &daemon.socket)
        .await
        .unwrap_err();
    assert!(
        matches!(&failed, SshError::AgentStart { output } if output.contains("not found")),
        "{failed}"
    );
    let refused = connection
        .open_node_stream("-oProxyCommand=x", &daemon.line)
        .await;
    assert!(matches!(refused, Err(SshError::Hop { .. })), "{refused:?}");
    let unknown = connection
        .open_node_stream("nosuch.invalid", &daemon.line)
        .await
        .unwrap_err();
    assert!(
        matches!(&unknown, SshError::Hop { reason, .. } if reason.contains("nosuch.invalid")),
        "{unknown}"
    );
    let answer = status(stream(&connection, &daemon).await).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn the_end_of_the_server_is_told_at_once() {
    let server = Server::start();
    let connection = connect(&server).await;
    let daemon = start_agent(&connection, &server).await;
    let mut open = stream(&connection, &daemon).await;
    assert!(connection.alive(std::time::Duration::from_secs(1)).await);
    server.kill_sessions();
    let mut closed = connection.closed();
    let reason = closed.wait_for(Option::is_some).await.unwrap().clone();
    assert!(reason.as_ref().unwrap().contains("127.0.0.1"), "{reason:?}");
    assert!(!connection.alive(std::time::Duration::from_secs(1)).await);
    let mut rest = vec![];
    let _ = open.read_to_end(&mut rest).await;
    drop(open);
    let lost = connection
        .open_agent_stream(&daemon.line, &daemon.socket)
        .await;
    assert!(
        matches!(&lost, Err(SshError::Closed { reason }) if reason.contains("127.0.0.1")),
        "{lost:?}"
    );
}

#[tokio::test]
async fn what_is_known_of_a_login_is_read_from_ssh() {
    let server = Server::with("AuthenticationMethods publickey,password publickey");
    let connection = connect(&server).await;
    let facts = connection.facts();
    let id = server.path("id").display().to_string();
    assert_eq!(facts.used, [format!("publickey (key {id})")]);
    assert_eq!(facts.offered, ["publickey"]);
    assert!(facts.host_key.unwrap().starts_with("ssh-ed25519 SHA256:"));
    assert!(facts.server.unwrap().starts_with("SSH-2.0-OpenSSH"));
    assert_eq!((facts.hops, connection.is_openssh()), (vec![], true));
}

#[tokio::test]
async fn the_way_through_another_host_is_known() {
    let server = Server::start();
    let port = server.port;
    let mut options = options(&server);
    let (id, known) = (server.path("id"), server.path("known_hosts"));
    options.ssh_config = Some(config(
        &server,
        &format!(
            "Host gate\nHostName 127.0.0.1\nPort {port}\nIdentityFile {}\nUserKnownHostsFile {}\n\
             Host 127.0.0.1\nProxyJump {}@gate\nHost *",
            id.display(),
            known.display(),
            user()
        ),
    ));
    let destination = Destination::resolve(&options).await.unwrap();
    let connection = Machine::new()
        .open(&destination, Arc::new(NoPrompts))
        .await
        .unwrap();
    let facts = connection.facts();
    assert_eq!(facts.hops, ["127.0.0.1"]);
    assert_eq!(facts.used.len(), 1);
    let daemon = start_agent(&connection, &server).await;
    let answer = status(stream(&connection, &daemon).await).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    connection.close().await;
    until("both sessions end", || {
        children(server.process_id()).is_empty()
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_reached_or_run_has_an_error_of_its_own() {
    let server = Server::with("ForceCommand echo no shells here; exit 3");
    let options = options(&server);
    let mute = refused(&options, Arc::new(NoPrompts)).await;
    assert!(
        matches!(&mute, SshError::Probe { output } if output.contains("no shells here")),
        "{mute}"
    );
    let nowhere = DestinationOptions {
        port: Some(1),
        ..options.clone()
    };
    match refused(&nowhere, Arc::new(NoPrompts)).await {
        SshError::Connect {
            port: 1, source, ..
        } => assert!(source.to_string().contains("refused")),
        other => panic!("{other}"),
    }
    let unnamed = DestinationOptions {
        destination: "nosuch.invalid".to_owned(),
        ..options
    };
    let unknown = refused(&unnamed, Arc::new(NoPrompts)).await;
    assert!(matches!(unknown, SshError::Connect { .. }), "{unknown}");
}
