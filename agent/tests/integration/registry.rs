//! Finding, naming, pinning and deleting runs.

use hpcclient_protocol::{
    ApiError, ErrorCode, Frame, FrameDecoder, Run, RunId, RunState,
    event::Event,
    run::{RunList, TerminalSize},
};
use http::{Method, StatusCode};
use http_body_util::BodyExt;

use crate::{
    node::{Client, Node, argv, shell, with_tasks},
    orphans::{dir, until},
};

#[test]
fn runs_are_found_by_what_they_are() {
    with_tasks(async {
        let mut node = Node::start();
        let client = node.client().await;
        let mut console = argv(&["sleep", "1000"]);
        console.pty = Some(TerminalSize { cols: 80, rows: 24 });
        let [old, named] = [RunId::random(), RunId::random()];
        client.put(old, &console).await;
        until(&client, old, RunState::Running).await;
        client.put(named, &shell("echo Needle")).await;
        until(&client, named, RunState::Exited).await;
        for n in 0..5 {
            client.run(&shell(&format!("echo {n}"))).await;
        }
        mark(&client, named, r#"{"name":"my Übung"}"#).await;
        let found = async |client: &Client, query: &str| -> Vec<RunId> {
            let (status, body) = client
                .ask(Method::GET, &format!("/v1/runs?{query}"), "")
                .await;
            assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
            let list: RunList = serde_json::from_slice(&body).unwrap();
            list.runs.iter().map(|run| run.id).collect()
        };
        for query in [
            "text=needle",
            "text=%C3%BCbung",
            "text=Needle&state=exited&console=false",
        ] {
            assert_eq!(found(&client, query).await, [named], "{query}");
        }
        assert_eq!(found(&client, "text=needle&live=true").await, []);
        for query in [
            "live=true",
            "console=true",
            "state=running",
            "console=true&live=true&limit=1",
        ] {
            assert_eq!(found(&client, query).await, [old], "{query}");
        }
        assert_eq!(found(&client, "live=false&limit=9").await.len(), 6);
        // The next agent finds the same.
        node.kill_agent();
        node.detach();
        let client = node.client().await;
        assert_eq!(found(&client, "live=true").await, [old]);
        let (status, _) = client.ask(Method::GET, "/v1/runs?state=odd", "").await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
    });
}

#[test]
fn a_page_of_large_runs_ends_early_and_all_are_found() {
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        let large = format!("true {}", "x".repeat(300 * 1024));
        for _ in 0..8 {
            client.run(&shell(&large)).await;
        }
        let (mut seen, mut before) = (vec![], String::new());
        loop {
            let (_, body) = client
                .ask(Method::GET, &format!("/v1/runs?limit=500{before}"), "")
                .await;
            assert!(body.len() < 2 << 20, "{} bytes", body.len());
            let page: RunList = serde_json::from_slice(&body).unwrap();
            seen.extend(page.runs.iter().map(|run| run.id));
            match page.next {
                Some(next) => before = format!("&before={next}"),
                None => break,
            }
        }
        assert_eq!(seen.len(), 8);
        assert!(seen.is_sorted_by(|a, b| a > b), "newest first, none twice");
    });
}

#[test]
fn a_name_and_a_pin_stay_with_a_run_while_it_lives_and_after() {
    with_tasks(async {
        let mut node = Node::start();
        let client = node.client().await;
        let id = RunId::random();
        client.put(id, &shell("exec sleep 1000")).await;
        until(&client, id, RunState::Running).await;
        let (_, mut events) = client.open(Method::GET, "/v1/events", "").await;
        events.frame().await.unwrap().unwrap();
        let run = mark(&client, id, r#"{"name":"long one"}"#).await;
        assert_eq!((run.name.as_deref(), run.pinned), (Some("long one"), false));
        let told = events.frame().await.unwrap().unwrap().into_data().unwrap();
        let told: Event = serde_json::from_slice(&told).unwrap();
        assert!(matches!(told, Event::Run { run, .. } if run.name.as_deref() == Some("long one")));
        mark(&client, id, r#"{"pinned":true}"#).await;
        node.kill_agent();
        node.detach();
        let client = node.client().await;
        let run = client.get(id).await;
        assert_eq!((run.name.as_deref(), run.pinned), (Some("long one"), true));
        client
            .ask(Method::POST, &format!("/v1/runs/{id}/kill"), "")
            .await;
        let run = mark(&client, id, r#"{"name":""}"#).await;
        assert_eq!(
            (run.state, run.name, run.pinned),
            (RunState::Exited, None, true)
        );
        let path = format!("/v1/runs/{id}");
        for bad in [
            format!(r#"{{"name":"{}"}}"#, "x".repeat(81)),
            r#"{"name":"a\u001b"}"#.to_owned(),
        ] {
            let (status, _) = client.ask(Method::PATCH, &path, bad).await;
            assert_eq!(status, StatusCode::BAD_REQUEST);
        }
        let none = format!("/v1/runs/{}", RunId::random());
        let (status, _) = client.ask(Method::PATCH, &none, "{}").await;
        assert_eq!(status, StatusCode::NOT_FOUND);
    });
}

#[test]
fn a_run_is_deleted_when_it_has_ended_and_not_before() {
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        let id = RunId::random();
        client.put(id, &shell("exec sleep 1000")).await;
        until(&client, id, RunState::Running).await;
        let path = format!("/v1/runs/{id}");
        let (status, body) = client.ask(Method::DELETE, &path, "").await;
        let error: ApiError = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (status, error.code),
            (StatusCode::CONFLICT, ErrorCode::Conflict)
        );
        client.ask(Method::POST, &format!("{path}/kill"), "").await;
        until(&client, id, RunState::Exited).await;
        let folder = dir(&node, id);
        let (_, mut events) = client.open(Method::GET, "/v1/events", "").await;
        events.frame().await.unwrap().unwrap();
        let (status, _) = client.ask(Method::DELETE, &path, "").await;
        assert_eq!(status, StatusCode::NO_CONTENT);
        let told = events.frame().await.unwrap().unwrap().into_data().unwrap();
        let told: Event = serde_json::from_slice(&told).unwrap();
        assert!(
            matches!(told, Event::Gone { run, .. } if run == id),
            "{told:?}"
        );
        assert!(!folder.path().exists());
        for method in [Method::GET, Method::DELETE] {
            let (status, _) = client.ask(method, &path, "").await;
            assert_eq!(status, StatusCode::NOT_FOUND);
        }
        let (_, body) = client.ask(Method::GET, "/v1/runs", "").await;
        assert!(
            serde_json::from_slice::<RunList>(&body)
                .unwrap()
                .runs
                .is_empty()
        );
    });
}

#[test]
fn a_run_is_not_deleted_while_what_it_left_behind_writes() {
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        let go = tempfile::NamedTempFile::new().unwrap();
        let late = format!(
            "(until [ -s {} ]; do sleep 0.05; done; echo late) &",
            go.path().display()
        );
        let id = RunId::random();
        client.put(id, &shell(&late)).await;
        until(&client, id, RunState::Exited).await;
        let path = format!("/v1/runs/{id}");
        let (status, body) = client.ask(Method::DELETE, &path, "").await;
        let error: ApiError = serde_json::from_slice(&body).unwrap();
        assert_eq!(status, StatusCode::CONFLICT, "{error:?}");
        assert!(dir(&node, id).path().exists());
        std::fs::write(go.path(), "go").unwrap();
        let (status, _) = client.ask(Method::DELETE, &path, "").await;
        assert_eq!(status, StatusCode::NO_CONTENT);
    });
}

#[test]
fn who_reads_a_run_that_is_deleted_gets_a_gap_or_an_error_and_the_others_go_on() {
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        let id = RunId::random();
        // More than one segment, so that the reader has to open a file that is gone.
        client.put(id, &shell("head -c 150000000 /dev/zero")).await;
        until(&client, id, RunState::Exited).await;
        let path = format!("/v1/runs/{id}/stream?stdout=0");
        let (_, mut body) = client.open(Method::GET, &path, "").await;
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        let (status, _) = client
            .ask(Method::DELETE, &format!("/v1/runs/{id}"), "")
            .await;
        assert_eq!(status, StatusCode::NO_CONTENT);
        let mut decoder = FrameDecoder::default();
        decoder.push(&first);
        let (mut at, mut missed, mut ended) = (0, 0, false);
        loop {
            while let Some(frame) = decoder.next_frame().unwrap() {
                match frame {
                    Frame::Data { offset, bytes, .. } => {
                        assert_eq!(offset, at);
                        at += bytes.len() as u64;
                    }
                    Frame::Gap { offset, to, .. } => {
                        assert_eq!(offset, at);
                        (at, missed) = (to, missed + to - offset);
                    }
                    Frame::End(_) => ended = true,
                    _ => {}
                }
            }
            match body.frame().await {
                Some(Ok(frame)) => decoder.push(&frame.into_data().unwrap()),
                Some(Err(_)) | None => break,
            }
        }
        assert!(
            !ended || (at == 150_000_000 && missed > 0),
            "{at} {missed} {ended}"
        );
        assert_eq!(client.run(&shell("echo fine")).await.text(), "fine\n");
    });
}

async fn mark(client: &Client, id: RunId, body: &'static str) -> Run {
    let (status, answer) = client
        .ask(Method::PATCH, &format!("/v1/runs/{id}"), body)
        .await;
    assert_eq!(
        status,
        StatusCode::OK,
        "{}",
        String::from_utf8_lossy(&answer)
    );
    serde_json::from_slice(&answer).unwrap()
}
