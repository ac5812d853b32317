//! Two login nodes with one home: each agent reads all runs and touches only its own. They need root.

use std::{collections::BTreeMap, fs, path::PathBuf, time::SystemTime};

use hpcclient_protocol::{ApiError, ErrorCode, Run, RunId, RunState, run::RunList};
use http::{Method, StatusCode};

use crate::node::{Client, Node, Output, argv, is_alive, line, shell, wait_until, with_tasks};

/// Every file of a run, as it is now.
fn files(node: &Node, id: RunId) -> BTreeMap<PathBuf, (SystemTime, Vec<u8>)> {
    let month = fs::read_dir(node.state().join("runs")).unwrap();
    let folders = month.map(|month| month.unwrap().path().join(id.to_string()));
    let folder = folders.into_iter().find(|folder| folder.exists()).unwrap();
    let files = fs::read_dir(folder).unwrap().map(|file| {
        let file = file.unwrap();
        let changed = file.metadata().unwrap().modified().unwrap();
        (file.path(), (changed, fs::read(file.path()).unwrap()))
    });
    files.collect()
}

async fn list(client: &Client) -> Vec<Run> {
    let (status, body) = client.ask(Method::GET, "/v1/runs", "").await;
    assert_eq!(status, StatusCode::OK);
    serde_json::from_slice::<RunList>(&body).unwrap().runs
}

async fn bytes(client: &Client, id: RunId) -> String {
    let path = format!("/v1/runs/{id}/stdout");
    let (status, body) = client.ask(Method::GET, &path, "").await;
    assert_eq!(status, StatusCode::OK);
    String::from_utf8(body.to_vec()).unwrap()
}

/// Starts a command that says something and then waits for `~/go`.
async fn waiting(node: &Node, client: &Client) -> RunId {
    let id = RunId::random();
    let text = "echo one; until [ -e ~/go ]; do sleep 0.02; done; echo two";
    assert_eq!(client.put(id, &shell(text)).await.0, StatusCode::CREATED);
    wait_until("the output is stored", || {
        let files = files(node, id);
        let mut files = files.iter();
        files.any(|(path, (_, bytes))| path.ends_with("out-000000.raw") && bytes == b"one\n")
    });
    id
}

#[test]
fn the_other_nodes_runs_are_read_and_left_alone() {
    with_tasks(async {
        let mut here = Node::start();
        let mut there = here.start_beside("login2");
        assert_eq!(there.hello.host, "login2");
        assert_ne!(here.run_dir(), there.run_dir());
        let (client, other) = (here.client().await, there.client().await);
        let id = waiting(&here, &client).await;
        let theirs = RunId::random();
        other.put(theirs, &shell("echo b; sleep 1000")).await;
        wait_until("the run has started", || {
            let files = files(&there, theirs);
            let mut files = files.keys();
            files.any(|path| path.ends_with("out-000000.raw"))
        });
        let before = files(&here, id);

        // Both list both; each says which are its own.
        for (client, own) in [(&client, id), (&other, theirs)] {
            let runs = list(client).await;
            let mut live: Vec<_> = runs.iter().map(|run| (run.id, run.live)).collect();
            live.sort();
            let mut expected = [(id, id == own), (theirs, theirs == own)];
            expected.sort();
            assert_eq!(live, expected);
            assert!(
                runs.iter().all(|run| run.state == RunState::Running),
                "{runs:?}"
            );
        }
        let run = other.get(id).await;
        assert_eq!(
            (run.host.as_str(), run.live),
            (here.hello.host.as_str(), false)
        );

        // What is stored can be read; what needs the run itself names its node.
        assert_eq!(bytes(&other, id).await, "one\n");
        let stored = format!("/v1/runs/{id}/stream?follow=false");
        let output = Output::read(other.open(Method::GET, &stored, "").await.1).await;
        assert_eq!(output.text(), "one\n");
        assert!(
            output
                .end
                .is_some_and(|run| run.state == RunState::Running && !run.live)
        );
        let signal = r#"{"signal":"INT"}"#;
        let size = r#"{"cols":80,"rows":24}"#;
        for (method, path, body) in [
            (Method::GET, "stream", ""),
            (Method::GET, "stdout?follow=true", ""),
            (Method::POST, "stdin?writer=w&seq=1", "x"),
            (Method::POST, "signal", signal),
            (Method::POST, "kill", ""),
            (Method::POST, "resize", size),
        ] {
            let path = format!("/v1/runs/{id}/{path}");
            let (_, body) = other.ask(method, &path, body).await;
            let error: ApiError = serde_json::from_slice(&body).unwrap();
            assert_eq!(error.code, ErrorCode::OtherNode, "{path}: {error}");
            assert_eq!(error.node.as_deref(), Some(here.hello.host.as_str()));
        }
        // The same id is the same run everywhere.
        let text = "echo one; until [ -e ~/go ]; do sleep 0.02; done; echo two";
        assert_eq!(other.put(id, &shell(text)).await.0, StatusCode::OK);

        // Neither a new start there nor the end of everything there concerns it.
        here.kill_agent();
        there.kill_agent();
        there.detach();
        let other = there.client().await;
        assert_eq!(other.get(id).await.state, RunState::Running);
        assert!(other.get(theirs).await.live);
        let all = r#"{"endRuns":true}"#;
        other.ask(Method::POST, "/v1/stop", all).await;
        wait_until("the other agent stopped", || !is_alive(there.hello.pid));
        assert!(
            files(&here, id) == before,
            "the other agent wrote to a run that is not its own"
        );

        fs::write(here.home().join("go"), "").unwrap();
        here.detach();
        let output = here.client().await.follow(id, 0).await;
        assert_eq!(
            (output.text().as_str(), output.code()),
            ("one\ntwo\n", Some(0))
        );
        assert!(here.client().await.get(theirs).await.state.is_final());
        there.detach();
        let output = there.client().await.follow(id, 0).await;
        assert_eq!(
            (output.text().as_str(), output.code()),
            ("one\ntwo\n", Some(0))
        );
    });
}

#[test]
fn a_session_of_the_same_name_has_its_own_directory_on_each_node() {
    with_tasks(async {
        let here = Node::start();
        let mut there = here.start_beside("login2");
        there.client().await.run(&line("nb", "true")).await;
        here.client().await.run(&line("nb", "cd /usr/bin")).await;
        there.kill_agent();
        there.detach();
        let mut pwd = argv(&["pwd"]);
        pwd.session = Some("nb".parse().unwrap());
        let output = there.client().await.run(&pwd).await;
        assert_eq!(output.text().trim_end(), there.home().to_string_lossy());
        let output = here.client().await.run(&pwd).await;
        assert_eq!(output.text(), "/usr/bin\n");
    });
}
