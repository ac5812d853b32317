//! The agent's HTTP API as one router, and its description for `docs/openapi.json`.
//!
//! A file is a URL segment. Called by `serve`, which puts it behind the Unix socket.
//! Invariants: every failure is an `ApiError`; a panic in one handler ends that request and nothing
//! else; no route needs a token, because only processes of this user reach the socket.
//! Not here: connections (`serve`), what requests do (`runs`, `files`, `ui`).

mod audit;
mod events;
mod export;
pub mod failure;
mod files;
pub mod guests;
mod live;
mod node;
mod range;
mod runs;
mod screen;
mod search;
mod sessions;
mod shared;
mod shares;
mod status;
mod stop;
mod streams;
mod ui;
mod viewers;

use std::panic::AssertUnwindSafe;

use axum::{
    Router,
    extract::Request,
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;
use hpcclient_protocol::{
    ApiError, ErrorCode, VERSION,
    file::SortKey,
    live::{AgentMessage, ViewerMessage},
};
use utoipa::{OpenApi, openapi};
use utoipa_axum::router::OpenApiRouter;

use self::failure::Failure;
pub use crate::state::AppState;

/// Returns the agent's API.
pub fn router(state: AppState) -> Router {
    let (router, _) = described().split_for_parts();
    router
        .fallback(no_such_route)
        .method_not_allowed_fallback(no_such_route)
        .layer(middleware::from_fn(keep_going))
        .with_state(state)
}

/// Returns the API's description.
#[must_use]
pub fn description() -> openapi::OpenApi {
    let (_, mut description) = described().split_for_parts();
    VERSION.clone_into(&mut description.info.version);
    description
}

fn described() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(Description::openapi())
        .merge(status::router())
        .merge(node::router())
        .merge(runs::router())
        .merge(streams::router())
        .merge(search::router())
        .merge(export::router())
        .merge(screen::router())
        .merge(sessions::router())
        .merge(events::router())
        .merge(live::router())
        .merge(viewers::router())
        .merge(files::router())
        .merge(shares::router())
        .merge(shared::router())
        .merge(audit::router())
        .merge(stop::router())
        .merge(ui::router())
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "hpcagent",
        description = "The agent on the login node. How it is used is in `docs/protocol.md`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(ViewerMessage, AgentMessage, SortKey))
)]
struct Description;

async fn no_such_route(request: Request) -> Failure {
    let what = format!("there is no {} {}", request.method(), request.uri().path());
    Failure(ApiError::new(ErrorCode::NotFound, what))
}

/// Turns a panic into an answer, so that the other requests of the connection go on.
async fn keep_going(request: Request, next: Next) -> Response {
    let answer = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    answer.unwrap_or_else(|_| {
        let what = "the agent met a defect of its own; its log has the place";
        Failure(ApiError::new(ErrorCode::Internal, what)).into_response()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_has_its_name_and_every_schema_is_there() {
        let text = description().to_json().unwrap();
        let named = |mark: &str| {
            let found: Vec<_> = text
                .split(mark)
                .skip(1)
                .filter_map(|rest| rest.split('"').next().map(ToOwned::to_owned))
                .collect();
            found
        };
        let mut operations = named("\"operationId\":\"");
        let count = operations.len();
        operations.sort();
        operations.dedup();
        assert_eq!(operations.len(), count, "a name is used twice");
        let schemas = description().components.unwrap().schemas;
        for schema in named("#/components/schemas/") {
            assert!(schemas.contains_key(&schema), "{schema} is not described");
        }
    }

    #[test]
    fn the_description_in_the_documents_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
        let now = description().to_pretty_json().unwrap() + "\n";
        if std::env::var_os("UPDATE_GENERATED").is_some_and(|value| value == "1") {
            std::fs::write(path, &now).unwrap();
        }
        let there = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            there == now,
            "docs/openapi.json is old: run the tests with UPDATE_GENERATED=1"
        );
    }
}
