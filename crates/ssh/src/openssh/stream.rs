//! The stream to the agent: the standard input and output of `ssh` while a command on the node pipes them.
//!
//! It ends when that command does. Dropping it earlier does not end the command, because there is no way to tell it: the
//! conversation goes on only if the command then ends by itself, and otherwise the login ends with the next use.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedMutexGuard;

use super::Inner;
use super::talk::{Talk, Turn};

/// The stream. Whoever has it has the conversation.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) talk: OwnedMutexGuard<Talk>,
    /// Keeps the login.
    pub(super) _login: Arc<Inner>,
}

impl Stream {
    fn is_over(&self) -> bool {
        !matches!(self.talk.turn, Turn::Streaming(_))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let talk = &mut *self.talk;
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let start = buffer.filled().len();
        while let Turn::Streaming(finder) = &mut talk.turn {
            if talk.unread.is_empty() {
                ready!(Pin::new(&mut talk.stdout).poll_read(cx, buffer))?;
            } else {
                let count = talk.unread.len().min(buffer.remaining());
                buffer.put_slice(&talk.unread.split_to(count));
            }
            let fresh = buffer.filled().get(start..).unwrap_or_default();
            if fresh.is_empty() {
                talk.turn = Turn::Busy;
                break;
            }
            let found = finder.look(fresh);
            if let Some((_, end)) = found.end {
                let mut rest = bytes::BytesMut::from(fresh.get(end..).unwrap_or_default());
                rest.extend_from_slice(&talk.unread);
                talk.unread = rest;
                talk.turn = Turn::Idle;
            }
            buffer.set_filled(start + found.before);
            if found.before > 0 {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_over() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Pin::new(&mut self.talk.stdin).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.talk.stdin).poll_flush(cx)
    }

    /// The end of our side cannot be told to the agent without ending the login.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}
