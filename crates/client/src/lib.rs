//! Typed client of the agent's API and of the bridge's, used by the command line and by tests.
//!
//! [`Agent`] talks to one cluster's agent, through the bridge or straight to its Unix socket.
//! [`Bridge`] talks to the bridge itself. [`RunStream`] is a run's output with every byte once,
//! across cut connections.
//! Invariants: no request goes through a proxy of the environment; every answer but a stream has a
//! deadline; a token is never part of a URL or of an error.
//! Not here: starting a bridge, asking the user (`kernel-ext`).

mod agent;
mod bridge;
mod error;
mod http;
mod ndjson;
mod stored;
mod stream;

pub use agent::{Agent, RunQuery};
pub use bridge::{Bridge, ConnectEvents};
pub use error::ClientError;
pub use ndjson::Ndjson;
pub use stored::{Download, Search};
pub use stream::{Body, Patience, Renew, RunEvent, RunStream, Same, Way};
