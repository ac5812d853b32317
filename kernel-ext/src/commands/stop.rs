//! `hpcclient stop`: ends the bridge; with `--agent`, a cluster's agent.

use super::{ClusterArgument, login};
use crate::bridge::place::Place;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    cluster: ClusterArgument,
    /// Stop the cluster's agent and leave the bridge; runs go on.
    #[arg(long)]
    agent: bool,
    /// With `--agent`: end sessions and live runs too.
    #[arg(long, requires = "agent")]
    end_runs: bool,
}

pub(super) async fn run(args: Args) -> anyhow::Result<u8> {
    if args.agent {
        let end_runs = args.end_runs;
        let cluster = &args.cluster.cluster;
        login::with_agent(cluster, |agent| async move { agent.stop(end_runs).await }).await?;
    } else if let Some(bridge) = login::running_bridge().await? {
        bridge.stop().await?;
        wait_until_gone().await?;
    }
    Ok(0)
}

/// Waits until the bridge has given its lock back, so that a next one starts fresh.
pub(super) async fn wait_until_gone() -> anyhow::Result<()> {
    const STEP: std::time::Duration = std::time::Duration::from_millis(10);
    const LIMIT: std::time::Duration = std::time::Duration::from_secs(10);
    let gone = async {
        while tokio::task::spawn_blocking(|| Place::open()?.is_taken()).await?? {
            tokio::time::sleep(STEP).await;
        }
        anyhow::Ok(())
    };
    match tokio::time::timeout(LIMIT, gone).await {
        Ok(gone) => gone,
        Err(_) => anyhow::bail!("the bridge does not end"),
    }
}
