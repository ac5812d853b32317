//! A channel that follows a run of another user, through their agent.
//!
//! Called by `live` for an `open` with an owner. The owner's agent sends frames as a body; here they
//! are cut to what the viewer has granted, so a slow viewer slows that body and nothing else.
//! Invariants: at most one frame of the owner's waits here; after a cut the run is followed from the
//! offset that the viewer has; what the viewer types goes in order, one request at a time, and the same piece until
//! the owner's agent has answered or the channel ends; what that agent sends cannot be another run or bring the
//! offsets out of bounds; an error names the owner.
//! Not here: finding the owner's agent (`shares::away`).

use std::time::Duration;

use axum::extract::ws::Message;
use bytes::Bytes;
use hpcclient_protocol::{
    ApiError, ErrorCode, Frame, FrameDecoder, RunId, StreamName,
    live::{Access, AgentMessage, ViewerMessage},
    run::{StdinAck, StreamSizes, TerminalSize},
};
use http::Method;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    Cut, MAX_CHANNELS, Viewer,
    channel::{Granted, Outlet},
    logged, say, text,
};
use crate::{
    http::AppState,
    shares::away::{self, Question},
};

/// The viewer's side of a channel to another user's run.
#[derive(Debug)]
pub(super) struct Guest {
    granted: watch::Sender<u64>,
    orders: mpsc::Sender<Order>,
    access: Access,
    ended: CancellationToken,
    _end: DropGuard,
}

#[derive(Debug)]
enum Order {
    Stdin(u64, Bytes),
    Resize(TerminalSize),
}

/// Whose run it is.
#[derive(Clone, Debug)]
struct There {
    state: AppState,
    owner: String,
    run: RunId,
    access: Access,
    behind: Option<u32>,
}

/// Takes a message that is about another user's run, and gives back every other.
pub(super) fn hear(
    viewer: &mut Viewer,
    message: ViewerMessage,
) -> Result<Option<ViewerMessage>, Cut> {
    let number = match &message {
        ViewerMessage::Open { channel, .. }
        | ViewerMessage::Credit { channel, .. }
        | ViewerMessage::Resize { channel, .. }
        | ViewerMessage::Close { channel } => *channel,
        ViewerMessage::Events | ViewerMessage::Ping { .. } => return Ok(Some(message)),
    };
    viewer.guests.retain(|_, guest| !guest.ended.is_cancelled());
    let known = viewer.guests.get(&number);
    match (message, known) {
        (ViewerMessage::Open { .. }, Some(_)) => {
            let what = format!("channel {number} is open");
            viewer.refuse(None, ApiError::new(ErrorCode::Conflict, what))?;
        }
        (
            ViewerMessage::Open {
                run,
                from,
                credit,
                writer,
                owner: Some(owner),
                access,
                behind,
                ..
            },
            None,
        ) => {
            viewer.channels.retain(|_, channel| channel.is_open());
            if viewer.channels.contains_key(&number) {
                let what = format!("channel {number} is open");
                viewer.refuse(None, ApiError::new(ErrorCode::Conflict, what))?;
            } else if viewer.guests.len() >= MAX_GUESTS || viewer.channels.len() >= MAX_CHANNELS {
                let what = format!("more than {MAX_GUESTS} channels to other users on one socket");
                viewer.refuse(Some(number), ApiError::new(ErrorCode::Unavailable, what))?;
            } else {
                let there = There {
                    state: viewer.state.clone(),
                    owner,
                    run,
                    access,
                    behind,
                };
                let guest = open(viewer, number, there, from, credit, writer);
                viewer.guests.insert(number, guest);
            }
        }
        (message, None) => return Ok(Some(message)),
        (ViewerMessage::Credit { bytes, .. }, Some(guest)) => {
            let more = u64::from(bytes);
            guest
                .granted
                .send_modify(|all| *all = all.saturating_add(more));
        }
        (ViewerMessage::Resize { size, .. }, Some(guest)) => {
            // Late for one that is being cut, or a viewer that only views: not worth an error.
            let _late =
                guest.access == Access::Drive && guest.orders.try_send(Order::Resize(size)).is_ok();
        }
        (ViewerMessage::Close { .. }, Some(_)) => drop(viewer.guests.remove(&number)),
        (ViewerMessage::Events | ViewerMessage::Ping { .. }, Some(_)) => {}
    }
    Ok(None)
}

/// Takes stdin for a channel to another user's run; `None` says that it is for another channel.
pub(super) fn stdin(
    viewer: &Viewer,
    number: u32,
    seq: u64,
    bytes: &Bytes,
) -> Option<Result<(), Cut>> {
    let guest = viewer.guests.get(&number)?;
    let refused = if guest.access == Access::View {
        ApiError::new(ErrorCode::Forbidden, "this channel only views")
    } else if guest
        .orders
        .try_send(Order::Stdin(seq, bytes.clone()))
        .is_err()
    {
        ApiError::new(ErrorCode::Unavailable, "the run does not take its stdin")
    } else {
        return Some(Ok(()));
    };
    Some(viewer.refuse(None, refused))
}

fn open(
    viewer: &Viewer,
    number: u32,
    there: There,
    from: StreamSizes,
    credit: u32,
    writer: Option<String>,
) -> Guest {
    let granted = Granted::new(credit);
    let (orders, queue) = mpsc::channel(MAX_ORDERS);
    let ended = viewer.ended.child_token();
    let access = there.access;
    let outlet = Outlet {
        number,
        control: viewer.control.clone(),
        bulk: viewer.bulk.clone(),
    };
    let writer = writer.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let (tracker, until) = (viewer.state.tracker().clone(), ended.clone());
    let control = viewer.control.clone();
    tracker.spawn(async move {
        let following = async {
            if let Err(error) = follow(&there, from, granted.watch, &outlet).await {
                let channel = Some(number);
                let message = AgentMessage::Error {
                    channel,
                    error: logged(error),
                };
                let _cut = outlet.control.send(text(&message)).await;
            }
        };
        let obeying = async {
            if let Err(error) = obey(&there, number, &writer, queue, &control).await {
                let message = AgentMessage::Error {
                    channel: Some(number),
                    error: logged(error),
                };
                let _cut = control.send(text(&message)).await;
            }
        };
        let _closed = until
            .run_until_cancelled(async {
                tokio::select! {
                    () = following => {}
                    () = obeying => {}
                }
            })
            .await;
        until.cancel();
    });
    Guest {
        granted: granted.sender,
        orders,
        access,
        _end: ended.clone().drop_guard(),
        ended,
    }
}

/// Follows a run to its end, also across cuts.
async fn follow(
    there: &There,
    mut at: StreamSizes,
    mut granted: watch::Receiver<u64>,
    outlet: &Outlet,
) -> Result<(), ApiError> {
    let mut sent = 0;
    // Before it has ever worked, an owner who is not there is the answer.
    let mut give_up = Instant::now();
    let mut pause = PAUSE;
    loop {
        let began = Instant::now();
        match there.frames(at).await {
            Ok(body) => {
                let end = there.pump(body, &mut at, &mut sent, &mut granted, outlet);
                match end.await {
                    Pumped::Done => return Ok(()),
                    Pumped::Broken(what) => {
                        let what = format!("{}'s agent sent {what}", there.owner);
                        return Err(ApiError::new(ErrorCode::Unavailable, what));
                    }
                    Pumped::Cut => {}
                }
                give_up = Instant::now() + PATIENCE;
            }
            Err(error) if error.code == ErrorCode::Unavailable && Instant::now() < give_up => {}
            Err(error) => return Err(error),
        }
        // One that answers and hangs up, again and again, is asked ever less often.
        pause = if began.elapsed() < LONGEST_PAUSE {
            (pause * 2).min(LONGEST_PAUSE)
        } else {
            PAUSE
        };
        sleep(pause).await;
    }
}

/// Does what the viewer wants, one after another, until the channel ends.
///
/// # Errors
/// The owner's agent is away for too long to keep what was typed in order.
async fn obey(
    there: &There,
    number: u32,
    writer: &str,
    mut queue: mpsc::Receiver<Order>,
    control: &mpsc::Sender<Message>,
) -> Result<(), ApiError> {
    while let Some(order) = queue.recv().await {
        let mut give_up = None;
        let done = loop {
            // The same writer and number: what was taken before the answer was lost is not taken twice.
            let done = match &order {
                Order::Stdin(seq, bytes) => {
                    there.write(writer, *seq, bytes.clone()).await.map(Some)
                }
                Order::Resize(size) => there.resize(*size).await.map(|()| None),
            };
            match done {
                Err(error) if error.code == ErrorCode::Unavailable => {
                    let now = Instant::now();
                    if now < *give_up.get_or_insert(now + PATIENCE) {
                        sleep(PAUSE).await;
                    } else if matches!(order, Order::Stdin(..)) {
                        return Err(error);
                    } else {
                        break Err(error);
                    }
                }
                done => break done,
            }
        };
        let message = match done {
            Ok(None) => continue,
            Ok(Some(seq)) => AgentMessage::StdinAck {
                channel: number,
                seq,
            },
            // The viewer still wants the output, so the channel stays.
            Err(error) => AgentMessage::Error {
                channel: None,
                error: logged(error),
            },
        };
        let _cut = say(control, &message);
    }
    std::future::pending().await
}

/// How a body of frames ended.
enum Pumped {
    /// The run or the socket has ended: nothing more comes.
    Done,
    /// The connection is gone: the run is followed from where it stands.
    Cut,
    /// It makes no sense, in words.
    Broken(&'static str),
}

impl There {
    fn target(&self, part: &str, query: &str) -> String {
        format!("/v1/runs/{}/{part}?{query}", self.run)
    }

    async fn frames(&self, at: StreamSizes) -> Result<Incoming, ApiError> {
        let StreamSizes {
            stdout,
            stderr,
            tty,
        } = at;
        let access = if self.access == Access::View {
            "view"
        } else {
            "drive"
        };
        let mut query =
            format!("stdout={stdout}&stderr={stderr}&tty={tty}&follow=true&access={access}");
        if let Some(behind) = self.behind {
            query += &format!("&behind={behind}");
        }
        let question = Question::get(self.target("stream", &query));
        Ok(away::ask(&self.state, &self.owner, &question)
            .await?
            .into_body())
    }

    async fn post(&self, part: &str, query: &str, body: Bytes) -> Result<Incoming, ApiError> {
        let question = Question {
            method: Method::POST,
            body,
            limit: ORDER_LIMIT,
            ..Question::get(self.target(part, query))
        };
        Ok(away::ask(&self.state, &self.owner, &question)
            .await?
            .into_body())
    }

    async fn write(&self, writer: &str, seq: u64, bytes: Bytes) -> Result<u64, ApiError> {
        let writer =
            percent_encoding::utf8_percent_encode(writer, percent_encoding::NON_ALPHANUMERIC);
        let body = self
            .post("stdin", &format!("writer={writer}&seq={seq}"), bytes)
            .await?;
        let read = timeout(ORDER_LIMIT, Limited::new(body, 4096).collect()).await;
        let ack = read.ok().and_then(Result::ok);
        let ack = ack.and_then(|ack| serde_json::from_slice::<StdinAck>(&ack.to_bytes()).ok());
        let what = format!("{}'s agent did not say whether stdin was taken", self.owner);
        ack.map(|ack| ack.seq)
            .ok_or_else(|| ApiError::new(ErrorCode::Unavailable, what))
    }

    async fn resize(&self, size: TerminalSize) -> Result<(), ApiError> {
        let body = serde_json::to_vec(&size).unwrap_or_default();
        self.post("resize", "", body.into()).await.map(drop)
    }

    /// Hands frames on as the viewer grants.
    async fn pump(
        &self,
        mut body: Incoming,
        at: &mut StreamSizes,
        sent: &mut u64,
        granted: &mut watch::Receiver<u64>,
        outlet: &Outlet,
    ) -> Pumped {
        let mut decoder = FrameDecoder::default();
        loop {
            match decoder.next_frame() {
                Ok(Some(Frame::Data {
                    stream,
                    offset,
                    bytes,
                })) => {
                    let here = offset_in(at, stream);
                    // What lies between was passed over, which only who asked for it is told.
                    let ahead = offset > *here && self.behind.is_some();
                    if (offset != *here && !ahead)
                        || offset.checked_add(bytes.len() as u64).is_none()
                    {
                        return Pumped::Broken("bytes out of order");
                    }
                    *here = offset;
                    let mut rest = bytes;
                    while !rest.is_empty() {
                        let credit = granted.borrow_and_update().saturating_sub(*sent);
                        let max = usize::try_from(credit).unwrap_or(usize::MAX).min(FRAME);
                        if max == 0 {
                            if granted.changed().await.is_err() {
                                return Pumped::Done;
                            }
                            continue;
                        }
                        let piece = rest.split_to(max.min(rest.len()));
                        let (offset, length) = (*here, piece.len() as u64);
                        if !put(
                            outlet,
                            &Frame::Data {
                                stream,
                                offset,
                                bytes: piece,
                            },
                        )
                        .await
                        {
                            return Pumped::Done;
                        }
                        *here += length;
                        *sent += length;
                    }
                }
                Ok(Some(frame)) => {
                    match &frame {
                        Frame::Gap { stream, to, .. } => {
                            let here = offset_in(at, *stream);
                            if to < here {
                                return Pumped::Broken("bytes out of order");
                            }
                            *here = *to;
                        }
                        Frame::State(run) | Frame::End(run) if run.id != self.run => {
                            return Pumped::Broken("another run");
                        }
                        _ => {}
                    }
                    let is_last = matches!(frame, Frame::End(_));
                    if !put(outlet, &frame).await || is_last {
                        return Pumped::Done;
                    }
                }
                Ok(None) => match timeout(SILENCE, body.frame()).await {
                    Ok(Some(Ok(piece))) => {
                        if let Ok(piece) = piece.into_data() {
                            decoder.push(&piece);
                        }
                    }
                    _ => return Pumped::Cut,
                },
                Err(error) => {
                    tracing::warn!(%error, owner = self.owner, "another user's agent sent no frame");
                    return Pumped::Broken("what is no frame");
                }
            }
        }
    }
}

const fn offset_in(at: &mut StreamSizes, stream: StreamName) -> &mut u64 {
    match stream {
        StreamName::Stdout => &mut at.stdout,
        StreamName::Stderr => &mut at.stderr,
        StreamName::Tty => &mut at.tty,
    }
}

/// Sends a frame to the viewer; `false` when the socket has ended.
async fn put(outlet: &Outlet, frame: &Frame) -> bool {
    let mut bytes = outlet.message();
    frame.encode(&mut bytes);
    let Some(room) = outlet.bulk.room().await else {
        return false;
    };
    room.send(Message::Binary(bytes.freeze()));
    true
}

const MAX_GUESTS: usize = 16;

/// So many pieces of stdin may wait for a command that does not read.
const MAX_ORDERS: usize = 64;

const FRAME: usize = 16 * 1024;

/// Three missed pings of the owner's agent.
const SILENCE: Duration = Duration::from_secs(45);

/// How long an owner's agent may be away, such as for an upgrade.
const PATIENCE: Duration = Duration::from_secs(20);

const PAUSE: Duration = Duration::from_millis(200);

const LONGEST_PAUSE: Duration = Duration::from_secs(2);

const ORDER_LIMIT: Duration = Duration::from_secs(60);
