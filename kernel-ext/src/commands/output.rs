//! A run's streams on this process's own: used by `run` and `attach`.
//!
//! Invariants: each stream goes to its own descriptor as bytes; what went out is flushed at once;
//! a reader that left ends the writing and not the run's storage.

use std::io;

use hpcclient_client::{ClientError, Renew, RunEvent, RunStream};
use hpcclient_protocol::{ApiError, ErrorCode, Run, RunState, StreamName};
use tokio::io::{AsyncWrite, AsyncWriteExt as _, Stderr, Stdout};

/// What the exit code is when the command's is not known.
pub(super) const UNKNOWN: u8 = 1;

/// The two descriptors.
#[derive(Debug)]
pub(super) struct Output {
    stdout: Stdout,
    stderr: Stderr,
    is_cut: bool,
}

/// How a step of the output ended.
#[derive(Debug)]
pub(super) enum Step {
    /// More may come.
    Open,
    /// The reader of one of the descriptors left.
    ReaderLeft,
    /// The run ended.
    Ended(Box<Run>),
}

impl Output {
    pub(super) fn new() -> Self {
        Self {
            stdout: tokio::io::stdout(),
            stderr: tokio::io::stderr(),
            is_cut: false,
        }
    }

    /// Writes one event. It is not cancel-safe: what is half written would be lost.
    pub(super) async fn show(&mut self, event: RunEvent) -> anyhow::Result<Step> {
        match event {
            RunEvent::Data { stream, bytes, .. } => {
                self.is_cut = false;
                let written = match stream {
                    StreamName::Stderr => write(&mut self.stderr, &bytes).await,
                    StreamName::Stdout | StreamName::Tty => write(&mut self.stdout, &bytes).await,
                };
                match written {
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                        return Ok(Step::ReaderLeft);
                    }
                    other => other?,
                }
            }
            RunEvent::Gap { stream, offset, to } => {
                let name = stream.as_str();
                let text = format!("bytes {offset} to {to} of {name} are not kept");
                self.note(&text).await;
            }
            RunEvent::Cut { reason } if !self.is_cut => {
                self.is_cut = true;
                let text = format!("connection lost ({reason}); the run goes on");
                self.note(&text).await;
            }
            RunEvent::State(run) if run.state == RunState::Stalled => {
                let reason = run.reason.as_deref().unwrap_or_default();
                self.note(&format!("the run waits: {reason}")).await;
            }
            RunEvent::Cut { .. } | RunEvent::Resize(_) | RunEvent::State(_) => {}
            RunEvent::End(run) => return Ok(Step::Ended(run)),
        }
        Ok(Step::Open)
    }

    /// Writes a line of our own to stderr.
    pub(super) async fn note(&mut self, text: &str) {
        let line = format!("hpcclient: {}\n", hpcclient_ssh::visible(text));
        // A note is for people; with stderr closed there is nobody to read it.
        let _ = write(&mut self.stderr, line.as_bytes()).await;
    }
}

async fn write(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

/// Returns the next event; a stream that just stops is a cut.
pub(super) async fn next<R: Renew>(stream: &mut RunStream<R>) -> Result<RunEvent, ClientError> {
    stream
        .next_joined()
        .await?
        .ok_or(ClientError::Cut { source: None })
}

/// Returns the command's exit code as this process's own.
pub(super) fn exit_code(run: &Run) -> anyhow::Result<u8> {
    if run.state == RunState::Lost {
        let reason = run.reason.as_deref().unwrap_or("nobody saw it end");
        let message = format!("the run {} is lost", run.id);
        let mut error = ApiError::new(ErrorCode::Unavailable, message);
        error.causes.push(reason.to_owned());
        return Err(error.into());
    }
    let Some(code) = run.exit_code else {
        return Ok(UNKNOWN);
    };
    // As shells have it, only the low eight bits of a code count.
    Ok(u8::try_from(code & 0xff).unwrap_or(UNKNOWN))
}
