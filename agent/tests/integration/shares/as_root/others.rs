//! The guest's side: another user's run on a live channel.

use std::{fs, path::PathBuf, process::Command};

use bytes::{Buf, BufMut, BytesMut};
use futures_util::{SinkExt, StreamExt};
use hpcclient_protocol::{
    Frame, FrameDecoder, RunId, ShareId, StreamName,
    live::{Access, AgentMessage, ViewerMessage},
    run::StreamSizes,
    share::ShareList,
};
use tokio::net::UnixStream;
use tokio_tungstenite::tungstenite::Message;

use super::super::visit::{BOB, ask, cat, read, spec};
use crate::node::{Node, detach, with_tasks};

/// The agent of another user, which only that user reaches.
struct Other {
    uid: u32,
    socket: PathBuf,
    _root: tempfile::TempDir,
}

impl Other {
    fn start((name, uid): (&str, u32)) -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("home")).unwrap();
        for folder in [root.path().to_owned(), root.path().join("home")] {
            std::os::unix::fs::chown(folder, Some(uid), Some(uid)).unwrap();
        }
        let mut command = Command::new("setpriv");
        let number = uid.to_string();
        command.args(["--reuid", &number, "--regid", &number, "--clear-groups"]);
        command.args([env!("CARGO_BIN_EXE_hpcagent"), "serve", "--detach"]);
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("SHELL", "/bin/bash");
        command
            .env("HOME", root.path().join("home"))
            .env("USER", name);
        command
            .env("HPCCLIENT_HOME", root.path().join("node"))
            .current_dir("/");
        let socket = detach(&mut command).socket.into();
        Self {
            uid,
            socket,
            _root: root,
        }
    }

    fn ask(&self, request: String) -> (String, String) {
        ask(self.uid, &self.socket, &[request]).remove(0)
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.ask("POST /v1/stop {\"endRuns\":true}".to_owned());
    }
}

#[test]
fn a_live_channel_follows_and_drives_the_run_of_another_user() {
    with_tasks(async {
        let owner = Other::start(BOB);
        let (run, share) = (RunId::random(), ShareId::random());
        let body = serde_json::to_string(&cat()).unwrap();
        assert_eq!(owner.ask(format!("PUT /v1/runs/{run} {body}")).0, "201");
        let body = serde_json::to_string(&spec(run, &["root"], Access::Drive)).unwrap();
        let (status, text) = owner.ask(format!("PUT /v1/shares/{share} {body}"));
        assert_eq!(status, "201", "{text}");
        let node = Node::start();
        let client = node.client().await;
        let list: ShareList = read(&client, "/v1/shares").await;
        let found = list.with_me.iter().find(|found| found.id == share).unwrap();
        assert_eq!(
            (found.owner.as_str(), &found.spec.guests[..]),
            (BOB.0, &["root".to_owned()][..])
        );

        let stream = UnixStream::connect(&node.hello.socket).await.unwrap();
        let (mut socket, _) = tokio_tungstenite::client_async("ws://agent/v1/live", stream)
            .await
            .unwrap();
        let say = |message: &ViewerMessage| Message::text(serde_json::to_string(message).unwrap());
        let open = ViewerMessage::Open {
            channel: 1,
            run,
            from: StreamSizes::default(),
            credit: 3,
            writer: None,
            owner: Some(BOB.0.to_owned()),
            access: Access::Drive,
            behind: None,
        };
        socket.send(say(&open)).await.unwrap();
        let (mut stdout, mut granted, mut typed, mut acked) = (Vec::new(), 3u64, false, false);
        let refused = loop {
            match socket.next().await.unwrap().unwrap() {
                Message::Binary(mut bytes) => {
                    assert_eq!(bytes.get_u32(), 1);
                    let mut decoder = FrameDecoder::default();
                    decoder.push(&bytes);
                    match decoder.next_frame().unwrap().unwrap() {
                        Frame::Data {
                            stream,
                            offset,
                            bytes,
                        } => {
                            granted = granted
                                .checked_sub(bytes.len() as u64)
                                .expect("no more than was granted");
                            if stream == StreamName::Stdout {
                                assert_eq!(offset, stdout.len() as u64);
                                stdout.extend_from_slice(&bytes);
                            }
                            granted += 2;
                            socket
                                .send(say(&ViewerMessage::Credit {
                                    channel: 1,
                                    bytes: 2,
                                }))
                                .await
                                .unwrap();
                        }
                        Frame::State(run) => assert!(run.spec.env.is_empty()),
                        other => assert!(matches!(other, Frame::Ping), "{other:?}"),
                    }
                }
                Message::Text(text) => match serde_json::from_str(&text).unwrap() {
                    AgentMessage::StdinAck { channel: 1, seq: 1 } => acked = true,
                    AgentMessage::Error {
                        channel: Some(1),
                        error,
                    } => break error,
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            }
            if stdout == b"begun\n" && !typed {
                typed = true;
                let mut message = BytesMut::new();
                message.put_u32(1);
                message.put_u64(1);
                message.put_slice(b"hello\n");
                socket
                    .send(Message::binary(message.freeze()))
                    .await
                    .unwrap();
            }
            if acked && stdout == b"begun\nhello\n" {
                acked = false;
                assert_eq!(owner.ask(format!("DELETE /v1/shares/{share}")).0, "204");
            }
        };
        assert_eq!(stdout, b"begun\nhello\n");
        assert!(refused.message.contains(BOB.0), "{refused}");
        let (_, text) = owner.ask("GET /v1/audit".to_owned());
        assert!(
            text.contains("typed 6 bytes into") && text.contains("\"guest\":\"root\""),
            "{text}"
        );
    });
}
