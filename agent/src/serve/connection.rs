//! One connection: who is there, then HTTP/1.1 or HTTP/2 with small buffers, until it or the agent ends.
//!
//! Called by `serve` in a task of its own.
//! Invariants: a process of another user gets no byte; headers stay below 16 KiB; every task of a
//! connection is one that the stop waits for.

use std::time::Duration;

use axum::Router;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::{net::UnixStream, time::timeout};

use crate::{http::AppState, tasks::Tasks};

/// Serves a connection until it ends.
pub(super) async fn talk(stream: UnixStream, state: AppState, router: Router) {
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == rustix::process::getuid().as_raw() => {}
        Ok(peer) => {
            tracing::warn!(uid = peer.uid(), "refused a connection of another user");
            return;
        }
        Err(error) => {
            tracing::warn!(%error, "refused a connection of nobody knows whom");
            return;
        }
    }
    let builder = builder(state.tracker());
    let service = TowerToHyperService::new(router);
    let talking = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(talking);
    let ended = tokio::select! {
        ended = talking.as_mut() => ended,
        () = state.stopping().cancelled() => {
            talking.as_mut().graceful_shutdown();
            timeout(LAST_ANSWERS, talking).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = %error, "a connection ended with an error");
    }
}

/// Returns what serves a connection, with small buffers.
pub(crate) fn builder(tracker: &Tasks) -> Builder<Tracked> {
    let mut builder = Builder::new(Tracked(tracker.clone()));
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_buf_size(HEADER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .enable_connect_protocol()
        .max_header_list_size(16 * 1024)
        .max_concurrent_streams(MAX_STREAMS)
        .max_frame_size(FRAME_BYTES)
        .max_send_buf_size(SEND_BYTES);
    builder
}

/// Starts hyper's tasks where the stop waits for them.
#[derive(Clone)]
pub(crate) struct Tracked(Tasks);

impl<F> hyper::rt::Executor<F> for Tracked
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

/// hyper's limit for a request's head, and how much it gathers before it writes.
const HEADER_BYTES: usize = 16 * 1024;

/// The bridge puts every viewer and every call of a cluster on one connection, and gives each of them
/// a window of 1 MiB; all together must stay below 2 GiB.
const MAX_STREAMS: u32 = 1536;

const FRAME_BYTES: u32 = 64 * 1024;

/// What waits in one HTTP/2 stream for a client that does not read, beside one piece. Fifty viewers of
/// one terminal over a connection that is slower than it all have so much waiting.
const SEND_BYTES: usize = 2 * 1024;

const LAST_ANSWERS: Duration = Duration::from_secs(1);
