//! `/v1/runs`: make a run, list and read runs, and send them stdin, signals and sizes.

use axum::{
    Json, Router,
    extract::{
        DefaultBodyLimit, Path, Query, State,
        rejection::{BytesRejection, QueryRejection},
    },
    http::StatusCode,
    response::{IntoResponse, Response},
    routing,
};
use bytes::Bytes;
#[cfg(test)]
use hpcclient_protocol::{ApiError, RunSpec, run::RunMarks, run::TerminalSize};
use hpcclient_protocol::{
    Run, RunId, RunState, SessionId,
    run::{RunList, SignalRequest, StdinAck, StreamSizes},
};
use serde::Deserialize;
#[cfg(test)]
use utoipa::IntoParams;

use super::{
    AppState,
    by::by,
    failure::{Failure, json},
    streams,
};
use crate::{
    runs::{Filter, Mode, Piece, Start},
    shim::control::MAX_DATA,
};

/// Returns the routes of this file.
pub(super) fn router() -> Router<AppState> {
    let stdin = Router::new()
        .route("/v1/runs/{id}/stdin", routing::post(by(stdin)))
        .layer(DefaultBodyLimit::max(MAX_DATA));
    Router::new()
        .route("/v1/runs", routing::get(by(list)))
        .route(
            "/v1/runs/{id}",
            routing::get(by(get))
                .put(by(put))
                .patch(by(mark))
                .delete(by(delete)),
        )
        .route("/v1/runs/{id}/signal", routing::post(by(signal)))
        .route("/v1/runs/{id}/kill", routing::post(by(kill)))
        .route("/v1/runs/{id}/resize", routing::post(by(resize)))
        .layer(DefaultBodyLimit::max(MAX_SPEC))
        .merge(stdin)
}

/// What `docs/openapi.json` says of this file.
#[cfg(test)]
#[derive(utoipa::OpenApi)]
#[openapi(paths(stdin, list, get, put, mark, delete, signal, kill, resize))]
pub(super) struct Described;

#[derive(Deserialize)]
#[cfg_attr(test, derive(IntoParams))]
#[cfg_attr(test, into_params(parameter_in = Query))]
struct PutQuery {
    /// Whether to answer with the run's frames until its end.
    #[serde(default)]
    stream: bool,
}

/// Makes a run, once: the same id with the same spec finds the run that was made before.
#[cfg_attr(test, utoipa::path(
    put, path = "/v1/runs/{id}", operation_id = "putRun", params(("id" = String, Path), PutQuery), request_body = RunSpec,
    responses(
        (status = 201, body = Run), (status = 200, body = Run),
        (status = 409, body = ApiError), (status = 507, body = ApiError)
    )
))]
async fn put(
    State(state): State<AppState>,
    Path(id): Path<String>,
    query: Result<Query<PutQuery>, QueryRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Failure> {
    let (id, Query(query)) = (id.parse::<RunId>()?, query?);
    let put = state.runs().put(id, json(body)?).await?;
    let status = if put.is_new {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    if !query.stream {
        return Ok((status, Json(put.run)).into_response());
    }
    let from = Start::At(StreamSizes::default());
    let follower = state.runs().follow(id, from, Mode::Follow).await?;
    Ok((status, streams::frames_body(follower, &state, None)).into_response())
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(IntoParams))]
#[cfg_attr(test, into_params(parameter_in = Query))]
struct ListQuery {
    /// How many, at most 500.
    limit: Option<usize>,
    /// Only runs older than this one.
    #[cfg_attr(test, param(value_type = Option<String>))]
    before: Option<RunId>,
    /// Only runs of this session.
    #[cfg_attr(test, param(value_type = Option<String>))]
    session: Option<SessionId>,
    /// Only runs with this in the command or the name, whatever the case.
    text: Option<String>,
    /// Only runs in this state.
    state: Option<RunState>,
    /// Only consoles, or only what has no terminal.
    console: Option<bool>,
    /// Only what lives on this node, however old it is, or only what does not.
    live: Option<bool>,
}

/// A page of runs, newest first. It ends early when its runs are large; `next` tells.
#[cfg_attr(test, utoipa::path(get, path = "/v1/runs", operation_id = "listRuns", params(ListQuery), responses((status = 200, body = RunList))))]
async fn list(
    State(state): State<AppState>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<RunList>, Failure> {
    let Query(ListQuery {
        limit,
        before,
        session,
        text,
        state: in_state,
        console,
        live,
    }) = query?;
    let filter = Filter {
        session,
        text,
        state: in_state,
        console,
        live,
    };
    let limit = limit.unwrap_or(DEFAULT_PAGE);
    Ok(Json(state.runs().list(before, limit, filter).await?))
}

/// One run.
#[cfg_attr(test, utoipa::path(
    get, path = "/v1/runs/{id}", operation_id = "getRun", params(("id" = String, Path)),
    responses((status = 200, body = Run), (status = 404, body = ApiError))
))]
async fn get(State(state): State<AppState>, Path(id): Path<String>) -> Result<Json<Run>, Failure> {
    Ok(Json(state.runs().get(id.parse()?).await?))
}

/// Names or pins a run.
#[cfg_attr(test, utoipa::path(
    patch, path = "/v1/runs/{id}", operation_id = "markRun", params(("id" = String, Path)), request_body = RunMarks,
    responses((status = 200, body = Run), (status = 404, body = ApiError), (status = 409, body = ApiError))
))]
async fn mark(
    State(state): State<AppState>,
    Path(id): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Run>, Failure> {
    Ok(Json(state.runs().mark(id.parse()?, json(body)?).await?))
}

/// Deletes a run that has ended, with its output.
#[cfg_attr(test, utoipa::path(
    delete, path = "/v1/runs/{id}", operation_id = "deleteRun", params(("id" = String, Path)),
    responses((status = 204), (status = 404, body = ApiError), (status = 409, body = ApiError))
))]
async fn delete(
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Result<StatusCode, Failure> {
    state.runs().delete(id.parse()?).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(IntoParams))]
#[cfg_attr(test, into_params(parameter_in = Query))]
struct StdinQuery {
    /// Who writes; each has its own numbers.
    writer: String,
    /// The number of this piece, from 1.
    seq: u64,
    /// Whether stdin ends after it.
    #[serde(default)]
    eof: bool,
}

/// Writes to a run's stdin, once for each number; the answer comes when it was taken.
#[cfg_attr(test, utoipa::path(
    post, path = "/v1/runs/{id}/stdin", operation_id = "writeStdin", params(("id" = String, Path), StdinQuery),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = StdinAck), (status = 409, body = ApiError))
))]
async fn stdin(
    State(state): State<AppState>,
    Path(id): Path<String>,
    query: Result<Query<StdinQuery>, QueryRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<StdinAck>, Failure> {
    let Query(StdinQuery { writer, seq, eof }) = query?;
    let piece = Piece { writer, seq, eof };
    let taken = state.runs().write_stdin(id.parse()?, piece, &body?).await?;
    Ok(Json(taken.wait().await?))
}

/// Sends a signal to a run's process group.
#[cfg_attr(test, utoipa::path(
    post, path = "/v1/runs/{id}/signal", operation_id = "signalRun", params(("id" = String, Path)),
    request_body = SignalRequest,
    responses((status = 200, body = Run), (status = 409, body = ApiError))
))]
async fn signal(
    State(state): State<AppState>,
    Path(id): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Run>, Failure> {
    let SignalRequest { signal } = json(body)?;
    Ok(Json(state.runs().signal(id.parse()?, &signal).await?))
}

/// Kills every process of a run.
#[cfg_attr(test, utoipa::path(
    post, path = "/v1/runs/{id}/kill", operation_id = "killRun", params(("id" = String, Path)),
    responses((status = 200, body = Run), (status = 404, body = ApiError))
))]
async fn kill(State(state): State<AppState>, Path(id): Path<String>) -> Result<Json<Run>, Failure> {
    Ok(Json(state.runs().kill(id.parse()?).await?))
}

/// Changes the size of a run's terminal.
#[cfg_attr(test, utoipa::path(
    post, path = "/v1/runs/{id}/resize", operation_id = "resizeTerminal", params(("id" = String, Path)), request_body = TerminalSize,
    responses((status = 204), (status = 409, body = ApiError))
))]
async fn resize(
    State(state): State<AppState>,
    Path(id): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, Failure> {
    state.presence().resize(id.parse()?, json(body)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

const DEFAULT_PAGE: usize = 100;

/// Above what the kernel takes as arguments in practice, and a `State` frame still holds it.
const MAX_SPEC: usize = 512 * 1024;
