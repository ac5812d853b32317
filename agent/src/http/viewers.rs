//! `GET /v1/runs/{id}/viewers`: who looks at a run now.

use axum::{
    Json,
    extract::{Path, State},
};
use hpcclient_protocol::{ApiError, live::Viewer};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{AppState, failure::Failure};

/// Returns the routes of this file.
pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(viewers))
}

/// Who looks at a run now, in the order in which they came.
#[utoipa::path(
    get, path = "/v1/runs/{id}/viewers", operation_id = "listViewers", params(("id" = String, Path)),
    responses((status = 200, body = [Viewer]), (status = 404, body = ApiError))
)]
async fn viewers(
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Result<Json<Vec<Viewer>>, Failure> {
    let run = state.runs().get_here(id.parse()?).await?;
    Ok(Json(state.presence().of(run.id)))
}
