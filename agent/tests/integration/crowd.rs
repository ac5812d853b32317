//! Many viewers, slow ones and floods: nobody slows another, nobody loses a byte, the agent stays small.
//!
//! What it costs is measured on the agent's own process; how long it takes is `examples/streams.rs`.

use std::{fs, ops::RangeInclusive};

use futures_util::future::join_all;
use hpcclient_protocol::{Frame, Run, RunId, RunSpec, StreamName, run::TerminalSize};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    node::{Client, Node, argv, shell, wait_until, with_tasks},
    viewer::{Heard, Viewer, over_http2},
};

const MIB: u64 = 1 << 20;

/// Returns how much memory the agent has, in bytes, without the pages of its program: which of those
/// are in memory is the kernel's choice, and a debug build has many.
fn memory(node: &Node) -> u64 {
    let path = format!("/proc/{}/status", node.hello.pid);
    let status = fs::read_to_string(path).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    let kib = line.unwrap().split_whitespace().nth(1).unwrap();
    kib.parse::<u64>().unwrap() * 1024
}

fn files(node: &Node) -> usize {
    let path = format!("/proc/{}/fd", node.hello.pid);
    fs::read_dir(path).unwrap().count()
}

#[test]
fn a_thousand_idle_sockets_cost_little_memory_and_no_file() {
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        // What the first ones bring in is the program, not their own.
        for _ in 0..3 {
            over_http2(&client).await.pong(1).await;
        }
        let (before, open) = (memory(&node), files(&node));
        let mut sockets = vec![];
        for nonce in 0..1000 {
            let mut viewer = over_http2(&client).await;
            viewer.pong(nonce).await;
            sockets.push(viewer);
        }
        let grown = memory(&node).saturating_sub(before);
        println!("1000 idle sockets: {} KiB", grown / 1024);
        assert!(grown <= 16 * MIB, "1000 idle sockets cost {grown} bytes");
        assert!(files(&node) <= open + 4, "a socket costs a file");
        // All of them live, and there is room for calls beside them.
        assert_eq!(client.run(&shell("echo here")).await.text(), "here\n");
        for viewer in &mut sockets {
            assert!(viewer.pong(7).await.is_empty());
        }
    });
}

/// One of many viewers of numbered lines of ten bytes.
struct Reader<S> {
    viewer: Viewer<S>,
    /// The offset of the first line.
    base: u64,
    at: u64,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Reader<S> {
    /// Reads to an offset and checks every byte.
    async fn read_to(&mut self, end: u64) {
        while self.at < end {
            if let Heard::Frame(_, Frame::Data { offset, bytes, .. }) = self.viewer.hear().await {
                assert_eq!(offset - self.base, self.at, "no byte twice, none missing");
                for line in self.at / 10..=(self.at + bytes.len() as u64 - 1) / 10 {
                    let text = format!("{line:09}\n");
                    let from = self.at.max(line * 10);
                    let to = (self.at + bytes.len() as u64).min(line * 10 + 10);
                    let part = |at: u64, start: u64| usize::try_from(at - start).unwrap();
                    assert_eq!(
                        &bytes[part(from, self.at)..part(to, self.at)],
                        &text.as_bytes()[part(from, line * 10)..part(to, line * 10)],
                    );
                }
                self.at += bytes.len() as u64;
            }
        }
        assert_eq!(self.at, end, "more than was written");
    }
}

#[test]
fn stalled_viewers_slow_nobody_and_lose_nothing() {
    const ROUNDS: u64 = 4;
    const LINES: u64 = 60_000;
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        let id = RunId::random();
        let line = "stty -echo -opost; echo ready; n=0; while read x; do \
             seq -f %09.0f $n $((n + 59999)); n=$((n + 60000)); done";
        let spec = RunSpec {
            pty: Some(TerminalSize { cols: 80, rows: 24 }),
            ..argv(&["sh", "-c", line])
        };
        client.put(id, &spec).await;
        // "ready" and a line's end are not of the numbered lines.
        let mut driver = over_http2(&client).await;
        driver.open(1, id, u32::MAX).await;
        let mut skip = 0;
        while skip < 6 {
            if let Heard::Frame(_, Frame::Data { bytes, .. }) = driver.hear().await {
                skip += bytes.len() as u64;
            }
        }
        let from = hpcclient_protocol::run::StreamSizes {
            tty: skip,
            ..Default::default()
        };
        let open = async |credit: u32| {
            let mut viewer = over_http2(&client).await;
            let message = hpcclient_protocol::live::ViewerMessage::Open {
                channel: 1,
                run: id,
                from,
                credit,
                writer: None,
                owner: None,
                access: hpcclient_protocol::live::Access::View,
                behind: None,
            };
            viewer.say(&message).await;
            Reader {
                viewer,
                base: skip,
                at: 0,
            }
        };
        drop((open(1).await, open(0).await));
        let before = memory(&node);
        let (mut quick, mut stalled) = (vec![], vec![]);
        for _ in 0..45 {
            quick.push(open(u32::MAX).await);
        }
        for credit in [u32::MAX, u32::MAX, u32::MAX, 0, 0] {
            stalled.push(open(credit).await);
        }
        let mut most = 0;
        for round in 1..=ROUNDS {
            driver.stdin(1, round, b"\n").await;
            // All who read get all of it, while the others have read nothing.
            let end = round * LINES * 10;
            join_all(quick.iter_mut().map(|reader| reader.read_to(end))).await;
            most = most.max(memory(&node));
        }
        let grown = most.saturating_sub(before);
        println!("50 viewers, 5 of them stalled: {} KiB", grown / 1024);
        assert!(grown <= 5 * MIB, "50 viewers cost {grown} bytes");
        for reader in &mut stalled {
            reader.viewer.grant(1, 0).await;
        }
        for reader in &mut stalled[3..] {
            reader.viewer.grant(1, u32::MAX).await;
        }
        let end = ROUNDS * LINES * 10;
        join_all(stalled.iter_mut().map(|reader| reader.read_to(end))).await;
    });
}

#[test]
fn a_flood_grows_the_agent_neither_without_a_viewer_nor_with_a_slow_one() {
    const FLOOD: u64 = 300_000_000;
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        client.run(&shell("head -c 3000000 /dev/zero")).await;
        let before = memory(&node);
        let mut most = before;
        for is_viewed in [false, true] {
            let id = RunId::random();
            client
                .put(id, &shell(&format!("head -c {FLOOD} /dev/zero")))
                .await;
            let mut viewer = over_http2(&client).await;
            if is_viewed {
                viewer.open(1, id, 10_000).await;
            }
            let mut received = 0;
            while !client.get(id).await.state.is_final() {
                most = most.max(memory(&node));
                if !is_viewed {
                    continue;
                }
                // A slow one: ten kilobytes for each look at the run.
                let asked = received + 10_000;
                while received < asked {
                    if let Heard::Frame(_, Frame::Data { bytes, .. }) = viewer.hear().await {
                        received += bytes.len() as u64;
                    }
                }
                viewer.grant(1, 10_000).await;
            }
            assert_eq!(client.get(id).await.sizes.stdout, FLOOD);
            assert!(received < FLOOD / 10, "that viewer was not slow");
        }
        let grown = most - before;
        println!("a flood of {FLOOD} bytes: {} KiB", grown / 1024);
        assert!(grown <= 8 * MIB, "a flood grew the agent by {grown} bytes");
    });
}

#[test]
fn who_is_behind_what_was_pruned_is_told_of_the_gap_and_goes_on() {
    const SEGMENT: u64 = 64 << 20;
    const SIZE: u64 = SEGMENT + 1_000_000;
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        let id = RunId::random();
        client
            .put(id, &shell(&format!("head -c {SIZE} /dev/zero; sleep 1000")))
            .await;
        let mut viewer = over_http2(&client).await;
        viewer.open(1, id, 100_000).await;
        let mut at = 0;
        while at < 100_000 {
            if let Heard::Frame(_, Frame::Data { bytes, .. }) = viewer.hear().await {
                at += bytes.len() as u64;
            }
        }
        let written = async || client.get(id).await.sizes.stdout;
        while written().await < SIZE {}
        fs::remove_file(segment(&node, id)).unwrap();
        viewer.grant(1, u32::MAX).await;
        let mut missed: Vec<RangeInclusive<u64>> = vec![];
        while at < SIZE {
            match viewer.hear().await {
                Heard::Frame(_, Frame::Data { offset, bytes, .. }) => {
                    assert_eq!(offset, at);
                    at += bytes.len() as u64;
                }
                Heard::Frame(_, Frame::Gap { stream, offset, to }) => {
                    assert_eq!((stream, offset), (StreamName::Stdout, at));
                    missed.push(offset..=to);
                    at = to;
                }
                _ => {}
            }
        }
        // The reader's open file may have given some more of it; what follows is whole.
        assert!(at == SIZE && missed.iter().all(|gap| *gap.end() <= SEGMENT + (1 << 20)));

        // One who comes now learns at once that the start is gone.
        let mut late = over_http2(&client).await;
        late.open(1, id, 1000).await;
        loop {
            match late.hear().await {
                Heard::Frame(_, Frame::Gap { offset: 0, .. }) => break,
                Heard::Frame(_, Frame::Data { .. }) => panic!("bytes of a file that is gone"),
                _ => {}
            }
        }
        kill(&client, id).await;
    });
}

async fn kill(client: &Client, id: RunId) {
    let path = format!("/v1/runs/{id}/kill");
    let (_, body) = client.ask(http::Method::POST, &path, "").await;
    drop(serde_json::from_slice::<Run>(&body).unwrap());
}

/// Finds the first segment of a run's stdout.
fn segment(node: &Node, id: RunId) -> std::path::PathBuf {
    let mut found = None;
    wait_until("the run's folder", || {
        let months = fs::read_dir(node.state().join("runs")).unwrap();
        let folders = months.map(|month| month.unwrap().path().join(id.to_string()));
        found = folders
            .map(|folder| folder.join("out-000000.raw"))
            .find(|file| file.exists());
        found.is_some()
    });
    found.unwrap()
}
