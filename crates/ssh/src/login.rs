//! Logging in: which keys and methods are tried in which order, and when to stop.
//!
//! `builtin` calls [`login`] on a fresh session. The server names the methods that it would take next, after each
//! attempt anew, so that any chain of them works; of those, the first one counts that the configuration prefers.
//!
//! Invariants: an answer is sent at most once; a person is asked for a password or the like at most three times, over
//! all sessions of one login; a passphrase is asked for only after the server said that it would take that key; the
//! server cannot keep a login going without end.
//!
//! Not here: the order of the keys (`candidates`), and how one of them is tried (`keys`).

mod candidates;
mod certificates;
mod key_file;
mod keys;
mod questions;
mod signers;
mod ssh_agent;

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use russh::keys::{HashAlg, PrivateKey, PublicKey};
use russh::{MethodKind, MethodSet, client::AuthResult};

use crate::error::IdleCertificate;
use crate::prompt::SOME_QUESTION;
use crate::session::Session;
use crate::{Destination, LoginFacts, Prompter, SshError};
use candidates::{Candidate, Found};
use ssh_agent::AgentKeys;

/// How long the server may think about one request.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);
/// How long the server may think about what a person answered: a second factor on a telephone takes its time, and
/// OpenSSH's server hangs up after two minutes.
const PERSON_DEADLINE: Duration = Duration::from_secs(150);
/// How long a signature may take: an ssh-agent may wait for a touch or a confirmation.
const SIGNATURE_DEADLINE: Duration = Duration::from_secs(60);
/// How many keys may be refused. OpenSSH's server hangs up after six failures, and one is kept for a person.
const MOST_KEYS: usize = 5;
/// How often a person is asked for a password or the like.
const MOST_QUESTIONS: usize = 3;
/// How many steps a login may have; nobody asks for so many.
const MOST_STEPS: usize = 8;
/// What is tried, in order, if the configuration does not say.
const METHODS: [MethodKind; 3] = [
    MethodKind::PublicKey,
    MethodKind::KeyboardInteractive,
    MethodKind::Password,
];

/// What was learnt from the person and may serve a second session of the same login.
#[derive(Default)]
pub(crate) struct Secrets {
    /// Keys whose passphrase was given.
    unlocked: HashMap<PathBuf, Arc<PrivateKey>>,
    /// A password that was typed when the session had already ended, and was never sent.
    unsent_password: Option<String>,
    /// How many passwords or dialogues were refused.
    refused: usize,
    /// How many were sent and did not turn out to be right: a server may just hang up over a wrong one.
    sent: usize,
    /// Whether a person was asked in the present session.
    asked: bool,
}

impl Secrets {
    /// Forgets that a person was asked, at the start of a session; tells whether one had been.
    pub(crate) fn take_asked(&mut self) -> bool {
        std::mem::take(&mut self.asked)
    }
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

/// Logs in on a session; tells how.
pub(crate) async fn login(
    session: &mut Session,
    destination: &Destination,
    prompter: &dyn Prompter,
    secrets: &mut Secrets,
) -> Result<LoginFacts, SshError> {
    let facts = LoginFacts {
        host_key: session.learnt.host_key.get().cloned(),
        server: session.learnt.server.get().cloned(),
        ..LoginFacts::default()
    };
    let mut login = Login {
        session,
        destination,
        prompter,
        secrets,
        keys: None,
        agent: None,
        rsa_hash: None,
        accepted: vec![],
        refused_keys: 0,
        refusals: 0,
        tried: vec![],
        needs_person: false,
        expired: None,
        facts,
    };
    login.run().await?;
    Ok(login.facts)
}

struct Login<'a> {
    session: &'a mut Session,
    destination: &'a Destination,
    prompter: &'a dyn Prompter,
    secrets: &'a mut Secrets,
    /// The keys that were not tried yet; nothing before the server first asks for one.
    keys: Option<VecDeque<Candidate>>,
    agent: Option<AgentKeys>,
    rsa_hash: Option<HashAlg>,
    /// The keys that were a right step. A server that wants two keys wants two different ones.
    accepted: Vec<PublicKey>,
    refused_keys: usize,
    /// How much was refused in this session, of whatever kind.
    refusals: usize,
    tried: Vec<String>,
    needs_person: bool,
    expired: Option<IdleCertificate>,
    facts: LoginFacts,
}

/// What is to be tried next.
enum Attempt {
    Key(Box<Candidate>),
    KeyboardInteractive,
    Password,
}

impl Attempt {
    fn describe(&self) -> String {
        match self {
            Self::Key(candidate) => format!("publickey ({})", candidate.describe()),
            Self::KeyboardInteractive => "keyboard-interactive".to_owned(),
            Self::Password => "password".to_owned(),
        }
    }
}

impl Login<'_> {
    async fn run(&mut self) -> Result<(), SshError> {
        let user = self.destination.user.clone();
        let first = answered(self.session.handle.authenticate_none(user)).await?;
        let mut methods = match Outcome::from(first) {
            Outcome::Accepted => {
                self.facts.used.push("none".to_owned());
                return Ok(());
            }
            Outcome::Refused { remaining, .. } => remaining,
            Outcome::Unusable | Outcome::Declined => MethodSet::empty(),
        };
        self.facts.offered = methods.iter().map(String::from).collect();
        let order = order(&self.destination.preferred_authentications);
        loop {
            let Some(attempt) = self.next(&order, &methods).await else {
                return Err(self.failure(&methods).await);
            };
            let outcome = match &attempt {
                Attempt::Key(candidate) => self.publickey(candidate).await,
                Attempt::KeyboardInteractive => self.keyboard_interactive().await,
                Attempt::Password => self.password().await,
            };
            match outcome {
                Ok(Outcome::Accepted) => {
                    self.passed(&attempt);
                    return Ok(());
                }
                Ok(Outcome::Refused { remaining, partial }) => {
                    if partial {
                        self.passed(&attempt);
                    } else if !remaining.is_empty() {
                        self.refused(&attempt);
                    }
                    if remaining.is_empty() {
                        return Err(self.failure(&methods).await);
                    }
                    if self.facts.used.len() > MOST_STEPS {
                        return Err(SshError::Protocol {
                            reason: "the server does not stop asking for one more proof".to_owned(),
                        });
                    }
                    methods = remaining;
                }
                Ok(Outcome::Unusable) => {}
                Ok(Outcome::Declined) => return Err(self.failure(&methods).await),
                // The server may have said why, as after one wrong answer too many.
                Err(closed @ SshError::Closed { .. }) => {
                    return Err(match self.failure(&methods).await {
                        said @ SshError::AuthFailed { .. }
                            if self.needs_person || said_why(&said) =>
                        {
                            said
                        }
                        _ => closed,
                    });
                }
                // A second factor that nobody confirmed. Trying again would only send the next one.
                Err(SshError::Timeout { .. }) if !matches!(attempt, Attempt::Key(_)) => {
                    self.needs_person = true;
                    return Err(self.failure(&methods).await);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The first of the preferred methods that the server would take and that is not used up.
    async fn next(&mut self, order: &[MethodKind], methods: &MethodSet) -> Option<Attempt> {
        // Who left one question without an answer is not there, and a dialogue may begin with a message to a telephone.
        let spent = self.secrets.refused.max(self.secrets.sent) >= MOST_QUESTIONS;
        let may_ask = !spent && !self.needs_person && self.prompter.is_anybody_there();
        for method in order.iter().filter(|method| methods.contains(method)) {
            match method {
                MethodKind::PublicKey if self.refused_keys < MOST_KEYS => {
                    if let Some(candidate) = self.next_key().await {
                        return Some(Attempt::Key(Box::new(candidate)));
                    }
                }
                MethodKind::KeyboardInteractive if may_ask => {
                    return Some(Attempt::KeyboardInteractive);
                }
                MethodKind::Password if may_ask => return Some(Attempt::Password),
                MethodKind::KeyboardInteractive | MethodKind::Password if !spent => {
                    self.needs_person = true;
                    if !self.prompter.is_anybody_there() {
                        self.prompter.missed(SOME_QUESTION);
                    }
                }
                _ => {}
            }
        }
        None
    }

    async fn next_key(&mut self) -> Option<Candidate> {
        if self.keys.is_none() {
            self.keys = Some(self.candidates().await.into());
        }
        let keys = self.keys.as_mut()?;
        while let Some(candidate) = keys.pop_front() {
            let again = candidate.public.as_ref().is_some_and(|public| {
                let same = |key: &PublicKey| key.key_data() == public.key_data();
                self.accepted.iter().any(same)
            });
            if !again {
                return Some(candidate);
            }
        }
        None
    }

    /// The keys to try, in order.
    async fn candidates(&mut self) -> Vec<Candidate> {
        let files = key_file::read(self.destination.identity_files.clone()).await;
        let named = self.destination.certificate_files.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let certificates = candidates::read_certificates(&named, &files);
            (files, certificates)
        });
        let (files, certificates) = reading.await.unwrap_or_default();
        let mut found = Found {
            files,
            certificates,
            agent: vec![],
            identities_only: self.destination.identities_only,
        };
        if let Some(socket) = &self.destination.identity_agent {
            let binding = self.session.handle.agent_session_binding();
            if let Some((agent, keys)) = AgentKeys::open(socket, binding).await {
                self.agent = Some(agent);
                found.agent = keys;
            }
        }
        for file in found.files.iter().filter(|file| file.is_unreadable) {
            self.tried.push(format!(
                "key {} (not understood: put it into the ssh-agent, or set `transport = \"openssh\"`)",
                file.path.display()
            ));
        }
        let (list, idle) = found.in_order(SystemTime::now());
        for certificate in &idle {
            tracing::info!(%certificate, "not offered");
        }
        self.expired = idle.into_iter().next();
        list
    }

    /// Notes a step that the server accepted.
    fn passed(&mut self, attempt: &Attempt) {
        self.facts.used.push(attempt.describe());
        if !matches!(attempt, Attempt::Key(_)) {
            self.secrets.sent = self.secrets.sent.saturating_sub(1);
        }
        if let Attempt::Key(candidate) = attempt {
            self.accepted.extend(candidate.public.clone());
            let facts = candidate.certificate.as_ref().map(|it| it.facts());
            self.facts.certificate = facts.or_else(|| self.facts.certificate.take());
        }
    }

    fn refused(&mut self, attempt: &Attempt) {
        self.refusals += 1;
        match attempt {
            Attempt::Key(_) => self.refused_keys += 1,
            Attempt::KeyboardInteractive | Attempt::Password => self.secrets.refused += 1,
        }
    }

    /// The error for a login that cannot go on, with what the server said if it ended the session.
    async fn failure(&mut self, methods: &MethodSet) -> SshError {
        let ended = self.end_of_session().await;
        let said = ended
            .as_ref()
            .filter(|reason| reason.starts_with("the server said"));
        match ended {
            // A server whose patience ran out while a person was typing just hangs up, and a network that fails says
            // nothing of the keys.
            Some(reason)
                if !self.needs_person
                    && said.is_none()
                    && (self.secrets.asked || self.refusals == 0) =>
            {
                SshError::Closed { reason }
            }
            reason => SshError::AuthFailed {
                user: self.destination.user.clone(),
                host: self.destination.hostname.clone(),
                tried: self.tried.clone(),
                accepted: methods.iter().map(String::from).collect(),
                needs_person: self.needs_person,
                reason: reason.map(String::into_boxed_str),
                expired: self.expired.clone().map(Box::new),
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

/// Whether a refusal has the server's own words.
const fn said_why(error: &SshError) -> bool {
    matches!(
        error,
        SshError::AuthFailed {
            reason: Some(_),
            ..
        }
    )
}

/// The methods that may be tried, in order. What only the `ssh` program can do is not among them.
fn order(preferred: &[String]) -> Vec<MethodKind> {
    if preferred.is_empty() {
        return METHODS.to_vec();
    }
    preferred
        .iter()
        .filter_map(|name| name.parse().ok())
        .filter(|method| METHODS.contains(method))
        .collect()
}

/// Waits for the server's answer to one request.
async fn answered<T>(
    request: impl Future<Output = Result<T, russh::Error>>,
) -> Result<T, SshError> {
    answered_within(ANSWER_DEADLINE, request).await
}

/// The same with a limit of its own.
async fn answered_within<T>(
    limit: Duration,
    request: impl Future<Output = Result<T, russh::Error>>,
) -> Result<T, SshError> {
    match tokio::time::timeout(limit, request).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(SshError::Timeout {
            step: "the server's answer to a login",
            after: limit,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_preferred_methods_are_tried_and_unknown_ones_are_passed_over() {
        let names = ["gssapi-with-mic", "password", "hostbased", "publickey", "x"];
        let names = names.map(str::to_owned);
        assert_eq!(order(&names), [MethodKind::Password, MethodKind::PublicKey]);
        assert_eq!(order(&[]), METHODS);
    }
}
