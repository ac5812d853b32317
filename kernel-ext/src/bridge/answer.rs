//! How the bridge's own answers are written: JSON, errors, lines.

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, Response, StatusCode, header},
};
use hpcclient_protocol::{ApiError, ErrorCode, NDJSON_CONTENT_TYPE};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::mpsc;

/// The largest body of a control request, in bytes.
const BODY_LIMIT: usize = 64 << 10;

/// An answer of this bridge.
pub(crate) type Answer = Response<Body>;

/// Returns an answer without a body.
pub(crate) fn no_content() -> Answer {
    with(StatusCode::NO_CONTENT, Body::empty(), None)
}

/// Returns a JSON answer.
pub(crate) fn json(value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(bytes) => with(StatusCode::OK, bytes.into(), Some("application/json")),
        Err(error) => refusal(
            &ApiError::new(ErrorCode::Internal, "the answer cannot be written").caused_by(&error),
        ),
    }
}

/// Returns an error as an answer.
pub(crate) fn refusal(error: &ApiError) -> Answer {
    let status = StatusCode::from_u16(error.code.http_status());
    let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    // An ApiError is plain data: strings and an enum. serde_json cannot fail on it.
    let body = serde_json::to_vec(error).unwrap_or_default();
    with(status, body.into(), Some("application/json"))
}

/// Returns an answer of one JSON document a line, as they come.
pub(crate) fn lines<T: Serialize + Send + 'static>(events: mpsc::Receiver<T>) -> Answer {
    let lines = futures_util::stream::unfold(events, |mut events| async {
        let event = events.recv().await?;
        let line = serde_json::to_vec(&event).map(|mut line| {
            line.push(b'\n');
            Bytes::from(line)
        });
        Some((line, events))
    });
    with(
        StatusCode::OK,
        Body::from_stream(lines),
        Some(NDJSON_CONTENT_TYPE),
    )
}

/// Reads a control request's JSON body.
pub(crate) async fn read_json<T: DeserializeOwned>(body: Body) -> Result<T, ApiError> {
    parse(&read(body).await?)
}

/// Reads a control request's JSON body, which may be left out.
pub(crate) async fn read_optional_json<T: DeserializeOwned + Default>(
    body: Body,
) -> Result<T, ApiError> {
    let bytes = read(body).await?;
    if bytes.is_empty() {
        Ok(T::default())
    } else {
        parse(&bytes)
    }
}

async fn read(body: Body) -> Result<Bytes, ApiError> {
    axum::body::to_bytes(body, BODY_LIMIT)
        .await
        .map_err(|_| ApiError::new(ErrorCode::TooLarge, "the body is too long or was cut off"))
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(bytes).map_err(|error| {
        ApiError::new(
            ErrorCode::BadRequest,
            "the body is not what this path takes",
        )
        .caused_by(&error)
    })
}

fn with(status: StatusCode, body: Body, kind: Option<&'static str>) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(kind) = kind {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    answer
}
