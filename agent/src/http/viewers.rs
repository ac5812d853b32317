//! `GET /v1/runs/{id}/viewers`: who looks at a run now.

use axum::{
    Json, Router,
    extract::{Path, State},
    routing,
};
#[cfg(test)]
use hpcclient_protocol::ApiError;
use hpcclient_protocol::live::Viewer;

use super::{AppState, by::by, failure::Failure};

/// Returns the routes of this file.
pub(super) fn router() -> Router<AppState> {
    Router::new().route("/v1/runs/{id}/viewers", routing::get(by(viewers)))
}

/// What `docs/openapi.json` says of this file.
#[cfg(test)]
#[derive(utoipa::OpenApi)]
#[openapi(paths(viewers))]
pub(super) struct Described;

/// Who looks at a run now, in the order in which they came.
#[cfg_attr(test, utoipa::path(
    get, path = "/v1/runs/{id}/viewers", operation_id = "listViewers", params(("id" = String, Path)),
    responses((status = 200, body = [Viewer]), (status = 404, body = ApiError))
))]
async fn viewers(
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Result<Json<Vec<Viewer>>, Failure> {
    let run = state.runs().get_here(id.parse()?).await?;
    Ok(Json(state.presence().of(run.id)))
}
