//! The connection to one shim: messages out without a detour, messages in to the registry.
//!
//! `send` writes to the socket in the caller's own task, because each hop costs the user time. What
//! the socket does not take at once waits here and is written by the link's task.
//! Invariants: at most [`MAX_WAITING`] bytes wait; messages go out in the order of `send`; a link
//! that is closed stays closed.
//! Not here: what messages mean (`runs::adopt`, `runs`), starting shims (`runs::start`).

use std::{
    io,
    os::unix::net::UnixStream as StdStream,
    sync::{Arc, Mutex, OnceLock},
};

use hpcclient_protocol::SessionId;
use tokio::{net::UnixStream, sync::Notify};
use tokio_util::sync::CancellationToken;

use super::{RunError, live_run::lock, turns::Turns};
use crate::shim::control::{self, Decoder, FromShim, ToShim};

/// A connection to a shim; clones are the same connection.
#[derive(Clone, Debug)]
pub struct Link(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    stream: UnixStream,
    session: Option<SessionId>,
    waiting: Mutex<Vec<u8>>,
    more: Notify,
    turns: Turns,
    greeted: CancellationToken,
    failure: OnceLock<String>,
    closed: CancellationToken,
}

impl Link {
    /// Makes a link of a connected socket.
    ///
    /// # Errors
    /// The runtime cannot take the socket.
    pub fn new(stream: StdStream, session: Option<SessionId>) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self(Arc::new(Inner {
            stream: UnixStream::from_std(stream)?,
            session,
            waiting: Mutex::new(Vec::new()),
            more: Notify::new(),
            turns: Turns::default(),
            greeted: CancellationToken::new(),
            failure: OnceLock::new(),
            closed: CancellationToken::new(),
        })))
    }

    /// Returns the session that the shim keeps.
    pub fn session(&self) -> Option<&SessionId> {
        self.0.session.as_ref()
    }

    /// Returns the queue of the lines that wait for the shim's shell.
    pub(super) fn turns(&self) -> &Turns {
        &self.0.turns
    }

    /// Returns whether both are the same connection.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Returns whether the shim is gone.
    pub fn is_closed(&self) -> bool {
        self.0.closed.is_cancelled()
    }

    /// Waits until the shim is gone.
    pub async fn closed(&self) {
        self.0.closed.cancelled().await;
    }

    /// Tells that the shim said who it is and that its runs are known.
    pub fn set_greeted(&self) {
        self.0.greeted.cancel();
    }

    /// Waits for that, or until the shim is gone.
    pub async fn greeted(&self) {
        tokio::select! {
            () = self.0.greeted.cancelled() => {}
            () = self.closed() => {}
        }
    }

    /// Remembers why there is no shim after all.
    pub fn set_failure(&self, reason: &str) {
        let reason = format!("its supervisor could not start: {reason}");
        // Only the first reason is the reason.
        let _known = self.0.failure.set(reason);
    }

    /// Returns why there is no shim, if it could not start.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.0.failure.get().map(String::as_str)
    }

    /// Sends a message.
    ///
    /// # Errors
    /// It is too long, the shim is gone, or it does not read.
    pub fn send(&self, message: &ToShim, data: &[u8]) -> Result<(), RunError> {
        let bytes = control::encode(message, data)?;
        if self.is_closed() {
            return Err(RunError::Gone);
        }
        let mut waiting = lock(&self.0.waiting);
        let sent = if waiting.is_empty() {
            self.0.stream.try_write(&bytes).unwrap_or(0)
        } else {
            0
        };
        let rest = bytes.get(sent..).unwrap_or_default();
        if waiting.len() + rest.len() > MAX_WAITING && sent == 0 {
            return Err(RunError::Busy);
        }
        if !rest.is_empty() {
            waiting.extend_from_slice(rest);
            self.0.more.notify_one();
        }
        Ok(())
    }

    /// Reads messages until the shim is gone, and writes what `send` could not. `take` is called
    /// for each message, and the next one is read when it is done.
    pub async fn attend<F: Future<Output = ()>>(&self, mut take: impl FnMut(FromShim) -> F) {
        let write = self.write_waiting();
        tokio::pin!(write);
        let mut decoder = Decoder::<FromShim>::default();
        let mut buffer = vec![0u8; READ_BYTES];
        let mut writes = true;
        'read: loop {
            tokio::select! {
                readable = self.0.stream.readable() => if readable.is_err() { break },
                // One that reads no more may have said why before.
                () = &mut write, if writes => {
                    writes = false;
                    continue;
                }
            }
            match self.0.stream.try_read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => decoder.push(buffer.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(_) => break,
            }
            loop {
                match decoder.next_message() {
                    Ok(Some((message, _))) => take(message).await,
                    Ok(None) => break,
                    Err(error) => {
                        tracing::warn!(%error, "a supervisor sent what is not a message");
                        break 'read;
                    }
                }
            }
        }
        self.0.closed.cancel();
    }

    /// Runs until the socket fails.
    async fn write_waiting(&self) {
        loop {
            if lock(&self.0.waiting).is_empty() {
                self.0.more.notified().await;
                continue;
            }
            if self.0.stream.writable().await.is_err() {
                return;
            }
            let mut waiting = lock(&self.0.waiting);
            match self.0.stream.try_write(&waiting) {
                Ok(count) => drop(waiting.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }
}

/// Two of the largest stdin messages: more means that the shim does not read.
const MAX_WAITING: usize = 2 << 20;

const READ_BYTES: usize = 4096;
