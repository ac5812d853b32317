//! The agent's HTTP API as one router.
//!
//! A file is a URL segment. Called by `serve`, which puts it behind the Unix socket.
//! Invariants: every failure is an `ApiError`; no route needs a token, because only processes of this user reach the socket.
//! Not here: its description (`description`, tests only), connections (`serve`), what requests do (`runs`, `files`, `ui`).

mod audit;
mod by;
#[cfg(test)]
mod description;
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

use axum::{Router, extract::Request};
use hpcclient_protocol::{ApiError, ErrorCode};

use self::{by::by, failure::Failure};
pub use crate::state::AppState;

/// Returns the agent's API.
pub fn router(state: AppState) -> Router {
    Router::new()
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
        .fallback(by(no_such_route))
        .method_not_allowed_fallback(by(no_such_route))
        .with_state(state)
}

async fn no_such_route(request: Request) -> Failure {
    let what = format!("there is no {} {}", request.method(), request.uri().path());
    Failure(ApiError::new(ErrorCode::NotFound, what))
}
