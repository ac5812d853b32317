//! Running one command on the node to its end: the bootstrap's scripts and its upload.
//!
//! Invariants: input and output move at the same time; output beyond the limit is dropped and never waits; the whole
//! has a deadline, and input that does not move has one of its own.

use std::time::Duration;

use bytes::Bytes;
use russh::client::Msg;
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf};

use crate::SshError;

/// How much output of one kind is kept.
const OUTPUT_KEPT: usize = 256 << 10;
/// How much input is handed over at once.
const INPUT_CHUNK: usize = 256 << 10;
/// How long such a piece may wait for the node.
const STALLED: Duration = Duration::from_secs(60);
/// How long output may come after the exit status.
const AFTER_EXIT: Duration = Duration::from_secs(2);
/// How long the request to close a channel may take to be handed over.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// What a command left behind.
#[derive(Debug, Default)]
pub(crate) struct Output {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) status: Option<u32>,
}

impl Output {
    /// Both outputs as text, for an error.
    pub(crate) fn text(&self) -> String {
        let stdout = String::from_utf8_lossy(&self.stdout);
        format!("{stdout}\n{}", String::from_utf8_lossy(&self.stderr))
    }
}

/// A command to run.
pub(crate) struct Command<'a> {
    /// What it does, for the error when it takes too long.
    pub(crate) step: &'static str,
    /// Goes through the user's login shell, whichever that is.
    pub(crate) line: &'a str,
    pub(crate) input: Bytes,
    pub(crate) deadline: Duration,
    /// The output after which nothing more is waited for: a process in the background may keep the channel open.
    pub(crate) until: Option<&'a [u8]>,
}

impl Command<'_> {
    /// Runs it on a fresh channel.
    pub(crate) async fn run(self, channel: Channel<Msg>) -> Result<Output, SshError> {
        let (read, write) = channel.split();
        let outcome = tokio::time::timeout(self.deadline, self.exchange(read, &write)).await;
        let _ = tokio::time::timeout(CLOSE_DEADLINE, write.close()).await;
        outcome.unwrap_or(Err(SshError::Timeout {
            step: self.step,
            after: self.deadline,
        }))
    }

    async fn exchange(
        &self,
        read: ChannelReadHalf,
        write: &ChannelWriteHalf<Msg>,
    ) -> Result<Output, SshError> {
        write.exec(true, self.line).await?;
        let sending = self.send(write);
        let receiving = self.receive(read);
        tokio::pin!(sending, receiving);
        let mut sent = false;
        loop {
            tokio::select! {
                output = &mut receiving => return output,
                outcome = &mut sending, if !sent => {
                    sent = true;
                    // A command may end without reading all; then its output says why.
                    if let Err(stalled @ SshError::Timeout { .. }) = outcome {
                        return Err(stalled);
                    }
                }
            }
        }
    }

    async fn send(&self, write: &ChannelWriteHalf<Msg>) -> Result<(), SshError> {
        let mut rest = self.input.clone();
        while !rest.is_empty() {
            let piece = rest.split_to(rest.len().min(INPUT_CHUNK));
            tokio::time::timeout(STALLED, write.data_bytes(piece))
                .await
                .map_err(|_| SshError::Timeout {
                    step: self.step,
                    after: STALLED,
                })??;
        }
        write.eof().await?;
        Ok(())
    }

    async fn receive(&self, mut read: ChannelReadHalf) -> Result<Output, SshError> {
        let mut output = Output::default();
        loop {
            let message = if output.status.is_some() {
                // What the command had written comes at once; what its children write later is not waited for.
                match tokio::time::timeout(AFTER_EXIT, read.wait()).await {
                    Ok(message) => message,
                    Err(_) => return Ok(output),
                }
            } else {
                read.wait().await
            };
            match message {
                Some(ChannelMsg::Data { data }) => {
                    keep(&mut output.stdout, &data);
                    if self
                        .until
                        .is_some_and(|mark| contains(&output.stdout, mark))
                    {
                        return Ok(output);
                    }
                }
                Some(ChannelMsg::ExtendedData { data, .. }) => keep(&mut output.stderr, &data),
                Some(ChannelMsg::ExitStatus { exit_status }) => output.status = Some(exit_status),
                Some(ChannelMsg::Failure) => {
                    return Err(SshError::Protocol {
                        reason: "the server does not run commands for this user".to_owned(),
                    });
                }
                Some(ChannelMsg::Close) => return Ok(output),
                None => {
                    return Err(SshError::Closed {
                        reason: format!("it was lost during {}", self.step),
                    });
                }
                Some(_) => {}
            }
        }
    }
}

pub(crate) fn keep(kept: &mut Vec<u8>, data: &[u8]) {
    let room = OUTPUT_KEPT.saturating_sub(kept.len());
    kept.extend_from_slice(data.get(..room).unwrap_or(data));
}

fn contains(text: &[u8], mark: &[u8]) -> bool {
    text.windows(mark.len()).any(|window| window == mark)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_output_is_dropped() {
        let mut kept = vec![];
        for _ in 0..10 {
            keep(&mut kept, &[b'x'; 100 << 10]);
        }
        assert_eq!(kept.len(), OUTPUT_KEPT);
        assert!(contains(b"noise\n@end\n", b"\n@end"));
        assert!(!contains(b"", b"@end"));
    }
}
