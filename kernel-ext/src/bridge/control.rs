//! The control API: clusters, logins, prompts, and the way to each cluster's agent.

use std::{path::PathBuf, sync::Arc};

use axum::http::{Method, Request};
use hpcclient_protocol::{
    ApiError, ErrorCode,
    bridge::{ConnectRequest, LoginPageRequest, PageAddress, Theme},
};
use hyper::body::Incoming;

use super::{
    answer::{Answer, json, lines, no_content, read_json, read_optional_json},
    guard, logins, prompt, proxy,
    registry::{self, Registry},
    renew,
    server::Site,
    ssh_agents::SshAgents,
};
use crate::config::DEFAULT;

/// The control listener's site.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) token: String,
    pub(crate) registry: Arc<Registry>,
    pub(crate) ssh_agents: Arc<SshAgents>,
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
            let name = logins::name(&self.registry, name).await?;
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
                logins::answer(&self.registry, id, request.into_body()).await
            }
            (&Method::POST, ["v1", "login-page"]) => {
                let asked = read_json(axum::body::Body::new(request.into_body())).await?;
                Ok(json(&self.login_page(asked).await?))
            }
            (&Method::POST, ["v1", "clusters", name, verb]) => {
                let name = logins::name(&self.registry, name).await?;
                self.cluster(&name, verb, request.into_body()).await
            }
            _ => Err(not_found()),
        }
    }
}

impl Control {
    async fn cluster(&self, name: &str, verb: &str, body: Incoming) -> Result<Answer, ApiError> {
        match verb {
            "connect" => {
                self.remember_ssh_agent(name, body).await?;
                logins::connect(&self.registry, name).await
            }
            "renew" => {
                self.remember_ssh_agent(name, body).await?;
                let (asker, events) = prompt::asker();
                let config = registry::load_config().await?;
                let cluster = self.registry.cluster(name);
                let ssh_agent = self.ssh_agents.of(name).await;
                renew::start(&config, cluster, asker, &self.registry.shared, ssh_agent)?;
                Ok(lines(events))
            }
            "disconnect" => {
                if let Ok(cluster) = self.registry.known(name) {
                    cluster.disconnect().await?;
                }
                Ok(no_content())
            }
            "page" => logins::page(&self.registry, name).await,
            _ => Err(not_found()),
        }
    }

    async fn remember_ssh_agent(&self, cluster: &str, body: Incoming) -> Result<(), ApiError> {
        let asked: ConnectRequest = read_optional_json(axum::body::Body::new(body)).await?;
        let socket = asked.ssh_auth_sock.map(PathBuf::from);
        self.ssh_agents.remember(cluster, socket).await
    }

    /// Returns a URL of the login page. Where no cluster is the default, the page asks which.
    async fn login_page(&self, asked: LoginPageRequest) -> Result<PageAddress, ApiError> {
        let cluster = match asked.cluster.as_deref() {
            None => String::new(),
            Some(DEFAULT) => self.registry.default_cluster().await?.unwrap_or_default(),
            Some(name) => self.registry.name(name).await?,
        };
        let query = match asked.theme {
            None => "",
            Some(Theme::Dark) => "?theme=dark",
            Some(Theme::Light) => "?theme=light",
        };
        let url = self.registry.login.new_url(&cluster, query)?;
        Ok(PageAddress { url })
    }
}

fn not_found() -> ApiError {
    ApiError::new(ErrorCode::NotFound, "there is no such path")
}
