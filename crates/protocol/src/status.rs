//! What the agent says of itself: `GET /v1/status`, and the line `hpcagent serve --detach` prints.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ByteString;

/// Who answers on the agent's socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentHello {
    /// Its release.
    pub version: String,
    /// The protocol it speaks.
    pub protocol: u32,
    /// The SHA-256 of its binary, in hex.
    pub build: String,
    /// Its socket's absolute path.
    pub socket: String,
    /// The node's name.
    pub host: String,
    /// Its process id.
    pub pid: u32,
    /// The kernel's id of the node's present boot; an agent of an earlier release does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
}

/// The agent's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentStatus {
    /// Who it is.
    pub hello: AgentHello,
    /// The user's login name.
    pub user: String,
    /// The home directory.
    pub home: ByteString,
    /// When it started, in milliseconds since 1970.
    pub started_ms: u64,
    /// What the node's clock says, in milliseconds since 1970; an agent of an earlier release does not say.
    #[serde(default)]
    pub now_ms: u64,
    /// How many runs wait.
    pub queued: u32,
    /// How many runs live.
    pub running: u32,
    /// How many session shells live.
    pub sessions: u32,
    /// Resident memory in bytes.
    pub resident: u64,
    /// Bytes free where runs are stored.
    pub free_bytes: u64,
}

/// The body of `POST /v1/stop`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct StopRequest {
    /// Whether sessions and live runs are ended too; without it they go on.
    pub end_runs: bool,
}
