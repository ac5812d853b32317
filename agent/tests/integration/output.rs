//! What can be asked of a run's stored output, of the real agent.

use bytes::Bytes;
use hpcclient_protocol::{
    ApiError, ErrorCode, Frame, FrameDecoder, RunId, RunSpec, StreamName,
    output::{Screen, SearchResult},
    run::{Command, StdinMode, TerminalSize},
};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;

use crate::node::{Client, Node, argv, shell, with_tasks};

async fn ask(client: &Client, path: &str) -> (StatusCode, Bytes) {
    client.ask(Method::GET, path, "").await
}

/// Runs a command to its end.
async fn ended(client: &Client, spec: &RunSpec) -> RunId {
    let id = RunId::random();
    client.put(id, spec).await;
    client.follow(id, 0).await;
    id
}

fn console(line: &str) -> RunSpec {
    let mut spec = RunSpec::new(Command::Shell(line.into()));
    spec.pty = Some(TerminalSize { cols: 40, rows: 6 });
    spec
}

async fn open(client: &Client, path: &str) -> Response<Incoming> {
    let request = Request::get(format!("http://agent{path}")).body(Full::default());
    client.send(request.unwrap()).await
}

/// How much memory a process holds by itself, in bytes.
fn memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("RssAnon:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        * 1024
}

#[test]
fn a_stream_is_read_by_lines_offsets_and_time() {
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        let before = now_ms();
        let id = ended(&client, &shell("seq 1 100000; echo other >&2")).await;
        let after = now_ms();
        for (query, text) in [
            ("head=2", "1\n2\n"),
            ("head=0", ""),
            ("tail=2", "99999\n100000\n"),
            ("tail=0", ""),
            ("from=2&head=1", "2\n"),
            ("from=2&to=6", "2\n3\n"),
            ("tail=3&head=1", "99998\n"),
            (&format!("since={before}&head=1"), "1\n"),
            (&format!("since={}", after + 1000), ""),
            (&format!("until={}", before - 1000), ""),
            (&format!("until={after}&tail=1"), "100000\n"),
        ] {
            let (status, body) = ask(&client, &format!("/v1/runs/{id}/stdout?{query}")).await;
            assert_eq!(
                (status, body.as_ref()),
                (StatusCode::OK, text.as_bytes()),
                "{query}"
            );
        }
        let (status, _) = ask(
            &client,
            &format!("/v1/runs/{id}/stdout?until=1&follow=true"),
        )
        .await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        let (_, frames) = ask(
            &client,
            &format!("/v1/runs/{id}/stream?tail=1&follow=false"),
        )
        .await;
        let mut decoder = FrameDecoder::default();
        decoder.push(&frames);
        let mut seen = vec![];
        while let Some(frame) = decoder.next_frame().unwrap() {
            if let Frame::Data { stream, bytes, .. } = frame {
                seen.push((stream, bytes));
            }
        }
        seen.sort();
        assert_eq!(
            seen,
            [
                (StreamName::Stdout, "100000\n".into()),
                (StreamName::Stderr, "other\n".into())
            ]
        );
    });
}

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    u64::try_from(since.unwrap().as_millis()).unwrap()
}

#[test]
fn the_last_lines_are_followed_as_they_come() {
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        let id = RunId::random();
        let mut spec = argv(&["sh", "-c", "seq 1 1000; cat"]);
        spec.stdin = StdinMode::Open;
        client.put(id, &spec).await;
        while client.get(id).await.sizes.stdout < 3893 {
            tokio::task::yield_now().await;
        }
        let (status, mut body) = client
            .open(
                Method::GET,
                &format!("/v1/runs/{id}/stdout?tail=2&follow=true"),
                "",
            )
            .await;
        assert_eq!(status, StatusCode::OK);
        let mut seen = vec![];
        while seen.len() < 9 {
            seen.extend(body.frame().await.unwrap().unwrap().into_data().unwrap());
        }
        let path = format!("/v1/runs/{id}/stdin?writer=w&seq=1&eof=true");
        client.ask(Method::POST, &path, "typed\n").await;
        while let Some(frame) = body.frame().await {
            seen.extend(frame.unwrap().into_data().unwrap());
        }
        assert_eq!(String::from_utf8_lossy(&seen), "999\n1000\ntyped\n");
    });
}

#[test]
fn the_lines_that_match_are_found() {
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        let id = ended(&client, &shell("seq 1 20000; echo 'Error: 5?' >&2")).await;
        let search = |query: &str| {
            let path = format!("/v1/runs/{id}/search?{query}");
            let client = client.clone();
            async move { ask(&client, &path).await }
        };
        let found = |body: Bytes| serde_json::from_slice::<SearchResult>(&body).unwrap();
        let (status, body) = search("pattern=%5E(19999%7Cerror)&ignoreCase=true").await;
        assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
        let hits = found(body).hits;
        let seen: Vec<_> = hits
            .iter()
            .map(|hit| (hit.stream, hit.line, hit.text.to_lossy()))
            .collect();
        let (out, err) = (StreamName::Stdout, StreamName::Stderr);
        assert_eq!(
            seen,
            [(out, 19999, "19999".into()), (err, 1, "Error: 5?".into())]
        );
        let (_, there) = ask(
            &client,
            &format!("/v1/runs/{id}/stdout?from={}&head=1", hits[0].offset),
        )
        .await;
        assert_eq!(there, "19999\n");
        let result = found(search("pattern=5%3F&fixed=true&stream=stderr").await.1);
        assert_eq!((result.hits.len(), result.cut), (1, None));
        let result = found(search("pattern=7&limit=5").await.1);
        assert!(result.hits.len() == 5 && result.cut.is_some());
        let (status, body) = search("pattern=%5Ba").await;
        let error: ApiError = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (status, error.code),
            (StatusCode::BAD_REQUEST, ErrorCode::BadRequest)
        );
        assert!(error.message.contains('['), "{error}");
        assert_eq!(search("").await.0, StatusCode::BAD_REQUEST);
    });
}

#[test]
fn a_search_that_nobody_waits_for_ends() {
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        let id = ended(
            &client,
            &shell("yes aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa | head -c 10000000"),
        )
        .await;
        // A hard expression: it would take until the limit of time.
        let path = format!("/v1/runs/{id}/search?pattern=(a*)*%5C1b");
        let greps = || {
            children(node.hello.pid)
                .iter()
                .filter(|name| *name == "grep")
                .count()
        };
        for _ in 0..4 {
            let asked = client.open(Method::GET, &path, "");
            tokio::select! {
                _ = asked => {}
                () = async { while greps() == 0 { tokio::task::yield_now().await; } } => {}
            }
            // The connection's task tells the agent that the stream was reset.
            while greps() > 0 {
                tokio::task::yield_now().await;
            }
        }
    });
}

/// The names of a process's children.
fn children(pid: u32) -> Vec<String> {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return vec![];
    };
    let of = |path: std::path::PathBuf| std::fs::read_to_string(path).unwrap_or_default();
    let pids = tasks
        .flatten()
        .map(|task| of(task.path().join("children")))
        .collect::<String>();
    let name = |pid: &str| of(format!("/proc/{pid}/comm").into()).trim().to_owned();
    pids.split_whitespace().map(name).collect()
}

#[test]
fn an_export_is_a_file() {
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        let id = ended(
            &client,
            &console("printf '1%%\\r2%%\\r\\033[32mdone\\033[m\\n'; stty size"),
        )
        .await;
        let export = |query: &'static str| {
            let client = client.clone();
            async move {
                let response = open(&client, &format!("/v1/runs/{id}/export?{query}")).await;
                let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
                let seen = (header("content-disposition"), header("content-type"));
                assert_eq!(header("x-content-type-options"), "nosniff");
                let body = response.into_body().collect().await.unwrap().to_bytes();
                (seen.0, seen.1, String::from_utf8(body.to_vec()).unwrap())
            }
        };
        let (name, kind, text) = export("as=text").await;
        assert_eq!(name, format!("attachment; filename=\"run-{id}.txt\""));
        assert_eq!(
            (kind.as_str(), text.as_str()),
            ("text/plain; charset=utf-8", "done\n6 40\n")
        );
        let (_, _, raw) = export("as=raw&stream=tty").await;
        assert_eq!(raw, "1%\r2%\r\x1b[32mdone\x1b[m\r\n6 40\r\n");
        let (name, _, cast) = export("as=cast").await;
        assert!(name.ends_with(".cast\""));
        let mut lines = cast.lines();
        let header: serde_json::Value = serde_json::from_str(lines.next().unwrap()).unwrap();
        assert_eq!(
            (&header["version"], &header["width"]),
            (&2.into(), &40.into())
        );
        let output: String = lines
            .map(|line| serde_json::from_str::<(f64, String, String)>(line).unwrap())
            .inspect(|(at, kind, _)| assert!(*at >= 0.0 && kind == "o"))
            .map(|(_, _, text)| text)
            .collect();
        assert_eq!(output, raw);
        let other = ended(&client, &shell("echo x")).await;
        let (status, _) = ask(&client, &format!("/v1/runs/{other}/export?as=cast")).await;
        assert_eq!(status, StatusCode::CONFLICT);
        let (status, _) = ask(&client, &format!("/v1/runs/{other}/export?as=pdf")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
    });
}

#[test]
fn a_consoles_screen_is_put_back_and_goes_on() {
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        let id = ended(
            &client,
            &console("seq 1 20; printf 'end \\033[?2004h\\033[1;31mred'"),
        )
        .await;
        let (status, body) = ask(&client, &format!("/v1/runs/{id}/screen?lines=5")).await;
        assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
        let screen: Screen = serde_json::from_slice(&body).unwrap();
        assert_eq!(screen.size, TerminalSize { cols: 40, rows: 6 });
        assert_eq!(
            (screen.offset, screen.scrollback),
            (client.get(id).await.sizes.tty, 5)
        );
        let data = screen.data.to_lossy();
        assert!(data.starts_with("11\r\n12\r\n"), "{data:?}");
        assert!(data.contains("end ") && data.contains("red"), "{data:?}");
        assert!(data.contains("\x1b[?2004h"), "{data:?}");
        let other = ended(&client, &shell("echo x")).await;
        let (status, _) = ask(&client, &format!("/v1/runs/{other}/screen")).await;
        assert_eq!(status, StatusCode::CONFLICT);
    });
}

#[test]
fn a_line_of_any_length_does_not_grow_the_agent() {
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        let id = ended(
            &client,
            &console("stty -opost; head -c 30000000 /dev/zero | tr '\\0' x; echo; echo end"),
        )
        .await;
        let start = memory(node.hello.pid);
        let mut most = start;
        for path in [
            "tty?tail=1",
            "tty?tail=2&to=1000",
            "search?pattern=%5Eend",
            "screen",
            "export?as=raw",
            "export?as=text",
            "export?as=cast",
        ] {
            let (status, mut body) = client
                .open(Method::GET, &format!("/v1/runs/{id}/{path}"), "")
                .await;
            assert_eq!(status, StatusCode::OK, "{path}");
            while let Some(frame) = body.frame().await {
                frame.unwrap();
                most = most.max(memory(node.hello.pid));
            }
        }
        assert!(most - start < 8 << 20, "from {start} to {most}");
    });
}
