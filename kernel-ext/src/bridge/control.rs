//! The control API: clusters, logins, prompts, and the way to each cluster's agent.

use std::sync::Arc;

use axum::http::{Method, Request};
use hpcclient_protocol::{
    ApiError, ErrorCode,
    bridge::{PageAddress, PromptAnswer},
};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;

use super::{
    answer::{Answer, json, lines, no_content, read_json},
    guard, prompt, proxy,
    registry::{self, Registry},
    renew,
    server::Site,
};

/// The control listener's site.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) token: String,
    pub(crate) registry: Arc<Registry>,
}

impl Site for Control {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Answer, ApiError> {
        let token = guard::token(request.headers());
        if !token.is_some_and(|token| guard::is_same_secret(token, &self.token)) {
            let message = "the token is missing or wrong";
            return Err(ApiError::new(ErrorCode::Unauthorized, message));
        }
        let path = request.uri().path().to_owned();
        if let Some(rest) = path.strip_prefix("/c/") {
            let Some((name, rest)) = rest.split_once('/').filter(|(_, at)| at.starts_with("v1/"))
            else {
                return Err(not_found());
            };
            let name = self.registry.name(&decoded(name)?).await?;
            let query = request.uri().query();
            let target =
                query.map_or_else(|| format!("/{rest}"), |query| format!("/{rest}?{query}"));
            let cluster = self.registry.known(&name)?;
            return proxy::pass(&cluster, &target, request, &self.registry.shared).await;
        }
        let method = request.method().clone();
        let segments: Vec<_> = path.split('/').skip(1).collect();
        match (&method, segments.as_slice()) {
            (&Method::GET, ["v1", "bridge"]) => Ok(json(&self.registry.status().await?)),
            (&Method::POST, ["v1", "bridge", "stop"]) => {
                tracing::info!("asked to stop");
                self.registry.shared.cancel.cancel();
                Ok(no_content())
            }
            (&Method::POST, ["v1", "prompts", id]) => {
                let body: PromptAnswer =
                    read_json(axum::body::Body::new(request.into_body())).await?;
                if self.registry.prompts.answer(id, body.answer) {
                    Ok(no_content())
                } else {
                    let message = "nobody waits for an answer to this prompt";
                    Err(ApiError::new(ErrorCode::NotFound, message))
                }
            }
            (&Method::POST, ["v1", "clusters", name, verb]) => {
                let name = self.registry.name(&decoded(name)?).await?;
                self.cluster(&name, verb).await
            }
            _ => Err(not_found()),
        }
    }
}

impl Control {
    async fn cluster(&self, name: &str, verb: &str) -> Result<Answer, ApiError> {
        match verb {
            "connect" => {
                let (asker, events) = prompt::asker();
                self.registry.cluster(name).connect(asker).await?;
                Ok(lines(events))
            }
            "renew" => {
                let (asker, events) = prompt::asker();
                let config = registry::load_config().await?;
                let cluster = self.registry.cluster(name);
                renew::start(&config, cluster, asker, &self.registry.shared)?;
                Ok(lines(events))
            }
            "disconnect" => {
                if let Ok(cluster) = self.registry.known(name) {
                    cluster.disconnect().await?;
                }
                Ok(no_content())
            }
            "page" => {
                let cluster = self.registry.known(name)?;
                cluster.link().await?;
                let url = self.registry.page_url(&cluster)?;
                Ok(json(&PageAddress { url }))
            }
            _ => Err(not_found()),
        }
    }
}

fn decoded(segment: &str) -> Result<String, ApiError> {
    let text = percent_decode_str(segment).decode_utf8();
    let text = text.map_err(|_| ApiError::new(ErrorCode::BadRequest, "the name is not UTF-8"))?;
    Ok(text.into_owned())
}

fn not_found() -> ApiError {
    ApiError::new(ErrorCode::NotFound, "there is no such path")
}
