//! `hpcclient runs`: the runs of a cluster, newest first.

use std::io::Write as _;

use clap::ValueEnum;
use hpcclient_client::RunQuery;
use hpcclient_protocol::{Run, RunState};
use hpcclient_ssh::visible;

use super::{ClusterOption, login};

/// How much of a command is printed, in characters.
const LINE: usize = 60;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    cluster: ClusterOption,
    /// How many, at most 500.
    #[arg(short = 'n', long, default_value_t = 20)]
    limit: usize,
    /// Only those with this in their command or name.
    #[arg(long)]
    text: Option<String>,
    /// Only those in this state.
    #[arg(long, value_enum)]
    state: Option<State>,
    /// Only those that are not over.
    #[arg(long)]
    live: bool,
    /// Only consoles.
    #[arg(long)]
    consoles: bool,
    /// Print the list as JSON.
    #[arg(long)]
    json: bool,
}

/// A run's state as it is typed.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum State {
    Queued,
    Running,
    Stalled,
    Orphaned,
    Exited,
    Lost,
}

impl From<State> for RunState {
    fn from(state: State) -> Self {
        match state {
            State::Queued => Self::Queued,
            State::Running => Self::Running,
            State::Stalled => Self::Stalled,
            State::Orphaned => Self::Orphaned,
            State::Exited => Self::Exited,
            State::Lost => Self::Lost,
        }
    }
}

pub(super) async fn run(args: Args) -> anyhow::Result<u8> {
    let query = RunQuery {
        limit: Some(args.limit),
        text: args.text,
        state: args.state.map(RunState::from),
        console: args.consoles.then_some(true),
        live: args.live.then_some(true),
        ..RunQuery::default()
    };
    let list = login::with_agent(&args.cluster.cluster, |agent| {
        let query = query.clone();
        async move { agent.list(&query).await }
    });
    let list = list.await?;
    if !args.json {
        return print(&list.runs);
    }
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, &list)?;
    writeln!(out)?;
    Ok(0)
}

/// Prints runs, a line each.
pub(super) fn print(runs: &[Run]) -> anyhow::Result<u8> {
    let mut out = std::io::stdout().lock();
    for run in runs {
        writeln!(out, "{}", line(run))?;
    }
    Ok(0)
}

fn line(run: &Run) -> String {
    let state = match (run.state, run.exit_code) {
        (RunState::Queued, _) => run
            .position
            .map_or_else(|| "queued".to_owned(), |place| format!("queued {place}")),
        (RunState::Running, _) => "running".to_owned(),
        (RunState::Stalled, _) => "stalled".to_owned(),
        (RunState::Orphaned, _) => "orphaned".to_owned(),
        (RunState::Lost, _) => "lost".to_owned(),
        (RunState::Exited, Some(code)) => format!("exit {code}"),
        (RunState::Exited, None) => "exited".to_owned(),
    };
    let mut command: String = visible(&run.spec.command.to_line()).replace('\n', "⏎");
    if command.chars().count() > LINE {
        command = command.chars().take(LINE - 1).collect();
        command.push('…');
    }
    // Of a run on another node this is what was stored last.
    let place = if run.live || run.state.is_final() {
        String::new()
    } else {
        format!("  (on {})", visible(&run.host))
    };
    let pin = if run.pinned { "* " } else { "" };
    let name = run
        .name
        .as_deref()
        .map(|name| format!("{}: ", visible(name)));
    let name = name.unwrap_or_default().replace('\n', "⏎");
    format!("{}  {state:<9}  {pin}{name}{command}{place}", run.id)
}
