//! The messages of `GET /v1/live`: one WebSocket that carries many channels, with credit.
//!
//! Spoken by the web UI and the agent. Text messages are the JSON below. Binary messages are
//!
//! ```text
//!   agent → viewer    channel u32 | frames (see `frame`)         (big endian)
//!   viewer → agent    channel u32 | seq u64 | bytes for stdin
//! ```
//!
//! Invariants: a channel sends at most `credit` payload bytes of `Data` beyond what was granted; the
//! agent keeps no queue for a viewer, it reads the store when credit arrives; a `seq` that was
//! taken once is never written again.

use serde::{Deserialize, Serialize};
#[cfg(feature = "schema")]
use utoipa::ToSchema;

use crate::{
    ApiError, RunId,
    event::Event,
    run::{StreamSizes, TerminalSize},
};

/// The credit that a viewer grants a channel at first, in bytes.
pub const DEFAULT_CREDIT: u32 = 128 * 1024;

/// What one may do with a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase")]
pub enum Access {
    /// See it.
    View,
    /// Type into it, signal it and set its size, too.
    #[default]
    Drive,
}

/// Somebody who looks at a run now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Viewer {
    /// Their login name on the node.
    pub user: String,
    /// What they may do.
    pub access: Access,
    /// When they came, in milliseconds since 1970.
    pub since_ms: u64,
}

/// What a viewer says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum ViewerMessage {
    /// Follow a run on a channel of the viewer's choice.
    Open {
        /// The channel's number, not in use on this socket.
        channel: u32,
        /// The run.
        run: RunId,
        /// The offset in each stream to go on from.
        #[serde(default)]
        from: StreamSizes,
        /// How many bytes may be sent before more credit comes.
        credit: u32,
        /// Who writes stdin here, in the same words again after a reconnect (as `writer=` of
        /// `POST …/stdin`). Without it the channel is a writer of its own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        writer: Option<String>,
        /// Whose run it is, when another user shares it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        owner: Option<String>,
        /// What the viewer wants to do; `view` sends neither stdin nor a size.
        #[serde(default)]
        access: Access,
        /// How many bytes of a stream the viewer may be behind. Further behind, it goes on at a quarter of
        /// that before the stream's end: what lies between is passed over without a `Gap`, because it is
        /// still stored. Without it every byte is sent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        behind: Option<u32>,
    },
    /// Grant more bytes.
    Credit {
        /// The channel.
        channel: u32,
        /// How many more.
        bytes: u32,
    },
    /// Change a console's size.
    Resize {
        /// The channel.
        channel: u32,
        /// The size.
        size: TerminalSize,
    },
    /// Stop following.
    Close {
        /// The channel.
        channel: u32,
    },
    /// Send every [`Event`] from now on.
    Events,
    /// Ask for a `pong`, to measure the round trip.
    Ping {
        /// Anything; it comes back.
        nonce: u32,
    },
}

/// What the agent says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum AgentMessage {
    /// The answer to `ping`.
    Pong {
        /// What the ping carried.
        nonce: u32,
    },
    /// stdin up to this number was taken.
    StdinAck {
        /// The channel.
        channel: u32,
        /// The highest sequence number taken.
        seq: u64,
    },
    /// Something happened; only after `events`.
    Event {
        /// What.
        event: Event,
    },
    /// A request failed. With a channel, that channel is closed.
    Error {
        /// The channel, if it was about one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        channel: Option<u32>,
        /// Why.
        error: ApiError,
    },
}
