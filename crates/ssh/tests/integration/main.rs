//! The crate against a real OpenSSH server: login, host keys, streams, and the agent's bootstrap.
//!
//! Each test starts a server of its own on a free port of the loopback, as the user who runs the tests.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops where it fails"
)]

mod agent;
mod answers;
mod bare;
mod certificates;
mod chains;
mod host_keys;
mod hostile;
mod jumps;
mod login;
mod nodes;
mod openssh;
mod otp;
mod person;
mod played;
mod server;
mod streams;
mod way;

use std::path::Path;
use std::sync::Arc;

use hpcclient_ssh::{Connection, Destination, Prompter, SshError, Workshop};

/// Logs in, for tests in which no `ssh` program takes part.
async fn open(
    destination: &Destination,
    prompter: Arc<dyn Prompter>,
) -> Result<Connection, SshError> {
    let workshop = Workshop {
        askpass: Path::new("/nowhere").to_owned(),
        folder: Path::new("/nowhere").to_owned(),
    };
    Connection::open(destination, &workshop, prompter).await
}
