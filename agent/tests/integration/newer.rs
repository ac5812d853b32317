//! What a newer release has stored, read by this one: the way back from an upgrade.

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use hpcclient_protocol::{RunId, RunSpec, RunState, run::StdinMode};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::node::{Node, argv, shell, with_tasks};

/// The size of each of the two places for a record in `state.rec`.
const SLOT: usize = 2048;

/// Adds what no present release knows to the files of a run.
fn make_newer(node: &Node, id: RunId) {
    let folder = folder_of(&node.state(), id);
    let path = folder.join("spec.json");
    let mut birth: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    birth["colour"] = json!({"of": ["the", "future"]});
    birth["spec"]["gpu"] = json!(2);
    fs::write(&path, birth.to_string()).unwrap();
    let path = folder.join("state.rec");
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    let slots = fs::read(&path).unwrap();
    for (number, slot) in slots.chunks(SLOT).enumerate() {
        let (seq, rest) = slot.split_at(8);
        let len = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
        if len == 0 {
            continue;
        }
        let mut record: Value = serde_json::from_slice(&rest[6..6 + len]).unwrap();
        record["mood"] = json!("good");
        let json = record.to_string().into_bytes();
        let len = u16::try_from(json.len()).unwrap().to_be_bytes();
        let crc = crc32fast::hash(&[seq, &len, &json].concat()).to_be_bytes();
        let mut new = [seq, &len, &crc, &json].concat();
        new.resize(SLOT, 0);
        file.write_all_at(&new, (number * SLOT) as u64).unwrap();
    }
}

fn folder_of(state: &Path, id: RunId) -> PathBuf {
    let months = fs::read_dir(state.join("runs")).unwrap();
    let mut folders = months.map(|month| month.unwrap().path().join(id.to_string()));
    folders.find(|folder| folder.is_dir()).unwrap()
}

#[test]
fn the_runs_of_a_newer_release_are_listed_and_followed() {
    with_tasks(async {
        let mut node = Node::start();
        let client = node.client().await;
        let (done, lives) = (RunId::random(), RunId::random());
        client.put(done, &shell("echo stored; exit 5")).await;
        client.follow(done, 0).await;
        let reading = RunSpec {
            stdin: StdinMode::Open,
            ..argv(&["sh", "-c", "read -r word; echo $word; exit 6"])
        };
        client.put(lives, &reading).await;
        while client.get(lives).await.pid.is_none() {
            tokio::task::yield_now().await;
        }
        node.kill_agent();
        for id in [done, lives] {
            make_newer(&node, id);
        }
        // What a newer release keeps beside them.
        fs::write(folder_of(&node.state(), done).join("thumbnail.png"), "?").unwrap();
        fs::write(node.state().join("runs/index.db"), "?").unwrap();
        fs::create_dir(node.state().join("shares-of-tomorrow")).unwrap();
        node.detach();
        let client = node.client().await;
        let run = client.get(done).await;
        assert_eq!(
            (run.state, run.exit_code),
            (RunState::Exited, Some(5)),
            "{run:?}"
        );
        assert_eq!(client.follow(done, 0).await.text(), "stored\n");
        let run = client.get(lives).await;
        assert_eq!((run.state, run.live), (RunState::Running, true), "{run:?}");
        let path = format!("/v1/runs/{lives}/stdin?writer=w&seq=1");
        let (status, _) = client.ask(Method::POST, &path, "hello\n").await;
        assert_eq!(status, StatusCode::OK);
        let output = client.follow(lives, 0).await;
        assert_eq!(
            (output.text().as_str(), output.code()),
            ("hello\n", Some(6))
        );
    });
}
