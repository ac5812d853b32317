//! `hpcclient run`: a command on a cluster as if it ran here.
//!
//! Invariants: the run has one id from the first attempt on, so no retry runs it twice; the bridge,
//! the agent and the connection may die on the way and the output still comes once.

use std::{
    convert::Infallible,
    ffi::OsString,
    io::{self, IsTerminal as _},
    os::unix::ffi::OsStringExt as _,
    time::Duration,
};

use bytes::Bytes;
use hpcclient_client::{ClientError, Patience, RunStream};
use hpcclient_protocol::{ByteString, Command, ErrorCode, RunId, RunSpec, run::StdinMode};
use tokio::{
    io::AsyncReadExt as _,
    signal::unix::SignalKind,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    ClusterOption,
    login::{self, Found},
    output::{self, Output, Step},
};
use crate::report;

/// How much of stdin is sent at once, in bytes.
const STDIN_PIECE: usize = 64 << 10;

/// How long a piece of stdin waits before it is sent again, at first and at most.
const STDIN_PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

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
    let argv = args
        .argv
        .into_iter()
        .map(|word| ByteString::from(word.into_vec()));
    let mut spec = RunSpec::new(Command::Argv(argv.collect()));
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
    let showing = async {
        loop {
            let event = output::next(&mut stream).await?;
            begun.cancel();
            match output.show(event).await? {
                Step::Open => {}
                Step::Ended(run) => return output::exit_code(&run),
                Step::ReaderLeft => {
                    // As a local command gets SIGPIPE, `yes | head` has to end here too.
                    signal(&cluster, id, "TERM").await;
                    return Ok(0);
                }
            }
        }
    };
    let feeding = async {
        if feeds_stdin && let Err(error) = feed(&cluster, id).await {
            // A run that never began fails with its own error, and has no stdin.
            begun.cancelled().await;
            report::warn("stdin was not sent to its end", &error);
        }
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
        left = interrupting => left,
    }
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

/// Sends stdin to its end; a piece that may not have arrived is sent again under its number.
async fn feed(cluster: &str, id: RunId) -> anyhow::Result<()> {
    let writer = RunId::random().to_string();
    let mut stdin = tokio::io::stdin();
    let mut buffer = vec![0; STDIN_PIECE];
    let mut seq = 0;
    let mut bridge = login::bridge().await?;
    loop {
        let count = stdin.read(&mut buffer).await?;
        let piece = Bytes::copy_from_slice(buffer.get(..count).unwrap_or_default());
        let is_end = piece.is_empty();
        seq += 1;
        let (mut pause, longest) = STDIN_PAUSES;
        loop {
            let agent = bridge.agent(cluster);
            match agent.stdin(id, &writer, seq, piece.clone(), is_end).await {
                Ok(_) => break,
                // The stream connects and starts the run; this only waits for it.
                Err(error) if error.is_transient() || is_not_there_yet(&error, seq) => {
                    sleep(pause).await;
                    pause = (pause * 2).min(longest);
                    bridge = login::bridge().await?;
                }
                // The command ended or closed its stdin: nothing of it is read any more.
                Err(error) if error.code() == ErrorCode::Conflict => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        if is_end {
            return Ok(());
        }
    }
}

/// The first piece may overtake the request that starts the run.
fn is_not_there_yet(error: &ClientError, seq: u64) -> bool {
    seq == 1 && error.code() == ErrorCode::NotFound
}
