//! `hpcclient export`: a run's output as a file.
//!
//! Invariant: a file that is named with `-o` is whole or not there.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::ValueEnum;
use hpcclient_client::Download;
use hpcclient_protocol::StreamName;
use tokio::{fs::File, io::AsyncWriteExt as _};

use super::{login, search::Stream, which::RunArgument};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    run: RunArgument,
    /// What it becomes.
    #[arg(long = "as", value_enum, default_value = "raw")]
    form: Form,
    /// This stream only; without it all of them, in the order of writing.
    #[arg(long, value_enum)]
    stream: Option<Stream>,
    /// The file; without it stdout.
    #[arg(short = 'o', long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Form {
    /// The bytes as they are.
    Raw,
    /// Text without colours and other escape sequences.
    Text,
    /// A recording of a console, for asciinema.
    Cast,
}

pub(super) async fn run(args: Args) -> anyhow::Result<u8> {
    let (cluster, id) = args.run.find().await?;
    let form = match args.form {
        Form::Raw => "raw",
        Form::Text => "text",
        Form::Cast => "cast",
    };
    let stream = args.stream.map(StreamName::from);
    let body = login::with_agent(&cluster, |agent| async move {
        agent.export(id, form, stream).await
    });
    let mut body = body.await?;
    let Some(path) = args.output else {
        write(&mut body, &mut tokio::io::stdout()).await?;
        return Ok(0);
    };
    // Another export of the same file must not write into this one.
    let mut part = path.clone().into_os_string();
    part.push(format!(".{}.part", std::process::id()));
    let part = PathBuf::from(part);
    let written = async {
        let mut file = File::create(&part).await?;
        write(&mut body, &mut file).await?;
        file.sync_all().await?;
        tokio::fs::rename(&part, &path).await?;
        anyhow::Ok(())
    };
    let written = written.await;
    if written.is_err() {
        // It may not even be there; the first failure is the one to tell.
        let _ = tokio::fs::remove_file(&part).await;
    }
    written.with_context(|| format!("cannot write {}", path.display()))?;
    Ok(0)
}

async fn write(
    body: &mut Download,
    to: &mut (impl tokio::io::AsyncWrite + Unpin),
) -> anyhow::Result<()> {
    while let Some(piece) = body.next().await? {
        to.write_all(&piece).await?;
    }
    to.flush().await?;
    Ok(())
}
