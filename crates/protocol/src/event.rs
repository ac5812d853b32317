//! What happened at the agent, for those who watch: `GET /v1/events` and the live socket.

use serde::{Deserialize, Serialize};
#[cfg(feature = "schema")]
use utoipa::ToSchema;

use crate::{Run, RunId, live::Viewer};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum Event {
    /// The first of a subscription: everything after it will be told.
    Ready {
        /// The sequence number of the newest event so far.
        seq: u64,
    },
    /// A run is new or changed its state.
    Run {
        /// Counts up by one for every event of this agent process.
        seq: u64,
        /// The run as it is.
        run: Box<Run>,
    },
    /// A run was deleted, by the user or because the store is full.
    Gone {
        /// Counts up by one for every event of this agent process.
        seq: u64,
        /// The run that was.
        run: RunId,
    },
    /// Somebody came to look at a run, or left.
    Presence {
        /// Counts up by one for every event of this agent process.
        seq: u64,
        /// The run.
        run: RunId,
        /// All who look at it now.
        viewers: Vec<Viewer>,
    },
    /// What is shared by this user or with this user changed: ask again.
    Shares {
        /// Counts up by one for every event of this agent process.
        seq: u64,
    },
}
