//! The user's ssh-agent: which keys it holds.

use std::path::Path;
use std::time::Duration;

use russh::keys::PublicKey;
use russh::keys::agent::client::AgentClient;
use russh::keys::agent::{AgentIdentity, AgentSessionBinding};
use tokio::net::UnixStream;

/// How long the agent may take to list its keys.
const DEADLINE: Duration = Duration::from_secs(5);

/// A connection to the ssh-agent.
pub(super) struct AgentKeys {
    pub(super) client: AgentClient<UnixStream>,
}

impl AgentKeys {
    /// Connects and lists the keys; nothing if there is no agent that answers.
    pub(super) async fn open(
        socket: &Path,
        binding: Option<&AgentSessionBinding>,
    ) -> Option<(Self, Vec<AgentIdentity>)> {
        let listing = async {
            let mut client = AgentClient::connect_uds(socket).await?;
            if let Some(binding) = binding {
                // Keys that are bound to destinations show only then. Agents that do not know it refuse, harmlessly.
                let _ = client.bind_session(binding, false).await;
            }
            let keys = client.request_identities().await?;
            Ok::<_, russh::keys::Error>((Self { client }, keys))
        };
        match tokio::time::timeout(DEADLINE, listing).await {
            Ok(Ok(found)) => Some(found),
            Ok(Err(error)) => {
                tracing::debug!(%error, "the ssh-agent does not answer");
                None
            }
            Err(_) => {
                tracing::warn!("the ssh-agent did not list its keys in time");
                None
            }
        }
    }
}

/// The key of an identity, be it bare or in a certificate.
pub(super) fn public_key(identity: &AgentIdentity) -> PublicKey {
    match identity {
        AgentIdentity::PublicKey { key, .. } => key.clone(),
        AgentIdentity::Certificate { certificate, .. } => {
            PublicKey::new(certificate.public_key().clone(), "")
        }
    }
}
