//! The node as the agent finds it: `GET /v1/node`. Facts only; what is good or bad is said by `hpcclient doctor`.

use serde::{Deserialize, Serialize};
#[cfg(feature = "schema")]
use utoipa::ToSchema;

use crate::ByteString;

/// What can be found out about the node without asking anybody's permission.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct NodeFacts {
    /// The kernel's name and release.
    pub kernel: String,
    /// The processor's architecture, as `uname -m` has it.
    pub arch: String,
    /// The version of the C library that the node's programs use, if `getconf` tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub glibc: Option<String>,
    /// How long the node has been up, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uptime_s: Option<u64>,
    /// The directories that matter.
    pub places: Vec<NodePlace>,
    /// The user's quota where the home directory is, if `quota` or `lfs quota` tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<Quota>,
    /// How many processes and threads the user may have; nothing without a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_processes: Option<u64>,
    /// How many the user has.
    pub processes: u64,
    /// Whether the node ends the user's processes when the last session ends.
    pub ends_at_logout: bool,
    /// The batch systems whose commands are there.
    pub schedulers: Vec<Scheduler>,
}

/// A directory of the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct NodePlace {
    /// What it is for.
    pub purpose: Purpose,
    /// Its path.
    pub path: ByteString,
    /// Its disk; nothing when that does not answer in time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Disk>,
}

/// What a directory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase")]
pub enum Purpose {
    /// The user's home.
    Home,
    /// The agent's own program.
    Agent,
    /// The runs and their output.
    Runs,
    /// Sockets.
    Tmp,
}

/// A file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Disk {
    /// Its type, such as `nfs4`, as the kernel has it.
    pub kind: String,
    /// Where it is mounted.
    pub mount: ByteString,
    /// Bytes that the user can still write.
    pub free_bytes: u64,
    /// Files that the user can still make; nothing where they are not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_files: Option<u64>,
    /// Whether programs cannot be executed from it.
    pub no_exec: bool,
    /// Whether it cannot be written.
    pub read_only: bool,
}

/// What a user may keep on a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Quota {
    /// Bytes that are used.
    pub bytes: u64,
    /// How many there may be; 0 without a limit.
    pub max_bytes: u64,
    /// Files that there are.
    pub files: u64,
    /// How many there may be; 0 without a limit.
    pub max_files: u64,
}

/// A batch system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Scheduler {
    /// Its name.
    pub name: String,
    /// What its server answered: a version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Why it did not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
