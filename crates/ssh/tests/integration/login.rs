//! Who gets in, with which key, and who does not.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use hpcclient_ssh::{Connection, Destination, DestinationOptions, NoPrompts, Question, SshError};

use crate::person::Person;
use crate::server::{Server, keygen, until, user};

async fn alone(destination: &Destination) -> Result<Connection, SshError> {
    crate::open(destination, Arc::new(NoPrompts)).await
}

#[tokio::test]
async fn a_key_file_logs_in_without_a_question() {
    let server = Server::start();
    let connection = alone(&server.destination()).await.unwrap();
    assert!(connection.alive(Duration::from_secs(5)).await);
    assert!(connection.closed().borrow().is_none());
    connection.close().await;
    let mut closed = connection.closed();
    assert!(closed.wait_for(Option::is_some).await.is_ok());
    assert!(!connection.alive(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn keys_of_all_types_log_in() {
    let server = Server::start();
    for kind in ["rsa", "ecdsa"] {
        let key = server.path(kind);
        keygen(&key, kind, "");
        server.authorize(&server.path(&format!("{kind}.pub")));
        let mut destination = server.destination();
        destination.identity_files = vec![server.path("missing"), key];
        alone(&destination).await.unwrap();
    }
}

#[tokio::test]
async fn a_server_in_fips_mode_can_be_talked_to() {
    let server = Server::with(
        "KexAlgorithms ecdh-sha2-nistp256\nCiphers aes256-ctr\nMACs hmac-sha2-256\n\
         HostKeyAlgorithms ssh-ed25519",
    );
    alone(&server.destination()).await.unwrap();
}

#[tokio::test]
async fn a_locked_key_asks_for_its_passphrase_and_only_if_the_server_would_take_it() {
    let server = Server::start();
    let (mine, other) = (server.path("locked"), server.path("other"));
    keygen(&mine, "ed25519", "open sesame");
    keygen(&other, "ed25519", "never asked for");
    server.authorize(&server.path("locked.pub"));
    let mut destination = server.destination();
    destination.identity_files = vec![other, mine.clone()];

    let person = Person::with(&["wrong", "open sesame"]);
    crate::open(&destination, Arc::clone(&person) as Arc<_>)
        .await
        .unwrap();
    let asked = person.asked();
    assert_eq!(asked.len(), 2);
    for prompt in asked {
        assert_eq!(prompt.kind, Question::Passphrase);
        assert!(!prompt.echo);
        assert!(prompt.text.contains(&mine.display().to_string()));
    }

    let refused = alone(&destination).await.unwrap_err();
    assert!(
        matches!(
            refused,
            SshError::AuthFailed {
                needs_person: true,
                ..
            }
        ),
        "{refused}"
    );
}

#[tokio::test]
async fn a_locked_key_of_the_old_format_says_who_it_is_after_its_passphrase() {
    let server = Server::start();
    let key = server.path("old");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-m", "PEM", "-t", "rsa", "-N", "open sesame", "-f"])
        .arg(&key)
        .status()
        .unwrap();
    assert!(made.success());
    server.authorize(&server.path("old.pub"));
    std::fs::remove_file(server.path("old.pub")).unwrap();
    let mut destination = server.destination();
    destination.identity_files = vec![key];
    let person = Person::with(&["wrong", "open sesame"]);
    crate::open(&destination, Arc::clone(&person) as Arc<_>)
        .await
        .unwrap();
    assert_eq!(person.asked().len(), 2);
}

#[tokio::test]
async fn a_key_of_the_ssh_agent_logs_in() {
    let server = Server::start();
    let agent = SshAgent::start(&server.path("agent.sock")).await;
    keygen(&server.path("other"), "ed25519", "");
    agent.add(&server.path("other"));
    agent.add(&server.path("id"));
    let mut destination = server.destination();
    destination.identity_files = vec![];
    destination.identity_agent = Some(server.path("agent.sock"));
    alone(&destination).await.unwrap();

    // Only the keys of the configuration count when it says so; a public half is enough to name one.
    destination.identities_only = true;
    let refused = alone(&destination).await.unwrap_err();
    assert!(
        matches!(&refused, SshError::AuthFailed { tried, .. } if tried.is_empty()),
        "{refused}"
    );
    destination.identity_files = vec![server.path("id.pub")];
    alone(&destination).await.unwrap();
}

#[tokio::test]
async fn a_refused_login_says_what_was_tried_and_what_the_server_takes() {
    let server = Server::start();
    keygen(&server.path("stranger"), "ed25519", "");
    let mut destination = server.destination();
    destination.identity_files = vec![server.path("stranger")];
    destination.identity_agent = Some(server.path("no-agent.sock"));
    match alone(&destination).await.unwrap_err() {
        SshError::AuthFailed {
            user: name,
            tried,
            accepted,
            needs_person,
            ..
        } => {
            assert_eq!(name, user());
            assert_eq!(
                tried,
                [format!("key {}", server.path("stranger").display())]
            );
            assert_eq!(accepted, ["publickey"]);
            assert!(!needs_person);
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_server_that_loses_patience_with_the_keys_is_quoted() {
    let server = Server::with("MaxAuthTries 2");
    let names = ["a", "b", "c"].map(|name| server.path(name));
    for name in &names {
        keygen(name, "ed25519", "");
    }
    let mut destination = server.destination();
    destination.identity_files = names.into();
    let refused = alone(&destination).await.unwrap_err();
    assert!(matches!(&refused, SshError::AuthFailed { .. }), "{refused}");
    assert!(
        refused
            .to_string()
            .contains("Too many authentication failures"),
        "{refused}"
    );
}

#[tokio::test]
async fn nobody_listening_is_an_error_of_its_own() {
    let server = Server::start();
    let destination = server.destination();
    drop(server);
    let refused = alone(&destination).await.unwrap_err();
    assert!(matches!(refused, SshError::Connect { .. }), "{refused}");
}

#[tokio::test]
async fn a_server_that_is_no_ssh_server_does_not_hang_the_login() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Server::start();
    let mut destination = server.destination();
    destination.port = listener.local_addr().unwrap().port();
    let talk = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 no\r\n\r\n")
            .await
            .unwrap();
    };
    let (refused, ()) = tokio::join!(alone(&destination), talk);
    assert!(refused.is_err());
}

#[tokio::test]
async fn a_destination_is_resolved_through_the_ssh_configuration() {
    let server = Server::start();
    let expected = server.destination();
    let config = format!(
        "Host cluster\n  HostName 127.0.0.1\n  Port {}\n  User {}\n  IdentityFile {}\n\
         UserKnownHostsFile {}\n  GlobalKnownHostsFile none\n  IdentityAgent none\n",
        server.port,
        user(),
        server.path("id").display(),
        server.path("known_hosts").display(),
    );
    std::fs::write(server.path("ssh_config"), config).unwrap();
    let options = DestinationOptions {
        destination: "cluster".to_owned(),
        ssh_config: Some(server.path("ssh_config")),
        ..DestinationOptions::default()
    };
    let resolved = Destination::resolve(&options).await.unwrap();
    assert_eq!(resolved.host_alias, "cluster");
    assert_eq!(resolved.port, expected.port);
    assert_eq!(resolved.known_hosts, expected.known_hosts);
    assert_eq!(resolved.identity_agent, None);
    alone(&resolved).await.unwrap();
}

/// The user's ssh-agent. Ends when dropped.
pub(crate) struct SshAgent {
    process: Child,
    socket: std::path::PathBuf,
}

impl SshAgent {
    pub(crate) async fn start(socket: &Path) -> Self {
        let process = Command::new("ssh-agent")
            .args(["-D", "-a"])
            .arg(socket)
            .stdout(Stdio::null())
            .spawn()
            .expect("the tests need OpenSSH's ssh-agent");
        until("the ssh-agent listens", || socket.exists()).await;
        Self {
            process,
            socket: socket.to_path_buf(),
        }
    }

    pub(crate) fn add(&self, key: &Path) {
        let added = Command::new("ssh-add")
            .arg("-q")
            .arg(key)
            .env("SSH_AUTH_SOCK", &self.socket)
            .status()
            .unwrap();
        assert!(added.success());
    }
}

impl Drop for SshAgent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
