//! A viewer on the live WebSocket, over HTTP/1.1 and over HTTP/2 as the bridge opens it.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use hpcclient_protocol::{
    Frame, FrameDecoder, RunId,
    live::{Access, AgentMessage, ViewerMessage},
    run::{StreamSizes, TerminalSize},
};
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixStream,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};

use crate::node::{Client, Node};

pub(crate) struct Viewer<S> {
    pub(crate) socket: WebSocketStream<S>,
    /// A message carries one frame or many.
    heard: VecDeque<Heard>,
}

/// One message of the agent.
#[derive(Debug)]
pub(crate) enum Heard {
    Said(AgentMessage),
    Frame(u32, Frame),
}

pub(crate) async fn over_http1(node: &Node) -> Viewer<UnixStream> {
    let stream = UnixStream::connect(&node.hello.socket).await.unwrap();
    let (socket, _) = tokio_tungstenite::client_async("ws://agent/v1/live", stream)
        .await
        .unwrap();
    Viewer::new(socket)
}

pub(crate) async fn over_http2(client: &Client) -> Viewer<TokioIo<Upgraded>> {
    let request = Request::builder()
        .method(Method::CONNECT)
        .uri("http://agent/v1/live")
        .header("sec-websocket-version", "13")
        .extension(hyper::ext::Protocol::from_static("websocket"))
        .body(Full::new(Bytes::new()));
    let response = client.send(request.unwrap()).await;
    assert_eq!(response.status(), StatusCode::OK);
    let upgraded = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    let socket = WebSocketStream::from_raw_socket(upgraded, Role::Client, None).await;
    Viewer::new(socket)
}

fn opening(
    channel: u32,
    run: RunId,
    credit: u32,
    access: Access,
    behind: Option<u32>,
) -> ViewerMessage {
    ViewerMessage::Open {
        channel,
        run,
        from: StreamSizes::default(),
        credit,
        writer: None,
        owner: None,
        access,
        behind,
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Viewer<S> {
    fn new(socket: WebSocketStream<S>) -> Self {
        let heard = VecDeque::new();
        Self { socket, heard }
    }

    pub(crate) async fn say(&mut self, message: &ViewerMessage) {
        let text = serde_json::to_string(message).unwrap();
        self.socket.send(Message::text(text)).await.unwrap();
    }

    pub(crate) async fn open(&mut self, channel: u32, run: RunId, credit: u32) {
        self.open_as(channel, run, credit, Access::Drive).await;
    }

    pub(crate) async fn open_as(&mut self, channel: u32, run: RunId, credit: u32, access: Access) {
        self.say(&opening(channel, run, credit, access, None)).await;
    }

    /// Opens without credit, for the newest of what is written.
    pub(crate) async fn open_closely(&mut self, channel: u32, run: RunId, behind: u32) {
        let opening = opening(channel, run, 0, Access::Drive, Some(behind));
        self.say(&opening).await;
    }

    pub(crate) async fn grant(&mut self, channel: u32, bytes: u32) {
        self.say(&ViewerMessage::Credit { channel, bytes }).await;
    }

    pub(crate) async fn resize(&mut self, channel: u32, cols: u16) {
        let size = TerminalSize { cols, rows: 24 };
        self.say(&ViewerMessage::Resize { channel, size }).await;
    }

    pub(crate) async fn stdin(&mut self, channel: u32, seq: u64, bytes: &[u8]) {
        let mut message = BytesMut::new();
        message.put_u32(channel);
        message.put_u64(seq);
        message.put_slice(bytes);
        self.socket
            .send(Message::binary(message.freeze()))
            .await
            .unwrap();
    }

    pub(crate) async fn hear(&mut self) -> Heard {
        if let Some(heard) = self.heard.pop_front() {
            return heard;
        }
        match self.socket.next().await.expect("the socket ended").unwrap() {
            Message::Text(text) => Heard::Said(serde_json::from_str(text.as_str()).unwrap()),
            Message::Binary(mut bytes) => {
                let channel = bytes.get_u32();
                let mut decoder = FrameDecoder::default();
                decoder.push(&bytes);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    self.heard.push_back(Heard::Frame(channel, frame));
                }
                self.heard.pop_front().expect("an empty message")
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn pong(&mut self, nonce: u32) -> Vec<Heard> {
        self.say(&ViewerMessage::Ping { nonce }).await;
        let mut before = vec![];
        loop {
            match self.hear().await {
                Heard::Said(AgentMessage::Pong { nonce: back }) => {
                    assert_eq!(back, nonce);
                    return before;
                }
                other => before.push(other),
            }
        }
    }
}
