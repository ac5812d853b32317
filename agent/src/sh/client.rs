//! Requests to the agent over its socket.
//!
//! Called by `console`. Each request has a connection of its own: on the same node it costs less
//! than a millisecond, and nothing is shared that could break. Invariants: a request that found no
//! agent starts one and is made again; requests are written so that this is safe.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context as _, Result, anyhow};
use bytes::Bytes;
use hpcclient_protocol::ApiError;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request, Response, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::UnixStream;
use tokio_util::task::TaskTracker;

use crate::{connect, place::Place};

/// The largest answer that is read whole.
const MAX_ANSWER: usize = 16 << 20;

/// The way to the agent.
pub(super) struct Client {
    place: Arc<Place>,
    socket: Option<PathBuf>,
    connections: TaskTracker,
}

impl Client {
    /// Makes a client that has not asked anything yet.
    pub(super) fn new(place: Place) -> Self {
        Self {
            place: Arc::new(place),
            socket: None,
            connections: TaskTracker::new(),
        }
    }

    /// Makes sure that an agent runs.
    pub(super) async fn ensure(&mut self) -> Result<()> {
        let place = Arc::clone(&self.place);
        let ensured = tokio::task::spawn_blocking(move || connect::ensure(&place)).await;
        let hello = ensured.context("the agent's start was interrupted")??;
        self.socket = Some(hello.socket.into());
        Ok(())
    }

    /// Asks for JSON.
    pub(super) async fn json<T: DeserializeOwned>(
        &mut self,
        method: Method,
        target: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T> {
        let response = self.send(method, target, body).await?;
        let bytes = whole(response.into_body()).await?;
        serde_json::from_slice(&bytes).context("the agent's answer cannot be read")
    }

    /// Asks for something whose answer does not matter.
    pub(super) async fn tell(&mut self, method: Method, target: &str) -> Result<()> {
        self.send(method, target, NO_BODY).await.map(drop)
    }

    /// Asks, and returns the answer while its body still comes.
    pub(super) async fn send(
        &mut self,
        method: Method,
        target: &str,
        body: Option<&impl Serialize>,
    ) -> Result<Response<Incoming>> {
        let body = match body {
            Some(body) => serde_json::to_vec(body).context("cannot encode the request")?,
            None => vec![],
        };
        let body = Bytes::from(body);
        let response = match self.exchange(&method, target, body.clone()).await {
            Ok(response) => response,
            Err(_) => {
                self.ensure().await?;
                self.exchange(&method, target, body).await?
            }
        };
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let bytes = whole(response.into_body()).await?;
        let error = serde_json::from_slice::<ApiError>(&bytes);
        Err(error.map_or_else(|_| anyhow!("the agent answered {status}"), Into::into))
    }

    async fn exchange(
        &self,
        method: &Method,
        target: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>> {
        let socket = self.socket.as_ref().context("no agent yet")?;
        let stream = UnixStream::connect(socket)
            .await
            .context("cannot reach the agent")?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .context("cannot talk to the agent")?;
        self.connections.spawn(async move {
            // A cut body is seen by who reads it.
            let _ = connection.await;
        });
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header("host", "agent")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .context("cannot make the request")?;
        sender
            .send_request(request)
            .await
            .context("the agent did not answer")
    }
}

/// For requests without a body.
pub(super) const NO_BODY: Option<&()> = None;

async fn whole(body: Incoming) -> Result<Bytes> {
    let body = Limited::new(body, MAX_ANSWER).collect().await;
    body.map(|body| body.to_bytes())
        .map_err(|error| anyhow!(error).context("the agent's answer was cut"))
}
