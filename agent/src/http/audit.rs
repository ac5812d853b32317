//! `GET /v1/audit`: what guests did, newest first.

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};
use hpcclient_protocol::share::AuditList;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{AppState, failure::Failure};

/// Returns the routes of this file.
pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(audit))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct AuditQuery {
    /// How many, at most 1000.
    limit: Option<usize>,
}

/// What guests did with what this user shares, newest first.
#[utoipa::path(get, path = "/v1/audit", operation_id = "listAudit", params(AuditQuery), responses((status = 200, body = AuditList)))]
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
