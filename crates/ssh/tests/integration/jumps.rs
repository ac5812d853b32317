//! Jump hosts: each is a server of its own, with its own key, and ends with the connection.

use std::sync::Arc;
use std::time::Duration;

use hpcclient_ssh::{Connection, Destination, NoPrompts, Question, SshError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::person::Person;
use crate::server::{Server, keygen, until};
use crate::streams::{echo, nobody};

fn named(server: &Server, name: &str) -> Destination {
    Destination {
        host_alias: name.to_owned(),
        ..server.destination()
    }
}

fn through(server: &Server, jumps: Vec<Destination>) -> Destination {
    Destination {
        jumps,
        ..named(server, "cluster")
    }
}

async fn alone(destination: &Destination) -> Result<Connection, SshError> {
    crate::open(destination, Arc::new(NoPrompts)).await
}

async fn echoes(connection: &Connection, server: &Server, bytes: usize) {
    let socket = server.path("echo.sock").display().to_string();
    let opened = connection.open_agent_stream(&nobody(), &socket).await;
    let (mut read, mut write) = tokio::io::split(opened.unwrap().0);
    let sent: Vec<u8> = (0..bytes).map(|number| number.to_be_bytes()[7]).collect();
    let mut got = vec![];
    let (wrote, read) = tokio::join!(
        async {
            write.write_all(&sent).await?;
            write.shutdown().await
        },
        read.read_to_end(&mut got)
    );
    wrote.unwrap();
    read.unwrap();
    assert!(got == sent);
}

#[tokio::test]
async fn two_jumps_lead_to_the_destination_and_end_with_it() {
    let (gate, inner, login) = (Server::start(), Server::start(), Server::start());
    let _echo = echo(&login.path("echo.sock"));
    let listed = through(&login, vec![named(&gate, "gate"), named(&inner, "inner")]);
    // The same, as the configuration of the inner host may say it.
    let by_way_of_gate = Destination {
        jumps: vec![named(&gate, "gate")],
        ..named(&inner, "inner")
    };
    let nested = through(&login, vec![by_way_of_gate]);
    for (farewell, destination) in [(true, listed), (false, nested)] {
        let connection = alone(&destination).await.unwrap();
        let at = |server: &Server| format!("{}@127.0.0.1:{}", destination.user, server.port);
        assert_eq!(connection.facts().hops, [at(&gate), at(&inner)]);
        assert_eq!(connection.address(), None);
        assert!(connection.alive(Duration::from_secs(5)).await);
        assert!(!gate.is_idle() && !inner.is_idle() && !login.is_idle());
        echoes(&connection, &login, 3_000_000).await;
        if farewell {
            connection.close().await;
        }
        drop(connection);
        let servers = [&gate, &inner, &login];
        until("all sessions end", || {
            servers.iter().all(|server| server.is_idle())
        })
        .await;
    }
}

#[tokio::test]
async fn an_unknown_jump_host_is_asked_about_by_its_name_and_logged_in_to_once() {
    let (gate, login) = (Server::start(), Server::start());
    let mut jump = named(&gate, "gate");
    jump.known_hosts = vec![gate.path("new")];
    let mut destination = through(&login, vec![jump]);
    destination.known_hosts = vec![login.path("new")];

    let refused = alone(&destination).await.unwrap_err();
    let gate_name = format!("[127.0.0.1]:{}", gate.port);
    assert!(
        matches!(&refused, SshError::HostKeyUnknown { host, .. } if *host == gate_name),
        "{refused}"
    );

    let person = Person::with(&["yes", "yes"]);
    let connection = crate::open(&destination, Arc::clone(&person) as Arc<_>)
        .await
        .unwrap();
    let asked = person.asked();
    assert_eq!(asked.len(), 2);
    for (prompt, name, port) in [
        (&asked[0], "gate", gate.port),
        (&asked[1], "cluster", login.port),
    ] {
        assert!(
            prompt.text.starts_with(&format!("{name}: ")),
            "{}",
            prompt.text
        );
        let expected = format!("[127.0.0.1]:{port}");
        assert!(
            matches!(&prompt.kind, Question::HostKey { host, .. } if *host == expected),
            "{prompt:?}"
        );
    }
    connection.close().await;
    until("the logins are in the logs", || {
        (gate.logins(), login.logins()) == (1, 1)
    })
    .await;
    // Both are known from now on.
    alone(&destination).await.unwrap();
}

#[tokio::test]
async fn a_jump_host_whose_key_changed_is_not_used() {
    let (gate, login) = (Server::start(), Server::start());
    let jump = named(&gate, "gate");
    keygen(&gate.path("other"), "ed25519", "");
    let key = std::fs::read_to_string(gate.path("other.pub")).unwrap();
    let line = format!("[127.0.0.1]:{} {key}", gate.port);
    std::fs::write(gate.path("known_hosts"), line).unwrap();
    let person = Person::with(&["yes"]);
    let refused = crate::open(&through(&login, vec![jump]), Arc::clone(&person) as Arc<_>)
        .await
        .unwrap_err();
    let gate_name = format!("[127.0.0.1]:{}", gate.port);
    assert!(
        matches!(&refused, SshError::HostKeyChanged { host, .. } if *host == gate_name),
        "{refused}"
    );
    assert!(person.asked().is_empty());
    assert_eq!((gate.logins(), login.logins()), (0, 0));
}

#[tokio::test]
async fn questions_name_the_host_that_asks() {
    let (gate, login) = (Server::start(), Server::start());
    keygen(&gate.path("locked"), "ed25519", "open gate");
    gate.authorize(&gate.path("locked.pub"));
    keygen(&login.path("locked"), "ed25519", "open login");
    login.authorize(&login.path("locked.pub"));
    let mut jump = named(&gate, "gate");
    jump.identity_files = vec![gate.path("locked")];
    let mut destination = through(&login, vec![jump]);
    destination.identity_files = vec![login.path("locked")];
    let person = Person::with(&["open gate", "open login"]);
    crate::open(&destination, Arc::clone(&person) as Arc<_>)
        .await
        .unwrap();
    let asked = person.asked();
    assert_eq!(asked.len(), 2);
    assert!(asked[0].text.starts_with("gate: "), "{}", asked[0].text);
    assert!(asked[1].text.starts_with("cluster: "), "{}", asked[1].text);

    // With one host it is clear who asks.
    destination.jumps.clear();
    let person = Person::with(&["open login"]);
    crate::open(&destination, Arc::clone(&person) as Arc<_>)
        .await
        .unwrap();
    assert!(!person.asked()[0].text.contains("cluster"));
}

#[tokio::test]
async fn a_jump_host_that_does_not_lead_on_is_named() {
    let login = Server::start();
    for (lines, reason) in [
        ("AllowTcpForwarding no", "does not forward connections to"),
        (
            "PermitOpen 127.0.0.1:1",
            "does not forward connections to 127.0.0.1:",
        ),
        ("DisableForwarding yes", "does not forward connections to"),
    ] {
        let gate = Server::with(lines);
        let refused = alone(&through(&login, vec![named(&gate, "gate")]))
            .await
            .unwrap_err();
        let expected = format!("the jump host gate {reason}");
        assert!(refused.to_string().contains(&expected), "{refused}");
        assert!(
            matches!(&refused, SshError::Jump { hop, host, .. } if hop == "gate" && host == "127.0.0.1")
        );
        until("the gate is left", || gate.is_idle()).await;
    }

    let gate = Server::start();
    let nowhere = through(&login, vec![named(&gate, "gate")]);
    drop(login);
    let refused = alone(&nowhere).await.unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("the jump host gate cannot connect to 127.0.0.1:"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_jump_host_that_is_not_there_or_refuses_the_login_is_named() {
    let (gate, login) = (Server::start(), Server::start());
    keygen(&gate.path("stranger"), "ed25519", "");
    let mut jump = named(&gate, "gate");
    jump.identity_files = vec![gate.path("stranger")];
    jump.hostname = "127.0.0.1".to_owned();
    jump.user = "nobody-here".to_owned();
    let refused = alone(&through(&login, vec![jump.clone()]))
        .await
        .unwrap_err();
    assert!(
        matches!(&refused, SshError::AuthFailed { user, .. } if user == "nobody-here"),
        "{refused}"
    );

    drop(gate);
    let refused = alone(&through(&login, vec![jump.clone()]))
        .await
        .unwrap_err();
    assert!(
        matches!(&refused, SshError::Connect { port, .. } if *port == jump.port),
        "{refused}"
    );

    // Something that is no SSH server.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    jump.port = listener.local_addr().unwrap().port();
    let destination = through(&login, vec![jump]);
    let hang_up = async { drop(listener.accept().await.unwrap()) };
    let (refused, ()) = tokio::join!(alone(&destination), hang_up);
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.starts_with("the jump host gate cannot be logged in to: "),
        "{refused}"
    );
}

#[tokio::test]
async fn the_loss_of_a_jump_host_ends_the_connection_and_is_told() {
    let (gate, inner, login) = (Server::start(), Server::start(), Server::start());
    let _echo = echo(&login.path("echo.sock"));
    let destination = through(&login, vec![named(&gate, "gate"), named(&inner, "inner")]);
    for (victim, name) in [(&gate, "gate"), (&inner, "inner")] {
        let connection = alone(&destination).await.unwrap();
        let socket = login.path("echo.sock").display().to_string();
        let opened = connection.open_agent_stream(&nobody(), &socket).await;
        let (mut stream, _) = opened.unwrap();
        victim.kill_sessions();
        let mut closed = connection.closed();
        let told =
            tokio::time::timeout(Duration::from_secs(10), closed.wait_for(Option::is_some)).await;
        let reason = told.unwrap().unwrap().clone().unwrap();
        assert!(
            reason.starts_with(&format!("the jump host {name}: ")),
            "{reason}"
        );
        assert!(stream.read(&mut [0; 8]).await.is_err());
        connection.close().await;
        let servers = [&gate, &inner, &login];
        until("all sessions end", || {
            servers.iter().all(|server| server.is_idle())
        })
        .await;
    }
}
