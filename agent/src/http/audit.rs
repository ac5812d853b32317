//! `GET /v1/audit`: what guests did, newest first.

use axum::{
    Json, Router,
    extract::{Query, State, rejection::QueryRejection},
    routing,
};
use hpcclient_protocol::share::AuditList;
use serde::Deserialize;
#[cfg(test)]
use utoipa::IntoParams;

use super::{AppState, by::by, failure::Failure};

/// Returns the routes of this file.
pub(super) fn router() -> Router<AppState> {
    Router::new().route("/v1/audit", routing::get(by(audit)))
}

/// What `docs/openapi.json` says of this file.
#[cfg(test)]
#[derive(utoipa::OpenApi)]
#[openapi(paths(audit))]
pub(super) struct Described;

#[derive(Deserialize)]
#[cfg_attr(test, derive(IntoParams))]
#[cfg_attr(test, into_params(parameter_in = Query))]
struct AuditQuery {
    /// How many, at most 1000.
    limit: Option<usize>,
}

/// What guests did with what this user shares, newest first.
#[cfg_attr(test, utoipa::path(get, path = "/v1/audit", operation_id = "listAudit", params(AuditQuery), responses((status = 200, body = AuditList))))]
async fn audit(
    State(state): State<AppState>,
    query: Result<Query<AuditQuery>, QueryRejection>,
) -> Result<Json<AuditList>, Failure> {
    let limit = query?.limit.unwrap_or(DEFAULT_PAGE).clamp(1, MAX_PAGE);
    let entries = state.shares().audit().newest(limit).await?;
    Ok(Json(AuditList { entries }))
}

const DEFAULT_PAGE: usize = 100;

const MAX_PAGE: usize = 1000;
