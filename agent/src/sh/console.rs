//! What a line does: run it, show a run, kill one, list them.
//!
//! Called by the loop in `sh` through [`Console::take`]. Invariants: every byte of a run is written
//! once, also when the connection is cut and made again in the middle; Ctrl-C never ends this
//! program, it goes to the line (and leaves an attached run alone).

use std::{
    io::{self, Write as _},
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use hpcclient_protocol::{
    ByteString, Command, Frame, FrameDecoder, Run, RunId, RunSpec, RunState, SessionId, StreamName,
    run::{RunList, SignalRequest, StreamSizes},
};
use http_body_util::BodyExt as _;
use hyper::{Method, Response, body::Incoming};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{
    client::{Client, NO_BODY},
    line::{COMMANDS, Line, Which},
    show::{self, say},
};

/// How many runs `:runs` lists.
const LISTED: usize = 20;
/// At the third Ctrl-C of a line it is killed.
const PATIENCE: u32 = 3;
/// How often a cut stream is asked for again, and how long to rest before.
const ATTEMPTS: u32 = 20;
const REST: Duration = Duration::from_millis(250);
/// A run that nobody saw end has no code; this one is no command's.
const LOST: u8 = 255;

/// One session and what the person sees of it.
pub(super) struct Console {
    client: Client,
    session: SessionId,
    interrupts: Signal,
    interrupted: bool,
    directory: Option<PathBuf>,
    listed: Vec<RunId>,
    code: u8,
}

/// What Ctrl-C does while a run is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OnInterrupt {
    Signal,
    Leave,
}

impl Console {
    /// Reaches the agent, or starts one, and names a session.
    pub(super) async fn open(mut client: Client) -> Result<Self> {
        client.ensure().await?;
        let mut random = [0; 4];
        getrandom::fill(&mut random).context("the system gives no random bytes")?;
        let session = format!("sh-{:08x}", u32::from_be_bytes(random));
        Ok(Self {
            client,
            session: session.parse().context("cannot name a session")?,
            interrupts: signal(SignalKind::interrupt()).context("cannot watch for Ctrl-C")?,
            interrupted: false,
            directory: None,
            listed: vec![],
            code: 0,
        })
    }

    /// Returns the session's directory, once it is known.
    pub(super) fn directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }

    /// Returns whether the last line met a Ctrl-C.
    pub(super) const fn was_interrupted(&self) -> bool {
        self.interrupted
    }

    /// Returns the code to exit with: the last line's.
    pub(super) const fn exit_code(&self) -> u8 {
        self.code
    }

    /// Sets the code to exit with, if one was given.
    pub(super) fn leave_with(&mut self, code: Option<u8>) {
        self.code = code.unwrap_or(self.code);
    }

    /// Tells the person what went wrong, as a usage error.
    pub(super) fn complain(&mut self, problem: &str) {
        self.code = 2;
        say(&format!("error: {problem}"));
    }

    /// Does a line.
    pub(super) async fn take(&mut self, line: Line) -> Result<()> {
        self.interrupted = false;
        match line {
            Line::Empty | Line::Quit(_) => Ok(()),
            Line::Help => {
                let rows = COMMANDS.map(|(usage, what)| format!("  {usage:<14} {what}\n"));
                write(StreamName::Stdout, rows.concat().as_bytes())
            }
            Line::Shell(text) => self.run(text).await,
            Line::Runs => self.list().await,
            Line::Attach(which) => {
                let id = self.id(which).await?;
                self.show(id, None, OnInterrupt::Leave).await
            }
            Line::Kill(which) => {
                let id = self.id(which).await?;
                let target = format!("/v1/runs/{id}/kill");
                self.client.tell(Method::POST, &target).await
            }
        }
    }

    /// Ends the session's shell. A session that never ran a line has none.
    pub(super) async fn close(&mut self) {
        if self.directory.is_some() {
            let target = format!("/v1/sessions/{}", self.session);
            if let Err(error) = self.client.tell(Method::DELETE, &target).await {
                tracing::debug!(%error, "the session was not ended");
            }
        }
    }

    async fn run(&mut self, text: ByteString) -> Result<()> {
        let id = RunId::random();
        let mut spec = RunSpec::new(Command::Shell(text));
        spec.session = Some(self.session.clone());
        let target = format!("/v1/runs/{id}?stream=true");
        let response = self.client.send(Method::PUT, &target, Some(&spec)).await?;
        self.show(id, Some(response), OnInterrupt::Signal).await
    }

    async fn list(&mut self) -> Result<()> {
        let list = self.newest().await?;
        let rows = (1..)
            .zip(&list)
            .map(|(number, run)| show::row(number, run) + "\n");
        // The newest is nearest to the prompt.
        let rows: Vec<String> = rows.collect();
        let text: String = rows.into_iter().rev().collect();
        write(StreamName::Stdout, text.as_bytes())
    }

    async fn newest(&mut self) -> Result<Vec<Run>> {
        let target = format!("/v1/runs?limit={LISTED}");
        let list: RunList = self.client.json(Method::GET, &target, NO_BODY).await?;
        self.listed = list.runs.iter().map(|run| run.id).collect();
        Ok(list.runs)
    }

    async fn id(&mut self, which: Which) -> Result<RunId> {
        let number = match which {
            Which::Id(id) => return Ok(id),
            Which::Number(number) => number,
        };
        if self.listed.is_empty() {
            self.newest().await?;
        }
        let id = self.listed.get(number - 1).copied();
        id.with_context(|| format!("the last `:runs` has no number {number}"))
    }

    /// Writes a run's streams until it ends, and takes over its code and directory.
    async fn show(
        &mut self,
        id: RunId,
        first: Option<Response<Incoming>>,
        on_interrupt: OnInterrupt,
    ) -> Result<()> {
        let mut view = View::default();
        let mut next = first;
        for _ in 0..ATTEMPTS {
            let response = match next.take() {
                Some(response) => response,
                None => {
                    let StreamSizes {
                        stdout,
                        stderr,
                        tty,
                    } = view.shown;
                    let target = format!(
                        "/v1/runs/{id}/stream?stdout={stdout}&stderr={stderr}&tty={tty}&follow=true"
                    );
                    self.client.send(Method::GET, &target, NO_BODY).await?
                }
            };
            match self.follow(id, response, &mut view, on_interrupt).await? {
                Followed::End(run) => {
                    self.finish(*run, on_interrupt);
                    return Ok(());
                }
                Followed::Left => {
                    say("left; the run goes on");
                    return Ok(());
                }
                Followed::Cut => tokio::time::sleep(REST).await,
            }
        }
        anyhow::bail!("the connection to the agent is cut again and again; the run is {id}")
    }

    async fn follow(
        &mut self,
        id: RunId,
        response: Response<Incoming>,
        view: &mut View,
        on_interrupt: OnInterrupt,
    ) -> Result<Followed> {
        let mut body = response.into_body();
        let mut decoder = FrameDecoder::default();
        loop {
            tokio::select! {
                frame = body.frame() => {
                    let Some(Ok(frame)) = frame else {
                        return Ok(Followed::Cut);
                    };
                    decoder.push(frame.data_ref().map_or(&[], |bytes| bytes));
                    while let Some(frame) = decoder.next_frame()? {
                        if let Some(run) = view.take(frame)? {
                            return Ok(Followed::End(run));
                        }
                    }
                }
                _ = self.interrupts.recv() => {
                    self.interrupted = true;
                    if on_interrupt == OnInterrupt::Leave {
                        return Ok(Followed::Left);
                    }
                    view.interrupts += 1;
                    self.interrupt(id, view.interrupts).await;
                }
            }
        }
    }

    /// Passes Ctrl-C on. That it cannot be is no reason to stop showing the run.
    async fn interrupt(&mut self, id: RunId, count: u32) {
        let told = if count < PATIENCE {
            let body = SignalRequest {
                signal: "INT".to_owned(),
            };
            let target = format!("/v1/runs/{id}/signal");
            self.client
                .send(Method::POST, &target, Some(&body))
                .await
                .map(drop)
        } else {
            say("killing it");
            self.client
                .tell(Method::POST, &format!("/v1/runs/{id}/kill"))
                .await
        };
        if let Err(error) = told {
            say(&format!("error: {error:#}"));
        }
    }

    fn finish(&mut self, run: Run, on_interrupt: OnInterrupt) {
        if run.state == RunState::Lost {
            say(&format!(
                "the run is lost: {}",
                run.reason.as_deref().unwrap_or("unknown")
            ));
        }
        self.code = match run.exit_code {
            Some(code) => u8::try_from(code & 0xff).unwrap_or(LOST),
            None => LOST,
        };
        if on_interrupt == OnInterrupt::Signal
            && let Some(directory) = run.cwd_after
        {
            let directory = std::ffi::OsString::from_vec(directory.into_bytes());
            self.directory = Some(directory.into());
        }
    }
}

enum Followed {
    End(Box<Run>),
    Left,
    Cut,
}

/// What was shown of a run.
#[derive(Default)]
struct View {
    shown: StreamSizes,
    stalled: bool,
    interrupts: u32,
}

impl View {
    /// Shows a frame; returns the run when it ended.
    fn take(&mut self, frame: Frame) -> Result<Option<Box<Run>>> {
        match frame {
            Frame::Data {
                stream,
                offset,
                bytes,
            } => {
                let shown = self.shown_of(stream);
                // Bytes that come again after a cut lie below what was shown.
                let again = usize::try_from(shown.saturating_sub(offset)).unwrap_or(usize::MAX);
                let new = bytes.get(again..).unwrap_or_default();
                *shown = (*shown).max(offset + bytes.len() as u64);
                write(stream, new)?;
            }
            Frame::Gap { stream, to, .. } => {
                let shown = self.shown_of(stream);
                *shown = (*shown).max(to);
                say(&format!("some of {} is not kept any more", stream.as_str()));
            }
            Frame::State(run) => self.tell_stall(&run),
            Frame::End(run) => return Ok(Some(run)),
            Frame::Resize(_) | Frame::Ping => {}
        }
        Ok(None)
    }

    const fn shown_of(&mut self, stream: StreamName) -> &mut u64 {
        match stream {
            StreamName::Stdout => &mut self.shown.stdout,
            StreamName::Stderr => &mut self.shown.stderr,
            StreamName::Tty => &mut self.shown.tty,
        }
    }

    fn tell_stall(&mut self, run: &Run) {
        let stalled = run.state == RunState::Stalled;
        if stalled && !self.stalled {
            say(&format!(
                "the run waits: {}",
                run.reason.as_deref().unwrap_or("unknown")
            ));
        }
        self.stalled = stalled;
    }
}

fn write(stream: StreamName, bytes: &[u8]) -> Result<()> {
    if stream == StreamName::Stderr {
        io::stderr().lock().write_all(bytes)?;
    } else {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        out.flush()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_come_twice_are_shown_once() {
        let mut view = View::default();
        let mut data = |offset, bytes: &'static [u8]| {
            let stream = StreamName::Tty;
            let frame = Frame::Data {
                stream,
                offset,
                bytes: bytes.into(),
            };
            assert!(view.take(frame).unwrap().is_none());
            view.shown.tty
        };
        assert_eq!(data(0, b""), 0);
        assert_eq!(data(0, b"\n"), 1);
        assert_eq!(data(0, b"\n"), 1);
    }
}
