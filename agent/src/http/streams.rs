//! A run's output as a body: frames of all its streams, or the raw bytes of one.
//!
//! Called for `GET …/stream`, `GET …/stdout` and its like, and `PUT …?stream=true`. The body is
//! made as fast as the client takes it: nothing is read ahead of that but one chunk.
//! Invariants: a body that could not be read to its end is cut, so that nobody takes it for whole.

use axum::{
    body::{Body, Bytes},
    extract::{Path, Query, State, rejection::QueryRejection},
    http::header,
    response::{IntoResponse, Response},
};
use bytes::BytesMut;
use futures_util::stream;
use hpcclient_protocol::{
    ApiError, FRAMES_CONTENT_TYPE, Frame, FrameDecoder, RunId, StreamName, run::StreamSizes,
};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{AppState, failure::Failure};
use crate::runs::{Follower, Mode, Start};

/// Returns the routes of this file.
pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(frames))
        .routes(routes!(stdout))
        .routes(routes!(stderr))
        .routes(routes!(tty))
}

#[derive(Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
struct FramesQuery {
    /// The offset in stdout to go on from.
    stdout: u64,
    /// The offset in stderr.
    stderr: u64,
    /// The offset in the terminal's stream.
    tty: u64,
    /// Whether to wait for the run's end.
    follow: bool,
}

impl Default for FramesQuery {
    fn default() -> Self {
        Self {
            stdout: 0,
            stderr: 0,
            tty: 0,
            follow: true,
        }
    }
}

#[derive(Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
struct RawQuery {
    /// The offset to start at.
    from: u64,
    /// Whether to wait for the run's end.
    follow: bool,
}

/// A run's output as frames, in the order of writing.
#[utoipa::path(
    get, path = "/v1/runs/{id}/stream", operation_id = "followRun", params(("id" = String, Path), FramesQuery),
    responses(
        (status = 200, content_type = "application/vnd.hpcclient.frames"),
        (status = 404, body = ApiError), (status = 416, body = ApiError)
    )
)]
async fn frames(
    State(state): State<AppState>,
    Path(id): Path<String>,
    query: Result<Query<FramesQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(FramesQuery {
        stdout,
        stderr,
        tty,
        follow,
    }) = query?;
    let from = Start::At(StreamSizes {
        stdout,
        stderr,
        tty,
    });
    let follower = state.runs().follow(id.parse()?, from, mode(follow)).await?;
    Ok(frames_body(follower, &state))
}

/// The bytes of stdout.
#[utoipa::path(
    get, path = "/v1/runs/{id}/stdout", operation_id = "readStdout", params(("id" = String, Path), RawQuery),
    responses((status = 200, content_type = "application/octet-stream"), (status = 416, body = ApiError))
)]
async fn stdout(
    State(state): State<AppState>,
    Path(id): Path<String>,
    query: Result<Query<RawQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    raw(&state, id.parse()?, StreamName::Stdout, query?.0).await
}

/// The bytes of stderr.
#[utoipa::path(
    get, path = "/v1/runs/{id}/stderr", operation_id = "readStderr", params(("id" = String, Path), RawQuery),
    responses((status = 200, content_type = "application/octet-stream"), (status = 416, body = ApiError))
)]
async fn stderr(
    State(state): State<AppState>,
    Path(id): Path<String>,
    query: Result<Query<RawQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    raw(&state, id.parse()?, StreamName::Stderr, query?.0).await
}

/// The bytes of a console.
#[utoipa::path(
    get, path = "/v1/runs/{id}/tty", operation_id = "readTty", params(("id" = String, Path), RawQuery),
    responses((status = 200, content_type = "application/octet-stream"), (status = 416, body = ApiError))
)]
async fn tty(
    State(state): State<AppState>,
    Path(id): Path<String>,
    query: Result<Query<RawQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    raw(&state, id.parse()?, StreamName::Tty, query?.0).await
}

async fn raw(
    state: &AppState,
    id: RunId,
    name: StreamName,
    query: RawQuery,
) -> Result<Response, Failure> {
    let from = Start::In(name, query.from);
    let follower = state.runs().follow(id, from, mode(query.follow)).await?;
    let body = body(follower, state.stopping(), move |chunk| {
        bytes_of(name, &chunk)
    });
    // A command may print anything: no browser may take it for a page of ours.
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (
            header::CONTENT_SECURITY_POLICY,
            "sandbox; default-src 'none'",
        ),
    ];
    Ok((headers, body).into_response())
}

/// Returns a follower's frames as a response.
pub(super) fn frames_body(follower: Follower, state: &AppState) -> Response {
    let body = body(follower, state.stopping(), Ok);
    ([(header::CONTENT_TYPE, FRAMES_CONTENT_TYPE)], body).into_response()
}

const fn mode(follow: bool) -> Mode {
    if follow { Mode::Follow } else { Mode::Stored }
}

fn body(
    follower: Follower,
    stopping: &CancellationToken,
    shape: impl Fn(Bytes) -> std::io::Result<Bytes> + Send + Sync + 'static,
) -> Body {
    let start = Some((follower, stopping.clone()));
    let shape = std::sync::Arc::new(shape);
    Body::from_stream(stream::unfold(start, move |place| {
        let shape = std::sync::Arc::clone(&shape);
        async move {
            let (mut follower, stopping) = place?;
            loop {
                let cut = std::io::Error::other("the agent is stopping");
                let next = match stopping.run_until_cancelled(follower.chunk()).await {
                    Some(Ok(next)) => next?,
                    Some(Err(error)) => {
                        tracing::warn!(%error, "a stream was cut");
                        return Some((Err(std::io::Error::other(error)), None));
                    }
                    None => return Some((Err(cut), None)),
                };
                let chunk;
                (chunk, follower) = next;
                match shape(chunk) {
                    Ok(chunk) if chunk.is_empty() => {}
                    Ok(chunk) => return Some((Ok(chunk), Some((follower, stopping)))),
                    Err(error) => return Some((Err(error), None)),
                }
            }
        }
    }))
}

/// Returns the bytes of one stream in a chunk of whole frames.
fn bytes_of(name: StreamName, chunk: &[u8]) -> std::io::Result<Bytes> {
    let (mut decoder, mut bytes) = (FrameDecoder::default(), BytesMut::new());
    decoder.push(chunk);
    while let Some(frame) = decoder.next_frame().map_err(std::io::Error::other)? {
        match frame {
            Frame::Data {
                stream,
                bytes: data,
                ..
            } if stream == name => bytes.extend_from_slice(&data),
            // Raw bytes cannot say that some are missing.
            Frame::Gap { stream, .. } if stream == name => {
                return Err(std::io::Error::other("bytes of this stream are gone"));
            }
            _ => {}
        }
    }
    Ok(bytes.freeze())
}
