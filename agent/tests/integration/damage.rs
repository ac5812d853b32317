//! Five hundred damaged files of a stopped agent: cut, zeroed, overwritten, with a tail of noise, emptied.
//!
//! The next agent starts, tells which file is damaged, and hands out every byte that is still whole, and none that is
//! not.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use hpcclient_protocol::{
    Frame, FrameDecoder, Run, RunId, RunSpec, RunState, StreamName,
    run::{RunList, TerminalSize},
};
use http::{Method, StatusCode};

use crate::{
    node::{Client, Node, argv, is_alive, line, shell, wait_until, with_tasks_for},
    random::Random,
};

const LIMIT: Duration = Duration::from_secs(580);

const ROUNDS: usize = 50;

/// Files of as many runs are damaged in a round, and one of the node's own.
const DAMAGES: usize = 9;

/// What a run wrote and how it ended, before any damage.
#[derive(Debug)]
struct Known {
    run: Run,
    streams: BTreeMap<u8, Vec<u8>>,
}

#[derive(Debug, Default)]
struct Seen {
    streams: BTreeMap<u8, Vec<(u64, Vec<u8>)>>,
    missing: u64,
}

#[test]
fn five_hundred_damaged_files_are_told_and_nothing_else_is_lost() {
    with_tasks_for(LIMIT, async {
        let mut random = Random::new(0xda_3a6e);
        let mut node = Node::start();
        let known = make_runs(&mut node).await;
        let (state, kept) = (node.state(), node.home().join("kept"));
        copy(&state, &kept);
        let (mut told, mut damaged) = (0, 0);
        for round in 0..ROUNDS {
            fs::remove_dir_all(&state).unwrap();
            copy(&kept, &state);
            let mut victims: BTreeMap<RunId, PathBuf> = BTreeMap::new();
            while victims.len() < DAMAGES {
                let ids: Vec<_> = known.keys().collect();
                let id = **random.of(&ids);
                let files = files_of(&state, id);
                victims.insert(id, random.of(&files).clone());
            }
            let nodes = fs::read_dir(state.join("node")).unwrap();
            let nodes: Vec<_> = nodes.map(|file| file.unwrap().path()).collect();
            let of_node: &PathBuf = random.of(&nodes);
            let mut what = vec![spoil(of_node, &mut random)];
            what.extend(victims.values().map(|file| spoil(file, &mut random)));
            damaged += what.len();
            node.detach();
            let client = node.client().await;
            let (listed, mut named) = (list(&client).await, vec![]);
            assert_eq!(listed.len(), known.len(), "round {round}: {what:#?}");
            for run in listed {
                let before = &known[&run.id];
                let seen = read(&client, run.id).await;
                match victims.get(&run.id) {
                    None => check_whole(before, &run, &seen),
                    Some(file) => {
                        told += check_damaged(before, &run, &seen, file);
                        let is_record = file.ends_with("state.rec") || file.ends_with("spec.json");
                        let is_stream = file.extension().is_some_and(|e| e == "raw");
                        let is_unread =
                            is_record && run.reason.is_some_and(|r| r.contains("damaged"));
                        if is_unread || is_stream && seen.missing > 0 {
                            named.push(file.clone());
                        }
                    }
                }
            }
            let after = client.run(&shell("echo after")).await;
            assert_eq!((after.code(), after.text().as_str()), (Some(0), "after\n"));
            assert!(is_alive(node.hello.pid), "round {round}: {what:#?}");
            let log = fs::read_to_string(node.run_dir().join("agent.log")).unwrap();
            assert!(!log.contains("a defect"), "{log}");
            for file in &named {
                assert!(
                    log.contains(file.to_str().unwrap()),
                    "{file:?} not in {log}"
                );
            }
            stop(&node, &client).await;
        }
        println!("{damaged} files damaged; {told} runs said so");
        assert!(told > ROUNDS, "{told}");
    });
}

async fn make_runs(node: &mut Node) -> BTreeMap<RunId, Known> {
    let client = node.client().await;
    let pty = Some(TerminalSize { cols: 80, rows: 24 });
    let console = RunSpec {
        pty,
        ..argv(&["seq", "1", "20000"])
    };
    let mut specs = vec![
        shell("true"),
        shell("echo one"),
        shell("seq 1 300000; exit 3"),
        shell("seq 1 50000; seq 1 50000 >&2; exit 4"),
        shell("for n in 1 2 3 4 5 6 7 8; do echo $n; sleep 0.01; done"),
        console,
        line("nb", "cd /usr; seq 1 1000; exit 6"),
        line("nb", "pwd"),
        argv(&["no-such-program"]),
    ];
    for n in 0..4 {
        specs.push(shell(&format!("seq 1 {n}000; exit {n}")));
    }
    let mut ids = vec![];
    for spec in specs {
        let id = RunId::random();
        client.put(id, &spec).await;
        client.follow(id, 0).await;
        ids.push(id);
    }
    stop(node, &client).await;
    node.detach();
    let client = node.client().await;
    let mut known = BTreeMap::new();
    for id in ids {
        let seen = read(&client, id).await;
        let joined = |pieces: &Vec<(u64, Vec<u8>)>| -> Vec<u8> {
            pieces.iter().flat_map(|(_, bytes)| bytes.clone()).collect()
        };
        let streams = seen.streams.iter().map(|(name, all)| (*name, joined(all)));
        let streams = streams.collect();
        let run = client.get(id).await;
        assert_eq!(run.state, RunState::Exited);
        known.insert(id, Known { run, streams });
    }
    stop(node, &client).await;
    known
}

async fn stop(node: &Node, client: &Client) {
    let (status, _) = client
        .ask(Method::POST, "/v1/stop", r#"{"endRuns":true}"#)
        .await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    wait_until("the agent stopped", || !is_alive(node.hello.pid));
}

async fn list(client: &Client) -> Vec<Run> {
    let (status, body) = client.ask(Method::GET, "/v1/runs?limit=500", "").await;
    assert_eq!(status, StatusCode::OK);
    serde_json::from_slice::<RunList>(&body).unwrap().runs
}

/// Reads all that is stored of a run.
async fn read(client: &Client, id: RunId) -> Seen {
    let path = format!("/v1/runs/{id}/stream?follow=false");
    let (status, body) = client.ask(Method::GET, &path, "").await;
    assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
    let (mut decoder, mut seen) = (FrameDecoder::default(), Seen::default());
    decoder.push(&body);
    let mut ended = false;
    while let Some(frame) = decoder.next_frame().unwrap() {
        match frame {
            Frame::Data {
                stream,
                offset,
                bytes,
            } => {
                let pieces = seen.streams.entry(stream as u8).or_default();
                pieces.push((offset, bytes.to_vec()));
            }
            Frame::Gap { offset, to, .. } => seen.missing += to - offset,
            Frame::End(_) => ended = true,
            _ => {}
        }
    }
    assert!(ended, "the answer was cut");
    seen
}

fn check_whole(before: &Known, run: &Run, seen: &Seen) {
    assert_eq!(run, &before.run);
    assert_eq!(seen.missing, 0, "{run:?}");
    check_bytes(before, run, seen);
    for (stream, bytes) in &before.streams {
        let size: usize = seen.streams[stream].iter().map(|(_, b)| b.len()).sum();
        assert_eq!(size, bytes.len(), "{run:?}");
    }
}

/// Every byte that is handed out is the one that was written there.
fn check_bytes(before: &Known, run: &Run, seen: &Seen) {
    for (stream, pieces) in &seen.streams {
        let known = before.streams.get(stream).map_or(&[][..], Vec::as_slice);
        for (offset, bytes) in pieces {
            let at = usize::try_from(*offset).unwrap();
            let there = known.get(at..at + bytes.len());
            assert!(there == Some(&bytes[..]), "other bytes at {at} of {run:?}");
        }
    }
}

/// Returns whether something was told of the damage.
fn check_damaged(before: &Known, run: &Run, seen: &Seen, file: &Path) -> usize {
    let name = file.file_name().unwrap().to_str().unwrap();
    check_bytes(before, run, seen);
    let reason = run.reason.clone().unwrap_or_default();
    match name {
        // The record before the damaged one, or the sentence that there is none.
        "state.rec" | "spec.json" => {
            assert_eq!(seen.missing, 0, "{run:?}");
            assert!(run.state == RunState::Lost || run.exit_code == before.run.exit_code);
            if run.state == RunState::Lost {
                assert!(reason.contains(' '), "{run:?}");
            }
        }
        // How it ended is known all the same.
        _ => {
            assert_eq!(run.exit_code, before.run.exit_code, "{file:?} {run:?}");
            assert!(
                run.state == RunState::Exited || reason.contains(name),
                "{run:?}"
            );
        }
    }
    // What is left of a segment that was cut starts where it always did.
    if name.starts_with("out-") && seen.missing == 0 {
        let stdout = StreamName::Stdout as u8;
        let left: usize = seen
            .streams
            .get(&stdout)
            .map_or(0, |all| all.iter().map(|(_, b)| b.len()).sum());
        assert_eq!(left, before.streams[&stdout].len(), "{run:?}");
    }
    usize::from(seen.missing > 0 || !reason.is_empty() || run.sizes != before.run.sizes)
}

fn files_of(state: &Path, id: RunId) -> Vec<PathBuf> {
    let months = fs::read_dir(state.join("runs")).unwrap();
    let folders = months.map(|month| month.unwrap().path().join(id.to_string()));
    let folder = folders.into_iter().find(|folder| folder.is_dir()).unwrap();
    let files = fs::read_dir(folder).unwrap();
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

/// Damages a file and says how.
fn spoil(file: &Path, random: &mut Random) -> String {
    let mut bytes = fs::read(file).unwrap();
    let len = bytes.len() as u64;
    let at = usize::try_from(random.below(len + 1)).unwrap();
    let noise: Vec<u8> = (0..=random.below(200))
        .map(|_| u8::try_from(random.below(256)).unwrap())
        .collect();
    let how = match random.below(5) {
        0 => {
            bytes.truncate(at);
            "cut"
        }
        1 => {
            bytes[at..].fill(0);
            "zeroed from"
        }
        2 => {
            bytes.extend(&noise);
            "noise after"
        }
        3 => {
            bytes.splice(at..bytes.len().min(at + noise.len()), noise);
            "noise at"
        }
        _ => {
            bytes.clear();
            "emptied"
        }
    };
    fs::write(file, bytes).unwrap();
    format!("{}: {how} {at} of {len}", file.display())
}

fn copy(from: &Path, to: &Path) {
    let done = std::process::Command::new("cp")
        .arg("-a")
        .args([from, to])
        .status();
    assert!(done.unwrap().success());
}
