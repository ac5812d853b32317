//! A cluster's page: its own origin, opened by a code, for this cluster only.

use hpcclient_protocol::bridge::PageToken;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    Running, port_of,
    raw::{exchange, send, status},
};

pub(crate) async fn exchange_code(port: u16, host: &str, origin: &str, code: &str) -> String {
    let body = format!(r#"{{"code":"{code}"}}"#);
    let length = body.len().to_string();
    let headers = [
        ("Host", host),
        ("Origin", origin),
        ("Content-Length", length.as_str()),
    ];
    let mut stream = send(port, "POST /page-token", &headers).await;
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Exchanges a page's code for its token.
pub(crate) async fn token(port: u16, code: &str) -> String {
    let (host, origin) = (
        format!("localhost:{port}"),
        format!("http://localhost:{port}"),
    );
    let answer = exchange_code(port, &host, &origin, code).await;
    let token: PageToken = serde_json::from_str(answer.lines().last().unwrap()).unwrap();
    token.token
}

#[tokio::test]
async fn a_code_opens_the_page_of_its_cluster_once() {
    let running = Running::connected().await;
    running.connect("d").await.unwrap();
    let url = running.client.page("c").await.unwrap().url;
    let other = port_of(&running.client.page("d").await.unwrap().url);
    let (port, code) = (
        port_of(&url),
        url.split("#code=").nth(1).unwrap().to_owned(),
    );
    assert!(
        url.starts_with(&format!("http://localhost:{port}/#code=")),
        "{url}"
    );
    assert_ne!(port, running.port());
    assert_ne!(port, other, "each cluster has an origin of its own");
    let (host, origin) = (
        format!("localhost:{port}"),
        format!("http://localhost:{port}"),
    );

    let page = exchange(port, "GET /", &[("Host", &host)]).await;
    assert!(status(&page) == 200 && page.ends_with("the page"), "{page}");
    let refused = exchange(port, "GET /v1/request", &[("Host", &host)]).await;
    assert_eq!(status(&refused), 401);

    let control = format!("http://127.0.0.1:{}", running.port());
    assert_eq!(
        status(&exchange_code(port, &host, &control, &code).await),
        403
    );
    let answer = exchange_code(port, &host, &origin, &code).await;
    assert_eq!(status(&answer), 200, "{answer}");
    let token: PageToken = serde_json::from_str(answer.lines().last().unwrap()).unwrap();
    assert_eq!(token.cluster, "c");
    assert_eq!(
        status(&exchange_code(port, &host, &origin, &code).await),
        401
    );

    let bearer = format!("Bearer {}", token.token);
    let own = [("Host", host.as_str()), ("Authorization", bearer.as_str())];
    assert_eq!(status(&exchange(port, "GET /v1/request", &own).await), 200);
    assert_eq!(
        status(&exchange(port, "GET /c/d/v1/request", &own).await),
        404
    );
    let there = format!("localhost:{other}");
    let elsewhere = [("Host", there.as_str()), ("Authorization", bearer.as_str())];
    assert_eq!(
        status(&exchange(other, "GET /v1/request", &elsewhere).await),
        401
    );
    let control_host = format!("127.0.0.1:{}", running.port());
    let at_control = [
        ("Host", control_host.as_str()),
        ("Authorization", bearer.as_str()),
    ];
    assert_eq!(
        status(&exchange(running.port(), "GET /v1/bridge", &at_control).await),
        401
    );
    running.end().await;
}
