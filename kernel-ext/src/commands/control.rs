//! `hpcclient signal`, `kill`: what acts on a run's processes.

use super::{login, which::RunArgument};

#[derive(Debug, clap::Args)]
pub(super) struct Signal {
    #[command(flatten)]
    run: RunArgument,
    /// `INT`, `TERM`, `HUP`, `QUIT`, `USR1`, `USR2`, `STOP`, `CONT` or `KILL`, with `SIG` before it or not.
    #[arg(value_name = "NAME", default_value = "INT")]
    name: String,
}

#[derive(Debug, clap::Args)]
pub(super) struct Kill {
    #[command(flatten)]
    run: RunArgument,
}

pub(super) async fn signal(args: Signal) -> anyhow::Result<u8> {
    let name = args.name.to_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let (cluster, id) = args.run.find().await?;
    login::with_agent(
        &cluster,
        |agent| async move { agent.signal(id, name).await },
    )
    .await?;
    Ok(0)
}

pub(super) async fn kill(args: Kill) -> anyhow::Result<u8> {
    let (cluster, id) = args.run.find().await?;
    login::with_agent(&cluster, |agent| async move { agent.kill(id).await }).await?;
    Ok(0)
}
