//! The login page: its own origin, and what its token opens and does not.

use hpcclient_protocol::bridge::{
    ClusterList, ClusterState, ClusterStatus, ConnectEvent, PageAddress, PageToken,
};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

use crate::{
    Running, SOON,
    page::exchange_code,
    port_of,
    raw::{exchange, send, status},
};

/// A page that was opened: the port, and headers that are good there.
struct Opened {
    port: u16,
    host: String,
    origin: String,
    bearer: String,
    cluster: String,
}

impl Opened {
    async fn at(url: &str) -> Self {
        let port = port_of(url);
        let (host, origin) = (
            format!("localhost:{port}"),
            format!("http://localhost:{port}"),
        );
        let code = url.split("#code=").nth(1).unwrap();
        let answer = exchange_code(port, &host, &origin, code).await;
        assert_eq!(status(&answer), 200, "{answer}");
        let PageToken { token, cluster } = json(&answer);
        Self {
            port,
            host,
            origin,
            bearer: format!("Bearer {token}"),
            cluster,
        }
    }

    fn headers(&self) -> [(&str, &str); 3] {
        [
            ("Host", &self.host),
            ("Origin", &self.origin),
            ("Authorization", &self.bearer),
        ]
    }

    async fn ask(&self, request: &str) -> String {
        exchange(self.port, request, &self.headers()).await
    }
}

fn json<T: DeserializeOwned>(answer: &str) -> T {
    let body = answer.lines().last().unwrap();
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

#[tokio::test]
async fn the_login_page_lists_connects_and_opens_and_nothing_else() {
    let running = Running::connected().await;
    let url = running.client.login_page("new").await.unwrap().url;
    assert_ne!(port_of(&url), running.port(), "an origin of its own");
    let page = Opened::at(&url).await;
    assert_eq!(page.cluster, "new", "the code says what is connected");

    let bare = [("Host", page.host.as_str()), ("Origin", &page.origin)];
    let ui = exchange(page.port, "GET /", &bare).await;
    assert!(status(&ui) == 200 && ui.contains("frame-ancestors"), "{ui}");
    let wrong = [bare[0], bare[1], ("Authorization", "Bearer x")];
    for request in [
        "GET /v1/clusters",
        "POST /v1/clusters/new/connect",
        "POST /v1/clusters/c/page",
        "POST /v1/prompts/x",
    ] {
        assert_eq!(status(&exchange(page.port, request, &bare).await), 401);
        assert_eq!(status(&exchange(page.port, request, &wrong).await), 401);
        let foreign = [bare[0], ("Origin", "http://localhost:1"), page.headers()[2]];
        assert_eq!(status(&exchange(page.port, request, &foreign).await), 403);
    }
    for request in [
        "GET /v1/bridge",
        "POST /v1/bridge/stop",
        "POST /v1/login-page",
        "POST /v1/clusters/c/disconnect",
        "POST /v1/clusters/c/renew",
        "GET /c/c/v1/request",
        "GET /v1/request",
        "GET /assets/x.js",
        "GET /login.html",
    ] {
        assert_eq!(status(&page.ask(request).await), 404, "{request}");
    }

    let ClusterList { clusters } = json(&page.ask("GET /v1/clusters").await);
    let known = clusters.iter().find(|cluster| cluster.name == "c").unwrap();
    assert_eq!(known.state, ClusterState::Connected);
    let refused = page.ask("POST /v1/clusters/new/page").await;
    assert_eq!(status(&refused), 409, "not before it is connected");
    let refused = page.ask("POST /v1/clusters/-oProxyCommand=x/connect").await;
    assert_eq!(status(&refused), 400, "{refused}");
    let events = page.ask("POST /v1/clusters/me%40new/connect").await;
    assert!(events.contains(r#""type":"connected""#), "{events}");
    let PageAddress { url } = json(&page.ask("POST /v1/clusters/me%40new/page").await);
    assert_eq!(Opened::at(&url).await.cluster, "me@new");

    // Its token opens nothing else.
    let control = format!("127.0.0.1:{}", running.port());
    let there = [("Host", control.as_str()), page.headers()[2]];
    let answer = exchange(running.port(), "GET /v1/bridge", &there).await;
    assert_eq!(status(&answer), 401);
    running.end().await;
}

#[tokio::test]
async fn a_question_is_answered_in_the_page() {
    let running = Running::start().await;
    *running.site.asks.lock().unwrap() = Some("Password: ");
    let url = running.client.login_page("c").await.unwrap().url;
    let page = Opened::at(&url).await;
    let stream = send(page.port, "POST /v1/clusters/c/connect", &page.headers()).await;
    let mut lines = BufReader::new(stream).lines();
    let mut event = async || loop {
        let line = tokio::time::timeout(SOON, lines.next_line()).await;
        let line = line.unwrap().unwrap().expect("the answer ended");
        if line.starts_with('{') {
            return serde_json::from_str::<ConnectEvent>(&line).unwrap();
        }
    };
    let id = loop {
        match event().await {
            ConnectEvent::Prompt { id, text, echo, .. } => {
                assert_eq!((text.as_str(), echo), ("Password: ", false));
                break id;
            }
            ConnectEvent::Progress { .. } => {}
            other => panic!("{other:?}"),
        }
    };
    let body = r#"{"answer":"secret"}"#;
    let length = body.len().to_string();
    let headers = [&page.headers()[..], &[("Content-Length", length.as_str())]].concat();
    let mut stream = send(page.port, &format!("POST /v1/prompts/{id}"), &headers).await;
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_eq!(status(&answer), 204, "{answer}");
    loop {
        match event().await {
            ConnectEvent::Connected { .. } => break,
            ConnectEvent::Progress { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    running.end().await;
}

#[tokio::test]
async fn a_clusters_page_tells_its_own_state_and_leads_to_its_own_login() {
    let running = Running::connected().await;
    running.connect("d").await.unwrap();
    let url = running.client.page("c").await.unwrap().url;
    let page = Opened::at(&url).await;
    let bare = [("Host", page.host.as_str()), ("Origin", &page.origin)];
    for request in ["GET /bridge-status", "POST /login"] {
        assert_eq!(status(&exchange(page.port, request, &bare).await), 401);
    }
    let seen: ClusterStatus = json(&page.ask("GET /bridge-status").await);
    assert_eq!(
        (seen.name.as_str(), seen.state),
        ("c", ClusterState::Connected)
    );
    let PageAddress { url } = json(&page.ask("POST /login").await);
    let login = Opened::at(&url).await;
    assert_eq!(login.cluster, "c");
    assert_ne!(login.port, page.port);

    // The state is told, and the way to the login is there, when the node is not.
    running.client.disconnect("c").await.unwrap();
    let seen: ClusterStatus = json(&page.ask("GET /bridge-status").await);
    assert_eq!(seen.state, ClusterState::Disconnected);
    assert_eq!(status(&page.ask("POST /login").await), 200);
    running.end().await;
}
