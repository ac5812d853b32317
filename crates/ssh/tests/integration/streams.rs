//! Streams over one connection: they do not hold each other up, and they end with it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hpcclient_ssh::{AgentLine, Connection, NoPrompts, Route};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

use crate::server::Server;

pub(crate) fn nobody() -> AgentLine {
    AgentLine {
        json: "{}".to_owned(),
        exec: "/nonexistent/hpcagent".to_owned(),
        home: None,
        installed: String::new(),
    }
}

async fn connect(server: &Server) -> Connection {
    crate::open(&server.destination(), Arc::new(NoPrompts))
        .await
        .unwrap()
}

/// Answers every connection with what it sends.
pub(crate) fn echo(socket: &Path) -> tokio::task::JoinSet<()> {
    let listener = UnixListener::bind(socket).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        let mut streams = tokio::task::JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            streams.spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    tasks
}

/// Sends to every connection without end.
fn flood(socket: &Path) -> tokio::task::JoinSet<()> {
    let listener = UnixListener::bind(socket).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        let mut streams = tokio::task::JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            streams.spawn(async move {
                let block = vec![b'x'; 64 << 10];
                while stream.write_all(&block).await.is_ok() {}
            });
        }
    });
    tasks
}

#[tokio::test]
async fn bytes_go_both_ways_and_the_end_is_told() {
    let server = Server::start();
    let _echo = echo(&server.path("echo.sock"));
    let connection = connect(&server).await;
    let socket = server.path("echo.sock").display().to_string();
    let (stream, route) = connection
        .open_agent_stream(&nobody(), &socket)
        .await
        .unwrap();
    assert_eq!(route, Route::Streamlocal);
    assert_eq!(connection.channels_opened(), 1);
    let sent: Vec<u8> = (0..3_000_000_u32)
        .map(|number| number.to_be_bytes()[3])
        .collect();
    let (mut read, mut write) = tokio::io::split(stream);
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
async fn a_stream_that_nobody_reads_holds_up_no_other() {
    let server = Server::start();
    let _echo = echo(&server.path("echo.sock"));
    let _flood = flood(&server.path("flood.sock"));
    let connection = connect(&server).await;
    let flooded = server.path("flood.sock").display().to_string();
    let (mut unread, _) = connection
        .open_agent_stream(&nobody(), &flooded)
        .await
        .unwrap();
    let (dropped, _) = connection
        .open_agent_stream(&nobody(), &flooded)
        .await
        .unwrap();
    drop(dropped);

    let echoing = server.path("echo.sock").display().to_string();
    let talk = async {
        for _ in 0..20 {
            let (mut stream, _) = connection
                .open_agent_stream(&nobody(), &echoing)
                .await
                .unwrap();
            stream.write_all(b"ping").await.unwrap();
            let mut answer = [0; 4];
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"ping");
        }
    };
    tokio::time::timeout(Duration::from_secs(30), talk)
        .await
        .unwrap();
    assert!(connection.alive(Duration::from_secs(5)).await);

    // The stream itself is lost once its queue is full, instead of growing without end.
    let mut sink = vec![0; 1 << 20];
    let drain = async {
        let mut total = 0;
        loop {
            match unread.read(&mut sink).await {
                Ok(count) => total += count,
                Err(_) => return total,
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(
        tokio::time::timeout(Duration::from_secs(60), drain)
            .await
            .unwrap()
            > 1 << 20
    );
}

#[tokio::test]
async fn a_killed_session_is_noticed_at_once_and_cuts_the_streams() {
    let server = Server::start();
    let _echo = echo(&server.path("echo.sock"));
    let connection = connect(&server).await;
    let socket = server.path("echo.sock").display().to_string();
    let (mut stream, _) = connection
        .open_agent_stream(&nobody(), &socket)
        .await
        .unwrap();
    server.kill_sessions();
    let mut closed = connection.closed();
    let reason = tokio::time::timeout(Duration::from_secs(10), closed.wait_for(Option::is_some));
    assert!(!reason.await.unwrap().unwrap().clone().unwrap().is_empty());
    assert!(stream.read(&mut [0; 8]).await.is_err());
    assert!(!connection.alive(Duration::from_secs(5)).await);
    assert!(
        connection
            .open_agent_stream(&nobody(), &socket)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn closing_ends_the_streams() {
    let server = Server::start();
    let _echo = echo(&server.path("echo.sock"));
    let connection = connect(&server).await;
    let socket = server.path("echo.sock").display().to_string();
    let (mut stream, _) = connection
        .open_agent_stream(&nobody(), &socket)
        .await
        .unwrap();
    connection.clone().close().await;
    assert!(stream.read(&mut [0; 8]).await.is_err());
}
