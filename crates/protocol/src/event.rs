//! What happened at the agent, for those who watch: `GET /v1/events` and the live socket.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Run;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
}
