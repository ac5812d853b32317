//! `DELETE /v1/sessions/{id}`: ends a session's shell.

use axum::{
    extract::{Path, State},
    http::StatusCode,
};
use hpcclient_protocol::{ApiError, SessionId};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{AppState, failure::Failure};

/// Returns the routes of this file.
pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(end))
}

/// Ends a session's shell.
#[utoipa::path(
    delete, path = "/v1/sessions/{id}", operation_id = "endSession", params(("id" = String, Path)),
    responses((status = 204), (status = 404, body = ApiError))
)]
async fn end(State(state): State<AppState>, Path(id): Path<String>) -> Result<StatusCode, Failure> {
    state.runs().end_session(&id.parse::<SessionId>()?)?;
    Ok(StatusCode::NO_CONTENT)
}
