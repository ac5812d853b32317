//! What a user shows to colleagues: shares, those of others, and the record of what guests did.
//!
//! Guests are Unix users of the same cluster; who they are is told by the kernel, never by a secret.
//! Used by the agent, the command line and the web UI.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
#[cfg(feature = "schema")]
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{ByteString, IdError, RunId, StreamName, live::Access};

/// Names one share; made by the client, so that a retry shares once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(transparent)]
#[cfg_attr(feature = "schema", schema(value_type = String, format = "uuid"))]
pub struct ShareId(Uuid);

impl ShareId {
    /// Makes a new id from the current time and randomness.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::now_v7())
    }
}

impl fmt::Display for ShareId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl FromStr for ShareId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Uuid::parse_str(text).map(Self).map_err(|_| IdError::Share)
    }
}

/// What is shared. It never becomes more than it was when it was shared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum SharedObject {
    /// A run or a console.
    Run {
        /// The run.
        run: RunId,
        /// Only these of its streams; all, when empty.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        streams: Vec<StreamName>,
    },
    /// One regular file.
    File {
        /// Its absolute path.
        path: ByteString,
    },
}

/// The body of `PUT /v1/shares/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ShareSpec {
    /// What.
    pub object: SharedObject,
    /// With whom: login names on the cluster, at least one.
    pub guests: Vec<String>,
    /// What they may do. A file can only be viewed.
    pub access: Access,
    /// When it ends, in milliseconds since 1970; without it, when it is taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
}

/// A share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Share {
    /// Its id.
    pub id: ShareId,
    /// Who shares: the login name.
    pub owner: String,
    /// What was asked for. A guest sees only their own name among the guests.
    pub spec: ShareSpec,
    /// One line that says what it is: the command, the console's name, the file's path.
    pub title: String,
    /// When it was shared, in milliseconds since 1970.
    pub created_ms: u64,
}

/// The answer of `GET /v1/shares`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ShareList {
    /// What this user shares, newest first.
    pub by_me: Vec<Share>,
    /// What others share with this user on this node, newest first.
    pub with_me: Vec<Share>,
    /// Why sharing is off here, if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub off: Option<String>,
}

/// One thing that a guest did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct AuditEntry {
    /// When, in milliseconds since 1970.
    pub t_ms: u64,
    /// Who: the login name.
    pub guest: String,
    /// Who: the kernel's number.
    pub uid: u32,
    /// By which share.
    pub share: ShareId,
    /// What, in words: `opened`, `left`, `typed 12 bytes`, `sent INT`, `read`, `refused: …`.
    pub action: String,
    /// What it was about, in one line.
    pub object: String,
}

/// The answer of `GET /v1/audit`: newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct AuditList {
    /// What guests did.
    pub entries: Vec<AuditEntry>,
}
