//! `hpcclient connect`: logs in to a cluster, and asks what the login asks.

use std::io::Write as _;

use hpcclient_client::ClientError;

use super::{
    ClusterArgument,
    login::{self, Answers},
    status,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    cluster: ClusterArgument,
    /// Print the cluster's state as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args) -> anyhow::Result<u8> {
    let cluster = &args.cluster.cluster;
    let connect = async || {
        let bridge = login::bridge().await?;
        login::connect(&bridge, cluster, Answers::TerminalOrStdin).await
    };
    let status = match connect().await {
        // A bridge that is just dying is still named where bridges are looked for.
        Err(ClientError::Transport { source, .. }) if source.is_connect() => connect().await?,
        status => status?,
    };
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer(&mut out, &status)?;
        writeln!(out)?;
    } else {
        write!(out, "{}", status::told(&status))?;
    }
    Ok(0)
}
