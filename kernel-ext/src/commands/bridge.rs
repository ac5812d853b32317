//! `hpcclient bridge`: runs the bridge, or finds and starts it for others.
//!
//! It runs on one thread: a warm call crosses four tasks, and waking another thread for each would
//! cost more than the work; one thread also keeps the memory small. What may take long (key
//! derivation, files of a slow home) goes to the blocking pool.

use std::{io::Write as _, sync::Arc};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::bridge::{ensure, place::Place, serve, ssh::Ssh, ssh_agents::SshAgents};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print the running bridge's address as JSON; start one if none runs.
    #[arg(long, conflicts_with_all = ["detach", "daemon"])]
    ensure: bool,
    /// Start the bridge in the background if none runs.
    #[arg(long, conflicts_with = "daemon")]
    detach: bool,
    /// Run as the background process itself.
    #[arg(long, hide = true)]
    daemon: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<u8> {
    if args.ensure || args.detach {
        let address = ensure::ensure()?;
        if args.ensure {
            let mut out = std::io::stdout().lock();
            serde_json::to_writer(&mut out, &address)?;
            writeln!(out)?;
        }
        return Ok(0);
    }
    if args.daemon {
        // The terminal's Ctrl-C and hang-up are not for it.
        rustix::process::setsid().context("cannot leave the terminal")?;
    }
    super::log_to_stderr("info");
    let place = Place::open()?;
    let Some(lock) = place.lock()? else {
        if args.daemon {
            // Another one was faster; who started this one finds that one's address.
            return Ok(0);
        }
        anyhow::bail!("a bridge runs already; stop it with `hpcclient stop`");
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let served = runtime.block_on(async {
        let stop = CancellationToken::new();
        let mut signals = [
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        ];
        let [terminate, interrupt] = &mut signals;
        let token = stop.clone();
        let agents = Arc::new(SshAgents::default());
        let dial = Arc::new(Ssh::new(Arc::clone(&agents)));
        let mut serving = std::pin::pin!(serve(&place, &lock, dial, agents, stop));
        loop {
            tokio::select! {
                served = &mut serving => return served.map_err(anyhow::Error::from),
                _ = terminate.recv() => token.cancel(),
                _ = interrupt.recv() => token.cancel(),
            }
        }
    });
    runtime.shutdown_background();
    served.map(|()| 0)
}
