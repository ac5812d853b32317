//! What others see of the actor's state, and the words for it.
//!
//! Written by `actor`, read by `Cluster`. What depends on the time of reading is made here and
//! never stored: the next try in seconds, the certificate's end.

use std::sync::Arc;

use hpcclient_protocol::bridge::{ClusterState, ClusterStatus};
use hpcclient_ssh::visible;

use super::{link::Link, now_ms, others::Others};
use crate::{bridge::node::Node, certificate};

/// A cluster as it is now.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) status: ClusterStatus,
    pub(super) waiting: Option<Waiting>,
    pub(super) link: Option<Link>,
    pub(super) node: Option<Arc<dyn Node>>,
    pub(super) others: Option<Arc<Others>>,
    /// Whether the certificate was renewed since the login.
    pub(super) is_renewed: bool,
}

/// What is being waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    /// A login that somebody asked for.
    Login,
    /// The connection was lost: why.
    Connection(String),
    /// No server was reached: why.
    Network(String),
    /// A server was reached: what went wrong.
    Server(String),
    /// The agent on this node.
    Agent(String),
}

impl View {
    /// Returns a cluster that nobody has connected.
    pub(super) fn disconnected(name: &str) -> Self {
        Self {
            status: unconnected(name, name.to_owned(), now_ms()),
            waiting: None,
            link: None,
            node: None,
            others: None,
            is_renewed: false,
        }
    }

    /// Returns the state as it is told to people and programs; `question` is one that is open.
    pub(super) fn told(&self, question: Option<String>, now: u64) -> ClusterStatus {
        let mut status = self.status.clone();
        status.waiting = question
            .map(|question| format!("an answer to: {question}"))
            .or_else(|| Some(words(self.waiting.as_ref()?, status.retry_ms, now)));
        if let Some(node) = &self.node {
            status.channels_opened = node.channels_opened();
            let login = node.login();
            let ending = login.certificate.as_ref();
            let ending = ending.and_then(|used| certificate::notice(used, now));
            if self.is_renewed && login.certificate.is_some() {
                let renewed = "the certificate was renewed; the next login uses the new one";
                status.notices.push(renewed.to_owned());
            } else {
                status.notices.extend(ending);
            }
            status.login = Some(login);
        }
        status
    }
}

/// Returns the state of a cluster without a connection.
pub(crate) fn unconnected(name: &str, destination: String, since_ms: u64) -> ClusterStatus {
    ClusterStatus {
        name: name.to_owned(),
        destination,
        state: ClusterState::Disconnected,
        node: None,
        route: None,
        agent_version: None,
        via: None,
        login: None,
        waiting: None,
        retry_ms: None,
        notices: vec![],
        channels_opened: 0,
        since_ms,
        error: None,
    }
}

fn words(waiting: &Waiting, retry_ms: Option<u64>, now: u64) -> String {
    let (what, reason) = match waiting {
        Waiting::Login => return "the login".to_owned(),
        Waiting::Agent(node) => return format!("the agent on {}", visible(node)),
        Waiting::Connection(reason) => ("the connection", reason),
        Waiting::Network(reason) => ("the network", reason),
        Waiting::Server(reason) => ("the server", reason),
    };
    let next = match retry_ms.and_then(|at| at.checked_sub(now)) {
        Some(left) if left > 0 => format!("next try in {} s", left.div_ceil(1000)),
        _ => "trying now".to_owned(),
    };
    format!("{what}: {}; {next}", visible(reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_for_is_said_in_words() {
        let mut view = View::disconnected("leo");
        assert_eq!(view.told(None, 0).waiting, None);
        view.waiting = Some(Waiting::Network("cannot reach login port 22".to_owned()));
        view.status.retry_ms = Some(3_400);
        assert_eq!(
            view.told(None, 2_000).waiting.unwrap(),
            "the network: cannot reach login port 22; next try in 2 s"
        );
        view.status.retry_ms = None;
        assert_eq!(
            view.told(None, 2_000).waiting.unwrap(),
            "the network: cannot reach login port 22; trying now"
        );
        view.waiting = Some(Waiting::Agent("login02".to_owned()));
        assert_eq!(view.told(None, 0).waiting.unwrap(), "the agent on login02");
        let asked = view.told(Some("One-time password".to_owned()), 0);
        assert_eq!(asked.waiting.unwrap(), "an answer to: One-time password");
    }
}
