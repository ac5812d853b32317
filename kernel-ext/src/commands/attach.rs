//! `hpcclient attach`: a run's output from its first byte or from a later place, followed to its end.

use std::time::Duration;

use hpcclient_client::{Agent, Patience, RunEvent, RunStream};
use hpcclient_protocol::{RunId, StreamName, run::StreamSizes};
use tokio::signal::unix::{SignalKind, signal};

use super::{
    login::{self, Found},
    output::{self, Output, Step},
    shared, span,
    which::RunArgument,
};
use crate::report;

/// What a shell has for a command that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    run: RunArgument,
    /// Show what is stored now, and do not wait for more.
    #[arg(long)]
    no_follow: bool,
    /// Start at the last so many lines of each stream.
    #[arg(long, value_name = "LINES")]
    tail: Option<u64>,
    /// Start at what was written so long ago: 30s, 10m, 2h, 1d.
    #[arg(long, value_name = "TIME", value_parser = span::parse, conflicts_with = "tail")]
    since: Option<Duration>,
}

pub(super) async fn run(args: Args) -> anyhow::Result<u8> {
    if let Some((owner, run)) = args.run.run.split_once(':') {
        let cluster = &args.run.cluster.cluster;
        return shared::attach(cluster, owner, run, !args.no_follow).await;
    }
    let (cluster, id) = args.run.find().await?;
    let (start, follow) = (Start::of(args.tail, args.since), !args.no_follow);
    let mut presses = signal(SignalKind::interrupt())?;
    // The output may wait for its reader; Ctrl-C must not wait with it. It does not touch the run.
    tokio::select! {
        shown = show(cluster, id, start, follow) => shown,
        _ = presses.recv() => Ok(INTERRUPTED),
    }
}

/// Where to start.
#[derive(Clone, Copy, Debug)]
enum Start {
    First,
    Tail(u64),
    Since(Duration),
}

impl Start {
    fn of(tail: Option<u64>, since: Option<Duration>) -> Self {
        let since = since.map_or(Self::First, Self::Since);
        tail.map_or(since, Self::Tail)
    }

    /// Returns the offsets to go on from. What was written since a moment is shown here, each stream by itself.
    async fn find(
        self,
        cluster: &str,
        id: RunId,
        output: &mut Output,
    ) -> anyhow::Result<StreamSizes> {
        match self {
            Self::First => Ok(StreamSizes::default()),
            Self::Tail(lines) => {
                let tail = |agent: Agent| async move { agent.tail(id, lines).await };
                Ok(login::with_agent(cluster, tail).await?)
            }
            Self::Since(span) => {
                let get = |agent: Agent| async move { agent.run(id).await };
                let sizes = login::with_agent(cluster, get).await?.sizes;
                let since = span::ago_ms(span);
                for (stream, to) in [
                    (StreamName::Stdout, sizes.stdout),
                    (StreamName::Stderr, sizes.stderr),
                    (StreamName::Tty, sizes.tty),
                ] {
                    if to == 0 {
                        continue;
                    }
                    let part = login::with_agent(cluster, |agent| async move {
                        agent.since(id, stream, since, to).await
                    });
                    let mut part = part.await?;
                    while let Some(bytes) = part.next().await? {
                        let event = RunEvent::Data {
                            stream,
                            offset: 0,
                            bytes,
                        };
                        output.show(event).await?;
                    }
                }
                Ok(sizes)
            }
        }
    }
}

/// Shows the run; of one that only an unreachable node could follow, what is stored.
async fn show(cluster: String, id: RunId, start: Start, follow: bool) -> anyhow::Result<u8> {
    let mut output = Output::new();
    let mut held = start.find(&cluster, id, &mut output).await?;
    let error = match stream(&cluster, id, follow, &mut held, &mut output).await {
        Err(error) if follow => report::to_api_error(&error),
        shown => return shown,
    };
    // The bridge goes to the run's node by itself; an error that names it says that it could not.
    let Some(node) = &error.node else {
        return Err(error.into());
    };
    stream(&cluster, id, false, &mut held, &mut output).await?;
    let text = format!("that is stored so far; the run is on {node}, which cannot be reached now");
    output.note(&text).await;
    Ok(output::UNKNOWN)
}

/// Shows what comes after the offsets held, and moves them on.
async fn stream(
    cluster: &str,
    id: RunId,
    follow: bool,
    held: &mut StreamSizes,
    output: &mut Output,
) -> anyhow::Result<u8> {
    let agent = login::bridge().await?.agent(cluster);
    let found = Found {
        cluster: cluster.to_owned(),
    };
    let mut stream = RunStream::attach(agent, found, id, *held, follow, Patience::Forever);
    loop {
        let event = output::next(&mut stream).await;
        *held = stream.held();
        match output.show(event?).await? {
            Step::Open => {}
            Step::ReaderLeft => return Ok(0),
            Step::Ended(run) if run.state.is_final() => return output::exit_code(&run),
            // Without `follow`, the end is the end of what is stored.
            Step::Ended(_) => return Ok(0),
        }
    }
}
