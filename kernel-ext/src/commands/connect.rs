//! `hpcclient connect`: logs in to a cluster, and asks what the login asks.

use std::{io::Write as _, time::Duration};

use hpcclient_client::ClientError;

use super::{
    ClusterArgument,
    login::{self, Answers},
    status,
};

/// How often it is tried again when the bridge is lost: one that is just dying is still named where bridges are looked
/// for, and still takes connections.
const TRIES: u32 = 3;

/// How long a dying bridge gets to be gone.
const PAUSE: Duration = Duration::from_millis(50);

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
    let mut tries_left = TRIES;
    let status = loop {
        match connect().await {
            Err(ClientError::Transport { .. } | ClientError::Cut { .. }) if tries_left > 0 => {
                tries_left -= 1;
                tokio::time::sleep(PAUSE).await;
            }
            status => break status?,
        }
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
