//! Sending a run's stdin: each byte is taken once, however often it has to be sent.
//!
//! Used by `run` and `console`. Invariants: pieces go in their order; one that may not have arrived is sent again under
//! its number.

use std::time::Duration;

use bytes::Bytes;
use hpcclient_client::{Bridge, ClientError};
use hpcclient_protocol::{ErrorCode, RunId};
use tokio::{io::AsyncReadExt as _, time::sleep};

use super::login::{self, Place};

/// How much of stdin is sent at once, in bytes.
pub(super) const PIECE: usize = 64 << 10;

/// How long a piece waits before it is sent again, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// One writer of a run's stdin.
#[derive(Debug)]
pub(super) struct Sender {
    place: Place,
    id: RunId,
    writer: String,
    seq: u64,
    bridge: Bridge,
}

impl Sender {
    pub(super) async fn new(place: &Place, id: RunId) -> Result<Self, ClientError> {
        Ok(Self {
            place: place.clone(),
            id,
            writer: RunId::random().to_string(),
            seq: 0,
            bridge: login::bridge().await?,
        })
    }

    /// Sends a piece until it is taken. Returns whether the command reads any more.
    pub(super) async fn send(&mut self, piece: Bytes, is_end: bool) -> anyhow::Result<bool> {
        self.seq += 1;
        let (mut pause, longest) = PAUSES;
        loop {
            let agent = self.place.of(&self.bridge.agent(&self.place.cluster));
            let sent = agent.stdin(self.id, &self.writer, self.seq, piece.clone(), is_end);
            match sent.await {
                Ok(_) => return Ok(true),
                // The stream connects and starts the run; this only waits for it.
                Err(error) if error.is_transient() || self.is_not_there_yet(&error) => {
                    sleep(pause).await;
                    pause = (pause * 2).min(longest);
                    self.bridge = login::bridge().await?;
                }
                // The command ended or closed its stdin: nothing of it is read any more.
                Err(error) if error.code() == ErrorCode::Conflict => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The first piece may overtake the request that starts the run.
    fn is_not_there_yet(&self, error: &ClientError) -> bool {
        self.seq == 1 && error.code() == ErrorCode::NotFound
    }
}

/// Sends this process's stdin to its end.
pub(super) async fn feed(cluster: &str, id: RunId) -> anyhow::Result<()> {
    let mut sender = Sender::new(&Place::own(cluster), id).await?;
    let mut stdin = tokio::io::stdin();
    let mut buffer = vec![0; PIECE];
    loop {
        let count = stdin.read(&mut buffer).await?;
        let piece = Bytes::copy_from_slice(buffer.get(..count).unwrap_or_default());
        let is_end = piece.is_empty();
        if !sender.send(piece, is_end).await? || is_end {
            return Ok(());
        }
    }
}
