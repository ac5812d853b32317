//! The way of bytes to a socket: one message at a time, from before it is made until it is written.
//!
//! Called by the channels of a socket and its writer. Invariant: a viewer that does not read has one message waiting,
//! whatever it follows.

use std::sync::Arc;

use axum::extract::ws::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// What the channels have of it.
#[derive(Clone, Debug)]
pub(super) struct Bulk {
    turn: Arc<Semaphore>,
    writer: mpsc::Sender<Piece>,
}

/// A message on its way; the next is made when its turn is over.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) message: Message,
    pub(super) turn: OwnedSemaphorePermit,
}

/// The right to make the next message.
#[derive(Debug)]
pub(super) struct Room<'a> {
    turn: OwnedSemaphorePermit,
    writer: &'a mpsc::Sender<Piece>,
}

/// Returns both ends of a new one.
pub(super) fn bulk() -> (Bulk, mpsc::Receiver<Piece>) {
    let (writer, pieces) = mpsc::channel(1);
    let turn = Arc::new(Semaphore::new(1));
    (Bulk { turn, writer }, pieces)
}

impl Bulk {
    /// Waits until what was sent before is written; `None` when the writer is gone.
    pub(super) async fn room(&self) -> Option<Room<'_>> {
        let turn = Arc::clone(&self.turn).acquire_owned().await.ok()?;
        let writer = &self.writer;
        (!writer.is_closed()).then_some(Room { turn, writer })
    }
}

impl Room<'_> {
    /// Sends a message.
    pub(super) fn send(self, message: Message) {
        let Self { turn, writer } = self;
        // There is room, or the writer is gone and the channels end with it.
        let _gone = writer.try_send(Piece { message, turn });
    }
}
