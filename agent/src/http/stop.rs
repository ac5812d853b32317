//! `POST /v1/stop`: the agent exits; runs go on unless the request says otherwise.

use std::time::Duration;

use axum::{
    Router,
    extract::{State, rejection::BytesRejection},
    http::StatusCode,
    routing,
};
use bytes::Bytes;
use hpcclient_protocol::status::StopRequest;

use super::{
    AppState,
    by::by,
    failure::{self, Failure},
};

/// Returns the routes of this file.
pub(super) fn router() -> Router<AppState> {
    Router::new().route("/v1/stop", routing::post(by(stop)))
}

/// What `docs/openapi.json` says of this file.
#[cfg(test)]
#[derive(utoipa::OpenApi)]
#[openapi(paths(stop))]
pub(super) struct Described;

/// Stops the agent.
#[cfg_attr(test, utoipa::path(
    post, path = "/v1/stop", operation_id = "stopAgent", request_body = StopRequest, responses((status = 204))
))]
async fn stop(
    State(state): State<AppState>,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, Failure> {
    let body = body?;
    let request: StopRequest = if body.is_empty() {
        StopRequest::default()
    } else {
        failure::json(Ok(body))?
    };
    tracing::info!(end_runs = request.end_runs, "stop was asked for");
    if request.end_runs {
        state.runs().end_all(END_LIMIT).await;
    }
    // The answer still goes out: the server lets requests finish for a moment.
    state.stop(request.end_runs);
    Ok(StatusCode::NO_CONTENT)
}

const END_LIMIT: Duration = Duration::from_secs(3);
