//! Making the signature that proves the possession of a key, once the server has said that it would take it.
//!
//! Invariants: nobody is asked anything in here, because the SSH library does not notice the end of a session that
//! waits for a signature. A locked key ends the attempt with [`SignError::Locked`], and `keys` makes another one.

use std::sync::Arc;

use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::signature::Signer as _;
use russh::keys::ssh_encoding::Encode as _;
use russh::keys::ssh_key::Signature;
use russh::keys::ssh_key::private::KeypairData;
use russh::keys::{HashAlg, PrivateKey};
use tokio::net::UnixStream;

use super::SIGNATURE_DEADLINE;
use crate::prompt::visible;

/// Why there is no signature.
#[derive(Debug)]
pub(super) enum SignError {
    /// The session is gone.
    Ended,
    /// The server would take the key, and its passphrase is not known.
    Locked,
    /// The ssh-agent did not answer, so that nothing more can be asked of it.
    AgentSilent,
    /// The key cannot be used.
    Failed(String),
}

impl From<russh::SendError> for SignError {
    fn from(_: russh::SendError) -> Self {
        Self::Ended
    }
}

/// What signs.
pub(super) enum Signer<'a> {
    /// The ssh-agent, with the key that it knows by an identity.
    Agent(&'a mut AgentClient<UnixStream>, &'a AgentIdentity),
    Key(Arc<PrivateKey>),
    Locked,
}

impl russh::Signer for Signer<'_> {
    type Error = SignError;

    async fn auth_sign(
        &mut self,
        _shown: &AgentIdentity,
        hash: Option<HashAlg>,
        to_sign: Vec<u8>,
    ) -> Result<Vec<u8>, SignError> {
        match self {
            Self::Agent(client, identity) => {
                // Asked by the key it holds: it need not have the certificate that was shown.
                let signing = client.sign_request(identity, hash, to_sign);
                match tokio::time::timeout(SIGNATURE_DEADLINE, signing).await {
                    Ok(Ok(signed)) => Ok(signed),
                    Ok(Err(error)) => Err(SignError::Failed(visible(&error.to_string()))),
                    Err(_) => Err(SignError::AgentSilent),
                }
            }
            Self::Key(key) => {
                sign(key, hash, to_sign).map_err(|error| SignError::Failed(error.to_string()))
            }
            Self::Locked => Err(SignError::Locked),
        }
    }
}

fn sign(
    key: &PrivateKey,
    hash: Option<HashAlg>,
    mut to_sign: Vec<u8>,
) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
    let signature: Signature = match key.key_data() {
        KeypairData::Rsa(rsa) => (rsa, hash).try_sign(&to_sign),
        other => other.try_sign(&to_sign),
    }?;
    // The request goes out as it was signed, followed by the signature as one string.
    signature.encode_vec()?.encode(&mut to_sign)?;
    Ok(to_sign)
}
