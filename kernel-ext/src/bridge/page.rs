//! One cluster's page: an origin of its own, whose requests go to that cluster's agent.
//!
//! Made by `registry` when the first page of a cluster is asked for.
//! Invariants: a token opens this cluster only (`door`); the page comes from the login node, so what
//! the bridge itself answers here is about this cluster only, and a password is never typed here.

use std::sync::Arc;

use axum::http::{Method, Request};
use hpcclient_protocol::{ApiError, ErrorCode, bridge::PageAddress};
use hyper::body::Incoming;

use super::{
    answer::{Answer, json},
    cluster::Cluster,
    door::Door,
    guard, proxy,
    server::{self, Shared, Site},
    unpack,
};

/// A page's listener.
#[derive(Debug)]
pub(crate) struct Page {
    cluster: Cluster,
    door: Door,
    /// Where the user logs in again.
    login: Arc<Door>,
    shared: Shared,
}

impl Page {
    /// Opens the listener of a cluster's page.
    pub(crate) fn open(
        cluster: Cluster,
        login: Arc<Door>,
        shared: &Shared,
    ) -> Result<Arc<Self>, ApiError> {
        let (port, sockets) = server::listen_for_site()?;
        let page = Arc::new(Self {
            cluster,
            door: Door::new(port),
            login,
            shared: shared.clone(),
        });
        server::serve(sockets, port, &page, shared);
        Ok(page)
    }

    /// Returns a URL that opens the page once.
    pub(crate) fn new_url(&self) -> Result<String, ApiError> {
        self.door.new_url(self.cluster.name(), "")
    }
}

impl Site for Page {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Answer, ApiError> {
        let path = request.uri().path();
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        let is_ui = path == "/" || path.starts_with("/assets/");
        if is_ui && reads && !guard::is_websocket(request.headers()) {
            let target = path.to_owned();
            let asked = request.headers().clone();
            let answer = proxy::pass(&self.cluster, &target, request, &self.shared).await?;
            return unpack::for_browser(&asked, answer).await;
        }
        if path == "/page-token" && *request.method() == Method::POST {
            return Ok(json(&self.door.exchange(request.into_body()).await?));
        }
        self.door.check(request.headers())?;
        match (request.method(), path) {
            (&Method::GET, "/bridge-status") => Ok(json(&self.cluster.status())),
            (&Method::POST, "/login") => {
                let url = self.login.new_url(self.cluster.name(), "")?;
                Ok(json(&PageAddress { url }))
            }
            (_, path) if path.starts_with("/v1/") => {
                let target = request.uri().path_and_query();
                let target = target.map_or_else(|| path.to_owned(), ToString::to_string);
                proxy::pass(&self.cluster, &target, request, &self.shared).await
            }
            _ => Err(ApiError::new(ErrorCode::NotFound, "there is no such path")),
        }
    }
}
