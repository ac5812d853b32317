//! `hpcclient status`: the bridge and its clusters. It starts nothing.

use std::io::Write as _;

use hpcclient_protocol::bridge::{BridgeStatus, ClusterState, ClusterStatus};
use hpcclient_ssh::visible;

use super::login;
use crate::{bridge::now_ms, certificate};

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
        for note in notes(cluster) {
            text.push_str(&format!("    {note}\n"));
        }
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
    if let Some(via) = &cluster.via {
        line.push_str(&format!(" via {}", visible(via)));
    }
    if let Some(version) = &cluster.agent_version {
        line.push_str(&format!("  agent {}", visible(version)));
    }
    if let Some(certificate) = certificate_of(cluster) {
        line.push_str(&format!("  {certificate}"));
    }
    // What is being waited for says why.
    if let Some(error) = cluster.error.as_ref().filter(|_| cluster.waiting.is_none()) {
        line.push_str(&format!("  ({})", visible(&error.message)));
    }
    line
}

/// Returns what is told after a login.
pub(super) fn told(cluster: &ClusterStatus) -> String {
    let node = cluster.node.as_deref().map(visible).unwrap_or_default();
    let mut about = format!("{}, node {node}", visible(&cluster.destination));
    if let Some(via) = &cluster.via {
        about.push_str(&format!(" via {}", visible(via)));
    }
    if let Some(certificate) = certificate_of(cluster) {
        about.push_str(&format!(", {certificate}"));
    }
    let mut text = format!("connected to {} ({about})\n", cluster.name);
    for note in notes(cluster) {
        text.push_str(&format!("{note}\n"));
    }
    text
}

fn certificate_of(cluster: &ClusterStatus) -> Option<String> {
    let certificate = cluster.login.as_ref()?.certificate.as_ref()?;
    let validity = certificate::validity(certificate, now_ms());
    Some(format!("certificate {validity}"))
}

/// Returns what is being waited for and what the user should know, a line each.
fn notes(cluster: &ClusterStatus) -> Vec<String> {
    let waiting = cluster.waiting.iter();
    let waiting = waiting.map(|what| format!("waiting for {}", visible(what)));
    let notices = cluster.notices.iter();
    let notices = notices.map(|notice| format!("note: {}", visible(notice)));
    waiting.chain(notices).collect()
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

#[cfg(test)]
mod tests {
    use hpcclient_protocol::bridge::{Certificate, Login, Transport};

    use super::*;
    use crate::bridge::unconnected;

    #[test]
    fn a_login_is_told_with_its_node_its_certificate_and_what_to_know() {
        let mut cluster = unconnected("leo", "me@login.example:22".to_owned(), 0);
        cluster.node = Some("login01".to_owned());
        cluster.via = Some("login02".to_owned());
        cluster.notices = vec!["login01 has started anew".to_owned()];
        cluster.login = Some(Login {
            transport: Transport::Russh,
            offered: vec![],
            used: vec![],
            certificate: Some(Certificate {
                key_id: "me".to_owned(),
                source: "ssh-agent".to_owned(),
                valid_until_ms: Some(now_ms() + 190 * 60_000 + 30_000),
            }),
            host_key: None,
            server: None,
            hops: vec![],
        });
        assert_eq!(
            told(&cluster),
            "connected to leo (me@login.example:22, node login01 via login02, \
             certificate valid 3 h 10 m)\nnote: login01 has started anew\n"
        );
        cluster.waiting = Some("the agent on login01".to_owned());
        assert_eq!(notes(&cluster)[0], "waiting for the agent on login01");
    }
}
