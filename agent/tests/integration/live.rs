//! The live WebSocket, over HTTP/1.1 and over HTTP/2, with credit.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::SinkExt;
use hpcclient_protocol::{
    Frame, RunId, RunSpec,
    event::Event,
    live::{AgentMessage, ViewerMessage},
    run::{StdinMode, TerminalSize},
};
use http::{Method, StatusCode};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    node::{Node, Output, argv, is_alive, shell, wait_until, with_tasks},
    viewer::{Heard, over_http1, over_http2},
};

#[test]
fn a_channel_sends_what_was_granted_and_not_a_byte_more() {
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        let id = RunId::random();
        client.put(id, &shell("seq 1 100000")).await;
        let whole = client.follow(id, 0).await.stdout;
        let mut viewer = over_http1(&node).await;
        let (mut granted, mut output) = (1000u64, Output::default());
        viewer.open(7, id, 1000).await;
        let mut nonce = 0;
        while output.end.is_none() {
            match viewer.hear().await {
                Heard::Frame(channel, frame) => {
                    assert_eq!(channel, 7);
                    output.see(frame);
                }
                Heard::Said(other) => panic!("{other:?}"),
            }
            assert!(output.stdout.len() as u64 <= granted);
            if output.stdout.len() as u64 == granted && output.end.is_none() {
                // All of it came: nothing more may, until there is more credit.
                nonce += 1;
                for heard in viewer.pong(nonce).await {
                    assert!(
                        !matches!(heard, Heard::Frame(_, Frame::Data { .. })),
                        "{heard:?}"
                    );
                }
                granted += 100_000;
                viewer
                    .say(&ViewerMessage::Credit {
                        channel: 7,
                        bytes: 100_000,
                    })
                    .await;
            }
        }
        assert!(output.stdout == whole);
    });
}

#[test]
fn a_viewer_that_wants_the_newest_is_never_far_behind_and_sees_the_end() {
    const BEHIND: u32 = 100_000;
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        let id = RunId::random();
        let spec = RunSpec {
            stdin: StdinMode::Open,
            ..shell("read x; seq 1 100000; read x; seq 1 100000; read x")
        };
        client.put(id, &spec).await;
        // One sees all, and with it how far the run is; the other has no credit until there is much.
        let (mut all, mut newest) = (over_http1(&node).await, over_http1(&node).await);
        all.open(1, id, u32::MAX).await;
        newest.open_closely(1, id, BEHIND).await;
        let (mut size, mut at) = (0, 0);
        for round in 1..=2 {
            all.stdin(1, round, b"\n").await;
            while size < round * 588_895 {
                if let Heard::Frame(_, Frame::Data { bytes, .. }) = all.hear().await {
                    size += bytes.len() as u64;
                }
            }
            // As much as comes: with more of it, the next flood would be sent while it is written.
            newest.grant(1, BEHIND / 4).await;
            while at < size {
                match newest.hear().await {
                    Heard::Frame(_, Frame::Data { offset, bytes, .. }) => {
                        assert!(offset >= at, "no byte comes twice");
                        assert!(offset >= size - u64::from(BEHIND / 4), "too far behind");
                        at = offset + bytes.len() as u64;
                    }
                    Heard::Frame(_, Frame::Gap { .. }) => panic!("all of it is still stored"),
                    _ => {}
                }
            }
            assert_eq!(at, size);
        }
    });
}

#[test]
fn a_console_takes_keys_and_a_size_and_tells_events() {
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        let mut viewer = over_http1(&node).await;
        viewer.say(&ViewerMessage::Events).await;
        let first = viewer.hear().await;
        assert!(matches!(
            first,
            Heard::Said(AgentMessage::Event {
                event: Event::Ready { .. }
            })
        ));
        let id = RunId::random();
        let pty = Some(TerminalSize { cols: 80, rows: 24 });
        client
            .put(
                id,
                &RunSpec {
                    pty,
                    ..argv(&["sh"])
                },
            )
            .await;
        viewer.open(1, id, 1 << 20).await;
        viewer
            .say(&ViewerMessage::Resize {
                channel: 1,
                size: TerminalSize { cols: 99, rows: 11 },
            })
            .await;
        viewer.stdin(1, 1, b"stty size\n").await;
        viewer.stdin(1, 1, b"echo twice\n").await;
        viewer.stdin(1, 2, b"exit 5\n").await;
        let (mut shown, mut acks, mut events, mut code) = (Vec::new(), vec![], 0, None);
        while code.is_none() || acks.len() < 3 {
            match viewer.hear().await {
                Heard::Frame(_, Frame::Data { bytes, .. }) => shown.extend(&bytes),
                Heard::Frame(_, Frame::End(run)) => code = run.exit_code,
                Heard::Said(AgentMessage::StdinAck { channel: 1, seq }) => acks.push(seq),
                Heard::Said(AgentMessage::Event { .. }) => events += 1,
                Heard::Said(other) => panic!("{other:?}"),
                Heard::Frame(..) => {}
            }
        }
        let shown = String::from_utf8_lossy(&shown);
        assert!(shown.contains("11 99"), "{shown}");
        assert!(!shown.contains("twice"), "{shown}");
        assert_eq!((acks, code), (vec![1, 1, 2], Some(5)));
        assert!(events >= 2);
    });
}

#[test]
fn mistakes_close_no_more_than_they_must() {
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        let id = RunId::random();
        let mut spec = argv(&["cat"]);
        spec.stdin = StdinMode::Open;
        client.put(id, &spec).await;
        let mut viewer = over_http1(&node).await;
        viewer.open(1, id, 1000).await;
        viewer.open(2, RunId::random(), 1000).await;
        viewer.socket.send(Message::text("{}")).await.unwrap();
        viewer.stdin(9, 1, b"nobody").await;
        let mut errors = vec![];
        while errors.len() < 3 {
            if let Heard::Said(AgentMessage::Error { channel, .. }) = viewer.hear().await {
                errors.push(channel);
            }
        }
        errors.sort();
        assert_eq!(errors, [None, None, Some(2)]);
        viewer.stdin(1, 1, b"still here\n").await;
        loop {
            if let Heard::Frame(1, Frame::Data { bytes, .. }) = viewer.hear().await {
                assert_eq!(bytes, Bytes::from("still here\n"));
                break;
            }
        }
    });
}

#[test]
fn a_size_for_a_run_that_has_not_started_does_not_hold_up_the_socket() {
    with_tasks(async {
        let mut node = Node::start();
        let (profile, go) = (node.home().join(".bash_profile"), node.home().join("go"));
        std::fs::write(profile, "until [ -e ~/go ]; do sleep 0.01; done\n").unwrap();
        node.kill_agent();
        node.detach();
        let client = node.client().await;
        let size = TerminalSize { cols: 90, rows: 30 };
        let spec = RunSpec {
            pty: Some(size),
            ..argv(&["true"])
        };
        let id = RunId::random();
        let talk = async {
            let path = format!("/v1/runs/{id}");
            while client.ask(Method::GET, &path, "").await.0 != StatusCode::OK {}
            let mut viewer = over_http1(&node).await;
            viewer.open(1, id, 0).await;
            viewer
                .say(&ViewerMessage::Resize { channel: 1, size })
                .await;
            let before = viewer.pong(7).await;
            let is_refusal =
                |heard: &Heard| matches!(heard, Heard::Said(AgentMessage::Error { .. }));
            assert!(before.iter().any(is_refusal), "{before:?}");
            std::fs::write(go, "").unwrap();
        };
        tokio::join!(client.put(id, &spec), talk);
    });
}

#[test]
fn a_socket_over_http2_works_the_same() {
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        let mut viewer = over_http2(&client).await;
        assert!(viewer.pong(42).await.is_empty());
        let id = RunId::random();
        client.put(id, &shell("echo over two")).await;
        viewer.open(3, id, 1000).await;
        let mut output = Output::default();
        while output.end.is_none() {
            if let Heard::Frame(3, frame) = viewer.hear().await {
                output.see(frame);
            }
        }
        assert_eq!(output.text(), "over two\n");
    });
}

#[test]
fn stopping_does_not_wait_for_open_sockets() {
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        let id = RunId::random();
        client
            .put(id, &shell("yes | head -c 50000000; sleep 1000"))
            .await;
        // One that follows and does not read, and one that is silent.
        let mut stuck = over_http1(&node).await;
        stuck.open(1, id, u32::MAX).await;
        let mut silent = over_http1(&node).await;
        silent.pong(1).await;
        let started = Instant::now();
        let (status, _) = client.ask(Method::POST, "/v1/stop", "").await;
        assert_eq!(status, StatusCode::NO_CONTENT);
        wait_until("the agent stopped", || !is_alive(node.hello.pid));
        assert!(
            started.elapsed() < Duration::from_secs(3),
            "{:?}",
            started.elapsed()
        );
    });
}
