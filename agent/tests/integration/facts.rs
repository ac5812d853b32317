//! What the agent says of its node, with batch systems that answer, fail and hang.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Instant};

use hpcclient_protocol::node::{NodeFacts, Purpose};
use http::{Method, StatusCode};

use crate::node::{Node, PATIENCE, with_tasks};

async fn facts(node: &Node) -> NodeFacts {
    let (status, body) = node.client().await.ask(Method::GET, "/v1/node", "").await;
    assert_eq!(status, StatusCode::OK);
    serde_json::from_slice(&body).unwrap()
}

/// Puts a program where the user's profile finds it.
fn install(node: &Node, name: &str, script: &str) {
    let folder = node.home().join("tools");
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(node.home().join(".profile"), "PATH=$HOME/tools:$PATH\n").unwrap();
}

#[test]
fn a_node_is_described() {
    with_tasks(async {
        let node = Node::start();
        let facts = facts(&node).await;
        assert!(facts.kernel.starts_with("Linux "), "{facts:?}");
        assert_eq!(facts.arch, std::env::consts::ARCH);
        assert!(facts.glibc.is_some_and(|version| version.contains('.')));
        assert!(facts.processes > 0 && facts.uptime_s.is_some());
        let purposes: Vec<_> = facts.places.iter().map(|place| place.purpose).collect();
        let all = [Purpose::Home, Purpose::Agent, Purpose::Runs, Purpose::Tmp];
        assert_eq!(purposes, all);
        assert_eq!(
            facts.places[0].path.to_lossy(),
            node.home().to_string_lossy()
        );
        for place in &facts.places {
            let disk = place.disk.as_ref().unwrap();
            assert!(disk.free_bytes > 0 && !disk.kind.is_empty(), "{place:?}");
        }
    });
}

#[test]
fn batch_systems_are_those_that_answer() {
    with_tasks(async {
        let mut node = Node::start();
        install(&node, "sinfo", "echo 23.11.4");
        let line = "echo 'qstat: cannot connect to server pbs01' >&2; exit 1";
        install(&node, "qstat", line);
        node.kill_agent();
        node.detach();
        let found = facts(&node).await.schedulers;
        let found: Vec<_> = found
            .iter()
            .map(|one| {
                (
                    one.name.as_str(),
                    one.version.as_deref(),
                    one.error.as_deref(),
                )
            })
            .collect();
        let refused = Some("qstat: cannot connect to server pbs01");
        assert_eq!(
            found,
            [("Slurm", Some("23.11.4"), None), ("PBS", None, refused)]
        );

        // One that hangs is given up, and what it started goes with it.
        install(&node, "sinfo", "echo $$ > ~/pid; sleep 1000 & wait");
        let started = Instant::now();
        let hung = facts(&node).await.schedulers.remove(0);
        assert!(started.elapsed() < PATIENCE / 2);
        assert_eq!(hung.error.as_deref(), Some("no answer within 5 s"));
        let pid = fs::read_to_string(node.home().join("pid")).unwrap();
        crate::node::wait_until("the hung program is gone", || {
            !crate::node::is_alive(pid.trim().parse().unwrap())
        });
    });
}

#[test]
fn the_bytes_to_measure_with_are_as_many_as_asked_for() {
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        for count in [0, 1, 65_537, 3_000_000] {
            let path = format!("/v1/node/bytes?count={count}");
            let (status, body) = client.ask(Method::GET, &path, "").await;
            assert_eq!((status, body.len()), (StatusCode::OK, count));
        }
        let path = "/v1/node/bytes?count=67108865";
        let (status, _) = client.ask(Method::GET, path, "").await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
    });
}
