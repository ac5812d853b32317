//! What a stream asks of the other side, so that its own logic can be tested without a network.
//!
//! Implemented by [`Agent`], and by the hand-made transport of `resume`.

use std::fmt::Debug;

use bytes::Bytes;
use hpcclient_protocol::{RunId, RunSpec, run::StreamSizes};
use reqwest::Response;

use crate::{Agent, ClientError};

/// The way to one agent.
pub trait Way: Clone + Debug + Send + Sync {
    /// A body of frames.
    type Body: Body;

    /// Starts a run, once, and opens its frames from the start.
    fn start(
        &self,
        id: RunId,
        spec: &RunSpec,
    ) -> impl Future<Output = Result<Self::Body, ClientError>> + Send;

    /// Opens a known run's frames from these offsets.
    fn resume(
        &self,
        id: RunId,
        from: StreamSizes,
        follow: bool,
    ) -> impl Future<Output = Result<Self::Body, ClientError>> + Send;
}

/// Frames as they arrive.
pub trait Body: Debug + Send {
    /// Returns the next bytes, `None` at the end. Cancel-safe.
    fn next_piece(&mut self) -> impl Future<Output = Result<Option<Bytes>, ClientError>> + Send;
}

impl Way for Agent {
    type Body = Response;

    async fn start(&self, id: RunId, spec: &RunSpec) -> Result<Response, ClientError> {
        self.start_stream(id, spec).await
    }

    async fn resume(
        &self,
        id: RunId,
        from: StreamSizes,
        follow: bool,
    ) -> Result<Response, ClientError> {
        self.open_stream(id, from, follow).await
    }
}

impl Body for Response {
    async fn next_piece(&mut self) -> Result<Option<Bytes>, ClientError> {
        self.chunk().await.map_err(|source| ClientError::Cut {
            source: Some(source),
        })
    }
}
