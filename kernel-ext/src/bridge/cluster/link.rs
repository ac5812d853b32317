//! One HTTP/2 connection over one stream to the agent, which carries every request of a cluster.
//!
//! Made by `actor`, used by `Cluster::send`.
//! Invariant: a viewer that does not read fills its own stream's window and nothing else, because
//! the connection's window is larger than all streams' windows together.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    body::Body,
    http::{Method, Request, Response},
};
use hpcclient_protocol::{ApiError, ErrorCode};
use hpcclient_ssh::AgentStream;
use hyper::{
    body::Incoming,
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::bridge::proxy;

/// How much one answer may run ahead of its reader, in bytes.
const STREAM_WINDOW: u32 = 1 << 20;

/// How much all answers together may run ahead: no limit beyond that of each.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;

/// The largest frame in bytes: few headers for bulk, little delay for what waits behind one.
const FRAME: u32 = 64 << 10;

/// How long the agent may take for its first answer, and to end when asked to.
const FIRST_ANSWER: Duration = Duration::from_secs(15);

/// How long a living agent may take to answer after the machine woke up.
const SOON: Duration = Duration::from_millis(2_500);

/// A request that did not get an answer.
pub(super) enum Unsent {
    /// It never left; it can be sent again.
    Kept(Box<Request<Body>>),
    /// It may have left.
    Gone(ApiError),
}

/// One HTTP/2 connection.
#[derive(Clone, Debug)]
pub(super) struct Link {
    sender: SendRequest<Body>,
    closed: CancellationToken,
    answers: Arc<AtomicU64>,
}

impl Link {
    /// Starts HTTP/2 on a stream and waits for the agent's first answer.
    pub(super) async fn open(stream: AgentStream, tasks: &TaskTracker) -> Result<Self, ApiError> {
        let opened = tokio::time::timeout(FIRST_ANSWER, Self::shake_hands(stream, tasks)).await;
        opened.unwrap_or_else(|_| {
            let message = "the agent does not answer on its socket";
            Err(ApiError::new(ErrorCode::AgentFailed, message))
        })
    }

    async fn shake_hands(stream: AgentStream, tasks: &TaskTracker) -> Result<Self, ApiError> {
        let handshake = http2::Builder::new(Tracked(tasks.clone()))
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME)
            .handshake(TokioIo::new(stream));
        let (sender, connection) = handshake.await.map_err(|error| failed(&error))?;
        let closed = CancellationToken::new();
        let end = closed.clone().drop_guard();
        tasks.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the stream to the agent ended");
            }
            drop(end);
        });
        let link = Self {
            sender,
            closed,
            answers: Arc::default(),
        };
        // The answer shows that the agent lives, and that its settings have arrived: a WebSocket
        // cannot be opened before that.
        link.ask(&Method::GET, "/v1/status").await?;
        Ok(link)
    }

    /// Asks the agent to end and waits until it is gone; its runs go on.
    pub(super) async fn stop_agent(&self) -> Result<(), ApiError> {
        self.ask(&Method::POST, "/v1/stop").await?;
        let gone = tokio::time::timeout(FIRST_ANSWER, self.closed.cancelled()).await;
        gone.map_err(|_| {
            ApiError::new(
                ErrorCode::AgentFailed,
                "the running agent does not make way for ours",
            )
        })
    }

    /// Returns whether the agent answers soon.
    pub(super) async fn answers(&self) -> bool {
        let answer = self.ask(&Method::GET, "/v1/status");
        matches!(tokio::time::timeout(SOON, answer).await, Ok(Ok(())))
    }

    /// Returns whether requests can be sent.
    pub(super) fn is_open(&self) -> bool {
        !self.closed.is_cancelled() && !self.sender.is_closed()
    }

    /// Returns whether somebody got an answer over it, beside the greeting.
    pub(super) fn was_used(&self) -> bool {
        self.answers.load(Ordering::Relaxed) > 1
    }

    /// Waits for the end of the connection.
    pub(super) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// Sends a request and returns the head of its answer.
    pub(super) async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, Unsent> {
        let mut sender = self.sender.clone();
        if sender.ready().await.is_err() {
            self.wait_until_noticed().await;
            return Err(Unsent::Kept(Box::new(request)));
        }
        match sender.try_send_request(request).await {
            Ok(answer) => {
                self.answers.fetch_add(1, Ordering::Relaxed);
                Ok(answer)
            }
            Err(mut error) => match error.take_message() {
                Some(request) => {
                    self.wait_until_noticed().await;
                    Err(Unsent::Kept(Box::new(request)))
                }
                None => Err(Unsent::Gone(failed(error.error()))),
            },
        }
    }

    /// A sender learns of the end a little before the connection's task has ended; without this
    /// wait, a request would be tried on the same link again and again.
    async fn wait_until_noticed(&self) {
        let _ = tokio::time::timeout(Duration::from_secs(1), self.closed.cancelled()).await;
    }

    async fn ask(&self, method: &Method, path: &str) -> Result<(), ApiError> {
        let body = if *method == Method::POST {
            Body::from("{}")
        } else {
            Body::empty()
        };
        let mut request = proxy::to_agent(method, path, body)?;
        let json = axum::http::HeaderValue::from_static("application/json");
        request
            .headers_mut()
            .insert(axum::http::header::CONTENT_TYPE, json);
        let answer = match self.send(request).await {
            Ok(answer) => answer,
            Err(Unsent::Gone(error)) => return Err(error),
            Err(Unsent::Kept(_)) => {
                let message = "the agent closed its socket at once";
                return Err(ApiError::new(ErrorCode::AgentFailed, message));
            }
        };
        if answer.status().is_success() {
            Ok(())
        } else {
            let message = format!("the agent answered {} to {path}", answer.status());
            Err(ApiError::new(ErrorCode::AgentFailed, message))
        }
    }
}

fn failed(error: &hyper::Error) -> ApiError {
    let message = "the connection to the agent was lost before the answer";
    ApiError::new(ErrorCode::Unavailable, message).caused_by(error)
}

/// Runs the tasks of HTTP/2 where shutdown can wait for them.
#[derive(Clone)]
struct Tracked(TaskTracker);

impl<F> hyper::rt::Executor<F> for Tracked
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}
