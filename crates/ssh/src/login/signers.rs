//! Making the signature that proves the possession of a key, once the server has said that it would take it.

use std::sync::Arc;

use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::signature::Signer as _;
use russh::keys::ssh_encoding::Encode as _;
use russh::keys::ssh_key::Signature;
use russh::keys::ssh_key::private::KeypairData;
use russh::keys::{HashAlg, PrivateKey};
use tokio::net::UnixStream;

use super::key_file::{self, KeyFile};
use super::{SIGNATURE_DEADLINE, Secrets};
use crate::prompt::visible;
use crate::{Prompt, Prompter, Question};

/// How often a passphrase may be wrong.
const MOST_PASSPHRASES: usize = 3;

/// Why there is no signature.
#[derive(Debug)]
pub(super) enum SignError {
    /// The session is gone.
    Ended,
    /// The person gave no passphrase.
    Declined,
    /// The key cannot be used.
    Failed(String),
}

impl From<russh::SendError> for SignError {
    fn from(_: russh::SendError) -> Self {
        Self::Ended
    }
}

/// Has the ssh-agent sign.
pub(super) struct AgentSigner<'a>(pub(super) &'a mut AgentClient<UnixStream>);

impl russh::Signer for AgentSigner<'_> {
    type Error = SignError;

    async fn auth_sign(
        &mut self,
        key: &AgentIdentity,
        hash: Option<HashAlg>,
        to_sign: Vec<u8>,
    ) -> Result<Vec<u8>, SignError> {
        let signing = self.0.sign_request(key, hash, to_sign);
        match tokio::time::timeout(SIGNATURE_DEADLINE, signing).await {
            Ok(Ok(signed)) => Ok(signed),
            Ok(Err(error)) => Err(SignError::Failed(visible(&error.to_string()))),
            Err(_) => Err(SignError::Failed("the ssh-agent did not answer".to_owned())),
        }
    }
}

/// Signs with a key from a file, and asks for its passphrase if it has one.
pub(super) struct FileSigner<'a> {
    file: &'a KeyFile,
    secrets: &'a mut Secrets,
    prompter: &'a dyn Prompter,
}

impl<'a> FileSigner<'a> {
    pub(super) fn new(
        file: &'a KeyFile,
        secrets: &'a mut Secrets,
        prompter: &'a dyn Prompter,
    ) -> Self {
        Self {
            file,
            secrets,
            prompter,
        }
    }

    /// Returns the key, after asking if that is needed.
    pub(super) async fn unlock(&mut self) -> Result<Arc<PrivateKey>, SignError> {
        let path = &self.file.path;
        if let Some(key) = self
            .file
            .plain
            .as_ref()
            .or_else(|| self.secrets.unlocked.get(path))
        {
            return Ok(Arc::clone(key));
        }
        for attempt in 0..MOST_PASSPHRASES {
            let again = if attempt == 0 {
                ""
            } else {
                "Wrong passphrase. "
            };
            self.secrets.asked = true;
            let prompt = Prompt {
                kind: Question::Passphrase,
                text: visible(&format!("{again}Passphrase for key {}:", path.display())),
                echo: false,
            };
            let passphrase = self.prompter.ask(prompt).await.ok_or(SignError::Declined)?;
            if let Some(key) = key_file::unlock(path.clone(), passphrase).await {
                self.secrets.unlocked.insert(path.clone(), Arc::clone(&key));
                return Ok(key);
            }
        }
        Err(SignError::Failed("the passphrase was wrong".to_owned()))
    }
}

impl russh::Signer for FileSigner<'_> {
    type Error = SignError;

    async fn auth_sign(
        &mut self,
        _key: &AgentIdentity,
        hash: Option<HashAlg>,
        mut to_sign: Vec<u8>,
    ) -> Result<Vec<u8>, SignError> {
        let key = self.unlock().await?;
        let failed = |error: &dyn std::fmt::Display| SignError::Failed(error.to_string());
        let signature: Signature = match key.key_data() {
            KeypairData::Rsa(rsa) => (rsa, hash).try_sign(&to_sign),
            other => other.try_sign(&to_sign),
        }
        .map_err(|error| failed(&error))?;
        // The request goes out as it was signed, followed by the signature as one string.
        let signature = signature.encode_vec().map_err(|error| failed(&error))?;
        signature
            .encode(&mut to_sign)
            .map_err(|error| failed(&error))?;
        Ok(to_sign)
    }
}
