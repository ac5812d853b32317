//! `hpcclient doctor`: everything between the user and the cluster, a line each, with what to do.
//!
//! From here outwards: this machine, the network, the login, the agent, its node, the speed of the
//! way. What lies behind a login that failed is not tried.
//! Invariants: it changes nothing but what `connect` changes; each line that is not `ok` has a fix.

mod access;
mod finding;
mod local;
mod network;
mod node;
mod speed;

use std::io::{IsTerminal as _, Write as _};

use hpcclient_client::{Agent, ClientError};
use hpcclient_protocol::{ApiError, ErrorCode, bridge::ClusterStatus};

use self::finding::{Finding, State, text};
use super::{
    ClusterArgument,
    login::{self, Answers},
};
use crate::env_vars;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    cluster: ClusterArgument,
    /// Check this machine only, and connect to nothing.
    #[arg(long)]
    offline: bool,
    /// Print the findings as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args) -> anyhow::Result<u8> {
    let findings = examine(&args.cluster.cluster, args.offline).await;
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer(&mut out, &findings)?;
        writeln!(out)?;
    } else {
        let is_plain = std::env::var_os(env_vars::NO_COLOR).is_some_and(|set| !set.is_empty());
        let colours = out.is_terminal() && !is_plain;
        write!(out, "{}", text(&findings, colours))?;
    }
    let has_failed = findings.iter().any(|finding| finding.state == State::Fail);
    Ok(u8::from(has_failed))
}

async fn examine(asked: &str, offline: bool) -> Vec<Finding> {
    let (mut findings, target) = local::look(asked).await;
    let Some(target) = target.filter(|_| !offline) else {
        return findings;
    };
    // What it finds missing may not be needed: the bridge may be connected already.
    findings.push(network::look(&target.destination).await);
    match connect(&target.name).await {
        Ok((agent, status)) => {
            findings.extend(access::look(&target, &status).await);
            beyond(&agent, &mut findings).await;
        }
        Err(error) => findings.push(refused(&error.into())),
    }
    findings
}

async fn connect(name: &str) -> Result<(Agent, ClusterStatus), ClientError> {
    let bridge = login::bridge().await?;
    let status = login::connect(&bridge, name, Answers::TerminalOrStdin).await?;
    Ok((bridge.agent(name), status))
}

/// Looks at what lies behind the login.
async fn beyond(agent: &Agent, findings: &mut Vec<Finding>) {
    let trips = match speed::trips(agent).await {
        Ok(trips) => trips,
        Err(error) => {
            findings.push(Finding::of_error("agent", &error.into()));
            return;
        }
    };
    match agent.node().await {
        Ok(facts) => findings.extend(node::judge(&trips.status, &facts)),
        Err(error) => findings.push(Finding::of_error("node", &error.into())),
    }
    findings.extend(trips.clock());
    findings.push(trips.latency());
    findings.push(speed::throughput(agent).await);
}

/// Names the step of a login that failed.
fn refused(error: &ApiError) -> Finding {
    let check = match error.code {
        ErrorCode::HostKeyUnknown | ErrorCode::HostKeyChanged => "host key",
        ErrorCode::AuthFailed => "authentication",
        ErrorCode::AgentFailed | ErrorCode::NoSpace | ErrorCode::VersionMismatch => "agent",
        _ => "login",
    };
    Finding::of_error(check, error)
}
