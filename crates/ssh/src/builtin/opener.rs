//! What opens channels on a session on which somebody is logged in, and counts them.
//!
//! Invariants: every request has a deadline; a refusal for want of room is final only after our last command had time
//! to end.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use russh::client::{Handle, Msg};
use russh::keys::PublicKey;
use russh::{Channel, ChannelOpenFailure, Disconnect};
use tokio::sync::watch;

use crate::SshError;
use crate::bootstrap::{Shell, Task};
use crate::exec::{Command, Output};
use crate::session::Client;

/// How long the server may take to open a channel.
const OPEN_DEADLINE: Duration = Duration::from_secs(30);
/// How long a farewell may take.
const FAREWELL_DEADLINE: Duration = Duration::from_secs(1);
/// How long to wait after each refusal of a channel: some servers allow one session at a time, and count the last one
/// until its processes have ended.
const REFUSED_PAUSES: [Duration; 6] = [
    Duration::from_millis(25),
    Duration::from_millis(75),
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];

/// A session on which somebody is logged in.
pub(crate) struct Opener {
    handle: Handle<Client>,
    closed: watch::Receiver<Option<String>>,
    opened: AtomicU64,
}

impl Opener {
    pub(super) fn new(handle: Handle<Client>, closed: watch::Receiver<Option<String>>) -> Self {
        Self {
            handle,
            closed,
            opened: AtomicU64::new(0),
        }
    }

    /// Has the server prove that it has these keys; fails if it does not within the deadline of its answers.
    pub(super) async fn prove(&self, keys: Vec<PublicKey>) -> Result<(), SshError> {
        let proof = self.handle.hostkeys_prove(keys);
        let proven = tokio::time::timeout(OPEN_DEADLINE, proof).await;
        Ok(proven.map_err(|_| SshError::Timeout {
            step: "the proof of the server's new keys",
            after: OPEN_DEADLINE,
        })??)
    }

    /// Opens a channel for a command.
    pub(crate) async fn session(&self) -> Result<Channel<Msg>, SshError> {
        let mut pauses = REFUSED_PAUSES.iter();
        loop {
            let refusal = match self.answered(self.handle.channel_open_session()).await? {
                Ok(channel) => return Ok(channel),
                Err(refusal) => refusal,
            };
            let may_be_full = matches!(
                refusal,
                ChannelOpenFailure::ConnectFailed | ChannelOpenFailure::ResourceShortage
            ) && self.opened() > 0;
            match pauses.next() {
                Some(pause) if may_be_full => tokio::time::sleep(*pause).await,
                _ => return Err(russh::Error::ChannelOpenFailure(refusal).into()),
            }
        }
    }

    /// Opens a channel to a Unix socket on the node; nothing if the server refuses.
    pub(super) async fn streamlocal(&self, socket: &str) -> Result<Option<Channel<Msg>>, SshError> {
        let request = self.handle.channel_open_direct_streamlocal(socket);
        Ok(self.answered(request).await?.ok())
    }

    /// Opens a channel to a port of a host as the server sees it. A refusal is an answer too.
    pub(super) async fn direct_tcpip(
        &self,
        host: &str,
        port: u16,
    ) -> Result<Result<Channel<Msg>, ChannelOpenFailure>, SshError> {
        let request = self
            .handle
            .channel_open_direct_tcpip(host, port.into(), "127.0.0.1", 0);
        self.answered(request).await
    }

    /// How many channels were opened so far.
    pub(super) fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// Tells why the session ended, once it did.
    pub(super) fn closed(&self) -> watch::Receiver<Option<String>> {
        self.closed.clone()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.handle.is_closed()
    }

    /// Whether the server answers within a time.
    pub(super) async fn alive(&self, deadline: Duration) -> bool {
        let answered = tokio::time::timeout(deadline, self.handle.send_ping()).await;
        // The library also returns when the session ended while it waited.
        matches!(answered, Ok(Ok(()))) && !self.is_closed()
    }

    /// Ends the session and waits until that has been said.
    pub(super) async fn farewell(&self) {
        let mut closed = self.closed();
        let said = async {
            let farewell = self.handle.disconnect(Disconnect::ByApplication, "", "");
            if farewell.await.is_ok() {
                let _ = closed.wait_for(Option::is_some).await;
            }
        };
        let _ = tokio::time::timeout(FAREWELL_DEADLINE, said).await;
    }

    /// Waits for the server's answer and counts the channel; a refusal is an answer too.
    async fn answered(
        &self,
        request: impl Future<Output = Result<Channel<Msg>, russh::Error>>,
    ) -> Result<Result<Channel<Msg>, ChannelOpenFailure>, SshError> {
        match tokio::time::timeout(OPEN_DEADLINE, request).await {
            Ok(Ok(channel)) => {
                self.opened.fetch_add(1, Ordering::Relaxed);
                Ok(Ok(channel))
            }
            Ok(Err(russh::Error::ChannelOpenFailure(refusal))) => Ok(Err(refusal)),
            Ok(Err(error)) => Err(match (SshError::from(error), &*self.closed.borrow()) {
                (SshError::Closed { .. }, Some(reason)) => SshError::Closed {
                    reason: reason.clone(),
                },
                (other, _) => other,
            }),
            Err(_) => Err(SshError::Timeout {
                step: "opening a channel",
                after: OPEN_DEADLINE,
            }),
        }
    }
}

impl Shell for Opener {
    /// Runs it on a channel of its own. The user's login shell interprets nothing but the name of `sh`, or a line of
    /// which [`bootstrap`] knows that every shell reads it alike.
    async fn run(&self, task: Task<'_>) -> Result<Output, SshError> {
        let (line, input) = if task.input.is_empty() {
            ("/bin/sh".to_owned(), task.script.to_owned().into())
        } else {
            (format!("/bin/sh -c '{}'", task.script), task.input)
        };
        let command = Command {
            step: task.step,
            line: &line,
            input,
            deadline: task.deadline,
            until: task.until,
        };
        command.run(self.session().await?).await
    }
}
