//! `hpcclient attach`: a run's output from its first byte, followed to its end.

use hpcclient_client::{Patience, RunStream};
use hpcclient_protocol::{ApiError, ErrorCode, RunId, run::StreamSizes};
use tokio::signal::unix::{SignalKind, signal};

use super::{
    ClusterOption,
    login::{self, Found},
    output::{self, Output, Step},
    shared,
};
use crate::report;

/// What a shell has for a command that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// How far back a shortened id is searched.
const SEARCHED: usize = 500;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    cluster: ClusterOption,
    /// Show what is stored now, and do not wait for more.
    #[arg(long)]
    no_follow: bool,
    /// The run's id, or its beginning or end; OWNER:RUN for one that another user shares with you.
    #[arg(value_name = "RUN")]
    run: String,
}

pub(super) async fn run(args: Args) -> anyhow::Result<u8> {
    let cluster = args.cluster.cluster;
    if let Some((owner, run)) = args.run.split_once(':') {
        return shared::attach(&cluster, owner, run, !args.no_follow).await;
    }
    let id = find(&cluster, &args.run).await?;
    let follow = !args.no_follow;
    let mut presses = signal(SignalKind::interrupt())?;
    // The output may wait for its reader; Ctrl-C must not wait with it. It does not touch the run.
    tokio::select! {
        shown = show(cluster, id, follow) => shown,
        _ = presses.recv() => Ok(INTERRUPTED),
    }
}

/// Shows the run; of one that only an unreachable node could follow, what is stored.
async fn show(cluster: String, id: RunId, follow: bool) -> anyhow::Result<u8> {
    let (mut output, mut held) = (Output::new(), StreamSizes::default());
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

pub(super) async fn find(cluster: &str, text: &str) -> anyhow::Result<RunId> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let list = login::with_agent(cluster, |agent| async move {
        agent.runs(SEARCHED, None, None).await
    });
    let runs = list.await?.runs;
    let ids: Vec<_> = runs.iter().map(|run| run.id).collect();
    Ok(pick(&ids, text)?)
}

pub(super) fn pick(ids: &[RunId], text: &str) -> Result<RunId, ApiError> {
    let matches = |id: &&RunId| {
        let full = id.to_string();
        full.starts_with(text) || full.ends_with(text)
    };
    let mut found = ids.iter().filter(matches);
    match (found.next(), found.next()) {
        (Some(id), None) => Ok(*id),
        (Some(_), Some(_)) => {
            let message = format!("`{text}` fits more than one run");
            Err(ApiError::new(ErrorCode::BadRequest, message).hint("type more of the id"))
        }
        (None, _) => {
            let message = format!("there is no run `{text}` among the newest {SEARCHED}");
            Err(ApiError::new(ErrorCode::NotFound, message).hint("`hpcclient runs` lists them"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortened_id_must_fit_one_run() {
        let ids: Vec<RunId> = [
            "0199f3a2-7c1e-7b04-9a6e-2f1d4c5b6a70",
            "0199f3a2-7c1e-7b04-9a6e-2f1d4c5b6a71",
        ]
        .map(|id| id.parse().unwrap())
        .into();
        assert_eq!(pick(&ids, "6a71").unwrap(), ids[1]);
        assert_eq!(pick(&ids, "0199").unwrap_err().code, ErrorCode::BadRequest);
        assert_eq!(pick(&ids, "ffff").unwrap_err().code, ErrorCode::NotFound);
    }
}
