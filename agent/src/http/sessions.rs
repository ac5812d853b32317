//! `DELETE /v1/sessions/{id}`: ends a session's shell.

use axum::{
    Router,
    extract::{Path, State},
    http::StatusCode,
    routing,
};
#[cfg(test)]
use hpcclient_protocol::ApiError;
use hpcclient_protocol::SessionId;

use super::{AppState, by::by, failure::Failure};

/// Returns the routes of this file.
pub(super) fn router() -> Router<AppState> {
    Router::new().route("/v1/sessions/{id}", routing::delete(by(end)))
}

/// What `docs/openapi.json` says of this file.
#[cfg(test)]
#[derive(utoipa::OpenApi)]
#[openapi(paths(end))]
pub(super) struct Described;

/// Ends a session's shell.
#[cfg_attr(test, utoipa::path(
    delete, path = "/v1/sessions/{id}", operation_id = "endSession", params(("id" = String, Path)),
    responses((status = 204), (status = 404, body = ApiError))
))]
async fn end(State(state): State<AppState>, Path(id): Path<String>) -> Result<StatusCode, Failure> {
    state.runs().end_session(&id.parse::<SessionId>()?)?;
    Ok(StatusCode::NO_CONTENT)
}
