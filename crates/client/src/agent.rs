//! The agent's API: runs, their streams and their stdin.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use hpcclient_protocol::{
    Run, RunId, RunSpec, RunState, SessionId, ShareId, StreamName,
    event::Event,
    live::Access,
    node::NodeFacts,
    run::{RunList, RunMarks, SignalRequest, StdinAck, StreamSizes, TerminalSize},
    share::{AuditList, Share, ShareList, ShareSpec},
    status::{AgentStatus, StopRequest},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, Response};
use tokio::time::timeout;

use crate::{ClientError, Ndjson, http::Endpoint};

/// What may stand in a path segment as it is; everything else is percent-encoded.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

/// Returns a text as one segment of a path.
pub(crate) fn segment(text: &str) -> String {
    // A bare dot segment would be folded away by URL parsing.
    match text {
        "." => "%2E".to_owned(),
        ".." => "%2E%2E".to_owned(),
        _ => encoded(text),
    }
}

/// Which runs a list is of; what is not set does not matter.
#[derive(Clone, Debug, Default)]
pub struct RunQuery {
    /// How many at most.
    pub limit: Option<usize>,
    /// Older than this one.
    pub before: Option<RunId>,
    /// Of this session.
    pub session: Option<SessionId>,
    /// With this in the command or the name, whatever the case.
    pub text: Option<String>,
    /// In this state.
    pub state: Option<RunState>,
    /// Whether it has a terminal.
    pub console: Option<bool>,
    /// Whether it lives on the node.
    pub live: Option<bool>,
}

impl RunQuery {
    fn to_path(&self) -> String {
        let state = self
            .state
            .and_then(|state| serde_json::to_value(state).ok());
        let state = state.and_then(|state| state.as_str().map(ToOwned::to_owned));
        let pairs = [
            ("limit", self.limit.map(|limit| limit.to_string())),
            ("before", self.before.map(|id| id.to_string())),
            ("session", self.session.as_ref().map(ToString::to_string)),
            ("text", self.text.as_ref().map(|text| encoded(text))),
            ("state", state),
            ("console", self.console.map(|yes| yes.to_string())),
            ("live", self.live.map(|yes| yes.to_string())),
        ];
        let pairs = pairs.into_iter();
        let query: Vec<_> = pairs
            .filter_map(|(name, value)| Some(format!("{name}={}", value?)))
            .collect();
        format!("v1/runs?{}", query.join("&"))
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

/// One cluster's agent.
#[derive(Clone, Debug)]
pub struct Agent {
    endpoint: Endpoint,
    /// As what whoever follows a run is seen by its viewers, if at all.
    access: Option<Access>,
}

impl Agent {
    pub(crate) const fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            access: None,
        }
    }

    pub(crate) const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Returns the agent behind a Unix socket of this machine.
    ///
    /// # Errors
    /// The HTTP client cannot be made.
    pub fn at_socket(socket: &Path) -> Result<Self, ClientError> {
        Endpoint::unix(socket).map(Self::new)
    }

    /// Returns the agent's state.
    ///
    /// # Errors
    /// As every request: the other side's error, or the transport's.
    pub async fn status(&self) -> Result<AgentStatus, ClientError> {
        self.get("v1/status").await
    }

    /// Returns what the node is.
    ///
    /// # Errors
    /// As every request.
    pub async fn node(&self) -> Result<NodeFacts, ClientError> {
        self.get("v1/node").await
    }

    /// Measures the way: how many of `count` bytes came within `limit`, and how long they took.
    ///
    /// # Errors
    /// As every request.
    pub async fn measure(
        &self,
        count: u64,
        limit: Duration,
    ) -> Result<(u64, Duration), ClientError> {
        let path = format!("v1/node/bytes?count={count}");
        let request = self.endpoint.request(Method::GET, &path);
        let mut response = self.endpoint.open(request).await?;
        let (start, mut came) = (Instant::now(), 0);
        loop {
            let left = limit.saturating_sub(start.elapsed());
            match timeout(left, response.chunk()).await {
                Ok(Ok(Some(piece))) => came += piece.len() as u64,
                Ok(Ok(None)) | Err(_) => return Ok((came, start.elapsed())),
                Ok(Err(source)) => {
                    return Err(ClientError::Cut {
                        source: Some(source),
                    });
                }
            }
        }
    }

    /// Starts a run, or finds it when this id was started before with the same spec.
    ///
    /// # Errors
    /// `Conflict` when the id is taken by another spec; else as every request.
    pub async fn start(&self, id: RunId, spec: &RunSpec) -> Result<Run, ClientError> {
        let request = self.endpoint.request(Method::PUT, &format!("v1/runs/{id}"));
        self.endpoint.json(request.json(spec)).await
    }

    /// Returns a page of runs, newest first.
    ///
    /// # Errors
    /// As every request.
    pub async fn runs(
        &self,
        limit: usize,
        before: Option<RunId>,
        session: Option<&SessionId>,
    ) -> Result<RunList, ClientError> {
        let query = RunQuery {
            limit: Some(limit),
            before,
            session: session.cloned(),
            ..RunQuery::default()
        };
        self.list(&query).await
    }

    /// Returns a page of the runs that are asked for, newest first.
    ///
    /// # Errors
    /// As every request.
    pub async fn list(&self, query: &RunQuery) -> Result<RunList, ClientError> {
        self.get(&query.to_path()).await
    }

    /// Changes what is noted on a run: its name, and whether it is kept.
    ///
    /// # Errors
    /// `NotFound`, `OtherNode`, `BadRequest` for a name that is none; else as every request.
    pub async fn mark(&self, id: RunId, marks: &RunMarks) -> Result<Run, ClientError> {
        let path = format!("v1/runs/{id}");
        let request = self.endpoint.request(Method::PATCH, &path);
        self.endpoint.json(request.json(marks)).await
    }

    /// Deletes a run that has ended, with its output.
    ///
    /// # Errors
    /// `NotFound`, `OtherNode`, `Conflict` while it lives or is shared; else as every request.
    pub async fn delete(&self, id: RunId) -> Result<(), ClientError> {
        let path = format!("v1/runs/{id}");
        self.endpoint
            .done(self.endpoint.request(Method::DELETE, &path))
            .await
    }

    /// Returns a run.
    ///
    /// # Errors
    /// `NotFound`; else as every request.
    pub async fn run(&self, id: RunId) -> Result<Run, ClientError> {
        self.get(&format!("v1/runs/{id}")).await
    }

    /// Returns the raw bytes of a stream from an offset to what is stored now.
    ///
    /// # Errors
    /// `NotFound`, `BadOffset`; else as every request.
    pub async fn bytes(
        &self,
        id: RunId,
        stream: StreamName,
        from: u64,
    ) -> Result<Bytes, ClientError> {
        let path = format!("v1/runs/{id}/{}?from={from}&follow=false", stream.as_str());
        let request = self.endpoint.request(Method::GET, &path);
        let response = self.endpoint.open(request).await?;
        let body = response.bytes().await;
        body.map_err(|source| ClientError::Cut {
            source: Some(source),
        })
    }

    /// Feeds a run's stdin. Repeating a `seq` is safe: it is written once.
    ///
    /// # Errors
    /// `Conflict` when the run takes no stdin; else as every request.
    pub async fn stdin(
        &self,
        id: RunId,
        writer: &str,
        seq: u64,
        bytes: Bytes,
        eof: bool,
    ) -> Result<StdinAck, ClientError> {
        let writer = segment(writer);
        let path = format!("v1/runs/{id}/stdin?writer={writer}&seq={seq}&eof={eof}");
        let request = self.endpoint.request(Method::POST, &path);
        let request = request.header("content-type", "application/octet-stream");
        self.endpoint.json(request.body(bytes)).await
    }

    /// Sends a signal, named without `SIG`, to a run's process group.
    ///
    /// # Errors
    /// As every request.
    pub async fn signal(&self, id: RunId, signal: &str) -> Result<Run, ClientError> {
        let body = SignalRequest {
            signal: signal.to_owned(),
        };
        self.endpoint
            .post(&format!("v1/runs/{id}/signal"), &body)
            .await
    }

    /// Kills every process of a run.
    ///
    /// # Errors
    /// As every request.
    pub async fn kill(&self, id: RunId) -> Result<Run, ClientError> {
        let path = format!("v1/runs/{id}/kill");
        self.endpoint
            .json(self.endpoint.request(Method::POST, &path))
            .await
    }

    /// Changes a console's size.
    ///
    /// # Errors
    /// As every request.
    pub async fn resize(&self, id: RunId, size: TerminalSize) -> Result<(), ClientError> {
        let path = format!("v1/runs/{id}/resize");
        let request = self.endpoint.request(Method::POST, &path);
        self.endpoint.done(request.json(&size)).await
    }

    /// Returns the agent as the way to what another user shares: its runs are theirs.
    #[must_use]
    pub fn shared_by(&self, owner: &str) -> Self {
        Self {
            endpoint: self.endpoint.shared_by(segment(owner)),
            ..self.clone()
        }
    }

    /// Returns the agent for somebody who looks on: while a run is followed, its other viewers see them there.
    #[must_use]
    pub fn as_viewer(&self, access: Access) -> Self {
        Self {
            access: Some(access),
            ..self.clone()
        }
    }

    /// Shares something, or finds the share that this id made before.
    ///
    /// # Errors
    /// `Forbidden` where the site has turned sharing off; else as every request.
    pub async fn share(&self, id: ShareId, spec: &ShareSpec) -> Result<Share, ClientError> {
        let request = self
            .endpoint
            .request(Method::PUT, &format!("v1/shares/{id}"));
        self.endpoint.json(request.json(spec)).await
    }

    /// Takes a share back.
    ///
    /// # Errors
    /// `NotFound` when there is none; else as every request.
    pub async fn unshare(&self, id: ShareId) -> Result<(), ClientError> {
        let request = self
            .endpoint
            .request(Method::DELETE, &format!("v1/shares/{id}"));
        self.endpoint.done(request).await
    }

    /// Returns what this user shares, and what others share with this user.
    ///
    /// # Errors
    /// As every request.
    pub async fn shares(&self) -> Result<ShareList, ClientError> {
        self.get("v1/shares").await
    }

    /// Returns what guests did, newest first.
    ///
    /// # Errors
    /// As every request.
    pub async fn audit(&self, limit: usize) -> Result<AuditList, ClientError> {
        self.get(&format!("v1/audit?limit={limit}")).await
    }

    /// Ends a session's shell.
    ///
    /// # Errors
    /// As every request.
    pub async fn end_session(&self, id: &SessionId) -> Result<(), ClientError> {
        let path = format!("v1/sessions/{id}");
        self.endpoint
            .done(self.endpoint.request(Method::DELETE, &path))
            .await
    }

    /// Subscribes to what happens at the agent.
    ///
    /// # Errors
    /// As every request.
    pub async fn events(&self) -> Result<Ndjson<Event>, ClientError> {
        let request = self.endpoint.request(Method::GET, "v1/events");
        self.endpoint.open(request).await.map(Ndjson::new)
    }

    /// Stops the agent; with `end_runs` its runs too.
    ///
    /// # Errors
    /// As every request.
    pub async fn stop(&self, end_runs: bool) -> Result<(), ClientError> {
        let request = self.endpoint.request(Method::POST, "v1/stop");
        self.endpoint
            .done(request.json(&StopRequest { end_runs }))
            .await
    }

    /// Starts a run and opens its frames in one round trip.
    pub(crate) async fn start_stream(
        &self,
        id: RunId,
        spec: &RunSpec,
    ) -> Result<Response, ClientError> {
        let path = format!("v1/runs/{id}?stream=true");
        let request = self.endpoint.request(Method::PUT, &path);
        self.endpoint.open(request.json(spec)).await
    }

    /// Opens a run's frames from these offsets.
    pub(crate) async fn open_stream(
        &self,
        id: RunId,
        from: StreamSizes,
        follow: bool,
    ) -> Result<Response, ClientError> {
        let StreamSizes {
            stdout,
            stderr,
            tty,
        } = from;
        let query = format!("stdout={stdout}&stderr={stderr}&tty={tty}&follow={follow}");
        let access = match self.access {
            Some(Access::View) => "&access=view",
            Some(Access::Drive) => "&access=drive",
            None => "",
        };
        let path = format!("v1/runs/{id}/stream?{query}{access}");
        self.endpoint
            .open(self.endpoint.request(Method::GET, &path))
            .await
    }

    pub(crate) async fn get<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
    ) -> Result<T, ClientError> {
        self.endpoint
            .json(self.endpoint.request(Method::GET, path))
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_one_path_segment() {
        assert_eq!(segment("alice@host:22"), "alice%40host%3A22");
        assert_eq!(segment("../x"), "..%2Fx");
        assert_eq!(segment(".."), "%2E%2E");
        assert_eq!(segment("my-alias_1.x"), "my-alias_1.x");
    }

    #[test]
    fn a_query_has_only_what_is_asked_for() {
        let query = RunQuery {
            limit: Some(5),
            text: Some("a b&c=\u{fc}".to_owned()),
            state: Some(RunState::Orphaned),
            console: Some(true),
            ..RunQuery::default()
        };
        let path = "v1/runs?limit=5&text=a%20b%26c%3D%C3%BC&state=orphaned&console=true";
        assert_eq!(query.to_path(), path);
    }
}
