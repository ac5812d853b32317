//! One host, from no session to a login: sessions are begun again while a person is to blame for their end.
//!
//! Invariants: what a person answered is kept from one session to the next and sent once.

use std::net::IpAddr;
use std::sync::Arc;

use super::first_contact;
use super::way::Way;
use crate::facts::LoginFacts;
use crate::login::{self, Secrets};
use crate::session::Session;
use crate::{Destination, Prompter, SshError};

/// How often a login is begun again because the server did not wait for a person's answer.
const MOST_SESSIONS: usize = 3;

/// A session with somebody logged in.
pub(super) struct LoggedIn {
    pub(super) session: Session,
    /// The server's address, if nothing lies between.
    pub(super) address: Option<IpAddr>,
    pub(super) facts: LoginFacts,
}

/// Logs in to a host at the end of a way.
pub(super) async fn log_in(
    host: &Destination,
    way: &Way,
    prompter: &Arc<dyn Prompter>,
) -> Result<LoggedIn, SshError> {
    let mut secrets = Secrets::default();
    let mut accepted = None;
    let mut sessions = 0;
    loop {
        let reached = first_contact::session(host, way, &mut accepted, prompter).await?;
        let (mut session, address) = reached;
        sessions += 1;
        match login::login(&mut session, host, &**prompter, &mut secrets).await {
            Ok(facts) => {
                return Ok(LoggedIn {
                    session,
                    address,
                    facts,
                });
            }
            Err(SshError::Closed { reason })
                if secrets.take_asked() && sessions < MOST_SESSIONS =>
            {
                tracing::info!(reason, "the session ended while a person was asked");
                prompter.progress("the server did not wait for the answer; connecting again");
            }
            Err(error) => return Err(error),
        }
    }
}
