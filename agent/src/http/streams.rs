//! A run's output as a body: frames of all its streams, or the raw bytes of one.
//!
//! Called for `GET …/stream`, `GET …/stdout` and its like, and `PUT …?stream=true`. The body is
//! made as fast as the client takes it: nothing is read ahead of that but one chunk.
//! Invariants: a body that could not be read to its end is cut, so that nobody takes it for whole.
//! Not here: finding the last lines or a time (`store::seek`).

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, Query, State, rejection::QueryRejection},
    http::{HeaderName, header},
    response::{IntoResponse, Response},
    routing,
};
use bytes::BytesMut;
use futures_util::stream;
#[cfg(test)]
use hpcclient_protocol::ApiError;
use hpcclient_protocol::{
    FRAMES_CONTENT_TYPE, Frame, FrameDecoder, RunId, StreamName, live::Access, run::StreamSizes,
};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;
#[cfg(test)]
use utoipa::IntoParams;

use super::{AppState, by::by, failure::Failure};
use crate::{
    presence::Present,
    runs::{Follower, Mode, RunError, Start},
    store::StoreError,
};

/// Returns the routes of this file.
pub(super) fn router() -> Router<AppState> {
    Router::new()
        .route("/v1/runs/{id}/stream", routing::get(by(frames)))
        .route("/v1/runs/{id}/stdout", routing::get(by(stdout)))
        .route("/v1/runs/{id}/stderr", routing::get(by(stderr)))
        .route("/v1/runs/{id}/tty", routing::get(by(tty)))
}

/// What `docs/openapi.json` says of this file.
#[cfg(test)]
#[derive(utoipa::OpenApi)]
#[openapi(paths(frames, stdout, stderr, tty))]
pub(super) struct Described;

#[derive(Deserialize)]
#[cfg_attr(test, derive(IntoParams))]
#[serde(default)]
#[cfg_attr(test, into_params(parameter_in = Query))]
struct FramesQuery {
    /// The offset in stdout to go on from.
    stdout: u64,
    /// The offset in stderr.
    stderr: u64,
    /// The offset in the terminal's stream.
    tty: u64,
    /// Whether to wait for the run's end.
    follow: bool,
    /// Start at the last so many lines of each stream, where that is behind its offset.
    tail: Option<u64>,
    /// How many bytes of a stream one may be behind; further behind, bytes are passed over without a gap.
    behind: Option<u32>,
    /// Look on as a viewer, whom the other viewers see, and who may do this.
    #[cfg_attr(test, param(inline))]
    access: Option<Access>,
}

impl Default for FramesQuery {
    fn default() -> Self {
        Self {
            stdout: 0,
            stderr: 0,
            tty: 0,
            follow: true,
            tail: None,
            behind: None,
            access: None,
        }
    }
}

#[derive(Default, Deserialize)]
#[cfg_attr(test, derive(IntoParams))]
#[serde(default)]
#[cfg_attr(test, into_params(parameter_in = Query))]
struct RawQuery {
    /// The offset to start at.
    from: u64,
    /// The offset to end before.
    to: Option<u64>,
    /// Whether to wait for the run's end.
    follow: bool,
    /// End after so many lines.
    head: Option<u64>,
    /// Start at the last so many lines.
    tail: Option<u64>,
    /// Start at what was written then, in milliseconds since 1970 by the node's clock.
    since: Option<u64>,
    /// End with what was written then.
    until: Option<u64>,
}

/// A run's output as frames, in the order of writing.
#[cfg_attr(test, utoipa::path(
    get, path = "/v1/runs/{id}/stream", operation_id = "followRun", params(("id" = String, Path), FramesQuery),
    responses(
        (status = 200, content_type = "application/vnd.hpcclient.frames"),
        (status = 404, body = ApiError), (status = 416, body = ApiError)
    )
))]
async fn frames(
    State(state): State<AppState>,
    Path(id): Path<String>,
    query: Result<Query<FramesQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    let (id, Query(query)) = (id.parse::<RunId>()?, query?);
    let FramesQuery {
        stdout,
        stderr,
        tty,
        follow,
        tail,
        behind,
        access,
    } = query;
    let mut from = StreamSizes {
        stdout,
        stderr,
        tty,
    };
    if let Some(lines) = tail {
        let (dir, run) = state.runs().folder(id).await?;
        from = blocking(move || {
            let last = |stream, size| dir.last_lines(stream, lines, size);
            Ok(StreamSizes {
                stdout: stdout.max(last(StreamName::Stdout, run.sizes.stdout)?),
                stderr: stderr.max(last(StreamName::Stderr, run.sizes.stderr)?),
                tty: tty.max(last(StreamName::Tty, run.sizes.tty)?),
            })
        })
        .await?;
    }
    let mut follower = state
        .runs()
        .follow(id, Start::At(from), mode(follow))
        .await?;
    follower.no_further_behind(behind);
    let looks_on = access.filter(|_| follow);
    let present = looks_on.map(|access| state.presence().join(id, state.user(), access));
    Ok(frames_body(follower, &state, present))
}

/// The bytes of stdout.
#[cfg_attr(test, utoipa::path(
    get, path = "/v1/runs/{id}/stdout", operation_id = "readStdout", params(("id" = String, Path), RawQuery),
    responses(
        (status = 200, content_type = "application/octet-stream"), (status = 400, body = ApiError),
        (status = 416, body = ApiError)
    )
))]
async fn stdout(
    State(state): State<AppState>,
    Path(id): Path<String>,
    query: Result<Query<RawQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    raw(&state, id.parse()?, StreamName::Stdout, query?.0).await
}

/// The bytes of stderr.
#[cfg_attr(test, utoipa::path(
    get, path = "/v1/runs/{id}/stderr", operation_id = "readStderr", params(("id" = String, Path), RawQuery),
    responses(
        (status = 200, content_type = "application/octet-stream"), (status = 400, body = ApiError),
        (status = 416, body = ApiError)
    )
))]
async fn stderr(
    State(state): State<AppState>,
    Path(id): Path<String>,
    query: Result<Query<RawQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    raw(&state, id.parse()?, StreamName::Stderr, query?.0).await
}

/// The bytes of a console.
#[cfg_attr(test, utoipa::path(
    get, path = "/v1/runs/{id}/tty", operation_id = "readTty", params(("id" = String, Path), RawQuery),
    responses(
        (status = 200, content_type = "application/octet-stream"), (status = 400, body = ApiError),
        (status = 416, body = ApiError)
    )
))]
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
    if query.follow && query.until.is_some() {
        return Err(Failure::bad_request(
            "`until` ends what `follow` waits for: leave one out",
        ));
    }
    let mode = mode(query.follow);
    let part = part(state, id, name, query).await?;
    let from = Start::In(name, part.from);
    let follower = state.runs().follow(id, from, mode).await?;
    let mut raw = part.raw(name);
    let body = body(follower, state.stopping(), move |chunk| raw.take(&chunk));
    let headers = [(header::CONTENT_TYPE, "application/octet-stream")];
    Ok((headers, UNTRUSTED, body).into_response())
}

/// A command may print anything: no browser may take it for a page of ours.
pub(super) const UNTRUSTED: [(HeaderName, &str); 2] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (
        header::CONTENT_SECURITY_POLICY,
        "sandbox; default-src 'none'",
    ),
];

/// Which part of a stream is asked for.
struct Part {
    from: u64,
    to: u64,
    head: Option<u64>,
}

/// Finds the part of a stream that a query means.
async fn part(
    state: &AppState,
    id: RunId,
    name: StreamName,
    query: RawQuery,
) -> Result<Part, Failure> {
    let RawQuery {
        from,
        to,
        head,
        tail,
        since,
        until,
        ..
    } = query;
    let to = to.unwrap_or(u64::MAX);
    if tail.is_none() && since.is_none() && until.is_none() {
        return Ok(Part { from, to, head });
    }
    let (dir, run) = state.runs().folder(id).await?;
    let size = match name {
        StreamName::Stdout => run.sizes.stdout,
        StreamName::Stderr => run.sizes.stderr,
        StreamName::Tty => run.sizes.tty,
    };
    blocking(move || {
        let (mut from, mut to) = (from, to);
        if since.is_some() || until.is_some() {
            let span = dir.span(name, since, until)?;
            (from, to) = (from.max(span.0), to.min(span.1));
        }
        if let Some(lines) = tail {
            from = from.max(dir.last_lines(name, lines, size.min(to))?);
        }
        Ok(Part { from, to, head })
    })
    .await
}

/// Reads the store where it holds nobody up.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Failure> {
    let done = crate::tasks::blocking(work).await;
    Ok(done.map_err(|_| RunError::Stopping)??)
}

/// Returns a follower's frames as a response; who looks on leaves with its end.
pub(super) fn frames_body(
    follower: Follower,
    state: &AppState,
    present: Option<Present>,
) -> Response {
    let body = body(follower, state.stopping(), move |chunk| {
        let _here = &present;
        Ok((chunk, false))
    });
    ([(header::CONTENT_TYPE, FRAMES_CONTENT_TYPE)], body).into_response()
}

const fn mode(follow: bool) -> Mode {
    if follow { Mode::Follow } else { Mode::Stored }
}

/// What a chunk of frames becomes, and whether it is the last.
type Shaped = std::io::Result<(Bytes, bool)>;

fn body(
    follower: Follower,
    stopping: &CancellationToken,
    shape: impl FnMut(Bytes) -> Shaped + Send + 'static,
) -> Body {
    let start = Some((follower, shape, stopping.clone()));
    Body::from_stream(stream::unfold(start, move |place| async move {
        let (mut follower, mut shape, stopping) = place?;
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
                Ok((chunk, true)) => return Some((Ok(chunk), None)),
                Ok((chunk, false)) if chunk.is_empty() => {}
                Ok((chunk, false)) => return Some((Ok(chunk), Some((follower, shape, stopping)))),
                Err(error) => return Some((Err(error), None)),
            }
        }
    }))
}

impl Part {
    const fn raw(&self, stream: StreamName) -> Raw {
        Raw {
            stream,
            to: self.to,
            lines: self.head,
        }
    }
}

/// Makes raw bytes of one stream's frames, up to an offset or a number of lines.
struct Raw {
    stream: StreamName,
    to: u64,
    lines: Option<u64>,
}

impl Raw {
    fn take(&mut self, chunk: &[u8]) -> Shaped {
        let (mut decoder, mut bytes) = (FrameDecoder::default(), BytesMut::new());
        let mut is_last = self.lines == Some(0);
        decoder.push(chunk);
        while !is_last && let Some(frame) = decoder.next_frame().map_err(std::io::Error::other)? {
            match frame {
                Frame::Data {
                    stream,
                    offset,
                    bytes: data,
                } if stream == self.stream => {
                    let room = usize::try_from(self.to.saturating_sub(offset));
                    let mut end = data.len().min(room.unwrap_or(usize::MAX));
                    is_last = offset + data.len() as u64 >= self.to;
                    if let Some(after) = self.count(data.get(..end).unwrap_or_default()) {
                        (end, is_last) = (after, true);
                    }
                    bytes.extend_from_slice(data.get(..end).unwrap_or_default());
                }
                // Raw bytes cannot say that some are missing.
                Frame::Gap { stream, offset, .. } if stream == self.stream => {
                    if offset >= self.to {
                        return Ok((bytes.freeze(), true));
                    }
                    return Err(std::io::Error::other("bytes of this stream are gone"));
                }
                _ => {}
            }
        }
        Ok((bytes.freeze(), is_last))
    }

    /// Counts lines, and returns where the last one that is asked for ends.
    fn count(&mut self, data: &[u8]) -> Option<usize> {
        let lines = self.lines.as_mut()?;
        for (n, _) in data.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
            *lines -= 1;
            if *lines == 0 {
                return Some(n + 1);
            }
        }
        None
    }
}
