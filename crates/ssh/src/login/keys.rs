//! One attempt with a key or a certificate.
//!
//! A key whose passphrase is not known is first only shown; if the server would take it the person is asked between two
//! requests, and the key is shown again.

use std::sync::Arc;

use russh::client::AuthResult;
use russh::keys::{Algorithm, HashAlg, PrivateKey, PublicKey};

use super::candidates::{Candidate, Holder};
use super::certificates::short;
use super::key_file::{self, KeyFile};
use super::signers::{SignError, Signer};
use super::{ANSWER_DEADLINE, Login, Outcome, SIGNATURE_DEADLINE};
use crate::{Question, SshError};

/// How often a passphrase may be wrong.
const MOST_PASSPHRASES: usize = 3;

impl Login<'_> {
    pub(super) async fn publickey(&mut self, candidate: &Candidate) -> Result<Outcome, SshError> {
        self.tried.push(candidate.describe());
        let file = match &candidate.holder {
            Holder::File(file) => Some(&**file),
            Holder::Agent(_) => None,
        };
        let mut public = candidate.public.clone();
        if public.is_none()
            && let Some(file) = file
        {
            public = match self.unlock(file).await {
                Some(key) => Some(key.public_key().clone()),
                None => return Ok(Outcome::Unusable),
            };
        }
        let Some(public) = public else {
            return Ok(Outcome::Unusable);
        };
        let outcome = match self.show(candidate, &public).await? {
            Err(SignError::Locked) => {
                let Some(file) = file else {
                    return Ok(Outcome::Unusable);
                };
                let Some(key) = self.unlock(file).await else {
                    return Ok(Outcome::Unusable);
                };
                if key.public_key().key_data() != public.key_data() {
                    self.annotate("its public half beside it is another key's");
                    return Ok(Outcome::Unusable);
                }
                if let Some(reason) = self.end_of_session().await {
                    return Err(SshError::Closed { reason });
                }
                self.show(candidate, &public).await?
            }
            outcome => outcome,
        };
        let outcome = self.settled(outcome)?;
        if let (Some(certificate), Outcome::Refused { partial: false, .. }) =
            (&candidate.certificate, &outcome)
            && let Some(names) = certificate.names_others(&self.destination.user)
        {
            self.annotate(&format!("it is for {names}"));
        }
        Ok(outcome)
    }

    /// Shows the key to the server, and signs if it would take it and that needs no question.
    async fn show(
        &mut self,
        candidate: &Candidate,
        public: &PublicKey,
    ) -> Result<Result<AuthResult, SignError>, SshError> {
        let hash = self.rsa_hash(public).await;
        let (mut signer, deadline) = match &candidate.holder {
            Holder::Agent(identity) => {
                let Some(agent) = &mut self.agent else {
                    return Ok(Err(SignError::Failed("the ssh-agent is gone".to_owned())));
                };
                let signer = Signer::Agent(&mut agent.client, identity);
                (signer, ANSWER_DEADLINE + SIGNATURE_DEADLINE)
            }
            Holder::File(file) => {
                let unlocked = || self.secrets.unlocked.get(&file.path);
                let signer = match file.plain.as_ref().or_else(unlocked) {
                    Some(key) => Signer::Key(Arc::clone(key)),
                    None => Signer::Locked,
                };
                (signer, ANSWER_DEADLINE)
            }
        };
        let user = self.destination.user.clone();
        let handle = &mut self.session.handle;
        let attempt = async {
            match &candidate.certificate {
                Some(shown) => {
                    let certificate = shown.certificate.clone();
                    handle
                        .authenticate_certificate_with(user, certificate, hash, &mut signer)
                        .await
                }
                None => {
                    handle
                        .authenticate_publickey_with(user, public.clone(), hash, &mut signer)
                        .await
                }
            }
        };
        tokio::time::timeout(deadline, attempt)
            .await
            .map_err(|_| SshError::Timeout {
                step: "the server's answer to a key",
                after: deadline,
            })
    }

    fn settled(&mut self, outcome: Result<AuthResult, SignError>) -> Result<Outcome, SshError> {
        match outcome {
            Ok(result) => return Ok(result.into()),
            Err(SignError::Ended) => {
                return Err(SshError::Closed {
                    reason: "the server ended the session during the login".to_owned(),
                });
            }
            Err(SignError::Locked) => {}
            Err(SignError::AgentSilent) => {
                // Its late answer would be taken for the next one's.
                self.agent = None;
                self.annotate("the ssh-agent did not answer");
            }
            Err(SignError::Failed(reason)) => self.annotate(&reason),
        }
        Ok(Outcome::Unusable)
    }

    /// Adds to what is said of the last attempt.
    fn annotate(&mut self, reason: &str) {
        if let Some(last) = self.tried.last_mut() {
            last.push_str(&format!(" ({reason})"));
        }
    }

    /// The private key of a locked file; nothing if the person gave no right passphrase.
    async fn unlock(&mut self, file: &KeyFile) -> Option<Arc<PrivateKey>> {
        if let Some(key) = self.secrets.unlocked.get(&file.path) {
            return Some(Arc::clone(key));
        }
        for attempt in 0..MOST_PASSPHRASES {
            let again = if attempt == 0 {
                ""
            } else {
                "Wrong passphrase. "
            };
            let text = format!("{again}Passphrase for key {}:", short(&file.path));
            let passphrase = self.ask(Question::Passphrase, &text, false).await?;
            if let Some(key) = key_file::unlock(file.path.clone(), passphrase).await {
                let unlocked = &mut self.secrets.unlocked;
                unlocked.insert(file.path.clone(), Arc::clone(&key));
                return Some(key);
            }
        }
        self.annotate("the passphrase was wrong");
        None
    }

    /// RSA keys sign with SHA-2 only; which one, the server may say.
    async fn rsa_hash(&mut self, public: &PublicKey) -> Option<HashAlg> {
        if !matches!(public.algorithm(), Algorithm::Rsa { .. }) {
            return None;
        }
        if self.rsa_hash.is_none() {
            let offered = self.session.handle.best_supported_rsa_hash().await;
            let offered = offered.ok().flatten().flatten();
            self.rsa_hash = Some(offered.unwrap_or(HashAlg::Sha256));
        }
        self.rsa_hash
    }
}
