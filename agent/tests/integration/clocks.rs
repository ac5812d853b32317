//! A wall clock that jumps a day, forth and back, under the agent and its supervisors.
//!
//! libfaketime (Debian's package `faketime`) tells each process the time that a file holds.

use std::{fs, path::Path, process::Command};

use hpcclient_protocol::{Run, RunId, RunState, run::RunList};
use http::{Method, StatusCode};

use crate::node::{Client, Node, argv, detach, shell, with_tasks};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

fn library() -> String {
    let folder = format!("/usr/lib/{}-linux-gnu/faketime", std::env::consts::ARCH);
    let path = Path::new(&folder).join("libfaketime.so.1");
    assert!(path.exists(), "install Debian's package faketime");
    path.display().to_string()
}

/// Jumps.
fn set(node: &Node, offset: &str) {
    let (path, draft) = (node.home().join("clock"), node.home().join("clock.new"));
    fs::write(&draft, offset).unwrap();
    fs::rename(draft, path).unwrap();
}

/// Starts the agent anew, on the clock that the file tells.
fn start_on_that_clock(node: &mut Node) {
    let mut serve: Command = node.command(&["serve", "--detach"]);
    serve
        .env("LD_PRELOAD", library())
        .env("FAKETIME_TIMESTAMP_FILE", node.home().join("clock"))
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    node.hello = detach(&mut serve);
}

async fn list(client: &Client) -> Vec<Run> {
    let (status, body) = client.ask(Method::GET, "/v1/runs?limit=500", "").await;
    assert_eq!(status, StatusCode::OK);
    serde_json::from_slice::<RunList>(&body).unwrap().runs
}

async fn now_ms(client: &Client) -> u64 {
    let (_, body) = client.ask(Method::GET, "/v1/status", "").await;
    let status: hpcclient_protocol::status::AgentStatus = serde_json::from_slice(&body).unwrap();
    status.now_ms
}

#[test]
fn a_clock_that_jumps_a_day_changes_no_order_and_ends_nothing() {
    with_tasks(async {
        let mut node = Node::start();
        set(&node, "+0d");
        node.kill_agent();
        start_on_that_clock(&mut node);
        let client = node.client().await;
        let ticking = RunId::random();
        let line = "n=0; until [ -e ~/go ]; do n=$((n + 1)); echo $n; sleep 0.02; done; exit 7";
        client.put(ticking, &argv(&["sh", "-c", line])).await;
        let mut ids = vec![ticking];
        let start = now_ms(&client).await;
        for (jump, offset) in ["+0d", "+1d", "-1d", "+1d", "+0d"].into_iter().enumerate() {
            set(&node, offset);
            let now = now_ms(&client).await;
            let is_off = now.abs_diff(start) > DAY_MS / 2;
            assert_eq!(is_off, offset != "+0d", "the clock was not moved");
            let id = RunId::random();
            client.put(id, &shell(&format!("echo {jump}"))).await;
            assert_eq!(client.follow(id, 0).await.text(), format!("{jump}\n"));
            ids.push(id);
            // The order is that of the ids, which the client's clock made.
            let listed: Vec<RunId> = list(&client).await.iter().map(|run| run.id).collect();
            let wanted: Vec<RunId> = ids.iter().rev().copied().collect();
            assert_eq!(listed, wanted);
            let lives = client.get(ticking).await;
            assert_eq!(
                (lives.state, lives.live),
                (RunState::Running, true),
                "{lives:?}"
            );
            let before = lives.sizes.stdout;
            let mut grown = client.get(ticking).await;
            while grown.sizes.stdout <= before {
                tokio::task::yield_now().await;
                grown = client.get(ticking).await;
            }
        }
        // An agent that starts a day before its runs began finds them, too.
        set(&node, "-1d");
        node.kill_agent();
        start_on_that_clock(&mut node);
        let client = node.client().await;
        assert_eq!(list(&client).await.len(), ids.len());
        assert!(client.get(ticking).await.live);
        fs::write(node.home().join("go"), "").unwrap();
        let output = client.follow(ticking, 0).await;
        assert_eq!(output.code(), Some(7));
        let text = output.text();
        assert!(
            text.lines()
                .enumerate()
                .all(|(n, line)| line == (n + 1).to_string())
        );
        let run = client.get(ticking).await;
        let (started, ended) = (run.started_ms.unwrap(), run.ended_ms.unwrap());
        println!(
            "ran {} s by its own record",
            (ended.cast_signed() - started.cast_signed()) / 1000
        );
        assert!(
            list(&client)
                .await
                .iter()
                .all(|run| run.state == RunState::Exited)
        );
    });
}
