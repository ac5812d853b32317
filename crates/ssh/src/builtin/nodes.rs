//! The agents of a cluster's other login nodes, by way of the node that the login landed on; nobody is asked anything.
//!
//! The first way is a session of our own through a forwarded connection: with our keys, and the node has to show a key
//! that is known for it or for the cluster's name. Where the site forwards nothing, the second is the node's own `ssh`.
//!
//! Invariants: a key that is not known is never accepted here; a node's name cannot be an option or mean anything to a
//! shell; the sessions are kept for the next stream and end with the login.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;

use super::Inner;
use super::opener::Opener;
use super::route;
use super::way::in_full;
use crate::bootstrap;
use crate::channel::ChannelStream;
use crate::connection::{AgentLine, NodeStream, Route};
use crate::known_hosts::KnownHost;
use crate::login::{self, Secrets};
use crate::prompt::visible;
use crate::reached::{Reached, Upstream};
use crate::session::{Session, ShownKey};
use crate::{Destination, NoPrompts, Prompter, SshError};

/// How long the first way may take: a firewall between the nodes says nothing, and the second way comes after it.
const LOGIN_DEADLINE: Duration = Duration::from_secs(12);
/// The node's own `ssh` to another one: nobody is asked, and no unknown key is accepted.
pub(crate) const SSH_THERE: &str = "ssh -o BatchMode=yes -o StrictHostKeyChecking=yes -o ConnectTimeout=15 \
     -o ClearAllForwardings=yes -o ForwardAgent=no -o RemoteCommand=none -T -e none";
/// The longest name of a host.
const LONGEST_NAME: usize = 253;

/// The sessions on other nodes. One is begun at a time on each.
#[derive(Default)]
pub(super) struct Nodes(Mutex<HashMap<String, Kept>>);

/// A session, once it is begun.
type Kept = Arc<OnceCell<Arc<Opener>>>;

impl Nodes {
    /// Says farewell to all of them. One that is just begun ends with the session that it goes through.
    pub(super) async fn close(&self) {
        let kept = std::mem::take(&mut *self.lock());
        for opener in kept.values().filter_map(|node| node.get()) {
            opener.farewell().await;
        }
    }

    /// Opens a stream to the agent of a node.
    pub(super) async fn open(
        &self,
        inner: &Inner,
        node: &str,
        agent: &AgentLine,
    ) -> Result<NodeStream, SshError> {
        let refuse = |reason: String| SshError::Hop {
            node: visible(node),
            reason,
        };
        if !is_name(node) {
            return Err(refuse("it is not the name of a host".to_owned()));
        }
        let first = match self.through(inner, node, agent).await {
            Ok(stream) => return Ok(stream),
            Err(error) => in_full(&error),
        };
        match by_ssh(inner, node, agent).await {
            Ok(stream) => Ok(stream),
            Err(closed @ SshError::Closed { .. }) if inner.opener.is_closed() => Err(closed),
            Err(second) => Err(refuse(format!(
                "through a forwarded connection: {first}; by ssh on the node: {}",
                in_full(&second)
            ))),
        }
    }

    /// The first way. The end of a kept session may be noticed only when it is used.
    async fn through(
        &self,
        inner: &Inner,
        node: &str,
        agent: &AgentLine,
    ) -> Result<NodeStream, SshError> {
        let opener = self.session(inner, node).await?;
        let mut found = route::find(&opener, &inner.tasks, agent).await;
        if found.is_err() && opener.is_closed() && !inner.opener.is_closed() {
            let opener = self.session(inner, node).await?;
            found = route::find(&opener, &inner.tasks, agent).await;
        }
        let (stream, route, json) = found?;
        Ok(stream_to(agent, json, stream, route))
    }

    async fn session(&self, inner: &Inner, node: &str) -> Result<Arc<Opener>, SshError> {
        let kept = self.kept(node);
        let begin = async || {
            let session = tokio::time::timeout(LOGIN_DEADLINE, log_in(inner, node))
                .await
                .map_err(|_| SshError::Timeout {
                    step: "the login on the other node",
                    after: LOGIN_DEADLINE,
                })??;
            Ok(Arc::new(Opener::new(session.handle, session.closed)))
        };
        kept.get_or_try_init(begin).await.cloned()
    }

    /// The place for a node's session, without one that ended.
    fn kept(&self, node: &str) -> Kept {
        let mut all = self.lock();
        let kept = all.entry(node.to_owned()).or_default();
        if kept.get().is_some_and(|opener| opener.is_closed()) {
            *kept = Kept::default();
        }
        Arc::clone(kept)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn log_in(inner: &Inner, node: &str) -> Result<Session, SshError> {
    let landed = &inner.destination;
    let there = Destination {
        host_alias: node.to_owned(),
        hostname: node.to_owned(),
        host_key_alias: None,
        // Nobody is there to answer, and a dialogue may begin with a message to a telephone.
        preferred_authentications: vec!["publickey".to_owned()],
        ..landed.clone()
    };
    let forwarded = inner.opener.direct_tcpip(node, landed.port).await?;
    let channel = forwarded.map_err(russh::Error::ChannelOpenFailure)?;
    let stream = ChannelStream::new(channel, &inner.tasks.tracker, &inner.tasks.stop);
    let reached = Reached {
        stream: Box::new(stream),
        address: None,
        upstream: vec![Upstream {
            name: visible(&landed.host_alias),
            closed: inner.opener.closed(),
        }],
        carrier: None,
    };
    let files = landed.known_hosts.clone();
    let (its_name, cluster_name) = (there.host_key_name(), landed.host_key_name());
    let is_neighbour = are_neighbours(node, &landed.hostname);
    let known = tokio::task::spawn_blocking(move || {
        let own = KnownHost::read(&files, &its_name);
        let own = if is_neighbour {
            own
        } else {
            own.only_revocations()
        };
        own.confirmed_by(KnownHost::read(&files, &cluster_name))
    });
    let known = known.await.unwrap_or_default();
    let nobody: Arc<dyn Prompter> = Arc::new(NoPrompts);
    let shown = ShownKey::default();
    let mut session = Session::start(reached, &there, known, None, &shown, &nobody).await?;
    login::login(&mut session, &there, &NoPrompts, &mut Secrets::default()).await?;
    Ok(session)
}

/// The second way.
async fn by_ssh(inner: &Inner, node: &str, agent: &AgentLine) -> Result<NodeStream, SshError> {
    let command = ssh_command(node, &bootstrap::connect_command(agent)?);
    let (stream, json) = route::exec(&inner.opener, &inner.tasks, command).await?;
    Ok(stream_to(agent, json, stream, Route::Exec))
}

fn stream_to(agent: &AgentLine, json: String, stream: ChannelStream, route: Route) -> NodeStream {
    NodeStream {
        agent: AgentLine {
            json,
            ..agent.clone()
        },
        stream: Box::new(stream),
        route,
    }
}

/// Whether two hosts are of one domain, or of one small network.
///
/// The other node's name comes from the login node. Were any known host good, a login node in other hands could have
/// this machine log in to a host of another site.
fn are_neighbours(node: &str, landed: &str) -> bool {
    let surroundings = |host: &str| match host.parse::<Ipv4Addr>() {
        Ok(_) => host.rsplit_once('.').map(|(network, _)| network.to_owned()),
        Err(_) => host
            .split_once('.')
            .map(|(_, domain)| domain.to_lowercase())
            .filter(|domain| domain.contains('.')),
    };
    matches!((surroundings(node), surroundings(landed)), (Some(one), Some(other)) if one == other)
}

/// Runs a command on another node. Two login shells read it: the one here takes one pair of quotes off.
///
/// Outside of quotes, `\'` is a quote in every shell; inside, the command has nothing that one of them would replace.
fn ssh_command(node: &str, command: &str) -> String {
    let quoted = command.replace('\'', r"'\''");
    format!("{SSH_THERE} -- {node} '{quoted}'")
}

/// Whether text is the name or the IPv4 address of a host.
pub(crate) fn is_name(text: &str) -> bool {
    let inside = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-');
    text.len() <= LONGEST_NAME
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.chars().all(inside)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_host_of_another_site_is_no_neighbour() {
        for (node, landed, are) in [
            ("login02.cluster.example", "login.Cluster.example", true),
            ("127.0.0.12", "127.0.0.1", true),
            ("workstation.home.example", "login.cluster.example", false),
            ("b.example", "a.example", false),
            ("login02", "login", false),
            ("workstation", "login.cluster.example", false),
            ("10.0.1.2", "10.0.2.2", false),
        ] {
            assert_eq!(are_neighbours(node, landed), are, "{node} {landed}");
        }
    }

    #[test]
    fn what_could_be_an_option_or_a_command_is_no_name() {
        for good in ["login02", "login02.cluster.example", "127.0.0.2", "a-b"] {
            assert!(is_name(good), "{good}");
        }
        for bad in [
            "",
            "-oProxyCommand=x",
            ".a",
            "a b",
            "a;b",
            "a$b",
            "a'b",
            "a\n",
            "é",
            "[::1]",
        ] {
            assert!(!is_name(bad), "{bad}");
        }
        assert!(!is_name(&"a".repeat(254)));
    }

    /// As on a cluster: the login shell reads the line, `ssh` joins its words, the other login shell reads those.
    #[test]
    fn two_login_shells_leave_the_command_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let home = folder
            .path()
            .join("a b, c;d (e) {f} #g ~h *i ?j é <k> |l &m %n [o] =p ^q");
        std::fs::create_dir(&home).unwrap();
        let program = |path: std::path::PathBuf, text: &str| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
        };
        program(
            home.join("hpcagent"),
            "#!/bin/sh\nprintf '%s|%s' \"$HPCCLIENT_HOME\" \"$*\"\n",
        );
        let agent = AgentLine {
            json: String::new(),
            exec: home.join("hpcagent").display().to_string(),
            home: Some(home.display().to_string()),
            installed: String::new(),
        };
        let line = ssh_command("login02", &bootstrap::connect_command(&agent).unwrap());
        for shell in ["sh", "bash", "tcsh", "fish"] {
            let ssh = format!(
                "#!/bin/sh\nwhile [ \"$1\" != -- ]; do shift; done\nshift 2\nexec {shell} -c \"$*\"\n"
            );
            program(folder.path().join("ssh"), &ssh);
            let path = std::env::var("PATH").unwrap();
            let ran = std::process::Command::new(shell)
                .args(["-c", &line])
                .env("PATH", format!("{}:{path}", folder.path().display()))
                .env("HOME", folder.path())
                .output()
                .unwrap();
            assert_eq!(
                String::from_utf8_lossy(&ran.stdout),
                format!("{}|connect", home.display()),
                "{shell}: {}",
                String::from_utf8_lossy(&ran.stderr)
            );
        }
    }

    proptest! {
        #[test]
        fn a_name_is_one_word_to_any_shell(text in any::<String>()) {
            if is_name(&text) {
                prop_assert_eq!(shlex::split(&text), Some(vec![text.clone()]));
                prop_assert!(!text.starts_with('-'));
            }
        }
    }
}
