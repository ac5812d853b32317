//! The stream to the agent: the standard input and output of `ssh` while a command on the node pipes them.
//!
//! It ends when that command does. Dropping it earlier does not end the command, because there is no way to tell it: the
//! conversation goes on only if the command then ends by itself, and otherwise the login ends with the next use.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Buf as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedMutexGuard;
use tokio_util::io::poll_read_buf;

use super::Inner;
use super::talk::{CHUNK, Talk, Turn};

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
        while let Turn::Streaming(finder) = &mut talk.turn {
            let count = finder.ready().min(buffer.remaining());
            if count > 0 {
                buffer.put_slice(&talk.unread.split_to(count));
                finder.taken(count);
                break;
            }
            if buffer.remaining() == 0 {
                break;
            }
            if let Some((_, end)) = finder.end() {
                talk.unread.advance(end);
                talk.turn = Turn::Idle;
                break;
            }
            talk.unread.reserve(CHUNK);
            let stdout = Pin::new(&mut talk.stdout);
            if ready!(poll_read_buf(stdout, cx, &mut talk.unread))? == 0 {
                talk.turn = Turn::Busy;
                break;
            }
            finder.look(&talk.unread);
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
