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
        for candidate in self.plain_keys() {
            let again = |other: &Candidate| {
                let data = |it: &Candidate| it.public.as_ref().map(|key| key.key_data().clone());
                other.certificate.is_none()
                    && data(&candidate).is_some_and(|it| data(other) == Some(it))
            };
            if !list.iter().any(again) {
                list.push(candidate);
            }
        }
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

    fn plain_keys(self) -> Vec<Candidate> {
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
        let mut list: Vec<_> = first.into_iter().map(agent).collect();
        list.extend(ready.into_iter().map(file));
        if !self.identities_only {
            list.extend(others.into_iter().map(agent));
        }
        list.extend(locked.into_iter().map(file));
        list
    }
}

fn key_of(certificate: &UserCertificate) -> PublicKey {
    PublicKey::new(certificate.certificate.public_key().clone(), "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use russh::keys::key::safe_rng;
    use russh::keys::ssh_key::certificate::{Builder, CertType};
    use russh::keys::{Algorithm, Certificate, PrivateKey};

    fn key() -> PrivateKey {
        PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap()
    }

    fn file(name: &str, key: &PrivateKey, locked: bool) -> KeyFile {
        KeyFile {
            path: name.into(),
            public: Some(key.public_key().clone()),
            plain: (!locked).then(|| Arc::new(key.clone())),
            has_private: true,
            is_unreadable: false,
        }
    }

    fn certificate(key: &PrivateKey, until: u64) -> Certificate {
        let public = key.public_key().clone();
        let mut builder =
            Builder::new_with_random_nonce(&mut safe_rng(), public, 0, until).unwrap();
        builder.cert_type(CertType::User).unwrap();
        builder.key_id("it").unwrap();
        builder.valid_principal("alice").unwrap();
        builder.sign(&self::key()).unwrap()
    }

    fn in_file(name: &str, certificate: Certificate) -> UserCertificate {
        UserCertificate {
            certificate,
            file: Some(name.into()),
        }
    }

    fn described(found: Found) -> (Vec<String>, usize) {
        let (list, idle) = found.in_order(SystemTime::now());
        (list.iter().map(Candidate::describe).collect(), idle.len())
    }

    #[test]
    fn certificates_first_and_questions_last() {
        let (named, other, plain, locked) = (key(), key(), key(), key());
        let held = |key: &PrivateKey| AgentIdentity::from(key.public_key().clone());
        let fingerprint = |key: &PrivateKey| {
            let print = key.public_key().fingerprint(HashAlg::Sha256);
            format!("ssh-agent key {print}")
        };
        let found = |identities_only| Found {
            files: vec![
                file("/locked", &locked, true),
                file("/named", &named, true),
                file("/plain", &plain, false),
                file("/same", &plain, false),
            ],
            certificates: vec![
                in_file("/old-cert.pub", certificate(&plain, 1)),
                in_file("/locked-cert.pub", certificate(&locked, u64::MAX)),
                in_file("/nobody-cert.pub", certificate(&key(), u64::MAX)),
            ],
            agent: vec![
                held(&other),
                held(&named),
                certificate(&other, u64::MAX).into(),
                certificate(&other, 1).into(),
            ],
            identities_only,
        };
        let all = [
            "certificate /locked-cert.pub".to_owned(),
            "ssh-agent certificate it".to_owned(),
            fingerprint(&named),
            "key /plain".to_owned(),
            fingerprint(&other),
            "key /locked".to_owned(),
        ];
        assert_eq!(described(found(false)), (all.to_vec(), 2));
        let only = [0, 2, 3, 5].map(|at| all[at].clone());
        assert_eq!(described(found(true)), (only.to_vec(), 1));
    }

    #[test]
    fn the_ssh_agent_signs_rather_than_a_locked_file() {
        let key = key();
        let certificate = certificate(&key, u64::MAX);
        for held in [
            AgentIdentity::from(key.public_key().clone()),
            certificate.clone().into(),
        ] {
            let found = Found {
                files: vec![file("/id", &key, true)],
                certificates: vec![in_file("/id-cert.pub", certificate.clone())],
                agent: vec![held],
                identities_only: true,
            };
            let (list, _) = found.in_order(SystemTime::now());
            assert!(matches!(list[0].holder, Holder::Agent(_)));
        }
    }
}
