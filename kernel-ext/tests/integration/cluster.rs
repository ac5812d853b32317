//! A cluster's connection: made once for all who ask, made again when lost, not when refused.

use hpcclient_protocol::{
    ErrorCode, VERSION,
    bridge::{ClusterState, ConnectEvent},
};

use tokio::io::AsyncWriteExt as _;

use crate::{
    Running, eventually,
    raw::{exchange, head, send, status},
};

async fn get(running: &Running, path: &str) -> u16 {
    let host = format!("127.0.0.1:{}", running.port());
    let token = format!("Bearer {}", running.address.token);
    let headers = [("Host", host.as_str()), ("Authorization", token.as_str())];
    status(&exchange(running.port(), &format!("GET {path}"), &headers).await)
}

#[tokio::test]
async fn those_who_ask_together_share_one_login() {
    let running = Running::start().await;
    assert_eq!(get(&running, "/c/c/v1/request").await, 409);
    let (one, two) = tokio::join!(running.connect("c"), running.connect("c"));
    assert_eq!(one.unwrap().state, ClusterState::Connected);
    let cluster = two.unwrap();
    assert_eq!(cluster.destination, "me@c:22");
    assert_eq!(cluster.node.as_deref(), Some("login01"));
    assert_eq!((running.site.dials(), cluster.channels_opened), (1, 1));
    running.connect("c").await.unwrap();
    for _ in 0..20 {
        assert_eq!(get(&running, "/c/c/v1/request").await, 200);
    }
    assert_eq!(
        running.status("c").await.channels_opened,
        1,
        "a call opens no channel"
    );
    running.end().await;
}

#[tokio::test]
async fn a_lost_connection_is_made_again_and_requests_wait_for_it() {
    let running = Running::connected().await;
    *running.site.refuse.lock().unwrap() = Some(ErrorCode::ConnectFailed);
    running.site.cut();
    let status = running.reaches("c", ClusterState::Reconnecting).await;
    assert!(status.error.is_some());
    let back = async {
        eventually(async || (running.site.dials() > 1).then_some(())).await;
        *running.site.refuse.lock().unwrap() = None;
    };
    let (answer, ()) = tokio::join!(get(&running, "/c/c/v1/request"), back);
    assert_eq!(answer, 200);
    running.end().await;
}

#[tokio::test]
async fn connections_that_never_hold_are_made_again_less_and_less_often() {
    let running = Running::connected().await;
    let start = std::time::Instant::now();
    for dials in 2..5 {
        running.site.cut();
        eventually(async || (running.site.dials() == dials).then_some(())).await;
        // Without a request: a connection that was of use does not count.
        running.reaches("c", ClusterState::Connected).await;
    }
    // At once, after half a second, after a second.
    assert!(start.elapsed() >= std::time::Duration::from_millis(1_500));
    running.end().await;
}

#[tokio::test]
async fn a_dead_agent_is_brought_back_on_the_same_login() {
    let running = Running::connected().await;
    running.site.kill_agent();
    eventually(async || (running.status("c").await.channels_opened == 2).then_some(())).await;
    assert_eq!(get(&running, "/c/c/v1/request").await, 200);
    assert_eq!(running.site.dials(), 1);
    running.end().await;
}

#[tokio::test]
async fn a_refused_login_is_not_tried_again_until_somebody_asks() {
    let running = Running::connected().await;
    *running.site.refuse.lock().unwrap() = Some(ErrorCode::AuthFailed);
    running.site.cut();
    let failed = running.reaches("c", ClusterState::Failed).await;
    assert_eq!(failed.error.unwrap().code, ErrorCode::AuthFailed);
    assert_eq!(get(&running, "/c/c/v1/request").await, 409);
    assert_eq!(running.site.dials(), 2, "one refused login and no more");
    let refused = running.connect("c").await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::AuthFailed);
    *running.site.refuse.lock().unwrap() = None;
    running.connect("c").await.unwrap();
    running.end().await;
}

#[tokio::test]
async fn a_question_goes_to_the_asker_and_its_answer_to_the_login() {
    let running = Running::start().await;
    *running.site.asks.lock().unwrap() = Some("Password: ");
    let mut gone = running.client.connect("c").await.unwrap();
    let Some(ConnectEvent::Prompt { id: first, .. }) = gone.next().await.unwrap() else {
        panic!("no question");
    };
    let mut events = running.client.connect("c").await.unwrap();
    drop(gone);
    let Some(ConnectEvent::Prompt { id, text, echo, .. }) = events.next().await.unwrap() else {
        panic!("the question did not move on");
    };
    assert_eq!((text.as_str(), echo), ("Password: ", false));
    let late = running
        .client
        .answer(&first, Some("secret".to_owned()))
        .await
        .unwrap_err();
    assert_eq!(late.code(), ErrorCode::NotFound);
    running
        .client
        .answer(&id, Some("secret".to_owned()))
        .await
        .unwrap();
    let done = events.next().await.unwrap();
    assert!(
        matches!(done, Some(ConnectEvent::Connected { .. })),
        "{done:?}"
    );
    assert_eq!(running.site.dials(), 1);

    running.site.cut();
    let failed = running.reaches("c", ClusterState::Failed).await;
    assert_eq!(
        failed.error.unwrap().code,
        ErrorCode::AuthFailed,
        "nobody was there to ask"
    );
    running.end().await;
}

#[tokio::test]
async fn an_older_agent_makes_way_and_a_newer_one_stays() {
    let running = Running::start().await;
    *running.site.versions.lock().unwrap() = vec!["0.0.1", VERSION];
    let cluster = running.connect("old").await.unwrap();
    assert_eq!(cluster.agent_version.as_deref(), Some(VERSION));
    assert_eq!(cluster.channels_opened, 2);
    *running.site.versions.lock().unwrap() = vec!["99.0.0"];
    let cluster = running.connect("new").await.unwrap();
    assert_eq!(cluster.agent_version.as_deref(), Some("99.0.0"));
    assert_eq!(cluster.channels_opened, 1);
    running.end().await;
}

#[tokio::test]
async fn another_build_makes_way_when_somebody_connects_and_stays_at_a_reconnect() {
    let running = Running::start().await;
    *running.site.world.builds.lock().unwrap() = vec!["11", "00"];
    let cluster = running.connect("c").await.unwrap();
    assert_eq!(cluster.channels_opened, 2, "it was replaced");

    // From here on another machine's build is there whenever the bridge comes back by itself.
    *running.site.world.builds.lock().unwrap() = vec!["11"];
    running.site.kill_agent();
    eventually(async || (running.status("c").await.channels_opened == 3).then_some(())).await;
    assert_eq!(get(&running, "/c/c/v1/request").await, 200);
    assert_eq!(running.status("c").await.channels_opened, 3, "it stays");
    running.site.cut();
    eventually(async || (running.site.dials() == 2).then_some(())).await;
    assert_eq!(get(&running, "/c/c/v1/request").await, 200);
    assert_eq!(running.status("c").await.channels_opened, 1, "it stays");

    running.client.disconnect("c").await.unwrap();
    *running.site.world.builds.lock().unwrap() = vec!["11", "00"];
    let cluster = running.connect("c").await.unwrap();
    assert_eq!(cluster.channels_opened, 2, "a person connected anew");
    running.end().await;
}

#[tokio::test]
async fn an_agent_that_was_asked_to_end_is_not_brought_back() {
    let running = Running::connected().await;
    running.client.agent("c").stop(true).await.unwrap();
    let status = running.reaches("c", ClusterState::Disconnected).await;
    assert_eq!(status.error, None);
    assert_eq!(running.site.dials(), 1);
    running.end().await;
}

#[tokio::test]
async fn disconnect_ends_the_connection_for_good() {
    let running = Running::connected().await;
    running.client.disconnect("c").await.unwrap();
    assert_eq!(running.status("c").await.state, ClusterState::Disconnected);
    assert_eq!(get(&running, "/c/c/v1/request").await, 409);
    assert_eq!(running.site.dials(), 1);
    running.client.stop().await.unwrap();
    running.end().await;
}

#[tokio::test]
async fn the_ssh_agent_of_who_connects_is_a_whole_path_or_is_left_out() {
    let running = Running::start().await;
    let host = format!("127.0.0.1:{}", running.port());
    let origin = format!("http://{host}");
    let token = format!("Bearer {}", running.address.token);
    for (body, expected) in [
        (r#"{"sshAuthSock":"agent.sock"}"#, 400),
        ("agent.sock", 400),
        ("", 200),
        ("{}", 200),
        (r#"{"sshAuthSock":"/not/there"}"#, 200),
    ] {
        let length = body.len().to_string();
        let headers = [
            ("Host", host.as_str()),
            ("Authorization", token.as_str()),
            ("Origin", origin.as_str()),
            ("Content-Length", length.as_str()),
        ];
        let request = "POST /v1/clusters/c/connect";
        let mut stream = send(running.port(), request, &headers).await;
        stream.write_all(body.as_bytes()).await.unwrap();
        assert_eq!(status(&head(&mut stream).await), expected, "{body}");
    }
    running.end().await;
}
