//! What outlives the agent, and what is said of that which did not.

use std::fs;

use hpcclient_protocol::{RunId, RunState};
use http::{Method, StatusCode};

use crate::node::{Node, Output, is_alive, line, shell, wait_until, with_tasks};
use http_body_util::BodyExt;

#[test]
fn a_killed_agent_loses_no_byte_of_a_command_that_goes_on() {
    with_tasks(async {
        let mut node = Node::start();
        let client = node.client().await;
        let id = RunId::random();
        // The first half before the agent dies, the second when the next one has come.
        let text = "seq 1 100000; until [ -e ~/go-on ]; do sleep 0.02; done; seq 100001 200000";
        let (_, mut body) = {
            let path = format!("/v1/runs/{id}?stream=true");
            client
                .open(
                    Method::PUT,
                    &path,
                    serde_json::to_vec(&shell(text)).unwrap(),
                )
                .await
        };
        let mut before = Output::default();
        while !before.stdout.ends_with(b"\n100000\n") {
            before.take(&body.frame().await.unwrap().unwrap().into_data().unwrap());
        }
        node.kill_agent();
        let old = node.hello.clone();
        let new = node.detach();
        assert_ne!(old.pid, new.pid);
        assert_eq!(old.socket, new.socket);
        let client = node.client().await;
        assert_eq!(client.get(id).await.state, RunState::Running);
        fs::write(node.home().join("go-on"), "").unwrap();
        let rest = client.follow(id, before.stdout.len() as u64).await;
        let expected: String = (1..=200_000).map(|n| format!("{n}\n")).collect();
        assert!([before.stdout, rest.stdout.clone()].concat() == expected.as_bytes());
        assert_eq!(rest.code(), Some(0));
        assert!(client.follow(id, 0).await.stdout == expected.as_bytes());
    });
}

#[test]
fn a_session_is_found_again_with_its_state_and_directory() {
    with_tasks(async {
        let mut node = Node::start();
        let client = node.client().await;
        client.run(&line("nb", "cd /usr/bin; secret=42")).await;
        node.kill_agent();
        node.detach();
        let client = node.client().await;
        assert_eq!(client.run(&line("nb", "echo $secret")).await.text(), "42\n");
        let mut here = crate::node::argv(&["pwd"]);
        here.session = Some("nb".parse().unwrap());
        assert_eq!(client.run(&here).await.text(), "/usr/bin\n");
    });
}

#[test]
fn a_run_whose_supervisor_was_killed_is_lost_and_keeps_its_bytes() {
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        let id = RunId::random();
        client.put(id, &shell("echo before; sleep 1000")).await;
        wait_until("the output is stored", || {
            fs::read_dir(node.state().join("runs"))
                .unwrap()
                .flatten()
                .any(|month| {
                    let file = month.path().join(id.to_string()).join("out-000000.raw");
                    fs::read(file).is_ok_and(|bytes| bytes == b"before\n")
                })
        });
        let pid = client.get(id).await.pid.unwrap();
        kill_parent_of(pid);
        let output = client.follow(id, 0).await;
        let end = output.end.as_ref().unwrap();
        assert_eq!(
            (end.state, output.text().as_str()),
            (RunState::Lost, "before\n")
        );
        assert!(
            end.reason
                .as_ref()
                .unwrap()
                .contains("supervisor was killed"),
            "{end:?}"
        );
        if let Some(pid) = rustix::process::Pid::from_raw(pid.cast_signed()) {
            let _gone = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    });
}

#[test]
fn a_run_that_lost_its_supervisor_while_no_agent_ran_is_settled() {
    with_tasks(async {
        let mut node = Node::start();
        let client = node.client().await;
        let id = RunId::random();
        client.put(id, &shell("sleep 1000")).await;
        let pid = client.get(id).await.pid;
        let pid = match pid {
            Some(pid) => pid,
            None => loop {
                if let Some(pid) = client.get(id).await.pid {
                    break pid;
                }
                tokio::task::yield_now().await;
            },
        };
        node.kill_agent();
        kill_parent_of(pid);
        node.detach();
        let client = node.client().await;
        assert_eq!(client.get(id).await.state, RunState::Lost);
        let (status, _) = client
            .ask(Method::POST, &format!("/v1/runs/{id}/kill"), "")
            .await;
        assert_eq!(status, StatusCode::OK);
        if let Some(pid) = rustix::process::Pid::from_raw(pid.cast_signed()) {
            let _gone = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    });
}

#[test]
fn stop_leaves_runs_alone_unless_it_is_told_to_end_them() {
    with_tasks(async {
        let mut node = Node::start();
        let client = node.client().await;
        let id = RunId::random();
        client
            .put(id, &line("nb", "echo started; sleep 1000"))
            .await;
        let (status, _) = client.ask(Method::POST, "/v1/stop", "").await;
        assert_eq!(status, StatusCode::NO_CONTENT);
        wait_until("the agent stopped", || !is_alive(node.hello.pid));
        node.detach();
        let client = node.client().await;
        assert!(!client.get(id).await.state.is_final());
        let (status, _) = client
            .ask(Method::POST, "/v1/stop", r#"{"endRuns":true}"#)
            .await;
        assert_eq!(status, StatusCode::NO_CONTENT);
        wait_until("the agent stopped", || !is_alive(node.hello.pid));
        assert!(!node.run_dir().exists());
        node.detach();
        let run = node.client().await.get(id).await;
        assert!(run.state.is_final(), "{run:?}");
    });
}

pub(crate) fn kill_parent_of(pid: u32) {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let parent: u32 = fields.split(' ').nth(1).unwrap().parse().unwrap();
    let command = fs::read_to_string(format!("/proc/{parent}/cmdline")).unwrap();
    assert!(command.contains("shim"), "{command}");
    let parent_pid = rustix::process::Pid::from_raw(parent.cast_signed()).unwrap();
    rustix::process::kill_process(parent_pid, rustix::process::Signal::KILL).unwrap();
    wait_until("the supervisor is gone", || !is_alive(parent));
}
