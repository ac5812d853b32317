//! The `hpcclient` binary's inside: the bridge and the command line.
//!
//! Used by `main` and by the package's tests.

pub mod bridge;
mod certificate;
pub mod commands;
pub mod config;
pub mod env_vars;
pub mod report;
