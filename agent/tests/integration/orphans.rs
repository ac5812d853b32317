//! What becomes of a run whose supervisor is killed, with and without its process.

use std::{fs, path::PathBuf};

use hpcagent::store::{RunDir, RunRecord};
use hpcclient_protocol::{ApiError, ErrorCode, Run, RunId, RunState, run::StdinMode};
use http::{Method, StatusCode};
use rustix::process::{Pid, Signal, kill_process};

use crate::node::{Client, Node, is_alive, line, shell, wait_until, with_tasks};

#[test]
fn a_run_without_its_supervisor_goes_on_and_can_be_killed() {
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        let id = RunId::random();
        let text = "echo before; sleep 1000 & echo $! > ~/child; wait";
        let mut spec = shell(text);
        spec.stdin = StdinMode::Open;
        client.put(id, &spec).await;
        wait_until("the output is stored", || {
            stored(&node, id, "out-000000.raw") == b"before\n"
        });
        wait_until("the child is told", || {
            fs::read(node.home().join("child")).is_ok_and(|p| p.ends_with(b"\n"))
        });
        let pid = pid_of(&client, id).await;
        kill_supervisor(&node, id);
        let run = until(&client, id, RunState::Orphaned).await;
        let reason = run.reason.unwrap();
        assert!(
            reason.contains(&format!("goes on as process {pid}")),
            "{reason}"
        );
        assert!(run.live && is_alive(pid));
        // What needs the supervisor is refused with a reason, at once.
        let stdin = format!("/v1/runs/{id}/stdin?writer=w&seq=1");
        let (status, body) = client.ask(Method::POST, &stdin, "x").await;
        let error: ApiError = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (status, error.code),
            (StatusCode::CONFLICT, ErrorCode::Conflict)
        );
        assert!(error.message.contains("lost its supervisor"), "{error}");
        // A follower gets its bytes, and its end when that is known.
        let follow = client.follow(id, 0);
        let kill = async {
            let (status, body) = client
                .ask(Method::POST, &format!("/v1/runs/{id}/kill"), "")
                .await;
            assert_eq!(status, StatusCode::OK);
            serde_json::from_slice::<Run>(&body).unwrap()
        };
        let (output, killed) = tokio::join!(follow, kill);
        assert_eq!(output.text(), "before\n");
        let end = output.end.unwrap();
        assert_eq!((end.state, killed.state), (RunState::Lost, RunState::Lost));
        assert!(end.reason.unwrap().contains("killed as asked"));
        let child: u32 = fs::read_to_string(node.home().join("child"))
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        wait_until("all its processes are gone", || {
            !is_alive(pid) && !is_alive(child)
        });
        assert_eq!(client.get(id).await.state, RunState::Lost);
    });
}

#[test]
fn an_orphan_that_ends_by_itself_or_by_a_signal_is_lost_then() {
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        let [alone, signalled] = [RunId::random(), RunId::random()];
        let text = "until [ -e ~/go-on ]; do sleep 0.01; done";
        for id in [alone, signalled] {
            client.put(id, &shell(text)).await;
            until(&client, id, RunState::Running).await;
            kill_supervisor(&node, id);
            until(&client, id, RunState::Orphaned).await;
        }
        let signal = format!("/v1/runs/{signalled}/signal");
        let (status, _) = client
            .ask(Method::POST, &signal, r#"{"signal":"TERM"}"#)
            .await;
        assert_eq!(status, StatusCode::OK);
        until(&client, signalled, RunState::Lost).await;
        assert_eq!(client.get(alone).await.state, RunState::Orphaned);
        fs::write(node.home().join("go-on"), "").unwrap();
        let run = until(&client, alone, RunState::Lost).await;
        assert!(run.reason.unwrap().contains("nobody saw how"));
        assert!(run.ended_ms.is_some() && !run.live);
    });
}

#[test]
fn a_run_that_loses_its_supervisor_and_its_process_is_lost_and_keeps_its_bytes() {
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        let id = RunId::random();
        client.put(id, &shell("echo before; exec sleep 1000")).await;
        wait_until("the output is stored", || {
            stored(&node, id, "out-000000.raw") == b"before\n"
        });
        let pid = pid_of(&client, id).await;
        let shim = parent(pid);
        // The supervisor cannot see the end of its command any more when it is stopped.
        signal(shim, Signal::STOP);
        signal(pid, Signal::KILL);
        signal(shim, Signal::KILL);
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
    });
}

#[test]
fn lines_of_a_session_whose_supervisor_is_killed_are_told_apart() {
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        let [first, second] = [RunId::random(), RunId::random()];
        client.put(first, &line("nb", "sleep 1000")).await;
        until(&client, first, RunState::Running).await;
        client.put(second, &line("nb", "echo never")).await;
        let shell = pid_of(&client, first).await;
        wait_until("the line waits at the shim", || {
            record(&node, second).is_some_and(|record| record.shim_pid.is_some())
        });
        signal(parent(shell), Signal::KILL);
        let run = until(&client, second, RunState::Lost).await;
        assert!(run.reason.unwrap().contains("before it started"));
        until(&client, first, RunState::Orphaned).await;
        // The session's next line has a new shell.
        assert_eq!(
            client.run(&line("nb", "echo again")).await.text(),
            "again\n"
        );
        client
            .ask(Method::POST, &format!("/v1/runs/{first}/kill"), "")
            .await;
        until(&client, first, RunState::Lost).await;
        assert!(!is_alive(shell));
    });
}

#[test]
fn the_next_agent_finds_orphans_and_what_a_reboot_ended() {
    with_tasks(async {
        let mut node = Node::start();
        let client = node.client().await;
        let [orphan, dead, rebooted] = [(); 3].map(|()| RunId::random());
        for id in [orphan, dead, rebooted] {
            client.put(id, &shell("exec sleep 1000")).await;
            until(&client, id, RunState::Running).await;
        }
        let pids = [orphan, dead, rebooted].map(|id| record(&node, id).unwrap().pid.unwrap());
        node.kill_agent();
        for id in [orphan, dead, rebooted] {
            kill_supervisor(&node, id);
        }
        signal(pids[1], Signal::KILL);
        wait_until("it is gone", || !is_alive(pids[1]));
        let before = record(&node, rebooted).unwrap();
        let other_boot = RunRecord {
            boot_id: Some("0b5d0a4e-0000-4000-8000-000000000000".to_owned()),
            ..before
        };
        dir(&node, rebooted).write_record(&other_boot).unwrap();
        node.detach();
        let client = node.client().await;
        let reason = |run: Run| run.reason.unwrap_or_default();
        let run = client.get(rebooted).await;
        assert_eq!(
            (run.state, reason(run).as_str()),
            (RunState::Lost, "the node was rebooted while it ran")
        );
        assert!(
            is_alive(pids[2]),
            "another boot's process is nobody's to kill"
        );
        let run = client.get(dead).await;
        assert_eq!(run.state, RunState::Lost);
        assert!(reason(run).contains("supervisor was killed"));
        let run = client.get(orphan).await;
        assert_eq!((run.state, run.live), (RunState::Orphaned, true));
        client
            .ask(Method::POST, &format!("/v1/runs/{orphan}/kill"), "")
            .await;
        assert_eq!(client.get(orphan).await.state, RunState::Lost);
        assert!(!is_alive(pids[0]));
        signal(pids[2], Signal::KILL);
    });
}

/// Returns the command's process, once it is told: its output may be stored before.
async fn pid_of(client: &Client, id: RunId) -> u32 {
    loop {
        let run = client.get(id).await;
        if let Some(pid) = run.pid {
            return pid;
        }
        assert!(!run.state.is_final(), "{run:?}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

pub(crate) async fn until(client: &Client, id: RunId, state: RunState) -> Run {
    loop {
        let run = client.get(id).await;
        if run.state == state {
            return run;
        }
        assert!(!run.state.is_final(), "{run:?}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

pub(crate) fn dir(node: &Node, id: RunId) -> RunDir {
    let months = fs::read_dir(node.state().join("runs")).unwrap().flatten();
    let path: Option<PathBuf> = months
        .map(|month| month.path().join(id.to_string()))
        .find(|path| path.is_dir());
    RunDir::at(id, path.expect("the run is stored"))
}

fn record(node: &Node, id: RunId) -> Option<RunRecord> {
    dir(node, id).record().ok()
}

fn stored(node: &Node, id: RunId, file: &str) -> Vec<u8> {
    fs::read(dir(node, id).path().join(file)).unwrap_or_default()
}

fn kill_supervisor(node: &Node, id: RunId) {
    let shim = record(node, id).unwrap().shim_pid.unwrap();
    let command = fs::read_to_string(format!("/proc/{shim}/cmdline")).unwrap();
    assert!(command.contains("shim"), "{command}");
    signal(shim, Signal::KILL);
    wait_until("the supervisor is gone", || !is_alive(shim));
}

fn parent(pid: u32) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    fields.split(' ').nth(1).unwrap().parse().unwrap()
}

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.cast_signed()).unwrap();
    kill_process(pid, signal).unwrap();
}
