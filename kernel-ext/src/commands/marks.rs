//! `hpcclient rename`, `pin`, `unpin`, `rm`: what the user notes on a run, and its end in the store.

use hpcclient_protocol::{RunId, run::RunMarks};

use super::{login, which::RunArgument};

#[derive(Debug, clap::Args)]
pub(super) struct Rename {
    #[command(flatten)]
    run: RunArgument,
    /// Its name, at most 80 characters; an empty one takes the name away.
    #[arg(value_name = "NAME")]
    name: String,
}

/// The run of `pin`, `unpin` and `rm`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    run: RunArgument,
}

pub(super) async fn rename(args: Rename) -> anyhow::Result<u8> {
    let (cluster, id) = args.run.find().await?;
    name(&cluster, id, &args.name).await?;
    Ok(0)
}

/// Gives a run a name.
pub(super) async fn name(cluster: &str, id: RunId, name: &str) -> anyhow::Result<()> {
    let name = Some(name.to_owned());
    let marks = RunMarks {
        name,
        ..RunMarks::default()
    };
    mark(cluster, id, marks).await
}

pub(super) async fn pin(args: Args, pinned: bool) -> anyhow::Result<u8> {
    let (cluster, id) = args.run.find().await?;
    let marks = RunMarks {
        pinned: Some(pinned),
        ..RunMarks::default()
    };
    mark(&cluster, id, marks).await?;
    Ok(0)
}

pub(super) async fn remove(args: Args) -> anyhow::Result<u8> {
    let (cluster, id) = args.run.find().await?;
    login::with_agent(&cluster, |agent| async move { agent.delete(id).await }).await?;
    Ok(0)
}

async fn mark(cluster: &str, id: RunId, marks: RunMarks) -> anyhow::Result<()> {
    let marked = login::with_agent(cluster, |agent| {
        let marks = marks.clone();
        async move { agent.mark(id, &marks).await }
    });
    marked.await?;
    Ok(())
}
