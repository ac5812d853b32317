//! The way to the server: a program in place of TCP, and a server that is there no more.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hpcclient_ssh::{Connection, Destination, NoPrompts, SshError};
use tokio::io::AsyncWriteExt;

use crate::server::{Server, children, until};
use crate::streams::{echo, nobody};

async fn alone(destination: &Destination) -> Result<Connection, SshError> {
    crate::open(destination, Arc::new(NoPrompts)).await
}

/// A destination that is reached by a program, which leaves its process id in a file.
fn by_program(server: &Server) -> Destination {
    let script = format!(
        "echo $$ >{pid}.new; mv {pid}.new {pid}\n\
         exec 3<>/dev/tcp/127.0.0.1/{port}\n\
         cat <&3 &\n\
         cat >&3\n",
        pid = server.path("pid").display(),
        port = server.port
    );
    std::fs::write(server.path("proxy"), script).unwrap();
    Destination {
        // Nobody listens there: the program alone knows where to go.
        port: 1,
        host_key_alias: Some(format!("[127.0.0.1]:{}", server.port)),
        proxy_command: Some(format!("bash {}", server.path("proxy").display())),
        ..server.destination()
    }
}

fn is_running(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

async fn reason(connection: &Connection, deadline: Duration) -> String {
    let mut closed = connection.closed();
    let told = tokio::time::timeout(deadline, closed.wait_for(Option::is_some)).await;
    told.expect("the end is noticed in time")
        .unwrap()
        .clone()
        .unwrap()
}

#[tokio::test]
async fn a_direct_connection_has_an_address() {
    let server = Server::start();
    let connection = alone(&server.destination()).await.unwrap();
    assert_eq!(connection.address(), Some(IpAddr::from([127, 0, 0, 1])));
    assert!(connection.facts().hops.is_empty());
}

#[tokio::test]
async fn a_program_can_be_the_connection_and_ends_with_it() {
    let server = Server::start();
    for farewell in [true, false] {
        let connection = alone(&by_program(&server)).await.unwrap();
        assert_eq!(connection.address(), None);
        assert!(connection.alive(Duration::from_secs(5)).await);
        let pid = std::fs::read_to_string(server.path("pid")).unwrap();
        let program: u32 = pid.trim().parse().unwrap();
        let mut processes = children(program);
        assert!(!processes.is_empty());
        processes.push(program);
        if farewell {
            connection.close().await;
            assert!(!is_running(program), "it is reaped");
        }
        drop(connection);
        until("the program and what it started are gone", || {
            !processes.iter().any(|pid| is_running(*pid)) && server.is_idle()
        })
        .await;
    }
}

#[tokio::test]
async fn a_program_that_fails_is_quoted() {
    let server = Server::start();
    for (command, said) in [
        (
            "sh -c 'echo no route to the cluster >&2; exit 3'",
            "no route to the cluster",
        ),
        ("/nonexistent/proxy", "/nonexistent/proxy"),
        ("false", "exit status: 1"),
        // It is heard even if it goes on.
        (
            "sh -c 'echo what is that >&2; exec >&-; sleep 1000'",
            "what is that",
        ),
    ] {
        let mut destination = server.destination();
        destination.proxy_command = Some(command.to_owned());
        let refused = alone(&destination).await.unwrap_err();
        assert!(
            matches!(&refused, SshError::ProxyCommand { reason, .. } if reason.contains(said)),
            "{command}: {refused}"
        );
    }
}

/// It is as final as a refusal by the server: the account in between would be locked by more of them.
#[tokio::test]
async fn a_program_that_was_refused_is_a_refused_login() {
    let server = Server::start();
    let mut destination = server.destination();
    let said = "alice@gate: Permission denied (publickey,password).";
    destination.proxy_command = Some(format!("sh -c 'echo \"{said}\" >&2; exit 255'"));
    let refused = alone(&destination).await.unwrap_err();
    assert!(
        matches!(&refused, SshError::AuthFailed { reason: Some(reason), .. } if reason.contains(said)),
        "{refused}"
    );
}

#[tokio::test]
async fn the_end_of_the_program_ends_the_connection() {
    let server = Server::start();
    let connection = alone(&by_program(&server)).await.unwrap();
    let pid = std::fs::read_to_string(server.path("pid")).unwrap();
    let pid = rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process_group(pid, rustix::process::Signal::KILL).unwrap();
    assert!(
        !reason(&connection, Duration::from_secs(10))
            .await
            .is_empty()
    );
    assert!(!connection.alive(Duration::from_secs(5)).await);
}

/// What is at most 50 s with the standard interval of 15 s: three times it, and 5 s.
const NOTICED: Duration = Duration::from_secs(3 + 5);

fn impatient(server: &Server) -> Destination {
    Destination {
        server_alive_interval: Duration::from_secs(1),
        ..server.destination()
    }
}

#[tokio::test]
async fn a_server_that_stops_is_noticed_while_nothing_happens() {
    let server = Server::start();
    let connection = alone(&impatient(&server)).await.unwrap();
    let start = Instant::now();
    server.freeze_sessions();
    let reason = reason(&connection, NOTICED).await;
    assert!(reason.contains("stopped answering"), "{reason}");
    assert!(start.elapsed() > Duration::from_secs(2));
}

/// More is under way than all buffers hold, so that the SSH library hangs in a write and sends no keepalives.
#[tokio::test]
async fn a_server_that_stops_is_noticed_in_an_upload() {
    let server = Server::start();
    let _echo = echo(&server.path("echo.sock"));
    let connection = alone(&impatient(&server)).await.unwrap();
    let socket = server.path("echo.sock").display().to_string();
    let mut uploads = tokio::task::JoinSet::new();
    let mut streams = vec![];
    for _ in 0..12 {
        let opened = connection.open_agent_stream(&nobody(), &socket).await;
        streams.push(opened.unwrap().0);
    }
    server.freeze_sessions();
    for mut stream in streams {
        uploads.spawn(async move {
            let block = vec![b'x'; 64 << 10];
            while stream.write_all(&block).await.is_ok() {}
        });
    }
    let reason = reason(&connection, NOTICED).await;
    assert!(reason.contains("stopped answering"), "{reason}");
    tokio::time::timeout(Duration::from_secs(5), uploads.join_all())
        .await
        .expect("the uploads end with the connection");
}

#[tokio::test]
async fn a_destination_that_stops_behind_a_jump_host_is_noticed_in_an_upload() {
    let (gate, server) = (Server::start(), Server::start());
    let _echo = echo(&server.path("echo.sock"));
    let mut destination = impatient(&server);
    destination.jumps = vec![impatient(&gate)];
    let connection = alone(&destination).await.unwrap();
    let socket = server.path("echo.sock").display().to_string();
    let opened = connection.open_agent_stream(&nobody(), &socket).await;
    let mut stream = opened.unwrap().0;
    server.freeze_sessions();
    let upload = tokio::task::JoinSet::from_iter([async move {
        let block = vec![b'x'; 64 << 10];
        while stream.write_all(&block).await.is_ok() {}
    }]);
    let reason = reason(&connection, NOTICED).await;
    assert!(reason.contains("stopped answering"), "{reason}");
    tokio::time::timeout(Duration::from_secs(5), upload.join_all())
        .await
        .expect("the upload ends with the connection");
    // The jump host itself is fine, and is left.
    connection.close().await;
    until("the gate is left", || gate.is_idle()).await;
}
