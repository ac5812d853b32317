//! `hpcclient attach OWNER:RUN`: the output of a run that another user shares.
//!
//! Called by `attach`, and by `console` to find a run. Invariants: Ctrl-C ends the showing and never touches the run; when the owner
//! takes the share back, the showing ends with that error; what another user's run wrote does not act on this terminal.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use hpcclient_client::{Patience, RunEvent, RunStream};
use hpcclient_protocol::{
    ApiError, ErrorCode, RunId, StreamName, live::Access, run::StreamSizes, share::SharedObject,
};
use hpcclient_ssh::visible;
use tokio::signal::unix::{SignalKind, signal};

use super::{
    harmless::Harmless,
    login::{self, Found, FoundFor, Place},
    output::{self, Output, Step},
    which::pick_id,
};

/// What a shell has for a command that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// How long an owner's agent may be away.
const AWAY: Patience = Patience::For(Duration::from_secs(60));

/// Shows a run of `owner`, whose id may be shortened.
pub(super) async fn attach(
    cluster: &str,
    owner: &str,
    text: &str,
    follow: bool,
) -> anyhow::Result<u8> {
    let id = find(cluster, owner, text).await?;
    let mut presses = signal(SignalKind::interrupt())?;
    tokio::select! {
        shown = show(cluster, owner, id, follow) => shown,
        _ = presses.recv() => Ok(INTERRUPTED),
    }
}

async fn show(cluster: &str, owner: &str, id: RunId, follow: bool) -> anyhow::Result<u8> {
    let cluster = cluster.to_owned();
    let place = Place::of_owner(&cluster, owner);
    let agent = place.viewer(Access::View).await?;
    let found = FoundFor {
        place,
        access: Access::View,
        found: Found { cluster },
    };
    let from = StreamSizes::default();
    let mut stream = RunStream::attach(agent, found, id, from, follow, AWAY);
    let (mut output, mut shown) = (Output::new(), Shown::new());
    loop {
        let event = shown.clean(output::next(&mut stream).await?);
        match output.show(event).await? {
            Step::Open => {}
            Step::ReaderLeft => return Ok(0),
            Step::Ended(run) if run.state.is_final() => return output::exit_code(&run),
            Step::Ended(_) => return Ok(0),
        }
    }
}

/// The filters of the streams that go to a terminal.
struct Shown {
    stdout: Option<Harmless>,
    stderr: Option<Harmless>,
    tty: Option<Harmless>,
}

impl Shown {
    fn new() -> Self {
        let of = |is_terminal: bool| is_terminal.then(Harmless::default);
        let is_seen = io::stdout().is_terminal();
        Self {
            stdout: of(is_seen),
            stderr: of(io::stderr().is_terminal()),
            tty: of(is_seen),
        }
    }

    fn clean(&mut self, event: RunEvent) -> RunEvent {
        let RunEvent::Data {
            stream,
            offset,
            bytes,
        } = event
        else {
            return event;
        };
        let filter = match stream {
            StreamName::Stdout => &mut self.stdout,
            StreamName::Stderr => &mut self.stderr,
            StreamName::Tty => &mut self.tty,
        };
        let bytes = filter
            .as_mut()
            .map_or_else(|| bytes.clone(), |filter| filter.take(&bytes).into());
        RunEvent::Data {
            stream,
            offset,
            bytes,
        }
    }
}

/// Returns whether `owner` lets this user type into a run.
pub(super) async fn may_drive(cluster: &str, owner: &str, id: RunId) -> anyhow::Result<bool> {
    let list = login::with_agent(cluster, |agent| async move { agent.shares().await }).await?;
    Ok(list.with_me.iter().any(|share| {
        let is_this = matches!(share.spec.object, SharedObject::Run { run, .. } if run == id);
        is_this && share.owner == owner && share.spec.access == Access::Drive
    }))
}

/// Finds a run of `owner`, whose id may be shortened.
pub(super) async fn find(cluster: &str, owner: &str, text: &str) -> anyhow::Result<RunId> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let list = login::with_agent(cluster, |agent| async move { agent.shares().await }).await?;
    let of_owner = list.with_me.iter().filter(|share| share.owner == owner);
    let mut ids: Vec<RunId> = of_owner
        .filter_map(|share| match &share.spec.object {
            SharedObject::Run { run, .. } => Some(*run),
            SharedObject::File { .. } => None,
        })
        .collect();
    ids.sort();
    ids.dedup();
    pick_id(ids.into_iter(), text)?.ok_or_else(|| {
        let (owner, text) = (visible(owner), visible(text));
        let message = format!("{owner} shares no run `{text}` with you on this node");
        let hint = "`hpcclient shares` lists what others share with you";
        ApiError::new(ErrorCode::NotFound, message)
            .hint(hint)
            .into()
    })
}
