//! A client that the agent's death does not impress: it asks again, goes on at its offset, and writes stdin with
//! numbers. What the bridge does over SSH, without the SSH.

use std::time::Duration;

use bytes::Bytes;
use hpcclient_protocol::{Run, RunId, RunSpec};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::UnixStream, task::JoinHandle};

use crate::node::Output;

/// Between two attempts at an agent that is not there.
const AGAIN: Duration = Duration::from_millis(10);

/// Talks to the socket of a node, whoever serves there.
#[derive(Clone)]
pub(crate) struct Patient {
    socket: String,
}

/// The task of a connection; it ends with whoever uses it.
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Patient {
    pub(crate) fn new(socket: &str) -> Self {
        let socket = socket.to_owned();
        Self { socket }
    }

    /// Asks once; `None` when nobody answers, or not to the end.
    pub(crate) async fn ask_once(
        &self,
        method: &Method,
        path: &str,
        body: &Bytes,
    ) -> Option<(StatusCode, Bytes)> {
        let (status, body, _connection) = self.open(method, path, body).await?;
        let body = body.collect().await.ok()?;
        Some((status, body.to_bytes()))
    }

    /// Asks until there is an answer that is not about the agent itself.
    pub(crate) async fn ask(&self, method: Method, path: &str, body: Bytes) -> (StatusCode, Bytes) {
        loop {
            match self.ask_once(&method, path, &body).await {
                Some((StatusCode::SERVICE_UNAVAILABLE, _)) | None => {
                    tokio::time::sleep(AGAIN).await;
                }
                Some(answer) => return answer,
            }
        }
    }

    /// Makes a run, once however often it has to be asked for.
    pub(crate) async fn put(&self, id: RunId, spec: &RunSpec) -> (StatusCode, Bytes) {
        let body = serde_json::to_vec(spec).unwrap().into();
        self.ask(Method::PUT, &format!("/v1/runs/{id}"), body).await
    }

    pub(crate) async fn get(&self, id: RunId) -> Run {
        let path = format!("/v1/runs/{id}");
        let (status, body) = self.ask(Method::GET, &path, Bytes::new()).await;
        assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap()
    }

    /// Writes a numbered piece of stdin until it was taken.
    pub(crate) async fn write(&self, id: RunId, seq: u64, bytes: impl Into<Bytes>, eof: bool) {
        let path = format!("/v1/runs/{id}/stdin?writer=patient&seq={seq}&eof={eof}");
        let (status, body) = self.ask(Method::POST, &path, bytes.into()).await;
        assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
    }

    /// Follows one stream of a run to its end, through any number of agents.
    pub(crate) async fn watch(&self, id: RunId, stream: &'static str) -> Output {
        let mut seen = Output::default();
        while seen.end.is_none() {
            if self.go_on(id, stream, &mut seen).await.is_none() {
                seen.cut();
                tokio::time::sleep(AGAIN).await;
            }
        }
        seen
    }

    /// Follows until the end, or until the agent is gone.
    async fn go_on(&self, id: RunId, stream: &str, seen: &mut Output) -> Option<()> {
        let path = format!("/v1/runs/{id}/stream?{stream}={}", seen.stdout.len());
        let (status, mut body, _connection) = self.open(&Method::GET, &path, &Bytes::new()).await?;
        if status != StatusCode::OK {
            let said = body.collect().await.ok()?.to_bytes();
            // Between an agent's start and the word of a slow supervisor a run cannot be followed yet.
            assert!(
                status.is_server_error(),
                "{}",
                String::from_utf8_lossy(&said)
            );
            return None;
        }
        while seen.end.is_none() {
            seen.take(&body.frame().await?.ok()?.into_data().ok()?);
        }
        Some(())
    }

    async fn open(
        &self,
        method: &Method,
        path: &str,
        body: &Bytes,
    ) -> Option<(StatusCode, Incoming, Connection)> {
        let stream = UnixStream::connect(&self.socket).await.ok()?;
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .ok()?;
        let connection = tokio::task::spawn_local(async move { drop(connection.await) });
        let connection = Connection(connection);
        let request = Request::builder()
            .method(method)
            .uri(format!("http://agent{path}"))
            .body(Full::new(body.clone()))
            .unwrap();
        sender.ready().await.ok()?;
        let (head, body) = sender.send_request(request).await.ok()?.into_parts();
        Some((head.status, body, connection))
    }
}
