//! What the bridge says to Python, the command line and the page: clusters, logins, prompts.

use serde::{Deserialize, Serialize};
#[cfg(feature = "schema")]
use utoipa::ToSchema;

use crate::ApiError;

/// How to reach a running bridge; what `hpcclient bridge --ensure` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct BridgeAddress {
    /// Its base URL, `http://127.0.0.1:<port>/`.
    pub url: String,
    /// The bearer token. Secret.
    pub token: String,
    /// Its process id.
    pub pid: u32,
    /// Its release.
    pub version: String,
}

/// The bridge's state: `GET /v1/bridge`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct BridgeStatus {
    /// Its release.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// When it started, in milliseconds since 1970.
    pub started_ms: u64,
    /// The name that `default` stands for, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_cluster: Option<String>,
    /// The clusters of the configuration and those that were connected.
    pub clusters: Vec<ClusterStatus>,
}

/// One cluster as the bridge sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// Its name.
    pub name: String,
    /// `user@host:port` as it was resolved.
    pub destination: String,
    /// Where the connection is in its life.
    pub state: ClusterState,
    /// The node that the agent runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The way to the agent's socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<Route>,
    /// The agent's release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_version: Option<String>,
    /// The node that the login landed on, when `node` is reached by a hop from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
    /// How the login was made, while there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<Login>,
    /// What is being waited for, in words: the network, an answer to a question, the next try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<String>,
    /// When the next attempt begins, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_ms: Option<u64>,
    /// What the user should know though the connection works: another node, a certificate that ends soon.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
    /// How many SSH channels this connection has opened.
    pub channels_opened: u64,
    /// Since when the state holds, in milliseconds since 1970.
    pub since_ms: u64,
    /// Why the last attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ApiError>,
}

/// How a login was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Login {
    /// What speaks SSH.
    pub transport: Transport,
    /// What the server takes, as it said before the login.
    #[serde(default)]
    pub offered: Vec<String>,
    /// What it accepted, in order, as `publickey (certificate ~/.ssh/id-cert.pub)`.
    #[serde(default)]
    pub used: Vec<String>,
    /// The certificate that was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
    /// The server's key, as `ssh-ed25519 SHA256:…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_key: Option<String>,
    /// What the server calls itself, as `SSH-2.0-OpenSSH_9.2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The hosts on the way, as `user@host:port`, the first one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hops: Vec<String>,
}

/// What speaks SSH.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase")]
pub enum Transport {
    /// The built-in client.
    Russh,
    /// The system's `ssh` program.
    Openssh,
}

/// A user certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    /// What its authority calls it.
    pub key_id: String,
    /// A file, or `ssh-agent`.
    pub source: String,
    /// Until when it is good, in milliseconds since 1970; nothing if for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until_ms: Option<u64>,
}

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase")]
pub enum ClusterState {
    /// Nobody asked for it, or it was ended.
    Disconnected,
    /// Logging in for the first time.
    Connecting,
    /// In use.
    Connected,
    /// Lost, and being made again.
    Reconnecting,
    /// It cannot be made without the user; `error` says why.
    Failed,
}

/// A way from the login node's sshd to the agent's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase")]
pub enum Route {
    /// A forwarded Unix socket (`direct-streamlocal`).
    Streamlocal,
    /// An exec channel that runs `hpcagent connect`.
    Exec,
}

/// A line of the answer to `POST /v1/clusters/{name}/connect`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum ConnectEvent {
    /// What is being done, for people.
    Progress {
        /// The step.
        message: String,
    },
    /// The user is asked; answer with `POST /v1/prompts/{id}`.
    Prompt {
        /// The prompt's id.
        id: String,
        /// What is asked for.
        kind: PromptKind,
        /// The question, with control characters made visible.
        text: String,
        /// Whether the answer may be shown while it is typed.
        echo: bool,
    },
    /// Done.
    Connected {
        /// The cluster.
        cluster: Box<ClusterStatus>,
    },
    /// It failed; nothing follows.
    Failed {
        /// Why.
        error: ApiError,
    },
}

/// What a prompt asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase")]
pub enum PromptKind {
    /// Whether to trust a key seen for the first time: `yes` or anything else.
    HostKey,
    /// The account's password.
    Password,
    /// A private key's passphrase.
    Passphrase,
    /// Something the server asks in its own words, such as a one-time password.
    Question,
}

/// The body of `POST /v1/prompts/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct PromptAnswer {
    /// What the user typed, or nothing if they declined.
    pub answer: Option<String>,
}

/// The answer of `POST /v1/clusters/{name}/page` and of `POST /v1/login-page`: where a page is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct PageAddress {
    /// `http://localhost:<port>/#code=<code>`; the code is taken once, within a minute.
    pub url: String,
}

/// The body of `POST /v1/clusters/{name}/connect` and `…/renew`, which may be left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ConnectRequest {
    /// The `SSH_AUTH_SOCK` of whoever asks, an absolute path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh_auth_sock: Option<String>,
}

/// The body of `POST /v1/login-page`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct LoginPageRequest {
    /// The cluster that the page connects at once, or nothing where the user is to say which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// The page's colours, where they are not the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub theme: Option<Theme>,
}

/// A page's colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase")]
pub enum Theme {
    /// Light text on dark.
    Dark,
    /// Dark text on light.
    Light,
}

/// The answer of `GET /v1/clusters` on the login page's origin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ClusterList {
    /// The clusters of the configuration and those that were connected.
    pub clusters: Vec<ClusterSummary>,
}

/// What the login page shows of a cluster before it is chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ClusterSummary {
    /// Its name.
    pub name: String,
    /// `user@host:port` as far as it is known.
    pub destination: String,
    /// Where the connection is in its life.
    pub state: ClusterState,
}

impl From<ClusterStatus> for ClusterSummary {
    fn from(status: ClusterStatus) -> Self {
        let ClusterStatus {
            name,
            destination,
            state,
            ..
        } = status;
        Self {
            name,
            destination,
            state,
        }
    }
}

/// The body of `POST /page-token` on a page's own origin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct PageCode {
    /// The code from the URL's fragment.
    pub code: String,
}

/// The answer of `POST /page-token`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct PageToken {
    /// A bearer token for this page only. Secret.
    pub token: String,
    /// The cluster's name; on the login page the one to connect at once, or nothing.
    pub cluster: String,
}
