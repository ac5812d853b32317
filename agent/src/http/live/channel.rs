//! One channel of a live socket: it follows a run and sends what its credit allows.
//!
//! Invariants: the sum of `Data` payloads never exceeds what was granted; nothing is read from the
//! store before there is credit and room on the socket; `seq` numbers of a writer go to the shim in
//! the order in which they came.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use axum::extract::ws::Message;
use bytes::{BufMut, BytesMut};
use hpcclient_protocol::{
    Frame, RunId,
    live::AgentMessage,
    run::{StreamSizes, TerminalSize},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time::timeout,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Failure, bulk::Bulk, logged, text};
use crate::{
    http::AppState,
    presence::Present,
    runs::{Follower, Mode, Piece, RunError, Start, Taken},
};

/// The viewer's side of a channel.
#[derive(Debug)]
pub(super) struct Channel {
    run: RunId,
    writer: String,
    /// Gone when the channel has ended.
    present: Weak<Present>,
    granted: watch::Sender<u64>,
    untaken: Arc<Semaphore>,
    ended: CancellationToken,
    _end: DropGuard,
}

/// A channel's credit: all that was ever granted.
pub(super) struct Granted {
    pub(super) sender: watch::Sender<u64>,
    pub(super) watch: watch::Receiver<u64>,
}

impl Granted {
    pub(super) fn new(credit: u32) -> Self {
        let (sender, watch) = watch::channel(u64::from(credit));
        Self { sender, watch }
    }
}

impl Channel {
    pub(super) fn new(
        run: RunId,
        writer: Option<String>,
        present: &Arc<Present>,
        granted: watch::Sender<u64>,
        ended: CancellationToken,
    ) -> Self {
        Self {
            run,
            writer: writer.unwrap_or_else(|| uuid::Uuid::new_v4().to_string()),
            present: Arc::downgrade(present),
            granted,
            untaken: Arc::new(Semaphore::new(MAX_UNTAKEN)),
            _end: ended.clone().drop_guard(),
            ended,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        !self.ended.is_cancelled()
    }

    pub(super) fn grant(&self, bytes: u32) {
        self.granted
            .send_modify(|all| *all = all.saturating_add(u64::from(bytes)));
    }

    /// Tells the size of the viewer's window.
    pub(super) async fn resize(&self, size: TerminalSize) -> Result<(), RunError> {
        let present = self.present.upgrade();
        let present = present.ok_or(RunError::Ended { id: self.run })?;
        // A run that waits for its turn has no terminal yet, and the socket must go on.
        let resized = timeout(START_LIMIT, present.resize(size)).await;
        resized.unwrap_or(Err(RunError::Busy))
    }

    /// Sends a piece of stdin. The permit is held until it was taken.
    pub(super) async fn write(
        &self,
        state: &AppState,
        seq: u64,
        bytes: &[u8],
    ) -> Result<(Taken, OwnedSemaphorePermit), Failure> {
        let present = self.present.upgrade();
        present.ok_or(RunError::Ended { id: self.run })?.types()?;
        let untaken = Arc::clone(&self.untaken).try_acquire_owned();
        let permit = untaken.map_err(|_| RunError::Busy)?;
        let piece = Piece {
            writer: self.writer.clone(),
            seq,
            eof: false,
        };
        // A run that waits for its turn has nobody to read yet, and the socket must go on.
        let sent = timeout(
            START_LIMIT,
            state.runs().write_stdin(self.run, piece, bytes),
        )
        .await;
        Ok((sent.map_err(|_| RunError::Busy)??, permit))
    }
}

/// Where a channel's messages go.
pub(super) struct Outlet {
    pub(super) number: u32,
    pub(super) control: mpsc::Sender<Message>,
    pub(super) bulk: Bulk,
}

impl Outlet {
    /// Returns a message that has no frame yet.
    pub(super) fn message(&self) -> BytesMut {
        let mut message = BytesMut::new();
        message.put_u32(self.number);
        message
    }
}

/// What a channel follows: a run, from these offsets on, and never further behind.
pub(super) struct Place {
    pub(super) run: RunId,
    pub(super) from: StreamSizes,
    pub(super) behind: Option<u32>,
}

/// Follows a run until its end, and tells a failure.
pub(super) async fn follow(
    state: AppState,
    place: Place,
    granted: watch::Receiver<u64>,
    outlet: Outlet,
) {
    let followed = match follower(&state, place).await {
        Ok(follower) => send(follower, granted, &outlet).await,
        Err(error) => Err(error),
    };
    if let Err(error) = followed {
        let error = logged(Failure::from(error).0);
        let message = AgentMessage::Error {
            channel: Some(outlet.number),
            error,
        };
        let _cut = outlet.control.send(text(&message)).await;
    }
}

async fn follower(state: &AppState, place: Place) -> Result<Follower, RunError> {
    let Place { run, from, behind } = place;
    let runs = state.runs();
    let mut follower = runs.follow(run, Start::At(from), Mode::Follow).await?;
    follower.no_further_behind(behind);
    Ok(follower)
}

async fn send(
    mut follower: Follower,
    mut granted: watch::Receiver<u64>,
    outlet: &Outlet,
) -> Result<(), RunError> {
    let mut sent = 0u64;
    while !follower.has_ended() {
        // Room first: nothing waits between the store and the socket.
        let Some(room) = outlet.bulk.room().await else {
            return Ok(());
        };
        let credit = granted.borrow_and_update().saturating_sub(sent);
        let max = usize::try_from(credit).unwrap_or(usize::MAX).min(MESSAGE);
        let message = outlet.message();
        let empty = message.len();
        let (message, data, back) = follower.step(message, max).await?;
        follower = back;
        if message.len() > empty {
            sent += data as u64;
            room.send(Message::Binary(message.freeze()));
            continue;
        }
        drop(room);
        tokio::select! {
            is_more = follower.more() => if !is_more {
                let Some(room) = outlet.bulk.room().await else { return Ok(()) };
                let mut message = outlet.message();
                Frame::Ping.encode(&mut message);
                room.send(Message::Binary(message.freeze()));
            },
            changed = granted.changed() => if changed.is_err() { return Ok(()) },
        }
    }
    Ok(())
}

/// Small enough that an interrupt's echo is not long behind one on a slow line.
const MESSAGE: usize = 16 * 1024;

/// So many pieces of stdin may be on their way to a command that does not read.
const MAX_UNTAKEN: usize = 64;

/// How long a viewer's socket waits for a run that has no shim yet.
pub(super) const START_LIMIT: Duration = Duration::from_secs(1);
