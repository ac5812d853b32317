//! `hpcclient console`: a terminal of the cluster in this terminal, and `run -t`.
//!
//! The output goes to the terminal as it is, as with `ssh`: what the terminal answers to it reaches the command. That of
//! another user's console only draws: nothing in it is answered. What was shown before is put back by the agent's picture of the screen, which asks the terminal nothing.
//! Invariants: leaving ends nothing; the terminal is put back whatever happens but SIGKILL; keys are sent once and in
//! order, and leaving works while the connection does not. While keys go to the command nobody is asked anything: the
//! answer would go there too.

mod keys;

use std::{
    io::{self, Write as _},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use hpcclient_client::{Patience, RunEvent, RunQuery, RunStream};
use hpcclient_protocol::{
    ApiError, Command, ErrorCode, Run, RunId, RunSpec, StreamName, live::Access, run::StreamSizes,
};
use hpcclient_ssh::visible;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::sleep,
};

use self::keys::Keys;
use super::{
    ClusterOption,
    harmless::Harmless,
    login::{self, FoundFor, FoundUnasked, Place},
    marks, output, runs, shared,
    stdin::{PIECE, Sender},
    terminal::{self, Raw},
    which,
};
use crate::report;

/// How many pieces of typing wait for the connection; what is typed beyond is not taken, and the bell says so.
const TYPED: usize = 1024;

/// Between the tries of a guest to set the size, in a console that they have just begun to follow.
const GUEST_PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    cluster: ClusterOption,
    /// Look only: no key goes to it, and its size stays.
    #[arg(long, requires = "console")]
    view: bool,
    /// List the consoles that are open.
    #[arg(long, conflicts_with_all = ["console", "view"])]
    list: bool,
    /// The console to go on with: its name, or its id or the beginning or end of it; OWNER:ID for one that another user
    /// shares. With a name that none has, a new one of that name; with nothing, a new one.
    #[arg(value_name = "CONSOLE")]
    console: Option<String>,
}

pub(super) async fn run(args: Args) -> anyhow::Result<u8> {
    let cluster = args.cluster.cluster;
    let open = RunQuery {
        console: Some(true),
        live: Some(true),
        ..RunQuery::default()
    };
    if args.list {
        return runs::print(&which::newest(&cluster, open).await?);
    }
    let mut name = None;
    if let Some(text) = args.console {
        if let Some((owner, text)) = text.split_once(':') {
            return guest(&cluster, owner, text, args.view).await;
        }
        let place = Place::own(&cluster);
        if let Ok(id) = text.parse() {
            return attach(&place, id, args.view).await;
        }
        // A list of all kinds of runs comes from an agent that knows no filters.
        let mut consoles = which::newest(&cluster, open).await?;
        consoles.retain(|run| run.spec.pty.is_some() && !run.state.is_final());
        match which::pick(&consoles, &text) {
            Ok(id) => return attach(&place, id, args.view).await,
            Err(error) if error.code != ErrorCode::NotFound || args.view || is_id(&text) => {
                let hint = "`hpcclient console --list` lists the consoles that are open";
                return Err(error.hint(hint).into());
            }
            Err(_) => name = Some(text),
        }
    }
    start(&cluster, RunSpec::new(Command::LoginShell), name).await
}

/// Starts a command in a terminal and shows it in this one.
pub(super) async fn start(
    cluster: &str,
    mut spec: RunSpec,
    name: Option<String>,
) -> anyhow::Result<u8> {
    spec.pty = Some(here(terminal::size())?);
    spec.check()?;
    let id = RunId::random();
    login::with_agent(cluster, |agent| {
        let spec = spec.clone();
        async move { agent.start(id, &spec).await }
    })
    .await?;
    if let Some(name) = name
        && let Err(error) = marks::name(cluster, id, &name).await
    {
        report::warn("it could not be given its name", &error);
    }
    show(&Place::own(cluster), id, StreamSizes::default(), false, b"").await
}

/// Goes on with a console that another user shares, or looks on where they let this user only look.
async fn guest(cluster: &str, owner: &str, text: &str, is_view: bool) -> anyhow::Result<u8> {
    let id = shared::find(cluster, owner, text).await?;
    let may_drive = shared::may_drive(cluster, owner, id).await?;
    if !may_drive && !is_view {
        let owner = visible(owner);
        writeln!(
            io::stderr(),
            "hpcclient: {owner} lets you look on only: no key goes to it"
        )?;
    }
    let place = Place::of_owner(cluster, owner);
    attach(&place, id, is_view || !may_drive).await
}

async fn attach(place: &Place, id: RunId, is_view: bool) -> anyhow::Result<u8> {
    let size = here(terminal::size())?;
    let run = place
        .ask(|agent| async move { agent.run(id).await })
        .await?;
    if run.spec.pty.is_none() {
        let message = format!("the run {id} has no terminal");
        let error = ApiError::new(ErrorCode::BadRequest, message);
        return Err(error
            .hint(format!("`hpcclient attach {}` shows it", named(place, id)))
            .into());
    }
    // A guest's size counts only while they follow it.
    if !is_view && !run.state.is_final() && place.owner.is_none() {
        let sized = place.ask(|agent| async move { agent.resize(id, size).await });
        ignore_end(sized.await)?;
    }
    let screen = place.ask(|agent| async move { agent.screen(id).await });
    let screen = screen.await;
    let mut from = run.sizes;
    let past = match screen {
        Ok(screen) => {
            from.tty = screen.offset;
            let data = Shown::of(place).clean(screen.data.as_bytes().to_vec().into());
            [b"\x1b[0m\x1b[H\x1b[2J", data.as_ref()].concat()
        }
        // It can be used without its past.
        Err(error) => {
            let why = report::to_api_error(&error.into());
            let why = visible(&why.message);
            format!("[its screen could not be put back: {why}]\r\n").into_bytes()
        }
    };
    show(place, id, from, is_view, &past).await
}

/// Shows a console's past and then what it writes from an offset on, until it ends or the user leaves.
async fn show(
    place: &Place,
    id: RunId,
    from: StreamSizes,
    is_view: bool,
    past: &[u8],
) -> anyhow::Result<u8> {
    // Before raw mode, so that none of them ends this process while the terminal is in it.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut quit = signal(SignalKind::quit())?;
    let raw = here(Raw::enter())?;
    put(past)?;
    let ended = tokio::select! {
        run = follow(place, id, from, is_view) => Some(run?),
        left = drive(place, id, is_view) => { left?; None }
        _ = terminate.recv() => None,
        _ = hang_up.recv() => None,
        _ = interrupt.recv() => None,
        _ = quit.recv() => None,
    };
    drop(raw);
    let mut err = io::stderr().lock();
    if let Some(run) = ended {
        writeln!(err, "\nhpcclient: the console has ended")?;
        output::exit_code(&run)
    } else {
        let again = format!(
            "hpcclient console -c {} {}",
            place.cluster,
            named(place, id)
        );
        writeln!(
            err,
            "\nhpcclient: left; it goes on, and comes back with `{again}`"
        )?;
        Ok(0)
    }
}

/// Writes what the console writes, through cuts, to its end.
async fn follow(
    place: &Place,
    id: RunId,
    from: StreamSizes,
    is_view: bool,
) -> anyhow::Result<Box<Run>> {
    let access = if is_view { Access::View } else { Access::Drive };
    let agent = place.viewer(access).await?;
    let found = FoundFor {
        found: FoundUnasked {
            cluster: place.cluster.clone(),
        },
        place: place.clone(),
        access,
    };
    let mut shown = Shown::of(place);
    let mut stream = RunStream::attach(agent, found, id, from, true, Patience::Forever);
    let mut out = tokio::io::stdout();
    loop {
        match output::next(&mut stream).await? {
            RunEvent::Data {
                stream: StreamName::Tty,
                bytes,
                ..
            } => {
                out.write_all(&shown.clean(bytes)).await?;
                out.flush().await?;
            }
            RunEvent::Cut { .. } => {
                // In the first line, and the cursor stays where it is.
                let note = "connection lost, keys wait; Ctrl-\\ d leaves";
                out.write_all(format!("\x1b7\x1b[1;1H\x1b[7m {note} \x1b[0m\x1b8").as_bytes())
                    .await?;
                out.flush().await?;
            }
            RunEvent::End(run) => return Ok(run),
            _ => {}
        }
    }
}

/// Sends keys and sizes until the user leaves.
async fn drive(place: &Place, id: RunId, is_view: bool) -> anyhow::Result<()> {
    let (typed, queue) = mpsc::channel(TYPED);
    let resizing = async {
        let mut changes = signal(SignalKind::window_change())?;
        let mut waits = place.owner.is_some() && !is_view;
        while waits {
            // From when this window is one of the viewers'.
            sleep(GUEST_PAUSE).await;
            let size = terminal::size()?;
            let Ok(bridge) = login::bridge().await else {
                continue;
            };
            let agent = place.of(&bridge.agent(&place.cluster));
            let sized = agent.resize(id, size).await;
            waits = sized.is_err_and(|error| error.code() == ErrorCode::Unavailable);
        }
        while changes.recv().await.is_some() {
            if is_view {
                continue;
            }
            let size = terminal::size()?;
            // The next change or the next attach sets it again.
            if let Ok(bridge) = login::bridge().await {
                let agent = place.of(&bridge.agent(&place.cluster));
                let _ = agent.resize(id, size).await;
            }
        }
        std::future::pending::<anyhow::Result<()>>().await
    };
    tokio::select! {
        left = read_keys((!is_view).then_some(typed)) => left,
        failed = send_keys(place, id, queue) => failed,
        failed = resizing => failed,
    }
}

/// Reads keys until those that leave, or the end of stdin.
async fn read_keys(typed: Option<mpsc::Sender<Bytes>>) -> anyhow::Result<()> {
    let (mut stdin, mut keys) = (tokio::io::stdin(), Keys::default());
    let mut buffer = vec![0; 4096];
    loop {
        let count = stdin.read(&mut buffer).await?;
        let found = keys.take(buffer.get(..count).unwrap_or_default());
        if let Some(typed) = &typed
            && !found.bytes.is_empty()
            && typed.try_send(found.bytes.into()).is_err()
        {
            put(b"\x07")?;
        }
        if found.leaves || count == 0 {
            return Ok(());
        }
    }
}

/// Sends keys in order; those that came while others were on their way go together.
async fn send_keys(
    place: &Place,
    id: RunId,
    mut queue: mpsc::Receiver<Bytes>,
) -> anyhow::Result<()> {
    let mut sender = Sender::new(place, id).await?;
    while let Some(first) = queue.recv().await {
        let mut piece = BytesMut::from(first);
        while piece.len() < PIECE
            && let Ok(more) = queue.try_recv()
        {
            piece.extend_from_slice(&more);
        }
        if !sender.send(piece.freeze(), false).await? {
            break;
        }
    }
    // Its end comes with the output.
    std::future::pending().await
}

/// What a console of these runs is called on the command line.
fn named(place: &Place, id: RunId) -> String {
    let owner = place.owner.as_deref();
    owner.map_or_else(|| id.to_string(), |owner| format!("{owner}:{id}"))
}

/// What of a console's output goes to this terminal: of another user's, what only draws.
struct Shown(Option<Harmless>);

impl Shown {
    fn of(place: &Place) -> Self {
        Self(place.owner.as_ref().map(|_| Harmless::for_screen()))
    }

    fn clean(&mut self, bytes: Bytes) -> Bytes {
        match &mut self.0 {
            Some(filter) => filter.take(&bytes).into(),
            None => bytes,
        }
    }
}

/// Whether a text was meant as a part of an id, so that no console is started for a wrong one.
fn is_id(text: &str) -> bool {
    text.len() >= 4 && text.chars().all(|c| c.is_ascii_hexdigit() || c == '-')
}

/// A console that has just ended cannot be changed, and its end is told with its output.
fn ignore_end(done: Result<(), hpcclient_client::ClientError>) -> anyhow::Result<()> {
    match done {
        Err(error) if error.code() == ErrorCode::Conflict => Ok(()),
        other => Ok(other?),
    }
}

fn put(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}

/// Says what it means that stdin is no terminal.
fn here<T>(terminal: io::Result<T>) -> anyhow::Result<T> {
    terminal.map_err(|error| {
        let message = "a console needs a terminal, and stdin is none";
        let error = ApiError::new(ErrorCode::BadRequest, message).caused_by(&error);
        error.hint("leave -t out, or run it in a terminal").into()
    })
}
