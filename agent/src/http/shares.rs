//! `/v1/shares`: share something, take it back, and list what is shared by and with this user.

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Path, State, rejection::BytesRejection},
    http::StatusCode,
    routing,
};
use bytes::Bytes;
use hpcclient_protocol::{
    ApiError, ShareId,
    share::{Share, ShareList, ShareSpec},
};

use super::{
    AppState,
    by::by,
    failure::{Failure, json},
};
use crate::shares::away;

/// Returns the routes of this file.
pub(super) fn router() -> Router<AppState> {
    Router::new()
        .route("/v1/shares/{id}", routing::put(by(put)).delete(by(delete)))
        .route("/v1/shares", routing::get(by(list)))
        .layer(DefaultBodyLimit::max(MAX_SPEC))
}

/// What `docs/openapi.json` says of this file.
#[cfg(test)]
#[derive(utoipa::OpenApi)]
#[openapi(paths(put, delete, list))]
pub(super) struct Described;

/// Shares something, once: the same id with the same spec finds the share that was made before.
#[cfg_attr(test, utoipa::path(
    put, path = "/v1/shares/{id}", operation_id = "putShare", params(("id" = String, Path)), request_body = ShareSpec,
    responses(
        (status = 201, body = Share), (status = 200, body = Share), (status = 400, body = ApiError),
        (status = 403, body = ApiError), (status = 404, body = ApiError), (status = 409, body = ApiError)
    )
))]
async fn put(
    State(state): State<AppState>,
    Path(id): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<Share>), Failure> {
    let (id, spec): (ShareId, ShareSpec) = (id.parse()?, json(body)?);
    // A task of its own: a request that is cut must not leave a share that nobody answers for.
    let adding = state.clone();
    let added = state
        .tracker()
        .spawn(async move { adding.shares().add(adding.runs(), id, spec).await });
    let (share, is_new) = added.await.map_err(|_| crate::runs::RunError::Stopping)??;
    let status = if is_new {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok((status, Json(share)))
}

/// Takes a share back. Guests who are looking are cut at once.
#[cfg_attr(test, utoipa::path(
    delete, path = "/v1/shares/{id}", operation_id = "deleteShare", params(("id" = String, Path)),
    responses((status = 204), (status = 404, body = ApiError))
))]
async fn delete(
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Result<StatusCode, Failure> {
    let id: ShareId = id.parse()?;
    let removing = state.clone();
    let removed = state
        .tracker()
        .spawn(async move { removing.shares().remove(id).await });
    if removed
        .await
        .map_err(|_| crate::runs::RunError::Stopping)??
    {
        return Ok(StatusCode::NO_CONTENT);
    }
    let what = format!("there is no share {id}, or not any more");
    Err(Failure(ApiError::new(
        hpcclient_protocol::ErrorCode::NotFound,
        what,
    )))
}

/// What this user shares, and what others share with this user on this node.
#[cfg_attr(test, utoipa::path(get, path = "/v1/shares", operation_id = "listShares", responses((status = 200, body = ShareList))))]
async fn list(State(state): State<AppState>) -> Json<ShareList> {
    let (off, with_me) = tokio::join!(state.shares().off(), away::shares_of_others(&state));
    let by_me = state.shares().list();
    let with_me = if off.is_some() { vec![] } else { with_me };
    Json(ShareList {
        by_me,
        with_me,
        off,
    })
}

const MAX_SPEC: usize = 64 * 1024;
