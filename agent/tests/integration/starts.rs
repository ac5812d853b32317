//! Starts at the same time, a hundred times; and a run directory that somebody tidies away.

use std::{fs, process::Stdio, thread, time::Duration};

use hpcclient_protocol::{RunId, RunState, status::AgentHello};

use crate::{
    node::{Node, argv, detach, is_alive, wait_until, with_tasks_for},
    patient::Patient,
    random::Random,
};

const LIMIT: Duration = Duration::from_secs(580);

const STORMS: u64 = 100;

const WAITING: &str = "echo before; until [ -e ~/go ]; do sleep 0.1; done; echo after; exit 9";

/// Returns the daemons of a node: their environment names it.
fn daemons(node: &Node) -> Vec<u32> {
    let needle = format!(
        "HPCCLIENT_HOME={}",
        node.state().parent().unwrap().display()
    );
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_daemon = |pid: &u32| {
        let read = |name| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let named = read("environ")
            .split(|byte| *byte == 0)
            .any(|variable| variable == needle.as_bytes());
        named && String::from_utf8_lossy(&read("cmdline")).contains("serve") && is_alive(*pid)
    };
    pids.filter(is_daemon).collect()
}

#[test]
fn a_hundred_starts_at_the_same_time_make_one_agent_each() {
    with_tasks_for(LIMIT, async {
        let mut random = Random::new(0x5_70a2);
        let mut node = Node::start();
        let client = Patient::new(&node.hello.socket);
        let id = RunId::random();
        client.put(id, &argv(&["sh", "-c", WAITING])).await;
        while client.get(id).await.pid.is_none() {
            tokio::task::yield_now().await;
        }
        for storm in 0..STORMS {
            // Killed before, between, or long before the others start.
            let pause = Duration::from_micros(random.below(3000));
            let dies_first = random.below(2) == 0;
            if dies_first {
                node.kill_agent();
            }
            let hellos: Vec<AgentHello> = thread::scope(|scope| {
                let start = || detach(&mut node.command(&["serve", "--detach"]));
                let (first, second) = (scope.spawn(start), scope.spawn(start));
                if !dies_first {
                    thread::sleep(pause);
                    node.kill_agent();
                }
                [first, second].map(|start| start.join().unwrap()).into()
            });
            // Who asked before the kill may have met the one that died.
            let alive: Vec<_> = hellos.iter().filter(|hello| is_alive(hello.pid)).collect();
            node.hello = match alive.first() {
                Some(hello) => (*hello).clone(),
                None => node.detach(),
            };
            wait_until("one agent is left", || daemons(&node) == [node.hello.pid]);
            assert!(
                alive.windows(2).all(|pair| pair[0] == pair[1]),
                "storm {storm}: {hellos:?}"
            );
        }
        let run = client.get(id).await;
        assert_eq!((run.state, run.live), (RunState::Running, true), "{run:?}");
        fs::write(node.home().join("go"), "").unwrap();
        let seen = client.watch(id, "stdout").await;
        assert_eq!(
            (seen.text().as_str(), seen.code()),
            ("before\nafter\n", Some(9))
        );
    });
}

#[test]
fn a_run_directory_that_was_removed_comes_back_and_nothing_is_lost() {
    with_tasks_for(LIMIT, async {
        let node = Node::start();
        let client = Patient::new(&node.hello.socket);
        let id = RunId::random();
        client.put(id, &argv(&["sh", "-c", WAITING])).await;
        let viewer = client.clone();
        let viewer = tokio::task::spawn_local(async move { viewer.watch(id, "stdout").await });
        while client.get(id).await.pid.is_none() {
            tokio::task::yield_now().await;
        }
        fs::remove_dir_all(node.run_dir()).unwrap();
        // Another start in the meantime serves or is served; there is one in the end.
        let mut again = node.command(&["serve", "--detach"]);
        again.stdout(Stdio::null()).stderr(Stdio::null());
        let again = tokio::task::spawn_blocking(move || again.status());
        fs::write(node.home().join("go"), "").unwrap();
        let seen = viewer.await.unwrap();
        assert_eq!(
            (seen.text().as_str(), seen.code()),
            ("before\nafter\n", Some(9))
        );
        drop(again.await);
        let run = client.get(id).await;
        assert_eq!((run.state, run.exit_code), (RunState::Exited, Some(9)));
        let one = || daemons(&node).len() == 1;
        wait_until("one agent is left", one);
    });
}
