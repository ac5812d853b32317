//! Many login nodes behind one name: back to the one where the work is, and to the runs of others.

use hpcclient_protocol::{ApiError, ErrorCode, bridge::ClusterState};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    Running, eventually,
    node::address_of,
    raw::{head, send, status},
};

fn lands_on(running: &Running, host: &'static str) {
    *running.site.lands_on.lock().unwrap() = host;
}

/// Loses the connection and waits for the next one.
async fn cut(running: &Running) {
    let dials = running.site.dials();
    running.site.cut();
    eventually(async || (running.site.dials() > dials).then_some(())).await;
    running.reaches("c", ClusterState::Connected).await;
}

fn error_in(answer: &str) -> ApiError {
    serde_json::from_str(answer.lines().last().unwrap()).unwrap()
}

#[tokio::test]
async fn the_connection_goes_back_to_its_node_by_a_hop() {
    let running = Running::connected().await;
    lands_on(&running, "login02");
    cut(&running).await;
    let status = running.status("c").await;
    assert_eq!(status.node.as_deref(), Some("login01"));
    assert_eq!(status.via.as_deref(), Some("login02"));
    assert!(status.notices.is_empty(), "{status:?}");
    let answer = running.exchange("GET /c/c/v1/request", &[]).await;
    assert!(answer.contains("node login01"), "{answer}");
    assert_eq!(
        *running.site.near.lock().unwrap(),
        [None, address_of("login01")]
    );

    // By the hop no address was learnt; the one of login01 still holds.
    lands_on(&running, "login01");
    cut(&running).await;
    let status = running.status("c").await;
    assert_eq!(
        (status.node.as_deref(), status.via),
        (Some("login01"), None)
    );
    assert_eq!(
        running.site.near.lock().unwrap().last(),
        Some(&address_of("login01"))
    );
    running.end().await;
}

#[tokio::test]
async fn the_node_outlives_the_bridge_and_is_forgotten_by_disconnect() {
    let running = Running::connected().await.restarted().await;
    lands_on(&running, "login02");
    let status = running.connect("c").await.unwrap();
    assert_eq!(status.node.as_deref(), Some("login01"));
    assert_eq!(status.via.as_deref(), Some("login02"));

    running.client.disconnect("c").await.unwrap();
    let status = running.connect("c").await.unwrap();
    assert_eq!(
        (status.node.as_deref(), status.via),
        (Some("login02"), None)
    );
    assert_eq!(running.site.near.lock().unwrap().last(), Some(&None));
    running.end().await;
}

#[tokio::test]
async fn a_node_that_cannot_be_reached_is_named_and_left() {
    let running = Running::connected().await;
    lands_on(&running, "login02");
    running
        .site
        .world
        .unreachable
        .lock()
        .unwrap()
        .insert("login01");
    cut(&running).await;
    let status = running.status("c").await;
    assert_eq!(
        (status.node.as_deref(), status.via),
        (Some("login02"), None)
    );
    let notice = &status.notices[0];
    assert!(
        notice.starts_with("was on login01, which cannot be reached from login02 ("),
        "{notice}"
    );
    assert!(notice.ends_with("sessions there go on"), "{notice}");
    running.end().await;
}

#[tokio::test]
async fn a_node_that_was_booted_again_is_told() {
    let running = Running::connected().await;
    *running.site.world.boot.lock().unwrap() = "boot-2";
    cut(&running).await;
    let status = running.status("c").await;
    assert!(
        status.notices[0].starts_with("login01 has started anew"),
        "{status:?}"
    );
    cut(&running).await;
    assert!(running.status("c").await.notices.is_empty(), "told once");
    running.end().await;
}

#[tokio::test]
async fn requests_about_a_run_go_to_its_node() {
    let running = Running::connected().await;
    let path = "/c/c/v1/runs/login02-a/request";
    let asked = async |request: String, headers: &[(&str, &str)]| {
        let answer = running.exchange(&request, headers).await;
        assert_eq!(status(&answer), 200, "{answer}");
        assert!(answer.contains("node login02"), "{answer}");
        answer
    };
    // Two at once, and then more, share one way.
    tokio::join!(
        asked(format!("GET {path}"), &[]),
        asked(format!("GET {path}?offset=7"), &[])
    );
    let other = "/c/c/v1/runs/login02-b/request";
    asked(format!("POST {other}"), &[("Content-Length", "0")]).await;
    assert_eq!(running.site.hops_to("login02"), 1);
    assert_eq!(running.site.dials(), 1);

    // A run of our own node stays there.
    let answer = running
        .exchange("GET /c/c/v1/runs/login01-a/request", &[])
        .await;
    assert!(answer.contains("node login01"), "{answer}");
    running.end().await;
}

#[tokio::test]
async fn a_short_body_is_sent_on_and_a_long_one_is_asked_for_again() {
    let running = Running::connected().await;
    let (host, token) = (
        format!("127.0.0.1:{}", running.port()),
        format!("Bearer {}", running.address.token),
    );
    let post = async |length: usize| {
        let (origin, size) = (format!("http://{host}"), length.to_string());
        let headers = [
            ("Host", host.as_str()),
            ("Origin", origin.as_str()),
            ("Authorization", token.as_str()),
            ("Content-Length", size.as_str()),
        ];
        let request = format!("POST /c/c/v1/runs/login02-{length}/request");
        let mut stream = send(running.port(), &request, &headers).await;
        stream.write_all(&vec![b'x'; length]).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = post(60_000).await;
    assert!(answer.contains("node login02"), "{answer}");
    assert!(answer.contains(&"x".repeat(60_000)));
    let answer = post(100_000).await;
    assert_eq!(status(&answer), 503, "{answer}");
    assert_eq!(error_in(&answer).code, ErrorCode::Unavailable);
    let answer = post(100_000).await;
    assert!(answer.contains("node login02") && answer.contains(&"x".repeat(100_000)));
    running.end().await;
}

#[tokio::test]
async fn a_websocket_about_a_run_is_joined_to_its_node() {
    let running = Running::connected().await;
    let (host, token) = (
        format!("127.0.0.1:{}", running.port()),
        format!("Bearer {}", running.address.token),
    );
    let origin = format!("http://{host}");
    let headers = [
        ("Host", host.as_str()),
        ("Origin", origin.as_str()),
        ("Authorization", token.as_str()),
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let request = "GET /c/c/v1/runs/login02-a/socket";
    let mut socket = send(running.port(), request, &headers).await;
    assert_eq!(status(&head(&mut socket).await), 101);
    let mut greeting = [0; 7];
    socket.read_exact(&mut greeting).await.unwrap();
    assert_eq!(&greeting, b"login02");
    drop(socket);
    running.end().await;
}

#[tokio::test]
async fn where_the_node_cannot_be_reached_its_agents_word_stands() {
    let running = Running::connected().await;
    running
        .site
        .world
        .unreachable
        .lock()
        .unwrap()
        .insert("login02");
    for _ in 0..2 {
        let answer = running
            .exchange("GET /c/c/v1/runs/login02-a/request", &[])
            .await;
        assert_eq!(status(&answer), 409, "{answer}");
        let error = error_in(&answer);
        assert_eq!(error.code, ErrorCode::OtherNode);
        assert_eq!(error.node.as_deref(), Some("login02"));
        assert!(error.causes[0].contains("cannot be reached"), "{error}");
    }
    assert_eq!(
        running.site.hops_to("login02"),
        1,
        "it is left alone a while"
    );
    running.end().await;
}

#[tokio::test]
async fn what_is_stored_of_a_run_does_not_wait_for_its_dead_node() {
    let running = Running::connected().await;
    let run = "GET /c/c/v1/runs/login02-a";
    let asked = async |what: &str| running.exchange(&format!("{run}/{what}"), &[]).await;
    assert!(asked("request").await.contains("node login02"));
    assert!(asked("stored").await.contains("node login02"), "its agent");

    running.site.kill_node("login02");
    // The bridge may learn of it with this request.
    let soon = std::time::Duration::from_secs(5);
    eventually(async || {
        let answer = tokio::time::timeout(soon, asked("stored")).await;
        let answer = answer.expect("nobody waits for a dead node");
        answer.contains("node login01").then_some(())
    })
    .await;
    assert_eq!(running.site.hops_to("login02"), 1, "it was not even tried");
    running.end().await;
}
