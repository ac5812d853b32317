//! `GET /v1/events`: what happens to runs, a JSON document a line, until the client goes.

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::header,
    response::{IntoResponse, Response},
    routing,
};
use futures_util::stream;
use hpcclient_protocol::NDJSON_CONTENT_TYPE;
#[cfg(test)]
use hpcclient_protocol::event::Event;

use super::{AppState, by::by};

/// Returns the routes of this file.
pub(super) fn router() -> Router<AppState> {
    Router::new().route("/v1/events", routing::get(by(events)))
}

/// What `docs/openapi.json` says of this file.
#[cfg(test)]
#[derive(utoipa::OpenApi)]
#[openapi(paths(events))]
pub(super) struct Described;

/// Every event from now on. A client that does not read in time is cut and must ask again.
#[cfg_attr(test, utoipa::path(
    get, path = "/v1/events", operation_id = "followEvents",
    responses((status = 200, body = Event, content_type = "application/x-ndjson"))
))]
async fn events(State(state): State<AppState>) -> Response {
    let watch = state.runs().events().watch();
    let stopping = state.stopping().clone();
    let lines = stream::unfold((watch, stopping), |(mut watch, stopping)| async move {
        let event = stopping.run_until_cancelled(watch.next()).await?;
        let line = event.map_err(std::io::Error::other).and_then(|event| {
            let mut line = serde_json::to_vec(&*event)?;
            line.push(b'\n');
            Ok(Bytes::from(line))
        });
        Some((line, (watch, stopping)))
    });
    (
        [(header::CONTENT_TYPE, NDJSON_CONTENT_TYPE)],
        Body::from_stream(lines),
    )
        .into_response()
}
