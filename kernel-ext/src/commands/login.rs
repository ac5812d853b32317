//! The way from a command to its cluster: the bridge is there, the cluster is connected, questions
//! are answered.
//!
//! Used by every verb that talks to a cluster.
//! Invariants: a request is tried before anybody is asked to connect, so a warm call costs one
//! round trip; answers are read from the terminal, never from a stdin that belongs to a run.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use hpcclient_client::{Agent, Bridge, ClientError, ConnectEvents, Renew};
use hpcclient_protocol::{
    ApiError, ErrorCode,
    bridge::{ClusterStatus, ConnectEvent, PromptKind},
    live::Access,
};
use hpcclient_ssh::visible;

use super::terminal;
use crate::{bridge::ensure, report};

/// Who answers the questions of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answers {
    /// The person at the terminal, if there is one.
    Terminal,
    /// The terminal, else the lines of stdin.
    TerminalOrStdin,
}

/// Who sees what is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// A person at a terminal.
    Terminal,
    /// Whoever reads stderr.
    Always,
}

/// Finds the bridge, and starts it where needed.
pub(super) async fn bridge() -> Result<Bridge, ClientError> {
    let found = tokio::task::spawn_blocking(ensure::ensure).await;
    Bridge::new(&joined(found)?)
}

/// Finds the bridge if one runs.
pub(super) async fn running_bridge() -> Result<Option<Bridge>, ClientError> {
    let found = tokio::task::spawn_blocking(ensure::running).await;
    joined(found)?.as_ref().map(Bridge::new).transpose()
}

fn joined<T>(found: Result<Result<T, ApiError>, tokio::task::JoinError>) -> Result<T, ClientError> {
    let found = found.map_err(|error| {
        ApiError::new(ErrorCode::Internal, "cannot look for the bridge").caused_by(&error)
    })?;
    Ok(found?)
}

/// Connects a cluster and returns its state.
pub(super) async fn connect(
    bridge: &Bridge,
    cluster: &str,
    answers: Answers,
) -> Result<ClusterStatus, ClientError> {
    let events = bridge.connect(cluster).await?;
    follow(bridge, events, answers, Progress::Terminal).await
}

/// Follows a login to its end and returns the cluster's state.
pub(super) async fn follow(
    bridge: &Bridge,
    mut events: ConnectEvents,
    answers: Answers,
    progress: Progress,
) -> Result<ClusterStatus, ClientError> {
    while let Some(event) = events.next().await? {
        match event {
            ConnectEvent::Progress { message } => {
                // A first login takes seconds; somebody who watches wants to know why.
                if progress == Progress::Always || io::stderr().is_terminal() {
                    let _ = writeln!(io::stderr(), "hpcclient: {}", visible(&message));
                }
            }
            ConnectEvent::Prompt {
                id,
                kind,
                text,
                echo,
            } => {
                let answer = ask(kind, visible(&text), echo, answers).await;
                match bridge.answer(&id, answer).await {
                    // The login may have given up waiting; its own event tells why.
                    Err(ClientError::Api(error)) if error.code == ErrorCode::NotFound => {}
                    other => other?,
                }
            }
            ConnectEvent::Connected { cluster } => return Ok(*cluster),
            ConnectEvent::Failed { error } => return Err(error.into()),
        }
    }
    Err(ClientError::Cut { source: None })
}

/// Sends a request; when the cluster is not connected, connects it and sends it again.
pub(super) async fn with_agent<T, F>(
    cluster: &str,
    request: impl Fn(Agent) -> F,
) -> Result<T, ClientError>
where
    F: Future<Output = Result<T, ClientError>>,
{
    let bridge = bridge().await?;
    match request(bridge.agent(cluster)).await {
        Err(error) if error.code() == ErrorCode::NotConnected => {
            connect(&bridge, cluster, Answers::Terminal).await?;
            request(bridge.agent(cluster)).await
        }
        other => other,
    }
}

/// Whose runs of a cluster are meant.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) cluster: String,
    /// Another user of the node, who shares them.
    pub(super) owner: Option<String>,
}

impl Place {
    /// This user's.
    pub(super) fn own(cluster: &str) -> Self {
        Self {
            cluster: cluster.to_owned(),
            owner: None,
        }
    }

    /// Those that another user shares.
    pub(super) fn of_owner(cluster: &str, owner: &str) -> Self {
        Self {
            cluster: cluster.to_owned(),
            owner: Some(owner.to_owned()),
        }
    }

    /// Returns an agent as the way to these runs.
    pub(super) fn of(&self, agent: &Agent) -> Agent {
        match &self.owner {
            Some(owner) => agent.shared_by(owner),
            None => agent.clone(),
        }
    }

    /// Returns the way to these runs for somebody who looks on at them, through the bridge that is there or is started.
    pub(super) async fn viewer(&self, access: Access) -> Result<Agent, ClientError> {
        let agent = bridge().await?.agent(&self.cluster);
        Ok(self.of(&agent).as_viewer(access))
    }

    /// Sends a request, as [`with_agent`].
    pub(super) async fn ask<T, F>(&self, request: impl Fn(Agent) -> F) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        with_agent(&self.cluster, |agent| request(self.of(&agent))).await
    }
}

/// Finds the agent again after a cut, for somebody who looks on at these runs.
#[derive(Debug)]
pub(super) struct FoundFor<F> {
    pub(super) found: F,
    pub(super) place: Place,
    pub(super) access: Access,
}

impl<F: Renew<Way = Agent>> Renew for FoundFor<F> {
    type Way = Agent;

    async fn renew(&mut self) -> Result<Agent, ClientError> {
        let agent = self.found.renew().await?;
        Ok(self.place.of(&agent).as_viewer(self.access))
    }
}

/// Finds the agent again after a cut: a killed bridge is started anew and connected.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) cluster: String,
}

impl Renew for Found {
    type Way = Agent;

    async fn renew(&mut self) -> Result<Agent, ClientError> {
        let bridge = bridge().await?;
        connect(&bridge, &self.cluster, Answers::Terminal).await?;
        Ok(bridge.agent(&self.cluster))
    }
}

/// Finds the agent again where the terminal belongs to the command: no question is asked, and a login that has one ends
/// the stream.
#[derive(Clone, Debug)]
pub(super) struct FoundUnasked {
    pub(super) cluster: String,
}

impl Renew for FoundUnasked {
    type Way = Agent;

    async fn renew(&mut self) -> Result<Agent, ClientError> {
        let bridge = bridge().await?;
        let mut events = bridge.connect(&self.cluster).await?;
        while let Some(event) = events.next().await? {
            match event {
                ConnectEvent::Progress { .. } => {}
                ConnectEvent::Prompt { id, .. } => {
                    // The login need not wait on; what it says to that is of no interest.
                    let _ = bridge.answer(&id, None).await;
                    return Err(needs_login(&self.cluster).into());
                }
                ConnectEvent::Connected { .. } => return Ok(bridge.agent(&self.cluster)),
                ConnectEvent::Failed { error } => return Err(error.into()),
            }
        }
        Err(ClientError::Cut { source: None })
    }
}

/// Not `notConnected`, which is worth another try.
fn needs_login(cluster: &str) -> ApiError {
    let message = format!("{} needs a login", visible(cluster));
    let hint = format!("`hpcclient connect -c {cluster}`, then come back: nothing has ended");
    ApiError::new(ErrorCode::AuthFailed, message).hint(hint)
}

async fn ask(kind: PromptKind, text: String, echo: bool, answers: Answers) -> Option<String> {
    let asked = tokio::task::spawn_blocking(move || ask_now(kind, &text, echo, answers)).await;
    match asked {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => None,
        Ok(Err(error)) => {
            report::warn("the question could not be asked", &error);
            None
        }
        Err(_) => None,
    }
}

fn ask_now(
    kind: PromptKind,
    text: &str,
    echo: bool,
    answers: Answers,
) -> io::Result<Option<String>> {
    let from_stdin = answers == Answers::TerminalOrStdin && !io::stdin().is_terminal();
    let question = if text.ends_with([' ', '\n']) {
        text.to_owned()
    } else {
        format!("{text} ")
    };
    if from_stdin {
        write!(io::stderr(), "{question}")?;
        io::stderr().flush()?;
        let mut line = String::new();
        let count = io::stdin().lock().read_line(&mut line)?;
        writeln!(io::stderr())?;
        return Ok((count > 0).then(|| without_newline(&line)));
    }
    let Ok(tty) = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/tty")
    else {
        // Nobody is there; the login then says what it would have asked.
        return Ok(None);
    };
    if !echo && kind != PromptKind::HostKey {
        return terminal::ask_hidden(tty, &question).map(Some);
    }
    write!(&tty, "{question}")?;
    let mut line = String::new();
    let count = io::BufReader::new(tty).read_line(&mut line)?;
    Ok((count > 0).then(|| without_newline(&line)))
}

fn without_newline(line: &str) -> String {
    line.trim_end_matches(['\n', '\r']).to_owned()
}
