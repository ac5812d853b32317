//! `/v1/node`: what the node is, and bytes to measure the way to it.

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Query, State, rejection::QueryRejection},
    http::header,
    response::{IntoResponse, Response},
    routing,
};
use bytes::{BufMut as _, BytesMut};
use futures_util::stream;
#[cfg(test)]
use hpcclient_protocol::ApiError;
use hpcclient_protocol::node::NodeFacts;
use serde::Deserialize;
#[cfg(test)]
use utoipa::IntoParams;

use super::{AppState, by::by, failure::Failure};

/// Returns the routes of this file.
pub(super) fn router() -> Router<AppState> {
    Router::new()
        .route("/v1/node", routing::get(by(facts)))
        .route("/v1/node/bytes", routing::get(by(noise)))
}

/// What `docs/openapi.json` says of this file.
#[cfg(test)]
#[derive(utoipa::OpenApi)]
#[openapi(paths(facts, noise))]
pub(super) struct Described;

/// What the node is. It takes some seconds where a disk or a batch system does not answer.
#[cfg_attr(test, utoipa::path(get, path = "/v1/node", operation_id = "getNode", responses((status = 200, body = NodeFacts))))]
async fn facts(State(state): State<AppState>) -> Json<NodeFacts> {
    Json(crate::node::examine(&state).await)
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(IntoParams))]
#[cfg_attr(test, into_params(parameter_in = Query))]
struct NoiseQuery {
    /// How many, at most 64 MiB.
    count: u64,
}

/// Bytes that cannot be compressed, to measure the way.
#[cfg_attr(test, utoipa::path(
    get, path = "/v1/node/bytes", operation_id = "getNoise", params(NoiseQuery),
    responses((status = 200, content_type = "application/octet-stream"), (status = 400, body = ApiError))
))]
async fn noise(query: Result<Query<NoiseQuery>, QueryRejection>) -> Result<Response, Failure> {
    let Query(NoiseQuery { count }) = query?;
    if count > MAX_NOISE {
        return Err(Failure::bad_request(format!(
            "`count` is at most {MAX_NOISE}"
        )));
    }
    let pieces = stream::unfold((count, SEED), |(left, mut state)| async move {
        let size = left.min(PIECE);
        let mut piece = BytesMut::with_capacity(usize::try_from(size).ok()? + 8);
        while (piece.len() as u64) < size {
            piece.put_u64(next(&mut state));
        }
        piece.truncate(usize::try_from(size).ok()?);
        let piece: Result<Bytes, std::convert::Infallible> = Ok(piece.freeze());
        (size > 0).then_some((piece, (left - size, state)))
    });
    let headers = [(header::CONTENT_TYPE, "application/octet-stream")];
    Ok((headers, Body::from_stream(pieces)).into_response())
}

/// `SplitMix64`: not a secret, only not compressible.
const fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

const SEED: u64 = 42;

const PIECE: u64 = 64 * 1024;

const MAX_NOISE: u64 = 64 << 20;
