//! What the agent says of itself: `GET /v1/status`, and the line `hpcagent serve --detach` prints.

use serde::{Deserialize, Serialize};
#[cfg(feature = "schema")]
use utoipa::ToSchema;

use crate::ByteString;

/// Who answers on the agent's socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
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
    /// Bytes that the stored runs take, as far as it is known: it is measured seldom and added up in between.
    #[serde(default)]
    pub store_bytes: u64,
    /// Bytes that they may take; above it the oldest that have ended are deleted. 0 while it is not known.
    #[serde(default)]
    pub store_limit: u64,
    /// How many supervisors of single runs there are. A session's is not counted.
    #[serde(default)]
    pub supervisors: u32,
    /// How many there may be with what the node allows this user now; more runs wait.
    #[serde(default)]
    pub max_supervisors: u32,
}

/// The body of `POST /v1/stop`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct StopRequest {
    /// Whether sessions and live runs are ended too; without it they go on.
    pub end_runs: bool,
}
