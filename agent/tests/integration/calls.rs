//! What a client may ask for, and what it gets.

use hpcclient_protocol::{
    ApiError, ErrorCode, Run, RunId, RunState,
    run::{RunList, StdinAck, StdinMode},
    status::AgentStatus,
};
use http::{Method, StatusCode};

use crate::node::{Node, argv, line, shell, with_tasks};

#[test]
fn a_command_streams_both_outputs_and_ends_with_its_code() {
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        let output = client.run(&shell("echo out; echo err >&2; exit 3")).await;
        assert_eq!(
            (output.text().as_str(), output.stderr.as_slice()),
            ("out\n", &b"err\n"[..])
        );
        assert_eq!(output.code(), Some(3));
        assert_eq!(output.end.unwrap().state, RunState::Exited);
        assert!(output.first.is_some(), "the first frame is a state");
        let exact = client.run(&argv(&["printf", "%s", "a b;$c"])).await;
        assert_eq!(exact.text(), "a b;$c");
        let missing = client.run(&argv(&["no-such-command"])).await;
        assert_eq!(missing.code(), Some(127));
        assert!(String::from_utf8_lossy(&missing.stderr).contains("no-such-command"));
    });
}

#[test]
fn the_same_put_runs_once_and_another_spec_is_refused() {
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        let id = RunId::random();
        let spec = shell("echo once >> ~/witness; cat ~/witness");
        let (first, second) = tokio::join!(client.put(id, &spec), client.put(id, &spec));
        let mut statuses = [first.0, second.0];
        statuses.sort();
        assert_eq!(statuses, [StatusCode::OK, StatusCode::CREATED]);
        let output = client.follow(id, 0).await;
        assert_eq!(output.text(), "once\n");
        let (again, body) = client.put(id, &spec).await;
        assert_eq!(again, StatusCode::OK);
        assert_eq!(
            serde_json::from_slice::<Run>(&body).unwrap().exit_code,
            Some(0)
        );
        let (other, body) = client.put(id, &shell("echo other")).await;
        assert_eq!(other, StatusCode::CONFLICT);
        assert_eq!(
            serde_json::from_slice::<ApiError>(&body).unwrap().code,
            ErrorCode::Conflict
        );
        assert_eq!(client.follow(id, 0).await.text(), "once\n");
    });
}

#[test]
fn a_stream_resumed_anywhere_is_the_rest_of_the_whole() {
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        let id = RunId::random();
        client.put(id, &shell("seq 1 300000")).await;
        let whole = client.follow(id, 0).await.stdout;
        let expected: String = (1..=300_000).map(|n| format!("{n}\n")).collect();
        assert!(whole == expected.as_bytes());
        for offset in [1, 13, 65_536, 1_000_001, whole.len() - 1, whole.len()] {
            let rest = client.follow(id, offset as u64).await;
            assert!(rest.stdout == whole[offset..], "from {offset}");
        }
        let (status, raw) = client
            .ask(Method::GET, &format!("/v1/runs/{id}/stdout?from=1000"), "")
            .await;
        assert!(status == StatusCode::OK && raw == whole[1000..]);
        let beyond = format!("/v1/runs/{id}/stream?stdout={}", whole.len() + 1);
        let (status, body) = client.ask(Method::GET, &beyond, "").await;
        assert_eq!(status, StatusCode::RANGE_NOT_SATISFIABLE);
        assert_eq!(
            serde_json::from_slice::<ApiError>(&body).unwrap().code,
            ErrorCode::BadOffset
        );
    });
}

#[test]
fn a_session_remembers_and_a_program_starts_where_it_stands() {
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        client
            .run(&line("nb", "cd /usr; x=5; f() { echo f$x; }; exit 4"))
            .await;
        let output = client.run(&line("nb", "pwd; f")).await;
        assert_eq!(output.text(), "/usr\nf5\n");
        assert_eq!(output.end.unwrap().cwd_after.unwrap().to_lossy(), "/usr");
        let mut here = argv(&["pwd"]);
        here.session = Some("nb".parse().unwrap());
        assert_eq!(client.run(&here).await.text(), "/usr\n");
        let (status, _) = client.ask(Method::DELETE, "/v1/sessions/nb", "").await;
        assert_eq!(status, StatusCode::NO_CONTENT);
        assert_eq!(client.run(&line("nb", "echo [$x]")).await.text(), "[]\n");
        let (status, _) = client.ask(Method::DELETE, "/v1/sessions/none", "").await;
        assert_eq!(status, StatusCode::NOT_FOUND);
    });
}

#[test]
fn stdin_is_written_once_for_each_number() {
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        let id = RunId::random();
        let mut spec = argv(&["cat"]);
        spec.stdin = StdinMode::Open;
        client.put(id, &spec).await;
        let path =
            |seq: u64, eof: bool| format!("/v1/runs/{id}/stdin?writer=w&seq={seq}&eof={eof}");
        for (seq, bytes) in [(1, "one\n"), (1, "one\n"), (2, "two\n")] {
            let (status, body) = client.ask(Method::POST, &path(seq, false), bytes).await;
            assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
            assert_eq!(serde_json::from_slice::<StdinAck>(&body).unwrap().seq, seq);
        }
        client.ask(Method::POST, &path(3, true), "").await;
        assert_eq!(client.follow(id, 0).await.text(), "one\ntwo\n");
        let (status, _) = client.ask(Method::POST, &path(4, false), "late").await;
        assert_eq!(status, StatusCode::CONFLICT);
    });
}

#[test]
fn signals_and_kill_end_a_command() {
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        let (first, second) = (RunId::random(), RunId::random());
        client.put(first, &argv(&["sleep", "1000"])).await;
        client.put(second, &shell("sleep 1000 & wait")).await;
        let signal = format!("/v1/runs/{first}/signal");
        let (status, _) = client
            .ask(Method::POST, &signal, r#"{"signal":"INT"}"#)
            .await;
        assert_eq!(status, StatusCode::OK);
        let ended = client.follow(first, 0).await.end.unwrap();
        assert_eq!(
            (ended.exit_code, ended.signal.as_deref()),
            (Some(130), Some("INT"))
        );
        let (_, body) = client
            .ask(Method::POST, &format!("/v1/runs/{second}/kill"), "")
            .await;
        let killed: Run = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (killed.state, killed.exit_code),
            (RunState::Exited, Some(137))
        );
        let (status, _) = client
            .ask(Method::POST, &signal, r#"{"signal":"NOPE"}"#)
            .await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
    });
}

#[test]
fn a_kill_while_a_command_is_being_started_is_not_lost() {
    with_tasks(async {
        let mut node = Node::start();
        let (profile, go) = (node.home().join(".bash_profile"), node.home().join("go"));
        std::fs::write(profile, "until [ -e ~/go ]; do sleep 0.01; done\n").unwrap();
        node.kill_agent();
        node.detach();
        let client = node.client().await;
        let (id, spec) = (RunId::random(), argv(&["sleep", "100"]));
        let path = format!("/v1/runs/{id}");
        let kill = async {
            while client.ask(Method::GET, &path, "").await.0 != StatusCode::OK {}
            let (status, _) = client.ask(Method::POST, &format!("{path}/kill"), "").await;
            assert_eq!(status, StatusCode::OK);
            std::fs::write(go, "").unwrap();
        };
        tokio::join!(client.put(id, &spec), kill);
        assert_eq!(client.follow(id, 0).await.code(), Some(137));
    });
}

#[test]
fn lists_are_paged_and_chosen_by_session() {
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        for n in 0..5 {
            let session = if n % 2 == 0 { "even" } else { "odd" };
            client.run(&line(session, &format!("echo {n}"))).await;
        }
        let page = async |query: &str| -> RunList {
            let (status, body) = client
                .ask(Method::GET, &format!("/v1/runs{query}"), "")
                .await;
            assert_eq!(status, StatusCode::OK);
            serde_json::from_slice(&body).unwrap()
        };
        let names = |list: &RunList| {
            list.runs
                .iter()
                .map(|run| run.spec.command.to_line())
                .collect::<Vec<_>>()
        };
        let first = page("?limit=2").await;
        assert_eq!(names(&first), ["echo 4", "echo 3"]);
        let second = page(&format!("?limit=2&before={}", first.next.unwrap())).await;
        assert_eq!(names(&second), ["echo 2", "echo 1"]);
        assert_eq!(names(&page("?session=odd").await), ["echo 3", "echo 1"]);
        assert!(page("").await.next.is_none());
        let (_, body) = client.ask(Method::GET, "/v1/status", "").await;
        let status: AgentStatus = serde_json::from_slice(&body).unwrap();
        assert_eq!((status.sessions, status.queued, status.running), (2, 0, 0));
        assert_eq!(status.hello, node.hello);
        assert!(status.free_bytes > 0 && status.resident > 0 && status.user == "tester");
    });
}

#[test]
fn bad_requests_are_told_what_is_wrong() {
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        let id = RunId::random();
        let unknown = format!("/v1/runs/{id}");
        for (method, path, body, code) in [
            (Method::GET, "/v1/runs/not-an-id", "", ErrorCode::BadRequest),
            (Method::GET, unknown.as_str(), "", ErrorCode::NotFound),
            (Method::PUT, unknown.as_str(), "{", ErrorCode::BadRequest),
            (
                Method::PUT,
                unknown.as_str(),
                r#"{"command":{"argv":[]}}"#,
                ErrorCode::BadRequest,
            ),
            (
                Method::GET,
                "/v1/runs?limit=many",
                "",
                ErrorCode::BadRequest,
            ),
            (Method::GET, "/nowhere", "", ErrorCode::NotFound),
            (Method::DELETE, "/v1/status", "", ErrorCode::NotFound),
        ] {
            let (status, answer) = client.ask(method, path, body).await;
            let error: ApiError = serde_json::from_slice(&answer).expect(path);
            assert_eq!(
                (error.code, status.as_u16()),
                (code, code.http_status()),
                "{path}"
            );
        }
        let huge = format!(r#"{{"command":{{"shell":"{}"}}}}"#, "x".repeat(600 * 1024));
        let (status, _) = client.ask(Method::PUT, &unknown, huge).await;
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    });
}
