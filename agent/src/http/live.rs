//! `GET /v1/live`: one WebSocket with many channels, each following one run with credit.
//!
//! One task reads what the viewer says, one writes, and one per channel follows its run. Control
//! messages overtake bytes, so an interrupt is not behind a flood.
//! Invariants: a channel never sends more `Data` than was granted; between a channel and the socket
//! lies at most one message; a viewer that does not read its control messages is cut.
//! Not here: the words (`hpcclient_protocol::live`), reading the store (`runs::follow`).

mod bulk;
mod channel;
mod guest;

use std::{collections::HashMap, sync::Arc};

use axum::{
    Router,
    extract::{
        State,
        ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code},
    },
    response::{IntoResponse, Response},
    routing::any,
};
use bytes::{Buf, Bytes};
use futures_util::{SinkExt, StreamExt, stream::SplitSink};
use hpcclient_protocol::{
    ApiError, ErrorCode,
    live::{AgentMessage, ViewerMessage},
};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use self::{
    bulk::{Bulk, Piece},
    channel::{Channel, Granted},
};
use super::{
    AppState,
    by::by,
    failure::{Failure, logged},
};

/// Returns the routes of this file. The WebSocket also comes as HTTP/2 CONNECT, hence any method.
pub(super) fn router() -> Router<AppState> {
    Router::new().route("/v1/live", any(by(live)))
}

async fn live(State(state): State<AppState>, upgrade: WebSocketUpgrade) -> Response {
    let Ok(place) = state.viewers().clone().try_acquire_owned() else {
        let error = ApiError::new(ErrorCode::Unavailable, "too many live sockets are open");
        return Failure(error.hint("close pages that you do not need")).into_response();
    };
    upgrade
        // The defaults cost 136 KiB for each idle socket.
        .read_buffer_size(4096)
        .write_buffer_size(4096)
        .max_message_size(MAX_MESSAGE)
        .max_frame_size(MAX_MESSAGE)
        .on_upgrade(move |socket| async move {
            let tracker = state.tracker().clone();
            tracker.track(converse(socket, state)).await;
            drop(place);
        })
}

async fn converse(socket: WebSocket, state: AppState) {
    let (sink, mut stream) = socket.split();
    let (control, control_queue) = mpsc::channel(CONTROL);
    let (bulk, pieces) = bulk::bulk();
    // Ends with this socket, or with the agent.
    let ended = state.stopping().child_token();
    let writer = state
        .tracker()
        .spawn(write(sink, control_queue, pieces, ended.clone()));
    let _end_all = ended.clone().drop_guard();
    let mut viewer = Viewer {
        state,
        control,
        bulk,
        ended,
        channels: HashMap::new(),
        guests: HashMap::new(),
        events: None,
    };
    loop {
        let message = tokio::select! {
            message = stream.next() => message,
            () = viewer.ended.cancelled() => break,
        };
        let heard = match message {
            Some(Ok(Message::Text(text))) => viewer.hear(text.as_str()).await,
            Some(Ok(Message::Binary(bytes))) => viewer.stdin(bytes).await,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(()),
            Some(Ok(Message::Close(_)) | Err(_)) | None => break,
        };
        if heard.is_err() {
            tracing::debug!("a viewer does not read and was cut");
            break;
        }
    }
    viewer.ended.cancel();
    drop(viewer);
    let _written = writer.await;
}

/// Writes until the socket or the viewer ends; control messages first.
async fn write(
    mut sink: SplitSink<WebSocket, Message>,
    mut control: mpsc::Receiver<Message>,
    mut pieces: mpsc::Receiver<Piece>,
    ended: CancellationToken,
) {
    loop {
        let (message, _turn) = tokio::select! {
            biased;
            Some(message) = control.recv() => (message, None),
            () = ended.cancelled() => break,
            Some(piece) = pieces.recv() => (piece.message, Some(piece.turn)),
            else => break,
        };
        let sent = ended.run_until_cancelled(sink.send(message)).await;
        if !matches!(sent, Some(Ok(()))) {
            break;
        }
    }
    ended.cancel();
    // What was said last, such as an error, still goes out if the viewer reads.
    let parting = async {
        while let Ok(message) = control.try_recv() {
            sink.send(message).await?;
        }
        let close = CloseFrame {
            code: close_code::AWAY,
            reason: "".into(),
        };
        sink.send(Message::Close(Some(close))).await?;
        sink.close().await
    };
    let _left = timeout(PARTING_LIMIT, parting).await;
}

/// The viewer does not read its control messages, or is gone.
#[derive(Debug)]
pub(super) struct Cut;

/// What one socket asked for.
struct Viewer {
    state: AppState,
    control: mpsc::Sender<Message>,
    bulk: Bulk,
    ended: CancellationToken,
    channels: HashMap<u32, Channel>,
    /// Channels to runs of other users; a number is in one of the two only.
    guests: HashMap<u32, guest::Guest>,
    events: Option<DropGuard>,
}

impl Viewer {
    async fn hear(&mut self, text: &str) -> Result<(), Cut> {
        let message = match serde_json::from_str(text) {
            Ok(message) => message,
            Err(error) => {
                let what = format!("the message cannot be read: {error}");
                return self.refuse(None, ApiError::new(ErrorCode::BadRequest, what));
            }
        };
        let Some(message) = guest::hear(self, message)? else {
            return Ok(());
        };
        match message {
            ViewerMessage::Open {
                channel,
                run,
                from,
                credit,
                writer,
                owner: _,
                access,
                behind,
            } => {
                self.channels.retain(|_, channel| channel.is_open());
                if self.channels.contains_key(&channel) {
                    // The channel that is open stays so: the mistake is in the number.
                    let what = format!("channel {channel} is open");
                    return self.refuse(None, ApiError::new(ErrorCode::Conflict, what));
                }
                if self.channels.len() >= MAX_CHANNELS {
                    let what = format!("more than {MAX_CHANNELS} channels on one socket");
                    return self.refuse(Some(channel), ApiError::new(ErrorCode::Unavailable, what));
                }
                let granted = Granted::new(credit);
                let ended = self.ended.child_token();
                let present = self.state.presence().join(run, self.state.user(), access);
                let present = Arc::new(present);
                let open = Channel::new(run, writer, &present, granted.sender, ended.clone());
                self.channels.insert(channel, open);
                let outlet = channel::Outlet {
                    number: channel,
                    control: self.control.clone(),
                    bulk: self.bulk.clone(),
                };
                let place = channel::Place { run, from, behind };
                let follow = channel::follow(self.state.clone(), place, granted.watch, outlet);
                self.state.tracker().spawn(async move {
                    let _closed = ended.run_until_cancelled(follow).await;
                    ended.cancel();
                    drop(present);
                });
                Ok(())
            }
            ViewerMessage::Credit { channel, bytes } => {
                if let Some(channel) = self.channels.get(&channel) {
                    channel.grant(bytes);
                }
                Ok(())
            }
            ViewerMessage::Resize { channel, size } => {
                let Some(channel) = self.channels.get(&channel) else {
                    return self.no_channel(channel);
                };
                match channel.resize(size).await {
                    Ok(()) => Ok(()),
                    // Late for a run that has just ended: not worth closing its channel.
                    Err(error) => self.refuse(None, Failure::from(error).0),
                }
            }
            ViewerMessage::Close { channel } => {
                self.channels.remove(&channel);
                Ok(())
            }
            ViewerMessage::Events => {
                self.watch_events();
                Ok(())
            }
            ViewerMessage::Ping { nonce } => say(&self.control, &AgentMessage::Pong { nonce }),
        }
    }

    async fn stdin(&mut self, mut bytes: Bytes) -> Result<(), Cut> {
        if bytes.len() < 12 {
            let what = "a binary message has a channel, a number and bytes";
            return self.refuse(None, ApiError::new(ErrorCode::BadRequest, what));
        }
        let (number, seq) = (bytes.get_u32(), bytes.get_u64());
        if let Some(taken) = guest::stdin(self, number, seq, &bytes) {
            return taken;
        }
        let Some(channel) = self.channels.get(&number) else {
            return self.no_channel(number);
        };
        match channel.write(&self.state, seq, &bytes).await {
            Ok((taken, place)) => {
                let control = self.control.clone();
                let ended = self.ended.clone();
                let answer = async move {
                    let message = match taken.wait().await {
                        Ok(ack) => AgentMessage::StdinAck {
                            channel: number,
                            seq: ack.seq,
                        },
                        Err(error) => {
                            let error = logged(Failure::from(error).0);
                            AgentMessage::Error {
                                channel: None,
                                error,
                            }
                        }
                    };
                    drop(place);
                    let _cut = say(&control, &message);
                };
                self.state.tracker().spawn(async move {
                    let _ended = ended.run_until_cancelled(answer).await;
                });
                Ok(())
            }
            // The viewer still wants the output, so the channel stays.
            Err(failure) => self.refuse(None, failure.0),
        }
    }

    fn watch_events(&mut self) {
        if self.events.is_some() {
            return;
        }
        let mut watch = self.state.runs().events().watch();
        let (control, ended) = (self.control.clone(), self.ended.child_token());
        self.events = Some(ended.clone().drop_guard());
        let socket_ended = self.ended.clone();
        self.state.tracker().spawn(async move {
            let tell = async {
                loop {
                    let message = match watch.next().await {
                        Ok(event) => AgentMessage::Event {
                            event: (*event).clone(),
                        },
                        Err(error) => {
                            let error = ApiError::new(ErrorCode::Unavailable, error.to_string());
                            let error = logged(error.hint("connect again and list the runs"));
                            AgentMessage::Error {
                                channel: None,
                                error,
                            }
                        }
                    };
                    let is_last = matches!(message, AgentMessage::Error { .. });
                    // Waiting is right here: the events themselves tell who is too slow.
                    if control.send(text(&message)).await.is_err() || is_last {
                        socket_ended.cancel();
                        return;
                    }
                }
            };
            let _ended = ended.run_until_cancelled(tell).await;
        });
    }

    fn no_channel(&self, channel: u32) -> Result<(), Cut> {
        let what = format!("channel {channel} is not open");
        self.refuse(None, ApiError::new(ErrorCode::NotFound, what))
    }

    fn refuse(&self, channel: Option<u32>, error: ApiError) -> Result<(), Cut> {
        say(
            &self.control,
            &AgentMessage::Error {
                channel,
                error: logged(error),
            },
        )
    }
}

fn say(control: &mpsc::Sender<Message>, message: &AgentMessage) -> Result<(), Cut> {
    control.try_send(text(message)).map_err(|_| Cut)
}

fn text(message: &AgentMessage) -> Message {
    // A message is plain data: serde_json cannot fail on it.
    Message::Text(serde_json::to_string(message).unwrap_or_default().into())
}

/// A paste into a terminal comes in pieces of at most this.
const MAX_MESSAGE: usize = 256 * 1024;

const MAX_CHANNELS: usize = 64;

const CONTROL: usize = 256;

const PARTING_LIMIT: std::time::Duration = std::time::Duration::from_millis(500);
