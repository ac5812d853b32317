//! `hpcclient runs`: the runs of a cluster, newest first.

use std::io::Write as _;

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
    /// Print the list as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args) -> anyhow::Result<u8> {
    let limit = args.limit;
    let list = login::with_agent(&args.cluster.cluster, |agent| async move {
        agent.runs(limit, None, None).await
    })
    .await?;
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer(&mut out, &list)?;
        writeln!(out)?;
        return Ok(0);
    }
    for run in &list.runs {
        writeln!(out, "{}", line(run))?;
    }
    Ok(0)
}

fn line(run: &Run) -> String {
    let state = match (run.state, run.exit_code) {
        (RunState::Queued, _) => "queued".to_owned(),
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
    format!("{}  {state:<9}  {command}{place}", run.id)
}
