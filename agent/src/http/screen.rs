//! `GET /v1/runs/{id}/screen`: a console as it looks now.

use axum::{
    Json, Router,
    extract::{Path, Query, State, rejection::QueryRejection},
    routing,
};
#[cfg(test)]
use hpcclient_protocol::ApiError;
use hpcclient_protocol::{RunId, output::Screen};
use serde::Deserialize;
#[cfg(test)]
use utoipa::IntoParams;

use super::{AppState, by::by, failure::Failure, search::place};
use crate::{output, runs::RunError};

/// Returns the routes of this file.
pub(super) fn router() -> Router<AppState> {
    Router::new().route("/v1/runs/{id}/screen", routing::get(by(screen)))
}

/// What `docs/openapi.json` says of this file.
#[cfg(test)]
#[derive(utoipa::OpenApi)]
#[openapi(paths(screen))]
pub(super) struct Described;

#[derive(Deserialize)]
#[cfg_attr(test, derive(IntoParams))]
#[cfg_attr(test, into_params(parameter_in = Query))]
struct ScreenQuery {
    /// How many lines above the screen, at most 10000; without it 1000.
    lines: Option<usize>,
}

/// What brings a fresh terminal to a console's state, made of the last 4 MiB that it wrote.
#[cfg_attr(test, utoipa::path(
    get, path = "/v1/runs/{id}/screen", operation_id = "readScreen", params(("id" = String, Path), ScreenQuery),
    responses(
        (status = 200, body = Screen), (status = 404, body = ApiError), (status = 409, body = ApiError),
        (status = 503, body = ApiError)
    )
))]
async fn screen(
    State(state): State<AppState>,
    Path(id): Path<String>,
    query: Result<Query<ScreenQuery>, QueryRejection>,
) -> Result<Json<Screen>, Failure> {
    let (id, Query(query)) = (id.parse::<RunId>()?, query?);
    let lines = query.lines.unwrap_or(DEFAULT_LINES);
    let (dir, run) = state.runs().folder(id).await?;
    let place = place(&state).await?;
    let made = crate::tasks::blocking(move || {
        let made = output::screen(&dir, &run, lines);
        drop(place);
        made
    });
    let made = made.await.map_err(|_| RunError::Stopping)?;
    Ok(Json(made.map_err(|error| error.to_api())?))
}

const DEFAULT_LINES: usize = 1000;
