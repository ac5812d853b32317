//! Runs that wait: for a supervisor where the node allows few processes, or for their session's shell.

use std::fs;

use hpcclient_protocol::{Run, RunId, RunState, event::Event, status::AgentStatus};
use http::{Method, StatusCode};
use http_body_util::BodyExt;

use crate::{
    node::{Client, Node, line, shell, with_tasks},
    orphans::until,
};

#[test]
fn what_waits_for_a_process_has_a_place_and_can_be_ended_there() {
    with_tasks(async {
        let node = Node::start_with_processes("1");
        let client = node.client().await;
        limit_is_one(&client).await;
        let ids = [(); 5].map(|()| RunId::random());
        let gate = "until [ -e ~/go-on ]; do sleep 0.01; done";
        client.put(ids[0], &shell(gate)).await;
        until(&client, ids[0], RunState::Running).await;
        let (_, mut events) = client.open(Method::GET, "/v1/events", "").await;
        for (place, id) in (1..).zip(&ids[1..]) {
            let (status, body) = client.put(*id, &shell("echo ran")).await;
            let run: Run = serde_json::from_slice(&body).unwrap();
            assert_eq!((status, run.state), (StatusCode::CREATED, RunState::Queued));
            assert_eq!(run.position, Some(place));
        }
        let status: AgentStatus = ask(&client, "/v1/status").await;
        assert_eq!((status.queued, status.running), (4, 1));
        assert_eq!((status.supervisors, status.max_supervisors), (1, 1));
        for (id, signal, code) in [(ids[1], "INT", 130), (ids[3], "KILL", 137)] {
            for name in ["USR1", signal] {
                let body = format!(r#"{{"signal":"{name}"}}"#);
                let path = format!("/v1/runs/{id}/signal");
                let (status, _) = client.ask(Method::POST, &path, body).await;
                assert_eq!(status, StatusCode::OK);
            }
            let run = client.get(id).await;
            assert_eq!((run.state, run.exit_code), (RunState::Exited, Some(code)));
            assert_eq!(run.signal.as_deref(), Some(signal));
            assert_eq!(
                run.reason.as_deref(),
                Some("it was ended before it started")
            );
        }
        let places = [
            client.get(ids[2]).await.position,
            client.get(ids[4]).await.position,
        ];
        assert_eq!(places, [Some(1), Some(2)]);
        // The new first is told that it is the next; who only moved up is not.
        let mut told = Vec::new();
        while !told.contains(&(ids[2], Some(1))) {
            let line = events.frame().await.unwrap().unwrap().into_data().unwrap();
            for line in line.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
                if let Event::Run { run, .. } = serde_json::from_slice(line).unwrap() {
                    told.push((run.id, run.position));
                }
            }
        }
        assert!(told.contains(&(ids[4], Some(4))), "{told:?}");
        fs::write(node.home().join("go-on"), "").unwrap();
        for id in [ids[2], ids[4]] {
            let output = client.follow(id, 0).await;
            assert_eq!((output.text().as_str(), output.code()), ("ran\n", Some(0)));
            assert_eq!(output.end.unwrap().position, None);
        }
    });
}

#[test]
fn what_waits_when_the_agent_ends_is_run_once_by_the_next_one() {
    with_tasks(async {
        let mut node = Node::start_with_processes("1");
        let client = node.client().await;
        limit_is_one(&client).await;
        let ids = [(); 6].map(|()| RunId::random());
        let gate = "until [ -e ~/go-on ]; do sleep 0.01; done";
        client.put(ids[0], &shell(gate)).await;
        until(&client, ids[0], RunState::Running).await;
        for (number, id) in ids.iter().enumerate().skip(1) {
            let text = format!("echo {number} >> ~/order");
            client.put(*id, &shell(&text)).await;
        }
        node.kill_agent();
        node.detach();
        let client = node.client().await;
        limit_is_one(&client).await;
        let last = async || client.get(ids[5]).await.position;
        while last().await != Some(5) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        fs::write(node.home().join("go-on"), "").unwrap();
        for id in ids {
            assert_eq!(client.follow(id, 0).await.code(), Some(0));
        }
        let order = fs::read_to_string(node.home().join("order")).unwrap();
        assert_eq!(order, "1\n2\n3\n4\n5\n");
    });
}

#[test]
fn many_at_once_are_all_run_and_never_more_than_the_node_allows_at_a_time() {
    const COUNT: usize = 60;
    with_tasks(async {
        let node = Node::start_with_processes("1");
        let client = node.client().await;
        limit_is_one(&client).await;
        // Each notes when it starts and ends: two at a time would be seen in the order.
        let text = "echo start >> ~/order; echo end >> ~/order; echo $0";
        let ids: Vec<RunId> = (0..COUNT).map(|_| RunId::random()).collect();
        for id in &ids {
            let (status, _) = client.put(*id, &shell(text)).await;
            assert_eq!(status, StatusCode::CREATED);
        }
        for id in &ids {
            assert_eq!(client.follow(*id, 0).await.code(), Some(0));
        }
        let order = fs::read_to_string(node.home().join("order")).unwrap();
        assert_eq!(order, "start\nend\n".repeat(COUNT));
        let status: AgentStatus = ask(&client, "/v1/status").await;
        assert_eq!((status.queued, status.running), (0, 0));
    });
}

#[test]
fn lines_that_wait_for_their_shell_have_a_place_too() {
    with_tasks(async {
        let mut node = Node::start();
        let client = node.client().await;
        let ids = [(); 4].map(|()| RunId::random());
        let gate = "until [ -e ~/go-on ]; do sleep 0.01; done";
        client.put(ids[0], &line("nb", gate)).await;
        until(&client, ids[0], RunState::Running).await;
        for (place, id) in (1..).zip(&ids[1..]) {
            client.put(*id, &line("nb", "echo ran")).await;
            assert_eq!(client.get(*id).await.position, Some(place));
        }
        let path = format!("/v1/runs/{}/signal", ids[1]);
        client.ask(Method::POST, &path, r#"{"signal":"INT"}"#).await;
        let ended = until(&client, ids[1], RunState::Exited).await;
        assert_eq!(ended.exit_code, Some(130));
        let places = async |client: &Client| {
            let mut places = vec![];
            for id in ids {
                places.push(client.get(id).await.position);
            }
            places
        };
        assert_eq!(places(&client).await, [None, None, Some(1), Some(2)]);
        // The places outlive the agent.
        node.kill_agent();
        node.detach();
        let client = node.client().await;
        assert_eq!(places(&client).await, [None, None, Some(1), Some(2)]);
        fs::write(node.home().join("go-on"), "").unwrap();
        for id in &ids[2..] {
            assert_eq!(client.follow(*id, 0).await.text(), "ran\n");
        }
        assert_eq!(places(&client).await, [None; 4]);
    });
}

async fn limit_is_one(client: &Client) {
    let status: AgentStatus = ask(client, "/v1/status").await;
    assert_eq!(status.max_supervisors, 1, "not known when it serves");
}

async fn ask<T: serde::de::DeserializeOwned>(client: &Client, path: &str) -> T {
    let (status, body) = client.ask(Method::GET, path, "").await;
    assert_eq!(status, StatusCode::OK);
    serde_json::from_slice(&body).unwrap()
}
