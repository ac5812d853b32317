//! `hpcclient status`: the bridge and its clusters. It starts nothing.

use std::io::Write as _;

use hpcclient_protocol::bridge::{BridgeStatus, ClusterState, ClusterStatus};
use hpcclient_ssh::visible;

use super::login;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print the state as JSON; `null` when no bridge runs.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args) -> anyhow::Result<u8> {
    let status = match login::running_bridge().await? {
        Some(bridge) => Some(bridge.status().await?),
        None => None,
    };
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer(&mut out, &status)?;
        writeln!(out)?;
    } else {
        write!(out, "{}", text(status.as_ref()))?;
    }
    Ok(0)
}

fn text(status: Option<&BridgeStatus>) -> String {
    let Some(status) = status else {
        return "no bridge runs; the next command starts one\n".to_owned();
    };
    let mut text = format!("bridge {} (pid {})\n", status.version, status.pid);
    for cluster in &status.clusters {
        let is_default = status.default_cluster.as_ref() == Some(&cluster.name);
        let mark = if is_default { "*" } else { " " };
        text.push_str(&format!("{mark} {}\n", line(cluster)));
    }
    text
}

fn line(cluster: &ClusterStatus) -> String {
    let state = state_word(cluster.state);
    let mut line = format!(
        "{:<16} {state:<13} {}",
        cluster.name,
        visible(&cluster.destination)
    );
    if let Some(node) = &cluster.node {
        line.push_str(&format!("  node {}", visible(node)));
    }
    if let Some(version) = &cluster.agent_version {
        line.push_str(&format!("  agent {}", visible(version)));
    }
    if let Some(error) = &cluster.error {
        line.push_str(&format!("  ({})", visible(&error.message)));
    }
    line
}

/// Returns a state's name as it stands in JSON and in print.
pub(super) const fn state_word(state: ClusterState) -> &'static str {
    match state {
        ClusterState::Disconnected => "disconnected",
        ClusterState::Connecting => "connecting",
        ClusterState::Connected => "connected",
        ClusterState::Reconnecting => "reconnecting",
        ClusterState::Failed => "failed",
    }
}
