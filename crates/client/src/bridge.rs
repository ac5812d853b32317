//! The bridge's control API: clusters, logins, prompts, pages.

use hpcclient_protocol::bridge::{
    BridgeAddress, BridgeStatus, ConnectEvent, ConnectRequest, LoginPageRequest, PageAddress,
    PromptAnswer,
};
use reqwest::Method;

use crate::{Agent, ClientError, Ndjson, agent::segment, http::Endpoint};

/// The lines of a login: progress, prompts, and how it ended.
pub type ConnectEvents = Ndjson<ConnectEvent>;

/// A running bridge.
#[derive(Clone, Debug)]
pub struct Bridge {
    endpoint: Endpoint,
}

impl Bridge {
    /// Returns the bridge at an address.
    ///
    /// # Errors
    /// The HTTP client cannot be made.
    pub fn new(address: &BridgeAddress) -> Result<Self, ClientError> {
        let endpoint = Endpoint::tcp(&address.url, &address.token)?;
        Ok(Self { endpoint })
    }

    /// Returns the agent of a cluster: a name of the configuration, a destination, or `default`.
    #[must_use]
    pub fn agent(&self, cluster: &str) -> Agent {
        Agent::new(self.endpoint.below(&format!("c/{}/", segment(cluster))))
    }

    /// Returns the bridge's state.
    ///
    /// # Errors
    /// As every request: the other side's error, or the transport's.
    pub async fn status(&self) -> Result<BridgeStatus, ClientError> {
        self.endpoint
            .json(self.endpoint.request(Method::GET, "v1/bridge"))
            .await
    }

    /// Stops the bridge.
    ///
    /// # Errors
    /// As every request.
    pub async fn stop(&self) -> Result<(), ClientError> {
        self.endpoint
            .done(self.endpoint.request(Method::POST, "v1/bridge/stop"))
            .await
    }

    /// Connects a cluster; whoever reads the events answers the prompts in them. The ssh-agent of
    /// this process's environment serves the login.
    ///
    /// # Errors
    /// As every request.
    pub async fn connect(&self, cluster: &str) -> Result<ConnectEvents, ClientError> {
        self.log_in(cluster, "connect").await
    }

    /// Runs the cluster's `renew_command`, and connects the cluster if it is not connected.
    ///
    /// # Errors
    /// `BadRequest` when there is no such command, `Conflict` when it runs; else as every request.
    pub async fn renew(&self, cluster: &str) -> Result<ConnectEvents, ClientError> {
        self.log_in(cluster, "renew").await
    }

    async fn log_in(&self, cluster: &str, verb: &str) -> Result<ConnectEvents, ClientError> {
        let path = format!("v1/clusters/{}/{verb}", segment(cluster));
        let socket = std::env::var("SSH_AUTH_SOCK").ok();
        let body = ConnectRequest {
            // What is no absolute path means nothing in another process.
            ssh_auth_sock: socket.filter(|socket| socket.starts_with('/')),
        };
        let request = self.endpoint.request(Method::POST, &path).json(&body);
        self.endpoint.open(request).await.map(Ndjson::new)
    }

    /// Ends a cluster's connection; its agent and runs go on.
    ///
    /// # Errors
    /// As every request.
    pub async fn disconnect(&self, cluster: &str) -> Result<(), ClientError> {
        let path = format!("v1/clusters/{}/disconnect", segment(cluster));
        self.endpoint
            .done(self.endpoint.request(Method::POST, &path))
            .await
    }

    /// Returns the address of a cluster's page, good for one visit within a minute.
    ///
    /// # Errors
    /// `NotConnected`; else as every request.
    pub async fn page(&self, cluster: &str) -> Result<PageAddress, ClientError> {
        let path = format!("v1/clusters/{}/page", segment(cluster));
        self.endpoint
            .json(self.endpoint.request(Method::POST, &path))
            .await
    }

    /// Returns the address of the page that asks for a cluster's login, good for one visit within a minute.
    ///
    /// # Errors
    /// As every request.
    pub async fn login_page(&self, cluster: &str) -> Result<PageAddress, ClientError> {
        let request = LoginPageRequest {
            cluster: Some(cluster.to_owned()),
            theme: None,
        };
        self.endpoint.post("v1/login-page", &request).await
    }

    /// Answers a prompt, or declines it with `None`.
    ///
    /// # Errors
    /// `NotFound` when the prompt is gone; else as every request.
    pub async fn answer(&self, prompt: &str, answer: Option<String>) -> Result<(), ClientError> {
        let path = format!("v1/prompts/{}", segment(prompt));
        let request = self.endpoint.request(Method::POST, &path);
        self.endpoint
            .done(request.json(&PromptAnswer { answer }))
            .await
    }
}
