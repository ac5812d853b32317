//! A network that goes and comes: how soon it is noticed, and what is said in the meantime.

use std::time::{Duration, Instant};

use hpcclient_protocol::{ErrorCode, bridge::ClusterState};

use crate::{
    Running, eventually, port_of,
    raw::{exchange, status},
};

#[tokio::test]
async fn without_a_network_it_is_tried_every_other_second_and_said() {
    let running = Running::connected().await;
    *running.site.is_up.lock().unwrap() = false;
    running.site.cut();
    let lost = running.reaches("c", ClusterState::Reconnecting).await;
    assert!(lost.waiting.is_some(), "{lost:?}");
    // By the fifth try the pauses have grown to what they are for good.
    let told = eventually(async || {
        let told = running.status("c").await;
        let waiting = told.waiting.as_deref().unwrap_or_default();
        let is_said = waiting.starts_with("the network: cannot reach login port 22; next try in ");
        (running.site.dials() >= 5 && is_said).then_some(told)
    })
    .await;
    assert!(told.retry_ms.is_some(), "{told:?}");
    *running.site.is_up.lock().unwrap() = true;
    let back = Instant::now();
    running.reaches("c", ClusterState::Connected).await;
    assert!(back.elapsed() < Duration::from_secs(4), "{back:?}");
    let told = running.status("c").await;
    assert_eq!((told.waiting, told.retry_ms), (None, None));
    running.end().await;
}

#[tokio::test]
async fn a_server_that_fails_is_asked_less_and_less_often() {
    let running = Running::connected().await;
    *running.site.refuse.lock().unwrap() = Some(ErrorCode::ConnectFailed);
    running.site.cut();
    let begun = Instant::now();
    eventually(async || (running.site.dials() >= 5).then_some(())).await;
    // At once, then after a half, one and two seconds.
    assert!(begun.elapsed() >= Duration::from_millis(3_500));
    let told = running.status("c").await.waiting.unwrap();
    assert!(
        told.starts_with("the server: refused by the test; "),
        "{told}"
    );
    running.end().await;
}

#[tokio::test]
async fn the_page_shows_the_state_to_its_own_token_only() {
    let running = Running::connected().await;
    let ends = 1_000;
    *running.site.certificate_ends.lock().unwrap() = Some(ends);
    running.client.disconnect("c").await.unwrap();
    let connected = running.connect("c").await.unwrap();
    let used = connected.login.unwrap().certificate.unwrap();
    assert_eq!(used.valid_until_ms, Some(ends));
    assert!(
        connected.notices[0].starts_with("the certificate has ended"),
        "{:?}",
        connected.notices
    );

    let url = running.client.page("c").await.unwrap().url;
    let (port, code) = (port_of(&url), url.split("#code=").nth(1).unwrap());
    let host = format!("localhost:{port}");
    let refused = exchange(port, "GET /bridge-status", &[("Host", &host)]).await;
    assert_eq!(status(&refused), 401);
    let token = crate::page::token(port, code).await;
    let bearer = format!("Bearer {token}");
    let own = [("Host", host.as_str()), ("Authorization", bearer.as_str())];
    let answer = exchange(port, "GET /bridge-status", &own).await;
    assert_eq!(status(&answer), 200, "{answer}");
    let told: hpcclient_protocol::bridge::ClusterStatus =
        serde_json::from_str(answer.lines().last().unwrap()).unwrap();
    assert_eq!(
        (told.name.as_str(), told.state),
        ("c", ClusterState::Connected)
    );
    assert_eq!(told.notices.len(), 1);
    running.end().await;
}
