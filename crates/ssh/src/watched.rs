//! A byte stream that notices a server that takes nothing more.
//!
//! The SSH library writes and reads in one task, and while a write waits it neither reads nor counts unanswered
//! keepalives. A server that stopped reading, behind a socket that the kernel still answers for, would hold it for
//! ever. So a write that waits here reads ahead for a sign of life, and fails when there is none for too long.
//!
//! Invariants: what was read ahead is bounded and is read first; a slow server that answers now and then is never cut.
//!
//! Not here: silence while nothing is being written, which keepalives notice.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::DropGuard;

use crate::connection::AgentStream;

/// How much is read ahead. A server that sent so much is alive.
const AHEAD: usize = 256 << 10;
/// How long a write waits at least.
const SHORTEST_WAIT: Duration = Duration::from_secs(5);

/// A stream to a server.
pub(crate) struct Watched {
    stream: AgentStream,
    /// How long the server may say nothing while a write waits.
    limit: Duration,
    ahead: BytesMut,
    heard: Instant,
    /// Since when a write waits.
    waiting: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    reader: Option<Waker>,
    _carrier: Option<DropGuard>,
}

impl Watched {
    pub(crate) fn new(stream: AgentStream, carrier: Option<DropGuard>, limit: Duration) -> Self {
        let now = Instant::now();
        Self {
            stream,
            limit,
            ahead: BytesMut::new(),
            heard: now,
            waiting: None,
            timer: Box::pin(tokio::time::sleep_until(now)),
            reader: None,
            _carrier: carrier,
        }
    }

    /// Passes the outcome of a write or a flush on, and looks for a sign of life while there is none.
    fn watch<T>(
        &mut self,
        outcome: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            if self.waiting.take().is_some() {
                // The stream may know this task instead of the reader's by now.
                self.wake_reader();
            }
            return outcome;
        }
        let since = *self.waiting.get_or_insert_with(Instant::now);
        while self.ahead.len() < AHEAD {
            match self.read_ahead(context) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Poll::Ready(Ok(_)) => {
                    self.heard = Instant::now();
                    self.wake_reader();
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return self.time_out(since, context),
            }
        }
        Poll::Pending
    }

    fn read_ahead(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut block = [0; 16 << 10];
        let mut buffer = ReadBuf::new(&mut block);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
        self.ahead.extend_from_slice(buffer.filled());
        Poll::Ready(Ok(buffer.filled().len()))
    }

    fn time_out<T>(&mut self, since: Instant, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        let end = (self.heard + self.limit).max(since + SHORTEST_WAIT.min(self.limit));
        if self.timer.deadline() != end {
            self.timer.as_mut().reset(end);
        }
        ready!(self.timer.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn wake_reader(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let count = self.ahead.len().min(into.remaining());
            into.put_slice(self.ahead.get(..count).unwrap_or_default());
            self.ahead.advance(count);
            return Poll::Ready(Ok(()));
        }
        let before = into.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(context, into);
        if outcome.is_pending() {
            self.reader = Some(context.waker().clone());
        } else if into.filled().len() > before {
            self.heard = Instant::now();
        }
        outcome
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, data);
        self.watch(outcome, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(context);
        self.watch(outcome, context)
    }

    /// Never fails and never waits behind a write: the SSH library tells of the end of the session only after this.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.waiting.is_none() {
            let _ = ready!(Pin::new(&mut self.stream).poll_shutdown(context));
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    const LIMIT: Duration = Duration::from_secs(45);

    fn pair() -> (Watched, DuplexStream) {
        let (near, far) = tokio::io::duplex(1_000);
        (Watched::new(Box::new(near), None, LIMIT), far)
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_takes_nothing_and_says_nothing_is_given_up() {
        let (mut near, _far) = pair();
        let start = Instant::now();
        let failed = near.write_all(&[0; 2_000]).await.unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed().as_secs(), LIMIT.as_secs());
        near.shutdown().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_silence_before_the_write_counts_too() {
        let (mut near, _far) = pair();
        tokio::time::sleep(Duration::from_secs(44)).await;
        let start = Instant::now();
        near.write_all(&[0; 2_000]).await.unwrap_err();
        assert_eq!(start.elapsed().as_secs(), SHORTEST_WAIT.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_server_with_signs_of_life_is_waited_for() {
        let (mut near, mut far) = pair();
        let server = async {
            for round in 0..10_u8 {
                tokio::time::sleep(Duration::from_secs(40)).await;
                far.write_all(&[round]).await.unwrap();
            }
            let mut taken = vec![0; 2_000];
            far.read_exact(&mut taken).await.unwrap();
            far
        };
        let (wrote, _far) = tokio::join!(near.write_all(&[0; 2_000]), server);
        wrote.unwrap();
        let mut signs = [0; 10];
        near.read_exact(&mut signs).await.unwrap();
        assert_eq!(signs, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_left_is_noticed_while_a_write_waits() {
        let (mut near, far) = pair();
        let leave = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(far);
        };
        let (wrote, ()) = tokio::join!(near.write_all(&[0; 2_000]), leave);
        assert!(wrote.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_in_another_task_is_not_forgotten() {
        let (near, mut far) = pair();
        let (mut read, mut write) = tokio::io::split(near);
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move { read.read_u8().await.unwrap() });
        tasks.spawn(async move {
            write.write_all(&[0; 2_000]).await.unwrap();
            0
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        far.read_exact(&mut [0; 2_000]).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        far.write_u8(7).await.unwrap();
        let mut results = tasks.join_all().await;
        results.sort_unstable();
        assert_eq!(results, [0, 7]);
    }
}
