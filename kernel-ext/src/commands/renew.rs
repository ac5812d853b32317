//! `hpcclient renew`: runs the cluster's `renew_command`, which gets a new certificate.

use std::io::Write as _;

use super::{
    ClusterArgument,
    login::{self, Answers},
    status,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    cluster: ClusterArgument,
}

pub(super) async fn run(args: Args) -> anyhow::Result<u8> {
    let bridge = login::bridge().await?;
    let events = bridge.renew(&args.cluster.cluster).await?;
    // What the command prints may be an address to open, so it is shown without a terminal too.
    let shown = login::Progress::Always;
    let status = login::follow(&bridge, events, Answers::TerminalOrStdin, shown).await?;
    let mut out = std::io::stdout().lock();
    write!(out, "renewed; {}", status::told(&status))?;
    Ok(0)
}
