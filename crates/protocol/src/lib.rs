//! The words that the bridge, the agent and their viewers exchange: JSON types and binary frames.
//!
//! Used by every other crate. The wire is described for readers in `docs/protocol.md`.
//! Invariants: no I/O, no clock, no async; JSON is camelCase; unknown fields are ignored, unknown
//! enum tags are an error; 64-bit numbers stay below 2^53 so that JavaScript can hold them.
//! Not here: sending or storing any of it (`client`, `agent`, `kernel-ext`).

pub mod bridge;
pub mod error;
pub mod event;
pub mod file;
pub mod frame;
pub mod id;
pub mod live;
pub mod node;
pub mod output;
pub mod run;
pub mod share;
pub mod status;
pub mod text;

pub use error::{ApiError, ErrorCode};
pub use frame::{Frame, FrameDecoder, StreamName};
pub use id::{IdError, RunId, SessionId};
pub use run::{Command, Run, RunSpec, RunState};
pub use share::ShareId;
pub use text::ByteString;

/// The version of the HTTP API and of the frames; both sides must speak the same one.
pub const PROTOCOL_VERSION: u32 = 1;

/// The release of this build, shared by the agent, the client and the Python package.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The `Content-Type` of a body made of [`Frame`]s.
pub const FRAMES_CONTENT_TYPE: &str = "application/vnd.hpcclient.frames";

/// The `Content-Type` of a body of JSON documents, one a line.
pub const NDJSON_CONTENT_TYPE: &str = "application/x-ndjson";
