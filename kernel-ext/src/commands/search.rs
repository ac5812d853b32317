//! `hpcclient search`: lines of a run's stored output, found at the node.

use std::io::Write as _;

use clap::ValueEnum;
use hpcclient_client::Search;
use hpcclient_protocol::StreamName;
use hpcclient_ssh::visible;

use super::{login, which::RunArgument};

/// What `grep` has for nothing found.
const NOTHING: u8 = 1;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    run: RunArgument,
    /// An extended regular expression, as `grep -E` has it.
    #[arg(value_name = "PATTERN")]
    pattern: String,
    /// The pattern is plain text.
    #[arg(short = 'F', long)]
    fixed: bool,
    /// Small and capital letters are the same.
    #[arg(short = 'i', long)]
    ignore_case: bool,
    /// Look through this stream only.
    #[arg(long, value_enum)]
    stream: Option<Stream>,
    /// How many lines at most.
    #[arg(short = 'n', long)]
    limit: Option<usize>,
    /// Print the lines as JSON, with their offsets and times.
    #[arg(long)]
    json: bool,
}

/// A stream as it is typed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Stream {
    /// What the command wrote to stdout.
    Stdout,
    /// What it wrote to stderr.
    Stderr,
    /// What a console showed.
    Tty,
}

impl From<Stream> for StreamName {
    fn from(stream: Stream) -> Self {
        match stream {
            Stream::Stdout => Self::Stdout,
            Stream::Stderr => Self::Stderr,
            Stream::Tty => Self::Tty,
        }
    }
}

pub(super) async fn run(args: Args) -> anyhow::Result<u8> {
    let (cluster, id) = args.run.find().await?;
    let search = Search {
        pattern: args.pattern,
        fixed: args.fixed,
        ignore_case: args.ignore_case,
        stream: args.stream.map(StreamName::from),
        limit: args.limit,
    };
    let found = login::with_agent(&cluster, |agent| {
        let search = search.clone();
        async move { agent.search(id, &search).await }
    });
    let found = found.await?;
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer(&mut out, &found)?;
        writeln!(out)?;
    } else {
        for hit in &found.hits {
            // Lines out of their place may hold half an escape sequence: none of it acts here.
            let text = visible(&hit.text.to_lossy()).replace('\n', "⏎");
            writeln!(out, "{}:{}:{text}", hit.stream.as_str(), hit.line)?;
        }
        if let Some(cut) = &found.cut {
            let mut err = std::io::stderr().lock();
            writeln!(err, "hpcclient: there may be more: {}", visible(cut))?;
        }
    }
    Ok(if found.hits.is_empty() { NOTHING } else { 0 })
}
