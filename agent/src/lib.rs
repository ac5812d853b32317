//! The agent on the login node: runs commands, keeps their streams, serves the web UI.
//!
//! `hpcagent serve` is the daemon, `hpcagent shim` the process that keeps a command; both are here.

pub mod clock;
pub mod connect;
pub mod environment;
pub mod files;
pub mod hello;
pub mod http;
pub mod log;
pub mod media;
pub mod node;
pub mod output;
pub mod place;
pub mod presence;
pub mod runs;
pub mod serve;
pub mod sh;
pub mod shares;
pub mod shim;
mod state;
pub mod store;
pub mod tasks;
pub mod ui;
