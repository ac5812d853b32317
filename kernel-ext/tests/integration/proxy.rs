//! What passes to the agent, what does not, and who is let in at all.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    Running, SOON,
    raw::{exchange, head, send, status},
};

#[tokio::test]
async fn a_wrong_host_origin_or_token_gets_nothing() {
    let running = Running::connected().await;
    let port = running.port();
    let own = format!("127.0.0.1:{port}");
    let (origin, token) = (
        format!("http://{own}"),
        format!("Bearer {}", running.address.token),
    );
    let good = [("Host", own.as_str()), ("Authorization", token.as_str())];
    for (request, headers, expected) in [
        ("GET /v1/bridge", vec![good[0], good[1]], 200),
        ("GET /v1/bridge", vec![good[0]], 401),
        (
            "GET /v1/bridge",
            vec![good[0], ("Authorization", "Bearer x")],
            401,
        ),
        (
            "GET /v1/bridge",
            vec![("Host", "evil.example"), good[1]],
            403,
        ),
        ("GET /v1/bridge", vec![("Host", "localhost"), good[1]], 403),
        ("POST /v1/clusters/c/page", vec![good[0], good[1]], 403),
        (
            "POST /v1/clusters/c/page",
            vec![good[0], good[1], ("Origin", "null")],
            403,
        ),
        (
            "POST /v1/clusters/c/page",
            vec![good[0], good[1], ("Origin", "http://evil")],
            403,
        ),
        (
            "POST /v1/clusters/c/page",
            vec![good[0], good[1], ("Origin", &origin)],
            200,
        ),
        ("GET /c/c/v1/request", vec![good[0]], 401),
        ("GET /c/c/v1/request", vec![good[0], good[1]], 200),
        ("GET /c/c/", vec![good[0], good[1]], 404),
        ("GET /c/c/v2/request", vec![good[0], good[1]], 404),
        ("GET /c/other/v1/request", vec![good[0], good[1]], 409),
        (
            "GET http://evil.example/v1/bridge",
            vec![good[0], good[1]],
            403,
        ),
    ] {
        let answer = exchange(port, request, &headers).await;
        assert_eq!(status(&answer), expected, "{request} {headers:?}\n{answer}");
        assert!(!answer.contains(&running.address.token));
        assert!(
            !answer.to_lowercase().contains("access-control-"),
            "{answer}"
        );
    }
    running.end().await;
}

#[tokio::test]
async fn what_the_browser_knows_does_not_reach_the_agent() {
    let running = Running::connected().await;
    let own = format!("localhost:{}", running.port());
    let headers = [
        ("Host", own.as_str()),
        (
            "Authorization",
            &format!("Bearer {}", running.address.token),
        ),
        ("Origin", &format!("http://{own}")),
        ("Referer", "http://secret.example/"),
        ("Cookie", "session=1"),
        ("X-Forwarded-For", "10.0.0.1"),
        ("Range", "bytes=0-9"),
        ("Content-Type", "text/plain"),
        ("Content-Length", "0"),
    ];
    let request = "PUT /c/c/v1/request?path=%2Ftmp%20x&a=b";
    let answer = exchange(running.port(), request, &headers).await;
    assert_eq!(status(&answer), 200, "{answer}");
    assert!(
        answer.contains("PUT http://agent/v1/request?path=%2Ftmp%20x&a=b"),
        "{answer}"
    );
    assert!(answer.contains("range: bytes=0-9") && answer.contains("content-type: text/plain"));
    for secret in [
        "Bearer",
        "session=1",
        "secret.example",
        "origin",
        "10.0.0.1",
        "evil=1",
    ] {
        assert!(!answer.contains(secret), "{secret} in {answer}");
    }
    running.end().await;
}

#[tokio::test]
async fn an_answer_that_is_cut_off_there_is_cut_off_here() {
    let running = Running::connected().await;
    let own = format!("127.0.0.1:{}", running.port());
    let token = format!("Bearer {}", running.address.token);
    let headers = [("Host", own.as_str()), ("Authorization", token.as_str())];
    let mut answer = send(running.port(), "GET /c/c/v1/cut", &headers).await;
    assert_eq!(status(&head(&mut answer).await), 200);
    let mut chunk = [0; 9];
    answer.read_exact(&mut chunk).await.unwrap();
    assert_eq!(&chunk, b"4\r\npart\r\n");
    running.site.world.go.notify_one();
    let mut rest = Vec::new();
    let read = tokio::time::timeout(SOON, answer.read_to_end(&mut rest));
    let _ = read.await.expect("the cut was not passed on");
    assert!(rest.is_empty(), "it looks complete: {rest:?}");

    let mut endless = send(running.port(), "GET /c/c/v1/endless", &headers).await;
    assert_eq!(status(&head(&mut endless).await), 200);
    running.site.cut();
    let mut rest = Vec::new();
    let read = tokio::time::timeout(SOON, endless.read_to_end(&mut rest));
    let _ = read.await.expect("the cut was not passed on");
    assert!(!rest.ends_with(b"0\r\n\r\n"));
    running.end().await;
}

#[tokio::test]
async fn viewers_that_do_not_read_hold_up_nobody() {
    let running = Running::connected().await;
    let own = format!("127.0.0.1:{}", running.port());
    let token = format!("Bearer {}", running.address.token);
    let headers = [("Host", own.as_str()), ("Authorization", token.as_str())];
    let mut viewers = Vec::new();
    for _ in 0..20 {
        let mut viewer = send(running.port(), "GET /c/c/v1/endless", &headers).await;
        assert_eq!(status(&head(&mut viewer).await), 200);
        viewers.push(viewer);
    }
    let asked = exchange(running.port(), "GET /c/c/v1/request", &headers);
    let answer = tokio::time::timeout(SOON, asked).await.unwrap();
    assert_eq!(status(&answer), 200);
    drop(viewers);
    running.end().await;
}

#[tokio::test]
async fn a_websocket_passes_through_as_bytes() {
    let running = Running::connected().await;
    let own = format!("127.0.0.1:{}", running.port());
    let origin = format!("http://{own}");
    let protocols = format!("hpcclient.v1, bearer.{}", running.address.token);
    let upgrade = [
        ("Host", own.as_str()),
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let with = |more: &[(&'static str, &str)]| {
        let all = upgrade.iter().chain(more);
        all.map(|(name, value)| (*name, (*value).to_owned()))
            .collect::<Vec<_>>()
    };
    for (more, expected) in [
        (with(&[("Sec-WebSocket-Protocol", &protocols)]), 403),
        (
            with(&[
                ("Origin", "http://evil"),
                ("Sec-WebSocket-Protocol", &protocols),
            ]),
            403,
        ),
        (
            with(&[
                ("Origin", &origin),
                ("Sec-WebSocket-Protocol", "hpcclient.v1"),
            ]),
            401,
        ),
    ] {
        let headers: Vec<_> = more
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let mut refused = send(running.port(), "GET /c/c/v1/live", &headers).await;
        assert_eq!(status(&head(&mut refused).await), expected, "{headers:?}");
    }

    let more = with(&[("Origin", &origin), ("Sec-WebSocket-Protocol", &protocols)]);
    let headers: Vec<_> = more
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let mut socket = send(running.port(), "GET /c/c/v1/live", &headers).await;
    let answer = head(&mut socket).await;
    assert_eq!(status(&answer), 101, "{answer}");
    assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
    let protocol = answer
        .lines()
        .find(|line| line.starts_with("sec-websocket-protocol"));
    assert_eq!(protocol, Some("sec-websocket-protocol: hpcclient.v1"));
    let sent: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    let (mut from, mut to) = socket.split();
    let mut received = vec![0; sent.len()];
    let (written, read) = tokio::join!(to.write_all(&sent), from.read_exact(&mut received));
    written.unwrap();
    read.unwrap();
    assert!(received == sent, "the bytes changed on the way");

    running.site.cut();
    let end = tokio::time::timeout(SOON, socket.read(&mut [0; 1])).await;
    assert!(
        matches!(end.unwrap(), Ok(0) | Err(_)),
        "the viewer sees the cut"
    );
    running.end().await;
}
