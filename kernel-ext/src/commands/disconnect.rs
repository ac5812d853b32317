//! `hpcclient disconnect`: ends a cluster's connection; its agent and runs go on.

use super::{ClusterArgument, login};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    cluster: ClusterArgument,
}

pub(super) async fn run(args: Args) -> anyhow::Result<u8> {
    if let Some(bridge) = login::running_bridge().await? {
        bridge.disconnect(&args.cluster.cluster).await?;
    }
    Ok(0)
}
