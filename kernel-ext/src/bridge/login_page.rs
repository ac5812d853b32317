//! The login page: where the user says which cluster, and answers what its server asks.
//!
//! Served by the bridge itself, on an origin of its own, because a password must not be typed into
//! a page that came from the login node. Opened by `POST /v1/login-page` of the control API and by
//! `POST /login` of a cluster's page.
//! Invariants: its token can list, connect, answer and open a page, and nothing else; which cluster
//! a URL connects at once is decided by its code (`door`), so nobody can send a user elsewhere.

use std::sync::Arc;

use axum::http::{Method, Request};
use hpcclient_protocol::{ApiError, ErrorCode, bridge::ClusterList};
use hyper::body::Incoming;

use super::{
    answer::{Answer, json},
    door::Door,
    guard, login_ui, logins,
    registry::Registry,
    server::Site,
};

/// The login page's site.
#[derive(Debug)]
pub(crate) struct LoginPage {
    pub(crate) door: Arc<Door>,
    pub(crate) registry: Arc<Registry>,
}

impl Site for LoginPage {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Answer, ApiError> {
        let path = request.uri().path().to_owned();
        let method = request.method().clone();
        if guard::is_websocket(request.headers()) {
            return Err(not_found());
        }
        if path == "/" && matches!(method, Method::GET | Method::HEAD) {
            return Ok(login_ui::page());
        }
        if path == "/page-token" && method == Method::POST {
            return Ok(json(&self.door.exchange(request.into_body()).await?));
        }
        self.door.check(request.headers())?;
        let registry = &self.registry;
        let segments: Vec<_> = path.split('/').skip(1).collect();
        match (&method, segments.as_slice()) {
            (&Method::GET, ["v1", "clusters"]) => {
                let clusters = registry.status().await?.clusters;
                let clusters = clusters.into_iter().map(Into::into).collect();
                Ok(json(&ClusterList { clusters }))
            }
            (&Method::POST, ["v1", "clusters", name, "connect"]) => {
                logins::connect(registry, &logins::name(registry, name).await?).await
            }
            (&Method::POST, ["v1", "clusters", name, "page"]) => {
                logins::page(registry, &logins::name(registry, name).await?).await
            }
            (&Method::POST, ["v1", "prompts", id]) => {
                logins::answer(registry, id, request.into_body()).await
            }
            _ => Err(not_found()),
        }
    }
}

fn not_found() -> ApiError {
    ApiError::new(ErrorCode::NotFound, "there is no such path")
}
