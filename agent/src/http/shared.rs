//! `/v1/shared/{owner}/…`: what another user of this node shares with this one, through their agent.
//!
//! Invariants: the owner's agent is as strange as any command's output: its bytes never run as a page of
//! ours, headers are made here, documents are bounded, and what it says of a run is of the asked one; a body comes as fast as the client takes it,
//! and nothing is kept between.
//! Not here: finding the owner's agent (`shares::away`), what it allows (`http::guests`).

use std::{path::PathBuf, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, Path, RawQuery, State, rejection::BytesRejection},
    response::{IntoResponse, Response},
    routing,
};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use hpcclient_protocol::{
    ApiError, ErrorCode, FRAMES_CONTENT_TYPE, Frame, FrameDecoder, Run, RunId,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use tokio::time::timeout;

use super::{AppState, by::by, failure::Failure, files};
use crate::{
    files::QueryPath,
    media::Media,
    shares::away::{self, Question},
    shim::control::MAX_DATA,
};

/// Returns the routes of this file.
pub(super) fn router() -> Router<AppState> {
    Router::new()
        .route("/v1/shared/{owner}/runs/{id}", routing::get(by(run)))
        .route(
            "/v1/shared/{owner}/runs/{id}/{part}",
            routing::get(by(view)).post(by(drive)),
        )
        .route("/v1/shared/{owner}/file", routing::get(by(file)))
        .layer(DefaultBodyLimit::max(MAX_DATA))
}

/// What `docs/openapi.json` says of this file.
#[cfg(test)]
#[derive(utoipa::OpenApi)]
#[openapi(paths(run, view, drive, file))]
pub(super) struct Described;

/// A run that another user shares.
#[cfg_attr(test, utoipa::path(
    get, path = "/v1/shared/{owner}/runs/{id}", operation_id = "getSharedRun",
    params(("owner" = String, Path), ("id" = String, Path)),
    responses((status = 200, body = Run), (status = 404, body = ApiError), (status = 503, body = ApiError))
))]
async fn run(
    State(state): State<AppState>,
    Path((owner, id)): Path<(String, String)>,
) -> Result<Response, Failure> {
    let id: RunId = id.parse()?;
    let answer = away::ask(&state, &owner, &Question::get(format!("/v1/runs/{id}"))).await?;
    the_run(&owner, id, answer).await
}

/// A shared run's `stream`, `stdout`, `stderr`, `tty`, `screen`, `search` or `viewers`, with the query of the route of that name.
#[cfg_attr(test, utoipa::path(
    get, path = "/v1/shared/{owner}/runs/{id}/{part}", operation_id = "viewSharedRun",
    params(("owner" = String, Path), ("id" = String, Path), ("part" = String, Path)),
    responses((status = 200), (status = 404, body = ApiError), (status = 503, body = ApiError))
))]
async fn view(
    State(state): State<AppState>,
    Path((owner, id, part)): Path<(String, String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let target = target(&id, &part, query.as_deref(), &VIEWS)?;
    let answer = away::ask(&state, &owner, &Question::get(target)).await?;
    if !matches!(part.as_str(), "stream" | "stdout" | "stderr" | "tty") {
        return Ok(document(answer));
    }
    let body = Body::new(answer.into_body());
    let (kind, body) = if part == "stream" {
        (FRAMES_CONTENT_TYPE, frames_of(id.parse()?, body))
    } else {
        (BYTES, body)
    };
    let mut response = Response::new(body);
    protect(response.headers_mut(), kind);
    Ok(response)
}

/// A shared run's `stdin`, `signal` (`INT` only) or `resize`, where the share lets this user drive.
#[cfg_attr(test, utoipa::path(
    post, path = "/v1/shared/{owner}/runs/{id}/{part}", operation_id = "driveSharedRun",
    params(("owner" = String, Path), ("id" = String, Path), ("part" = String, Path)),
    responses((status = 200), (status = 204), (status = 404, body = ApiError), (status = 503, body = ApiError))
))]
async fn drive(
    State(state): State<AppState>,
    Path((owner, id, part)): Path<(String, String, String)>,
    RawQuery(query): RawQuery,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Failure> {
    let question = Question {
        method: Method::POST,
        body: body?,
        // stdin is answered when the command has taken it.
        limit: DRIVE_LIMIT,
        ..Question::get(target(&id, &part, query.as_deref(), &DRIVES)?)
    };
    let answer = away::ask(&state, &owner, &question).await?;
    if answer.status() == StatusCode::NO_CONTENT {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    if part == "signal" {
        return the_run(&owner, id.parse()?, answer).await;
    }
    Ok(document(answer))
}

/// A file that another user shares.
#[cfg_attr(test, utoipa::path(
    get, path = "/v1/shared/{owner}/file", operation_id = "readSharedFile",
    params(("owner" = String, Path), ("path" = String, Query, description = "Its absolute path, percent-encoded bytes.")),
    responses(
        (status = 200, description = "The file.", content_type = "application/octet-stream"),
        (status = 206, description = "The asked range.", content_type = "application/octet-stream"),
        (status = "default", body = ApiError),
    )
))]
async fn file(
    State(state): State<AppState>,
    Path(owner): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    use std::os::unix::ffi::OsStrExt as _;
    let path: PathBuf = QueryPath::from_query(&query.unwrap_or_default())?.resolve(state.home())?;
    let encoded = percent_encode(path.as_os_str().as_bytes(), NON_ALPHANUMERIC);
    let question = Question {
        range: headers.get(header::RANGE).cloned(),
        ..Question::get(format!("/v1/file?path={encoded}"))
    };
    let (theirs, body) = away::ask(&state, &owner, &question).await?.into_parts();
    let media = Media::of(&path);
    let mut response = Response::new(Body::new(body));
    let headers = response.headers_mut();
    protect(headers, media.content_type);
    if let Ok(value) = HeaderValue::from_str(&files::disposition(&path, media)) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    for name in [
        header::CONTENT_LENGTH,
        header::CONTENT_RANGE,
        header::ACCEPT_RANGES,
    ] {
        if let Some(value) = theirs.headers.get(&name) {
            headers.insert(name, value.clone());
        }
    }
    if theirs.status == StatusCode::PARTIAL_CONTENT {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

fn target(id: &str, part: &str, query: Option<&str>, parts: &[&str]) -> Result<String, Failure> {
    let id: RunId = id.parse()?;
    if !parts.contains(&part) {
        let what = format!("`{part}` is not shared; there are {}", parts.join(", "));
        return Err(Failure(ApiError::new(
            hpcclient_protocol::ErrorCode::NotFound,
            what,
        )));
    }
    Ok(format!(
        "/v1/runs/{id}/{part}?{}",
        query.unwrap_or_default()
    ))
}

/// Returns the run that an owner's agent tells of, if it is the one that was asked for.
async fn the_run(
    owner: &str,
    id: RunId,
    answer: http::Response<Incoming>,
) -> Result<Response, Failure> {
    let body = Limited::new(answer.into_body(), MAX_DOCUMENT).collect();
    let body = timeout(BODY_LIMIT, body).await.ok().and_then(Result::ok);
    let run = body.and_then(|body| serde_json::from_slice::<Run>(&body.to_bytes()).ok());
    let Some(run) = run.filter(|run| run.id == id) else {
        let what = format!("{owner}'s agent did not answer with this run");
        return Err(Failure(ApiError::new(ErrorCode::Unavailable, what)));
    };
    let mut response = axum::Json(run).into_response();
    protect(response.headers_mut(), "application/json");
    Ok(response)
}

/// Passes frames on, and cuts a body that makes no sense or tells of another run.
fn frames_of(id: RunId, body: Body) -> Body {
    let mut decoder = FrameDecoder::default();
    Body::from_stream(body.into_data_stream().map(move |piece| {
        decoder.push(&piece.map_err(std::io::Error::other)?);
        let mut passed = BytesMut::new();
        while let Some(frame) = decoder.next_frame().map_err(std::io::Error::other)? {
            if let Frame::State(run) | Frame::End(run) = &frame
                && run.id != id
            {
                return Err(std::io::Error::other("another run than asked for"));
            }
            frame.encode(&mut passed);
        }
        Ok::<_, std::io::Error>(passed.freeze())
    }))
}

fn document(answer: http::Response<Incoming>) -> Response {
    let mut response = Response::new(Body::new(Limited::new(answer.into_body(), MAX_DOCUMENT)));
    protect(response.headers_mut(), "application/json");
    response
}

/// Says what the body is, and that it is nothing more.
fn protect(headers: &mut HeaderMap, content_type: &'static str) {
    let says: [(HeaderName, &'static str); 5] = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (
            header::CONTENT_SECURITY_POLICY,
            "sandbox; default-src 'none'",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ];
    for (name, value) in says {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

const VIEWS: [&str; 7] = [
    "stream", "stdout", "stderr", "tty", "screen", "search", "viewers",
];

const DRIVES: [&str; 3] = ["stdin", "signal", "resize"];

const BYTES: &str = "application/octet-stream";

const DRIVE_LIMIT: Duration = Duration::from_secs(60);

const MAX_DOCUMENT: usize = 8 << 20;

const BODY_LIMIT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_of_another_run_are_cut() {
        let id = RunId::random();
        let run: Run = serde_json::from_value(serde_json::json!({
            "id": id, "spec": {"command": {"shell": "x"}}, "state": "exited", "createdMs": 0, "host": "h",
        }))
        .unwrap();
        let mut bytes = BytesMut::new();
        Frame::End(Box::new(run)).encode(&mut bytes);
        let passed = async |id| {
            let body = frames_of(id, Body::from(bytes.clone().freeze()));
            axum::body::to_bytes(body, 99_999).await.ok()
        };
        assert_eq!(passed(id).await.unwrap(), bytes);
        assert!(passed(RunId::random()).await.is_none());
    }
}
