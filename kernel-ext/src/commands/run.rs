//! `hpcclient run`: a command on a cluster as if it ran here.
//!
//! Invariants: the run has one id from the first attempt on, so no retry runs it twice; the bridge,
//! the agent and the connection may die on the way and the output still comes once.

use std::{
    convert::Infallible,
    ffi::OsString,
    io::{self, IsTerminal as _, Write as _},
    os::unix::ffi::OsStringExt as _,
    time::Duration,
};

use hpcclient_client::{Patience, RunStream};
use hpcclient_protocol::{ByteString, Command, RunId, RunSpec, run::StdinMode};
use tokio::{signal::unix::SignalKind, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    ClusterOption, console,
    login::{self, Found},
    marks,
    output::{self, Output, Step},
    span, stdin,
};
use crate::report;

/// What a shell has for a command that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// How long Ctrl-C waits for an agent that has not answered yet.
const FAREWELL: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    cluster: ClusterOption,
    /// Send stdin even if it is a terminal.
    #[arg(short = 'i', long)]
    interactive: bool,
    /// Run it in a terminal, which is this one; Ctrl-\ d leaves it running.
    #[arg(short = 't', long, conflicts_with_all = ["interactive", "detach"])]
    tty: bool,
    /// Print its id and leave it running.
    #[arg(short = 'd', long, conflicts_with = "interactive")]
    detach: bool,
    /// What it is called.
    #[arg(long)]
    name: Option<String>,
    /// Kill it after so long, whoever is connected then: 90s, 10m, 2h, 1d.
    #[arg(long, value_name = "TIME", value_parser = span::parse)]
    timeout: Option<Duration>,
    /// How much it gives way to others, 0 to 19.
    #[arg(long, value_name = "N")]
    nice: Option<u8>,
    /// The directory to start in; without it the home directory.
    #[arg(long, value_name = "DIR")]
    cwd: Option<OsString>,
    /// Environment to add, as often as needed.
    #[arg(short = 'e', long, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<(String, ByteString)>,
    /// The program and its arguments, passed as they are.
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGV"
    )]
    argv: Vec<OsString>,
}

pub(super) async fn run(args: Args) -> anyhow::Result<u8> {
    let cluster = args.cluster.cluster;
    let bytes = |word: OsString| ByteString::from(word.into_vec());
    let mut spec = RunSpec::new(Command::Argv(args.argv.into_iter().map(bytes).collect()));
    spec.cwd = args.cwd.map(bytes);
    spec.env = args.env.into_iter().collect();
    spec.timeout_ms = args.timeout.map(span::to_ms);
    spec.nice = args.nice;
    if args.tty {
        return console::start(&cluster, spec, args.name).await;
    }
    if args.detach {
        return detach(&cluster, &spec, args.name).await;
    }
    let feeds_stdin = args.interactive || !io::stdin().is_terminal();
    if feeds_stdin {
        spec.stdin = StdinMode::Open;
    }
    spec.check()?;
    let id = RunId::random();
    let agent = login::bridge().await?.agent(&cluster);
    let found = Found {
        cluster: cluster.clone(),
    };
    let mut stream = RunStream::start(agent, found, id, spec, Patience::Forever);
    let mut presses = tokio::signal::unix::signal(SignalKind::interrupt())?;
    let mut output = Output::new();
    // The agent has the run and tells of it.
    let begun = CancellationToken::new();
    let is_named = CancellationToken::new();
    let showing = async {
        loop {
            let event = output::next(&mut stream).await?;
            begun.cancel();
            match output.show(event).await? {
                Step::Open => {}
                Step::Ended(run) => {
                    is_named.cancelled().await;
                    return output::exit_code(&run);
                }
                Step::ReaderLeft => {
                    // As a local command gets SIGPIPE, `yes | head` has to end here too.
                    signal(&cluster, id, "TERM").await;
                    return Ok(0);
                }
            }
        }
    };
    let feeding = async {
        if feeds_stdin && let Err(error) = stdin::feed(&cluster, id).await {
            // A run that never began fails with its own error, and has no stdin.
            begun.cancelled().await;
            report::warn("stdin was not sent to its end", &error);
        }
        std::future::pending::<Infallible>().await
    };
    let naming = async {
        if let Some(name) = args.name {
            begun.cancelled().await;
            if let Err(error) = marks::name(&cluster, id, &name).await {
                report::warn("it could not be given its name", &error);
            }
        }
        is_named.cancel();
        std::future::pending::<Infallible>().await
    };
    let interrupting = async {
        let mut name = "INT";
        while presses.recv().await.is_some() {
            if !begun.is_cancelled() {
                // The request may have left although nothing came back.
                let farewell = async { login::bridge().await?.agent(&cluster).kill(id).await };
                let _ = timeout(FAREWELL, farewell).await;
                return Ok(INTERRUPTED);
            }
            signal(&cluster, id, name).await;
            name = "KILL";
        }
        std::future::pending().await
    };
    // The output may wait for its reader; stdin and Ctrl-C must not wait with it.
    tokio::select! {
        shown = showing => shown,
        never = feeding => match never {},
        never = naming => match never {},
        left = interrupting => left,
    }
}

/// Starts a run and prints its id.
async fn detach(cluster: &str, spec: &RunSpec, name: Option<String>) -> anyhow::Result<u8> {
    spec.check()?;
    let id = RunId::random();
    login::with_agent(cluster, |agent| async move { agent.start(id, spec).await }).await?;
    writeln!(io::stdout(), "{id}")?;
    if let Some(name) = name {
        // Its id is out, and it goes on.
        if let Err(error) = marks::name(cluster, id, &name).await {
            report::warn("it could not be given its name", &error);
        }
    }
    Ok(0)
}

/// Reads `NAME=VALUE`.
fn variable(text: &str) -> Result<(String, ByteString), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = pair.ok_or("it is NAME=VALUE")?;
    Ok((name.to_owned(), value.into()))
}

/// Sends a signal, `KILL` to every process of the run.
async fn signal(cluster: &str, id: RunId, name: &str) {
    let sent = login::with_agent(cluster, |agent| async move {
        if name == "KILL" {
            agent.kill(id).await
        } else {
            agent.signal(id, name).await
        }
    });
    if let Err(error) = sent.await {
        report::warn("the signal was not sent", &error);
    }
}
