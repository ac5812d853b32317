//! The command line: what can be typed, and which file does it.
//!
//! Invariants: stdout carries data only; questions and progress go to the terminal or stderr.

mod attach;
mod bridge;
mod connect;
mod console;
mod control;
mod demo;
mod disconnect;
mod doctor;
mod export;
mod harmless;
mod help;
mod login;
mod marks;
mod open;
mod output;
mod renew;
mod run;
mod runs;
mod search;
mod share;
mod shared;
mod shares;
mod span;
mod status;
mod stdin;
mod stop;
mod terminal;
mod unshare;
mod which;

use clap::{Parser, Subcommand};

pub use help::parse;

/// The cluster inside the notebook: bridge and command line.
#[derive(Debug, Parser)]
#[command(name = "hpcclient", version, about, disable_help_subcommand = true)]
pub struct CommandLine {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Logs in to a cluster and keeps the connection.
    Connect(connect::Args),
    /// Runs the command of config.toml that renews the certificate for a cluster.
    Renew(renew::Args),
    /// Ends the connection to a cluster; its runs go on.
    Disconnect(disconnect::Args),
    /// Shows the bridge and its clusters.
    Status(status::Args),
    /// Runs a command on a cluster, with its streams and its exit code.
    Run(run::Args),
    /// Opens a console of a cluster in this terminal, or goes on with one; Ctrl-\ d leaves it.
    Console(console::Args),
    /// Shows a run's output again and follows it to its end.
    Attach(attach::Args),
    /// Lists the runs of a cluster, newest first.
    Runs(runs::Args),
    /// Finds lines in a run's output, at the node.
    Search(search::Args),
    /// Writes a run's output to a file: as it is, as text, or as a recording.
    Export(export::Args),
    /// Sends a run's command a signal.
    Signal(control::Signal),
    /// Ends every process of a run at once.
    Kill(control::Kill),
    /// Gives a run a name.
    Rename(marks::Rename),
    /// Keeps a run however old it gets.
    Pin(marks::Args),
    /// Lets a run be deleted when the store needs the space.
    Unpin(marks::Args),
    /// Deletes a run that is over, with its output.
    Rm(marks::Args),
    /// Shows a run or a file to other users of the cluster.
    Share(share::Args),
    /// Takes back what was shared; whoever is looking is cut.
    Unshare(unshare::Args),
    /// Lists what is shared by you and with you, or what guests did.
    Shares(shares::Args),
    /// Opens a cluster's page in the browser, or prints its address.
    Open(open::Args),
    /// Starts a login node on this machine, to try everything without a cluster.
    Demo(demo::Args),
    /// Checks what a connection needs, step by step.
    Doctor(doctor::Args),
    /// Stops the bridge, or a cluster's agent.
    Stop(stop::Args),
    /// The process that owns the connections; other commands start it.
    Bridge(bridge::Args),
}

/// Which cluster a command means.
#[derive(Debug, clap::Args)]
struct ClusterOption {
    /// The cluster: a name of config.toml or any ssh destination.
    #[arg(short = 'c', long = "cluster", value_name = "CLUSTER", env = crate::env_vars::CLUSTER,
          default_value = crate::config::DEFAULT, hide_env_values = true)]
    cluster: String,
}

/// Which cluster a command is about, as its argument.
#[derive(Debug, clap::Args)]
struct ClusterArgument {
    /// A name of config.toml or any ssh destination.
    #[arg(value_name = "CLUSTER", env = crate::env_vars::CLUSTER,
          default_value = crate::config::DEFAULT, hide_env_values = true)]
    cluster: String,
}

/// Runs a command line and returns the exit code.
///
/// # Errors
/// What the command failed with, for `report`.
pub fn run(line: CommandLine) -> anyhow::Result<u8> {
    match line.verb {
        Verb::Bridge(args) => bridge::run(&args),
        Verb::Connect(args) => block_on(connect::run(args)),
        Verb::Renew(args) => block_on(renew::run(args)),
        Verb::Disconnect(args) => block_on(disconnect::run(args)),
        Verb::Status(args) => block_on(status::run(args)),
        Verb::Run(args) => block_on(run::run(args)),
        Verb::Console(args) => block_on(console::run(args)),
        Verb::Attach(args) => block_on(attach::run(args)),
        Verb::Runs(args) => block_on(runs::run(args)),
        Verb::Search(args) => block_on(search::run(args)),
        Verb::Export(args) => block_on(export::run(args)),
        Verb::Signal(args) => block_on(control::signal(args)),
        Verb::Kill(args) => block_on(control::kill(args)),
        Verb::Rename(args) => block_on(marks::rename(args)),
        Verb::Pin(args) => block_on(marks::pin(args, true)),
        Verb::Unpin(args) => block_on(marks::pin(args, false)),
        Verb::Rm(args) => block_on(marks::remove(args)),
        Verb::Share(args) => block_on(share::run(args)),
        Verb::Unshare(args) => block_on(unshare::run(args)),
        Verb::Shares(args) => block_on(shares::run(args)),
        Verb::Open(args) => block_on(open::run(args)),
        Verb::Demo(args) => block_on(demo::run(args)),
        Verb::Doctor(args) => block_on(doctor::run(args)),
        Verb::Stop(args) => block_on(stop::run(args)),
    }
}

/// Runs a short-lived command on one thread.
fn block_on(command: impl Future<Output = anyhow::Result<u8>>) -> anyhow::Result<u8> {
    // What a user has to know is told in words of the command; the log is for who asks for it.
    log_to_stderr("off");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let result = runtime.block_on(command);
    // A thread that waits for a line of stdin cannot be stopped, and need not be waited for.
    runtime.shutdown_background();
    result
}

fn log_to_stderr(default: &str) {
    let filter = std::env::var(crate::env_vars::LOG).unwrap_or_else(|_| default.to_owned());
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
}
