//! One SSH channel as a byte stream that never holds up the connection.
//!
//! The SSH library delivers all channels from one task and waits for whoever does not read, so that one stalled reader
//! would freeze every stream and the keepalives with it. Here a task of its own reads each channel at once into a
//! bounded queue; a reader that lets the queue overflow loses its stream, and nobody else is touched.
//!
//! Invariants: the pump never waits for the reader; a stream that was cut ends in an error, one that the other side
//! ended ends cleanly; a write ends with the channel; dropping the stream closes the channel.
//!
//! Not here: flow control towards the other side. HTTP/2 on top has its own for each of its streams, and its task reads
//! whatever its streams' readers do; [`QUEUE_LIMIT`] is for a task that does not come to it.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use russh::client::Msg;
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// How many bytes may wait for the reader.
pub(crate) const QUEUE_LIMIT: usize = 32 << 20;
/// What a waiting chunk costs beside its bytes, so that many small ones are bounded too.
const CHUNK_COST: usize = 64;
/// How much of what a command writes to its standard error is kept.
const ERRORS_KEPT: usize = 4 << 10;
/// How long the request to close a channel may take to be handed over.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// A byte stream to the agent's socket.
pub(crate) struct ChannelStream {
    queue: Arc<Mutex<Queue>>,
    writer: Pin<Box<dyn AsyncWrite + Send>>,
    /// Ends the pump with the stream.
    _alive: DropGuard,
}

#[derive(Default)]
struct Queue {
    chunks: VecDeque<Bytes>,
    cost: usize,
    end: Option<End>,
    reader: Option<Waker>,
    /// Whether the channel is gone for good.
    gone: bool,
    writer: Option<Waker>,
    errors: Vec<u8>,
}

#[derive(Clone, Copy)]
enum End {
    /// The other side has said all.
    Clean,
    /// The connection or the channel went away.
    Cut,
    /// The reader was too slow.
    Overflow,
}

impl ChannelStream {
    /// Takes a channel over; its pump runs in `tasks` until the stream is dropped or `stop` is cancelled.
    pub(crate) fn new(
        channel: Channel<Msg>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Self {
        let (read, write) = channel.split();
        let writer = Box::pin(write.make_writer());
        let queue = Arc::new(Mutex::new(Queue::default()));
        let alive = stop.child_token();
        tasks.spawn(pump(read, write, Arc::clone(&queue), alive.clone()));
        Self {
            queue,
            writer,
            _alive: alive.drop_guard(),
        }
    }

    /// Puts bytes back in front of what is to be read next.
    pub(crate) fn unread(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            let mut queue = lock(&self.queue);
            queue.cost += bytes.len() + CHUNK_COST;
            queue.chunks.push_front(bytes);
        }
    }

    /// A write that waits for the other side's window would wait for ever when the channel is gone.
    fn unless_gone<T>(
        &self,
        outcome: Poll<io::Result<T>>,
        context: &Context<'_>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            return outcome;
        }
        let mut queue = lock(&self.queue);
        if queue.gone {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        queue.writer = Some(context.waker().clone());
        Poll::Pending
    }

    /// The end of what the command behind the stream wrote to its standard error.
    pub(crate) fn errors(&self) -> String {
        String::from_utf8_lossy(&lock(&self.queue).errors).into_owned()
    }
}

impl std::fmt::Debug for ChannelStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChannelStream").finish_non_exhaustive()
    }
}

/// Moves what arrives into the queue, and closes the channel when nobody wants it any more.
async fn pump(
    mut read: ChannelReadHalf,
    write: ChannelWriteHalf<Msg>,
    queue: Arc<Mutex<Queue>>,
    gone: CancellationToken,
) {
    loop {
        let message = tokio::select! {
            message = read.wait() => message,
            () = gone.cancelled() => break,
        };
        let go_on = match message {
            Some(ChannelMsg::Data { data }) => lock(&queue).push(data),
            Some(ChannelMsg::ExtendedData { data, .. }) => {
                lock(&queue).keep_errors(&data);
                true
            }
            Some(ChannelMsg::Eof) => {
                lock(&queue).finish(End::Clean);
                true
            }
            Some(ChannelMsg::Close) | None => break,
            Some(_) => true,
        };
        if !go_on {
            break;
        }
    }
    lock(&queue).close();
    // The session waits for a reader that exists and does not read, so the reader goes first.
    drop(read);
    let _ = tokio::time::timeout(CLOSE_DEADLINE, write.close()).await;
}

impl Queue {
    /// Takes a chunk; false if there is no room, which ends the stream.
    fn push(&mut self, data: Bytes) -> bool {
        let cost = data.len() + CHUNK_COST;
        if self.end.is_some() || self.cost + cost > QUEUE_LIMIT {
            self.finish(End::Overflow);
            return false;
        }
        self.cost += cost;
        self.chunks.push_back(data);
        self.wake();
        true
    }

    fn keep_errors(&mut self, data: &[u8]) {
        self.errors.extend_from_slice(data);
        let excess = self.errors.len().saturating_sub(ERRORS_KEPT);
        self.errors.drain(..excess);
    }

    fn finish(&mut self, end: End) {
        self.end.get_or_insert(end);
        self.wake();
    }

    fn close(&mut self) {
        self.finish(End::Cut);
        self.gone = true;
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }

    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

impl AsyncRead for ChannelStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut queue = lock(&self.queue);
        let before = into.filled().len();
        while into.remaining() > 0 {
            let Some(chunk) = queue.chunks.front_mut() else {
                break;
            };
            let count = chunk.len().min(into.remaining());
            into.put_slice(chunk.get(..count).unwrap_or_default());
            chunk.advance(count);
            let used_up = chunk.is_empty();
            queue.cost = queue.cost.saturating_sub(count);
            if used_up {
                queue.chunks.pop_front();
                queue.cost = queue.cost.saturating_sub(CHUNK_COST);
            }
        }
        if into.filled().len() > before || into.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        match queue.end {
            Some(End::Clean) => Poll::Ready(Ok(())),
            Some(End::Cut) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Some(End::Overflow) => {
                Poll::Ready(Err(io::Error::other("too much data waited for its reader")))
            }
            None => {
                queue.reader = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl AsyncWrite for ChannelStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let outcome = self.writer.as_mut().poll_write(context, data);
        self.unless_gone(outcome, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = self.writer.as_mut().poll_flush(context);
        self.unless_gone(outcome, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = self.writer.as_mut().poll_shutdown(context);
        self.unless_gone(outcome, context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_is_too_slow_loses_its_stream_and_no_memory_grows() {
        let mut queue = Queue::default();
        let chunk = Bytes::from(vec![0; 64 << 10]);
        let taken = (0..10_000)
            .take_while(|_| queue.push(chunk.clone()))
            .count();
        assert!(taken >= 500);
        assert!(queue.cost <= QUEUE_LIMIT);
        assert!(matches!(queue.end, Some(End::Overflow)));

        let mut queue = Queue::default();
        let taken = (0..10_000_000)
            .take_while(|_| queue.push(Bytes::from_static(b"x")))
            .count();
        assert!(taken < QUEUE_LIMIT / CHUNK_COST + 1);
    }

    #[test]
    fn the_end_of_the_errors_is_kept() {
        let mut queue = Queue::default();
        queue.keep_errors(&vec![b'a'; 10_000]);
        queue.keep_errors(b"the end");
        assert_eq!(queue.errors.len(), ERRORS_KEPT);
        assert!(queue.errors.ends_with(b"the end"));
    }
}
