//! A run: one command with its streams, and the life it can have.
//!
//! ```text
//!   Queued ──► Running ◄──► Stalled        (Stalled: the store cannot be written; the process waits)
//!     │           │            │
//!     │           ├────────────┼──► Exited   (its code or signal is known)
//!     │           └────────────┴──► Orphaned (its shim is gone, its process lives) ──► Lost
//!     └───────────────────────────► Lost     (nobody saw it end; `reason` says what is known)
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
#[cfg(feature = "schema")]
use utoipa::ToSchema;

use crate::{ApiError, ByteString, ErrorCode, RunId, SessionId};

/// What to run, as a client asks for it with `PUT /v1/runs/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct RunSpec {
    /// The command.
    pub command: Command,
    /// The session whose shell runs a `shell` line, one after another, and whose directory an
    /// `argv` starts in. Without it a run stands alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// The directory to start in; without it the session's, else the home directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<ByteString>,
    /// Environment to add. For a line in a session it lasts for that line only.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, ByteString>,
    /// Whether stdin is empty (`closed`) or fed by `POST …/stdin` (`open`).
    #[serde(default)]
    pub stdin: StdinMode,
    /// The terminal to run it in. It makes the run a console: one `tty` stream, stdin open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pty: Option<TerminalSize>,
    /// After so many milliseconds from its start every process of it is killed, whoever is connected then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// How much it gives way to others, 0 to 19, as `nice -n` has it. Not for a line in a session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nice: Option<u8>,
    /// How many bytes of its output are kept, in whole segments; of more, the first and the last are.
    /// Without it, 1 GiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_bytes: Option<u64>,
}

impl RunSpec {
    /// Returns a spec that runs a command alone, with empty stdin.
    #[must_use]
    pub const fn new(command: Command) -> Self {
        let env = BTreeMap::new();
        Self {
            command,
            session: None,
            cwd: None,
            env,
            stdin: StdinMode::Closed,
            pty: None,
            timeout_ms: None,
            nice: None,
            keep_bytes: None,
        }
    }

    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// `BadRequest` names the field: an empty argv, a NUL byte, an environment name with `=`, a
    /// terminal inside a session, a terminal of no size, a priority that is none.
    pub fn check(&self) -> Result<(), ApiError> {
        let bad = |what: &str| Err(ApiError::new(ErrorCode::BadRequest, what));
        let nul = |text: &ByteString| text.as_bytes().contains(&0);
        match &self.command {
            Command::Argv(argv) if argv.is_empty() => return bad("argv is empty"),
            Command::Argv(argv) if argv.iter().any(nul) => {
                return bad("an argument holds a NUL byte");
            }
            Command::Shell(line) if nul(line) => return bad("the shell line holds a NUL byte"),
            Command::Argv(_) | Command::Shell(_) | Command::LoginShell => {}
        }
        let name_ok = |name: &str| !name.is_empty() && !name.contains(['=', '\0']);
        if !self.env.keys().all(|name| name_ok(name)) || self.env.values().any(nul) {
            return bad("an environment name is empty or holds `=` or NUL, or a value holds NUL");
        }
        if self.cwd.as_ref().is_some_and(nul) {
            return bad("cwd holds a NUL byte");
        }
        if self.nice.is_some_and(|nice| nice > 19) {
            return bad("nice is 0 to 19");
        }
        if self.timeout_ms == Some(0) {
            return bad("timeoutMs is 0");
        }
        let is_line = matches!(self.command, Command::Shell(_)) && self.session.is_some();
        if is_line && self.nice.is_some() {
            return bad("a line in a session has the session's priority; write `nice -n 10 …`");
        }
        match (&self.command, self.pty) {
            (Command::LoginShell, None) => bad("a login shell needs `pty`"),
            (_, Some(size)) if size.cols == 0 || size.rows == 0 => bad("pty has no size"),
            (_, Some(_)) if is_line => {
                bad("a line in a session has no pty; leave `session` or `pty` out")
            }
            _ => Ok(()),
        }
    }
}

/// The command itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase")]
pub enum Command {
    /// A line for the shell: the session's, else a fresh login shell.
    Shell(ByteString),
    /// A program and its arguments, passed as they are.
    Argv(Vec<ByteString>),
    /// The user's login shell in a terminal: a console.
    LoginShell,
}

impl Command {
    /// Returns one line for people: the shell line, or the arguments joined by spaces.
    #[must_use]
    pub fn to_line(&self) -> String {
        match self {
            Self::Shell(line) => line.to_lossy(),
            Self::Argv(argv) => argv
                .iter()
                .map(ByteString::to_lossy)
                .collect::<Vec<_>>()
                .join(" "),
            Self::LoginShell => "login shell".to_owned(),
        }
    }
}

/// Where a run's stdin comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase")]
pub enum StdinMode {
    /// From `/dev/null`.
    #[default]
    Closed,
    /// From `POST /v1/runs/{id}/stdin`.
    Open,
}

/// A terminal's size in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct TerminalSize {
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
}

/// A run as the agent knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// What was asked for.
    pub spec: RunSpec,
    /// Where it is in its life.
    pub state: RunState,
    /// The exit code; 128 + signal number when a signal ended it, as shells have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended it, such as `KILL`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// Why it is stalled or lost, or could not start, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it was asked for, in milliseconds since 1970, by the node's clock.
    pub created_ms: u64,
    /// When its process started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<u64>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<u64>,
    /// How many bytes each of its streams holds.
    #[serde(default)]
    pub sizes: StreamSizes,
    /// How many of them are on the disk for sure, and survive a power cut.
    #[serde(default)]
    pub durable: StreamSizes,
    /// What the user calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether it is kept however old it gets.
    #[serde(default)]
    pub pinned: bool,
    /// Where it stands among those that wait for a process; 1 is the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u32>,
    /// The session's directory after the line ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd_after: Option<ByteString>,
    /// The node it runs or ran on.
    pub host: String,
    /// Whether it lives, on the node of the agent that answers. `false` for a run of another node: then `state` is
    /// what was stored last, and only that node's agent knows more.
    #[serde(default)]
    pub live: bool,
    /// Its process id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
}

/// Where a run is in its life; the module draws the arrows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase")]
pub enum RunState {
    /// Waiting for the session's shell.
    Queued,
    /// Its process lives.
    Running,
    /// Its process lives and waits, because its output cannot be stored; `reason` says why.
    Stalled,
    /// Its supervisor is gone and its process lives: its output is stored no more and its end will not be
    /// seen, but it can be killed.
    Orphaned,
    /// It ended; `exitCode` is known.
    Exited,
    /// It is gone and nobody saw how; `reason` says what is known.
    Lost,
}

impl RunState {
    /// Returns whether nothing will change any more.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Exited | Self::Lost)
    }
}

/// The sizes of a run's streams, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct StreamSizes {
    /// stdout.
    pub stdout: u64,
    /// stderr.
    pub stderr: u64,
    /// A console's single stream.
    pub tty: u64,
}

/// The answer of `GET /v1/runs`: newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct RunList {
    /// A page of runs.
    pub runs: Vec<Run>,
    /// What to pass as `before` for the next page, when there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<RunId>,
}

/// The body of `PATCH /v1/runs/{id}`: what the user notes on a run. What is left out stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct RunMarks {
    /// What it shall be called, at most 80 characters; an empty name takes the name away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether it is kept however old it gets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pinned: Option<bool>,
}

/// The body of `POST /v1/runs/{id}/signal`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct SignalRequest {
    /// The signal's name without `SIG`: `INT`, `TERM`, `KILL`, `HUP`, `QUIT`, `USR1`, `USR2`,
    /// `STOP`, `CONT`.
    pub signal: String,
}

/// The answer of `POST /v1/runs/{id}/stdin`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct StdinAck {
    /// The highest sequence number of this writer that has been taken.
    pub seq: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_form_of_a_spec_is_short() {
        let spec = RunSpec::new(Command::Shell("ls -la".into()));
        let json = serde_json::to_string(&spec).unwrap();
        assert_eq!(json, r#"{"command":{"shell":"ls -la"},"stdin":"closed"}"#);
        let back: RunSpec = serde_json::from_str(r#"{"command":{"argv":["true"]}}"#).unwrap();
        assert_eq!(back, RunSpec::new(Command::Argv(vec!["true".into()])));
        let console: RunSpec =
            serde_json::from_str(r#"{"command":"loginShell","pty":{"cols":80,"rows":24}}"#)
                .unwrap();
        assert_eq!(console.check(), Ok(()));
    }

    #[test]
    fn what_cannot_be_run_is_refused() {
        let with = |change: fn(&mut RunSpec)| {
            let mut spec = RunSpec::new(Command::Argv(vec!["true".into()]));
            change(&mut spec);
            spec.check().map_err(|error| error.code)
        };
        assert_eq!(with(|_| {}), Ok(()));
        assert_eq!(
            with(|s| s.command = Command::Argv(vec![])),
            Err(ErrorCode::BadRequest)
        );
        assert_eq!(
            with(|s| s.command = Command::Shell("a\0b".into())),
            Err(ErrorCode::BadRequest)
        );
        assert_eq!(
            with(|s| s.command = Command::LoginShell),
            Err(ErrorCode::BadRequest)
        );
        assert_eq!(
            with(|s| drop(s.env.insert("A=B".into(), "x".into()))),
            Err(ErrorCode::BadRequest)
        );
        assert_eq!(
            with(|s| s.pty = Some(TerminalSize { cols: 0, rows: 1 })),
            Err(ErrorCode::BadRequest)
        );
    }
}
