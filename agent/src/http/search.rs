//! `GET /v1/runs/{id}/search`: the lines of a run's output that match a pattern.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, Query, State, rejection::QueryRejection},
    routing,
};
use hpcclient_protocol::{ApiError, ErrorCode, RunId, StreamName, output::SearchResult};
use serde::Deserialize;
use tokio::{sync::OwnedSemaphorePermit, time::timeout};
#[cfg(test)]
use utoipa::IntoParams;

use super::{AppState, by::by, failure::Failure};
use crate::output::{self, Question, SearchError};

/// Returns the routes of this file.
pub(super) fn router() -> Router<AppState> {
    Router::new().route("/v1/runs/{id}/search", routing::get(by(search)))
}

/// What `docs/openapi.json` says of this file.
#[cfg(test)]
#[derive(utoipa::OpenApi)]
#[openapi(paths(search))]
pub(super) struct Described;

#[derive(Deserialize)]
#[cfg_attr(test, derive(IntoParams))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, into_params(parameter_in = Query))]
struct SearchQuery {
    /// An extended regular expression, as `grep -E` has it.
    pattern: String,
    /// In which stream; without it in each.
    stream: Option<StreamName>,
    /// Whether the pattern is plain text.
    #[serde(default)]
    fixed: bool,
    /// Whether small and capital letters are the same.
    #[serde(default)]
    ignore_case: bool,
    /// How many lines, at most 1000.
    limit: Option<usize>,
}

/// The lines of a run's stored output that match, found by the node's `grep`.
#[cfg_attr(test, utoipa::path(
    get, path = "/v1/runs/{id}/search", operation_id = "searchRun", params(("id" = String, Path), SearchQuery),
    responses(
        (status = 200, body = SearchResult), (status = 400, body = ApiError), (status = 404, body = ApiError),
        (status = 503, body = ApiError)
    )
))]
async fn search(
    State(state): State<AppState>,
    Path(id): Path<String>,
    query: Result<Query<SearchQuery>, QueryRejection>,
) -> Result<Json<SearchResult>, Failure> {
    let (id, Query(query)) = (id.parse::<RunId>()?, query?);
    let pattern = query.pattern.into_bytes();
    if pattern.len() > MAX_PATTERN || pattern.contains(&0) {
        let what = format!("a pattern has at most {MAX_PATTERN} bytes and no NUL");
        return Err(Failure::bad_request(what));
    }
    let question = Question {
        pattern,
        fixed: query.fixed,
        ignore_case: query.ignore_case,
        stream: query.stream,
        limit: query.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT),
    };
    let (dir, run) = state.runs().folder(id).await?;
    let place = place(&state).await?;
    let found = output::search(&dir, &run, question, place);
    let found = state.stopping().run_until_cancelled(found).await;
    let found = found.unwrap_or(Err(SearchError::Stopping));
    Ok(Json(found.map_err(|error| error.to_api())?))
}

/// Waits until there are not too many that read much.
pub(super) async fn place(state: &AppState) -> Result<Arc<OwnedSemaphorePermit>, Failure> {
    let place = Arc::clone(state.readers()).acquire_owned();
    match timeout(PLACE_LIMIT, place).await {
        Ok(Ok(place)) => Ok(Arc::new(place)),
        _ => Err(Failure(ApiError::new(
            ErrorCode::Unavailable,
            "other searches are still running on this node; try again",
        ))),
    }
}

const DEFAULT_LIMIT: usize = 100;

const MAX_LIMIT: usize = 1000;

const MAX_PATTERN: usize = 4096;

const PLACE_LIMIT: Duration = Duration::from_secs(10);
