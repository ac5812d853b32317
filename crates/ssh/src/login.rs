//! Logging in: which keys and methods are tried in which order, and when to stop.
//!
//! `connection` calls [`login`] on a fresh session. Keys that an ssh-agent holds come first, then key files that need
//! no passphrase, then those that do, then what a person can answer.
//!
//! Invariants: an answer is sent at most once; a person is asked for a password or the like at most three times, over
//! all sessions of one login; a passphrase is asked for only after the server said that it would take that key.
//!
//! Not here: certificates in files, which a later method can add beside [`Candidate`].

mod key_file;
mod questions;
mod signers;
mod ssh_agent;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use russh::keys::agent::AgentIdentity;
use russh::keys::{Algorithm, HashAlg, PrivateKey, PublicKey};
use russh::{MethodKind, MethodSet, client::AuthResult};

use crate::session::Session;
use crate::{Destination, Prompter, SshError};
use key_file::KeyFile;
use signers::{AgentSigner, FileSigner, SignError};
use ssh_agent::AgentKeys;

/// How long the server may think about one request.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);
/// How long a signature may take: an ssh-agent may wait for a touch or a confirmation.
const SIGNATURE_DEADLINE: Duration = Duration::from_secs(60);
/// How many keys may be refused. OpenSSH's server hangs up after six failures, and one is kept for a person.
const MOST_KEYS: usize = 5;
/// How often a person is asked for a password or the like.
const MOST_QUESTIONS: usize = 3;

/// What was learnt from the person and may serve a second session of the same login.
#[derive(Default)]
pub(crate) struct Secrets {
    /// Keys whose passphrase was given.
    unlocked: HashMap<PathBuf, Arc<PrivateKey>>,
    /// A password that was typed when the session had already ended.
    unsent_password: Option<String>,
    /// How many passwords or dialogues were refused.
    refused: usize,
    /// Whether a person was asked in the present session.
    asked: bool,
}

impl Secrets {
    /// Forgets that a person was asked, at the start of a session; tells whether one had been.
    pub(crate) fn take_asked(&mut self) -> bool {
        std::mem::take(&mut self.asked)
    }
}

/// A way to prove who one is with a key.
enum Candidate {
    Agent(Box<AgentIdentity>),
    File(KeyFile),
}

/// How one attempt ended.
enum Outcome {
    Accepted,
    Refused {
        remaining: MethodSet,
        partial: bool,
    },
    /// It was not put to the server to its end.
    Unusable,
    /// The person gave no answer.
    Declined,
}

impl From<AuthResult> for Outcome {
    fn from(result: AuthResult) -> Self {
        match result {
            AuthResult::Success => Self::Accepted,
            AuthResult::Failure {
                remaining_methods,
                partial_success,
            } => Self::Refused {
                remaining: remaining_methods,
                partial: partial_success,
            },
        }
    }
}

/// Logs in on a session.
pub(crate) async fn login(
    session: &mut Session,
    destination: &Destination,
    prompter: &dyn Prompter,
    secrets: &mut Secrets,
) -> Result<(), SshError> {
    let mut login = Login {
        session,
        destination,
        prompter,
        secrets,
        agent: None,
        rsa_hash: None,
        tried: vec![],
        needs_person: false,
    };
    login.run().await
}

struct Login<'a> {
    session: &'a mut Session,
    destination: &'a Destination,
    prompter: &'a dyn Prompter,
    secrets: &'a mut Secrets,
    agent: Option<AgentKeys>,
    rsa_hash: Option<HashAlg>,
    tried: Vec<String>,
    needs_person: bool,
}

impl Login<'_> {
    async fn run(&mut self) -> Result<(), SshError> {
        let user = self.destination.user.clone();
        let first = answered(self.session.handle.authenticate_none(user)).await?;
        let mut methods = match Outcome::from(first) {
            Outcome::Accepted => return Ok(()),
            Outcome::Refused { remaining, .. } => remaining,
            Outcome::Unusable | Outcome::Declined => MethodSet::empty(),
        };
        if methods.is_empty() {
            return Err(self.failure(&methods).await);
        }
        let mut keys = if methods.contains(&MethodKind::PublicKey) {
            self.candidates().await.into_iter()
        } else {
            vec![].into_iter()
        };
        let mut refused_keys = 0;
        loop {
            let key = if methods.contains(&MethodKind::PublicKey) && refused_keys < MOST_KEYS {
                keys.next()
            } else {
                None
            };
            let questions_left = self.secrets.refused < MOST_QUESTIONS;
            let with_key = key.is_some();
            let outcome = if let Some(key) = key {
                self.key(key).await?
            } else if methods.contains(&MethodKind::KeyboardInteractive) && questions_left {
                self.keyboard_interactive().await?
            } else if methods.contains(&MethodKind::Password) && questions_left {
                self.password().await?
            } else {
                return Err(self.failure(&methods).await);
            };
            match outcome {
                Outcome::Accepted => return Ok(()),
                Outcome::Refused { remaining, partial } => {
                    if remaining.is_empty() {
                        return Err(self.failure(&methods).await);
                    }
                    methods = remaining;
                    // A first factor that was right is no failure.
                    if !partial && with_key {
                        refused_keys += 1;
                    } else if !partial {
                        self.secrets.refused += 1;
                    }
                }
                Outcome::Unusable => {}
                Outcome::Declined => return Err(self.failure(&methods).await),
            }
        }
    }

    /// The keys to try, in order.
    async fn candidates(&mut self) -> Vec<Candidate> {
        let files = key_file::read(self.destination.identity_files.clone()).await;
        let mut agent_keys = vec![];
        if let Some(socket) = &self.destination.identity_agent {
            let binding = self.session.handle.agent_session_binding();
            if let Some((agent, keys)) = AgentKeys::open(socket, binding).await {
                self.agent = Some(agent);
                agent_keys = keys;
            }
        }
        let named = |identity: &AgentIdentity| {
            let public = ssh_agent::public_key(identity);
            files.iter().any(|file| {
                file.public
                    .as_ref()
                    .is_some_and(|key| key.key_data() == public.key_data())
            })
        };
        let (first, others): (Vec<_>, Vec<_>) = agent_keys.into_iter().partition(named);
        let held = |file: &KeyFile| {
            file.public.as_ref().is_some_and(|key| {
                first
                    .iter()
                    .any(|held| ssh_agent::public_key(held).key_data() == key.key_data())
            })
        };
        let (ready, locked): (Vec<_>, Vec<_>) = files
            .iter()
            .filter(|file| file.has_private && !held(file))
            .cloned()
            .partition(|file| file.plain.is_some());
        let agent = |identity| Candidate::Agent(Box::new(identity));
        let mut list: Vec<Candidate> = first.into_iter().map(agent).collect();
        list.extend(ready.into_iter().map(Candidate::File));
        if !self.destination.identities_only {
            list.extend(others.into_iter().map(agent));
        }
        list.extend(locked.into_iter().map(Candidate::File));
        list
    }

    async fn key(&mut self, candidate: Candidate) -> Result<Outcome, SshError> {
        match candidate {
            Candidate::Agent(identity) => self.agent_key(*identity).await,
            Candidate::File(file) => self.file_key(file).await,
        }
    }

    async fn agent_key(&mut self, identity: AgentIdentity) -> Result<Outcome, SshError> {
        let public = ssh_agent::public_key(&identity);
        let hash = self.hash_for(&public).await;
        self.tried.push(format!(
            "ssh-agent key {}",
            public.fingerprint(HashAlg::Sha256)
        ));
        let Some(agent) = &mut self.agent else {
            return Ok(Outcome::Unusable);
        };
        let user = self.destination.user.clone();
        let mut signer = AgentSigner(&mut agent.client);
        let handle = &mut self.session.handle;
        let attempt = async {
            match identity {
                AgentIdentity::PublicKey { key, .. } => {
                    handle
                        .authenticate_publickey_with(user, key, hash, &mut signer)
                        .await
                }
                AgentIdentity::Certificate { certificate, .. } => {
                    handle
                        .authenticate_certificate_with(user, certificate, hash, &mut signer)
                        .await
                }
            }
        };
        let deadline = ANSWER_DEADLINE + SIGNATURE_DEADLINE;
        let outcome =
            tokio::time::timeout(deadline, attempt)
                .await
                .map_err(|_| SshError::Timeout {
                    step: "a login with the ssh-agent",
                    after: deadline,
                })?;
        self.key_outcome(outcome)
    }

    async fn file_key(&mut self, file: KeyFile) -> Result<Outcome, SshError> {
        self.tried.push(format!("key {}", file.path.display()));
        let mut signer = FileSigner::new(&file, self.secrets, self.prompter);
        let public = match file.public.clone() {
            Some(public) => public,
            // An old format hides even the public half behind the passphrase.
            None => match signer.unlock().await {
                Ok(key) => key.public_key().clone(),
                Err(error) => return self.key_outcome(Err(error)),
            },
        };
        let hash = rsa_hash(&self.session.handle, &mut self.rsa_hash, &public).await;
        // Without a deadline of its own: a person may be typing. A silent server ends by inactivity.
        let outcome = self
            .session
            .handle
            .authenticate_publickey_with(self.destination.user.clone(), public, hash, &mut signer)
            .await;
        self.key_outcome(outcome)
    }

    fn key_outcome(&mut self, outcome: Result<AuthResult, SignError>) -> Result<Outcome, SshError> {
        match outcome {
            Ok(result) => Ok(result.into()),
            Err(SignError::Ended) => Err(SshError::Closed {
                reason: "the server ended the session during the login".to_owned(),
            }),
            Err(SignError::Declined) => {
                self.needs_person = true;
                Ok(Outcome::Unusable)
            }
            Err(SignError::Failed(reason)) => {
                if let Some(last) = self.tried.last_mut() {
                    last.push_str(&format!(" ({reason})"));
                }
                Ok(Outcome::Unusable)
            }
        }
    }

    async fn hash_for(&mut self, public: &PublicKey) -> Option<HashAlg> {
        rsa_hash(&self.session.handle, &mut self.rsa_hash, public).await
    }

    /// The error for a login that cannot go on, with what the server said if it ended the session.
    async fn failure(&mut self, methods: &MethodSet) -> SshError {
        let ended = self.end_of_session().await;
        let said = ended
            .as_ref()
            .filter(|reason| reason.starts_with("the server said"));
        match ended {
            // A server whose patience ran out while a person was typing just hangs up.
            Some(reason) if said.is_none() && (self.secrets.asked || self.tried.is_empty()) => {
                SshError::Closed { reason }
            }
            reason => SshError::AuthFailed {
                user: self.destination.user.clone(),
                host: self.destination.hostname.clone(),
                tried: self.tried.clone(),
                accepted: methods.iter().map(String::from).collect(),
                needs_person: self.needs_person,
                reason: reason.map(String::into_boxed_str),
            },
        }
    }

    /// Why the session ended, if it did. The SSH library reports an ended session as one more refusal.
    async fn end_of_session(&mut self) -> Option<String> {
        if !self.session.handle.is_closed() {
            return None;
        }
        let told = self.session.closed.wait_for(Option::is_some);
        match tokio::time::timeout(Duration::from_secs(2), told).await {
            Ok(Ok(reason)) => reason.clone(),
            _ => Some("the connection was lost".to_owned()),
        }
    }
}

/// RSA keys sign with SHA-2 only; which one, the server may say.
async fn rsa_hash(
    handle: &russh::client::Handle<crate::session::Client>,
    known: &mut Option<HashAlg>,
    public: &PublicKey,
) -> Option<HashAlg> {
    if !matches!(public.algorithm(), Algorithm::Rsa { .. }) {
        return None;
    }
    if known.is_none() {
        let offered = handle
            .best_supported_rsa_hash()
            .await
            .ok()
            .flatten()
            .flatten();
        *known = Some(offered.unwrap_or(HashAlg::Sha256));
    }
    *known
}

/// Waits for the server's answer to one request.
async fn answered<T>(
    request: impl Future<Output = Result<T, russh::Error>>,
) -> Result<T, SshError> {
    match tokio::time::timeout(ANSWER_DEADLINE, request).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(SshError::Timeout {
            step: "the server's answer to a login",
            after: ANSWER_DEADLINE,
        }),
    }
}
