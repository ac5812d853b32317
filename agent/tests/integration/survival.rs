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

#[test]
fn supervisors_are_nobodys_children_in_sessions_of_their_own() {
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        let alone = client.put(RunId::random(), &shell("sleep 1000")).await;
        let line = client.put(RunId::random(), &line("nb", "sleep 1000")).await;
        for (status, run) in [alone, line] {
            assert_eq!(status, StatusCode::CREATED);
            let id = serde_json::from_slice::<hpcclient_protocol::Run>(&run)
                .unwrap()
                .id;
            let mut pid = client.get(id).await.pid;
            while pid.is_none() {
                tokio::task::yield_now().await;
                pid = client.get(id).await.pid;
            }
            let shim = number_of(pid.unwrap(), PARENT);
            assert_ne!(number_of(shim, PARENT), node.hello.pid);
            assert_eq!(number_of(shim, SESSION), shim);
        }
        // What started them is gone and was reaped.
        let children = format!("/proc/{0}/task/{0}/children", node.hello.pid);
        wait_until("the agent has no children", || {
            fs::read_to_string(&children).unwrap().is_empty()
        });
    });
}

#[test]
fn what_the_disk_has_is_told_while_a_run_lives_and_of_one_that_was_found_again() {
    with_tasks(async {
        let mut node = Node::start();
        let client = node.client().await;
        let id = RunId::random();
        client.put(id, &shell("echo one; sleep 1000")).await;
        let mut run = client.get(id).await;
        while run.durable.stdout < 4 {
            assert!(run.durable.stdout <= run.sizes.stdout, "{run:?}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            run = client.get(id).await;
        }
        node.kill_agent();
        node.detach();
        let client = node.client().await;
        while client.get(id).await.durable.stdout < 4 {
            tokio::task::yield_now().await;
        }
        client
            .ask(Method::POST, &format!("/v1/runs/{id}/kill"), "")
            .await;
        // Its record has it when the disk was asked for the last time.
        while client.get(id).await.durable.stdout < 4 {
            tokio::task::yield_now().await;
        }
        assert_eq!(client.get(id).await.state, RunState::Exited);
    });
}

#[test]
fn a_supervisor_that_cannot_start_says_why() {
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        // Nothing can listen where a directory is.
        fs::create_dir(node.run_dir().join("s-nb")).unwrap();
        let output = client.run(&line("nb", "true")).await;
        let end = output.end.unwrap();
        assert_eq!(end.state, RunState::Lost);
        let reason = end.reason.unwrap();
        assert!(
            reason.starts_with("its supervisor could not start: cannot listen on /"),
            "{reason}"
        );
    });
}

const PARENT: usize = 1;
const SESSION: usize = 3;

/// Returns one of the numbers behind the name in `/proc/<pid>/stat`.
fn number_of(pid: u32, field: usize) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    fields.split(' ').nth(field).unwrap().parse().unwrap()
}

pub(crate) fn kill_parent_of(pid: u32) {
    let parent = number_of(pid, PARENT);
    let command = fs::read_to_string(format!("/proc/{parent}/cmdline")).unwrap();
    assert!(command.contains("shim"), "{command}");
    let parent_pid = rustix::process::Pid::from_raw(parent.cast_signed()).unwrap();
    rustix::process::kill_process(parent_pid, rustix::process::Signal::KILL).unwrap();
    wait_until("the supervisor is gone", || !is_alive(parent));
}
