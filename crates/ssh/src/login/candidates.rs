//! Which keys and certificates there are to log in with, in the order in which they are tried.
//!
//! Certificates come first, then keys of the ssh-agent that the configuration names, then key files that need no
//! passphrase, the ssh-agent's other keys, and last the files that are locked: as OpenSSH does it, except that a person
//! is asked as late as can be.
//!
//! Invariants: with `IdentitiesOnly` nothing is offered that no file of the configuration names; a certificate whose
//! time is not now is never offered.

use std::path::PathBuf;
use std::time::SystemTime;

use russh::keys::agent::AgentIdentity;
use russh::keys::{HashAlg, PublicKey};

use super::certificates::{self, UserCertificate, short};
use super::key_file::KeyFile;
use super::ssh_agent::public_key;
use crate::error::IdleCertificate;

/// A way to prove who one is with a key.
#[derive(Debug)]
pub(super) struct Candidate {
    /// The public half; nothing if an old format hides even that behind the passphrase.
    pub(super) public: Option<PublicKey>,
    /// What is shown to the server in the key's place.
    pub(super) certificate: Option<UserCertificate>,
    pub(super) holder: Holder,
}

/// What makes the signatures.
#[derive(Debug)]
pub(super) enum Holder {
    /// The ssh-agent, which knows the key by this identity.
    Agent(Box<AgentIdentity>),
    File(Box<KeyFile>),
}

impl Candidate {
    /// What it is, for people.
    pub(super) fn describe(&self) -> String {
        match (&self.certificate, &self.holder) {
            (Some(certificate), _) if certificate.file.is_some() => {
                format!("certificate {}", certificate.source())
            }
            (Some(certificate), _) => {
                format!("ssh-agent certificate {}", certificate.facts().key_id)
            }
            (None, Holder::Agent(identity)) => format!(
                "ssh-agent key {}",
                public_key(identity).fingerprint(HashAlg::Sha256)
            ),
            (None, Holder::File(file)) => format!("key {}", short(&file.path)),
        }
    }
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) files: Vec<KeyFile>,
    /// The certificates of files.
    pub(super) certificates: Vec<UserCertificate>,
    /// What the ssh-agent holds.
    pub(super) agent: Vec<AgentIdentity>,
    pub(super) identities_only: bool,
}

/// Reads the certificates of the configuration, or if it names none, those beside the keys.
pub(super) fn read_certificates(named: &[PathBuf], keys: &[KeyFile]) -> Vec<UserCertificate> {
    if named.is_empty() {
        keys.iter()
            .filter_map(|key| certificates::read(&certificates::beside(&key.path)))
            .collect()
    } else {
        named
            .iter()
            .filter_map(|path| certificates::read(path))
            .collect()
    }
}

impl Found {
    /// Puts everything in order; the second part is the certificates that were left out.
    pub(super) fn in_order(self, now: SystemTime) -> (Vec<Candidate>, Vec<IdleCertificate>) {
        let mut list = vec![];
        let mut idle = vec![];
        let mut offer = |candidate: Candidate, list: &mut Vec<Candidate>| match candidate
            .certificate
            .as_ref()
            .and_then(|it| it.idle(now))
        {
            Some(left_out) => idle.push(left_out),
            None => list.push(candidate),
        };
        for certificate in &self.certificates {
            if let Some(holder) = self.holder_for(certificate) {
                offer(
                    Candidate {
                        public: Some(key_of(certificate)),
                        certificate: Some(certificate.clone()),
                        holder,
                    },
                    &mut list,
                );
            }
        }
        for identity in &self.agent {
            let AgentIdentity::Certificate { certificate, .. } = identity else {
                continue;
            };
            let in_a_file = |file: &UserCertificate| file.certificate == *certificate;
            let certificate = UserCertificate {
                certificate: certificate.clone(),
                file: None,
            };
            let public = key_of(&certificate);
            if !certificate.certificate.cert_type().is_user()
                || self.certificates.iter().any(in_a_file)
                || (self.identities_only && !self.is_named(&public))
            {
                continue;
            }
            offer(
                Candidate {
                    public: Some(public),
                    certificate: Some(certificate),
                    holder: Holder::Agent(Box::new(identity.clone())),
                },
                &mut list,
            );
        }
        self.plain_keys(&mut list);
        (list, idle)
    }

    /// What can sign for a certificate: the ssh-agent rather than a file, which may be locked.
    fn holder_for(&self, certificate: &UserCertificate) -> Option<Holder> {
        let public = key_of(certificate);
        let same = |key: &PublicKey| key.key_data() == public.key_data();
        let in_agent = self.agent.iter().filter(|held| same(&public_key(held)));
        let by_key = |held: &&AgentIdentity| matches!(held, AgentIdentity::PublicKey { .. });
        let held = in_agent.clone().find(by_key).or_else(|| {
            in_agent.clone().find(|held| {
                matches!(held, AgentIdentity::Certificate { certificate: other, .. }
                    if *other == certificate.certificate)
            })
        });
        if let Some(held) = held {
            return Some(Holder::Agent(Box::new(held.clone())));
        }
        let mut files = self.files.iter().filter(|file| file.has_private);
        let file = files.find(|file| match &file.public {
            Some(key) => same(key),
            None => certificate.file == Some(certificates::beside(&file.path)),
        });
        if file.is_none() {
            tracing::debug!(source = %certificate.source(), "a certificate without its private key");
        }
        file.map(|file| Holder::File(Box::new(file.clone())))
    }

    /// Whether a file of the configuration names a key.
    fn is_named(&self, public: &PublicKey) -> bool {
        let by_file = self.files.iter().filter_map(|file| file.public.clone());
        let by_certificate = self.certificates.iter().map(key_of);
        by_file
            .chain(by_certificate)
            .any(|key| key.key_data() == public.key_data())
    }

    fn plain_keys(self, list: &mut Vec<Candidate>) {
        let (first, others): (Vec<_>, Vec<_>) = self
            .agent
            .iter()
            .filter(|identity| matches!(identity, AgentIdentity::PublicKey { .. }))
            .cloned()
            .partition(|identity| self.is_named(&public_key(identity)));
        let held = |file: &KeyFile| {
            file.public.as_ref().is_some_and(|key| {
                let same = |held: &AgentIdentity| public_key(held).key_data() == key.key_data();
                first.iter().any(same)
            })
        };
        let (ready, locked): (Vec<_>, Vec<_>) = self
            .files
            .iter()
            .filter(|file| file.has_private && !held(file))
            .cloned()
            .partition(|file| file.plain.is_some());
        let agent = |identity: AgentIdentity| Candidate {
            public: Some(public_key(&identity)),
            certificate: None,
            holder: Holder::Agent(Box::new(identity)),
        };
        let file = |file: KeyFile| Candidate {
            public: file.public.clone(),
            certificate: None,
            holder: Holder::File(Box::new(file)),
        };
        list.extend(first.into_iter().map(agent));
        list.extend(ready.into_iter().map(file));
        if !self.identities_only {
            list.extend(others.into_iter().map(agent));
        }
        list.extend(locked.into_iter().map(file));
    }
}

fn key_of(certificate: &UserCertificate) -> PublicKey {
    PublicKey::new(certificate.certificate.public_key().clone(), "")
}
