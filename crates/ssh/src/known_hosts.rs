//! known_hosts: is this the host it was last time?
//!
//! The session's handler asks for a [`Verdict`] on the key that the server showed; `algorithms` asks which types are
//! known so that the server is asked for one of them first.
//!
//! Invariants: a host that is known by any key is never new, whatever type of key it shows; a line that cannot be read
//! never hides another; a revoked key is refused whatever else is listed; keys are compared as the bytes on the wire.
//!
//! Not here: asking the person, and deciding what an unknown key means.

mod entry;
mod remember;

use std::path::{Path, PathBuf};

use russh::keys::ssh_key::certificate::CertType;
use russh::keys::{Algorithm, Certificate, HashAlg, PublicKey, PublicKeyOrCertificate};

use crate::algorithms;
pub(crate) use entry::wildcard_match;
use entry::{Entry, Mark};
pub(crate) use remember::remember;

/// A file above this size is not read: no list of hosts is so long.
const LARGEST: u64 = 64 << 20;

/// A server does not announce more keys than this.
const MOST_ANNOUNCED: usize = 16;

/// Where a line stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) file: PathBuf,
    pub(crate) line: usize,
}

/// What the files say about a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The key, or the authority that signed it, is listed for this host.
    Known,
    /// No key is listed for this host.
    New,
    /// Other keys are listed for this host.
    Changed { place: Place, known_type: String },
    /// The key or its authority is revoked.
    Revoked(Place),
    /// A listed authority signed it, and it is not good for this host now.
    BadCertificate(String),
}

/// The lines of all files that are about one host.
#[derive(Clone, Debug, Default)]
pub(crate) struct KnownHost {
    /// The name without brackets and port: what a certificate has to be for.
    hostname: String,
    /// The file to which keys are added.
    own_file: Option<PathBuf>,
    lines: Vec<(Place, Entry)>,
    /// Lines for the same host without its port, which may confirm a key and never make it a changed one.
    without_port: Vec<(Place, Entry)>,
}

impl KnownHost {
    /// Reads the lines about `name` (`host` or `[host]:port`). Files that cannot be read have none.
    pub(crate) fn read(files: &[PathBuf], name: &str) -> Self {
        let hostname = bare_name(name);
        let mut found = Self {
            hostname: hostname.to_owned(),
            own_file: files.first().cloned(),
            ..Self::default()
        };
        for file in files {
            if std::fs::metadata(file).is_ok_and(|file| file.len() > LARGEST) {
                continue;
            }
            if let Ok(text) = std::fs::read(file) {
                found.add(file, &String::from_utf8_lossy(&text), name);
            }
        }
        found
    }

    fn add(&mut self, file: &Path, text: &str, name: &str) {
        for (index, line) in text.lines().enumerate() {
            let Some(entry) = Entry::parse(line) else {
                continue;
            };
            let place = Place {
                file: file.to_path_buf(),
                line: index + 1,
            };
            if entry.is_about(name) {
                self.lines.push((place, entry));
            } else if name != self.hostname && entry.is_about(&self.hostname) {
                self.without_port.push((place, entry));
            }
        }
    }

    /// The types of the keys that are listed, as `ssh-ed25519`.
    pub(crate) fn key_types(&self) -> impl Iterator<Item = &str> {
        let plain = |(_, entry): &(Place, Entry)| entry.mark == Mark::None;
        let lines = if self.lines.iter().any(plain) {
            &self.lines
        } else {
            &self.without_port
        };
        lines
            .iter()
            .filter(|(_, entry)| entry.mark == Mark::None)
            .map(|(_, entry)| entry.key_type.as_str())
    }

    /// Whether an authority is listed that may sign this host's keys.
    pub(crate) fn has_authority(&self) -> bool {
        self.all().any(|(_, entry)| entry.mark == Mark::Authority)
    }

    /// Whether more keys of this server may be added because of the key it showed: if that is listed in the file to
    /// which keys are added, on a line for this host alone, and no authority stands for it.
    pub(crate) fn may_learn_from(&self, shown: &PublicKeyOrCertificate) -> bool {
        let PublicKeyOrCertificate::PublicKey { key, .. } = shown else {
            return false;
        };
        let (Some(own), Ok(blob)) = (&self.own_file, key.to_bytes()) else {
            return false;
        };
        self.lines.iter().any(|(place, entry)| {
            entry.mark == Mark::None
                && entry.key == blob
                && place.file == *own
                && entry.names_one_host()
        })
    }

    /// Those of a server's announced keys that are of a usable type and neither listed nor revoked.
    pub(crate) fn unlisted(&self, keys: Vec<PublicKey>) -> Vec<PublicKey> {
        let new = keys.into_iter().take(MOST_ANNOUNCED).filter(|key| {
            let usable = algorithms::accepts(key);
            usable
                && key.to_bytes().is_ok_and(|blob| {
                    let listed =
                        |(_, entry): &(Place, Entry)| entry.mark == Mark::None && entry.key == blob;
                    !self.lines.iter().any(listed) && self.revokes(&blob).is_none()
                })
        });
        new.collect()
    }

    /// Judges what the server showed.
    pub(crate) fn judge(&self, shown: &PublicKeyOrCertificate) -> Verdict {
        match shown {
            PublicKeyOrCertificate::PublicKey { key, .. } => self.judge_key(key),
            PublicKeyOrCertificate::Certificate(certificate) => self.judge_certificate(certificate),
        }
    }

    fn judge_key(&self, key: &PublicKey) -> Verdict {
        let Ok(blob) = key.to_bytes() else {
            return Verdict::New;
        };
        if let Some(place) = self.revokes(&blob) {
            return Verdict::Revoked(place);
        }
        if self
            .all()
            .any(|(_, entry)| entry.mark == Mark::None && entry.key == blob)
        {
            return Verdict::Known;
        }
        let mut others = self
            .lines
            .iter()
            .filter(|(_, entry)| entry.mark == Mark::None);
        let shown_type = key.algorithm().to_string();
        let first = others.clone().next();
        match others
            .find(|(_, entry)| entry.key_type == shown_type)
            .or(first)
        {
            Some((place, entry)) => Verdict::Changed {
                place: place.clone(),
                known_type: entry.key_type.clone(),
            },
            None => Verdict::New,
        }
    }

    fn judge_certificate(&self, certificate: &Certificate) -> Verdict {
        let authority = PublicKey::new(certificate.signature_key().clone(), "");
        let key = PublicKey::new(certificate.public_key().clone(), "");
        let Ok(authority_blob) = authority.to_bytes() else {
            return Verdict::New;
        };
        let revoked = self
            .revokes(&authority_blob)
            .or_else(|| key.to_bytes().ok().and_then(|blob| self.revokes(&blob)));
        if let Some(place) = revoked {
            return Verdict::Revoked(place);
        }
        let trusted = self
            .all()
            .any(|(_, entry)| entry.mark == Mark::Authority && entry.key == authority_blob);
        if !trusted {
            return self.judge_key(&key);
        }
        match (
            self.check_certificate(certificate, &authority),
            self.judge_key(&key),
        ) {
            (Ok(()), _) => Verdict::Known,
            // A bad certificate takes nothing from a key that is listed by itself.
            (Err(_), Verdict::Known) => Verdict::Known,
            (Err(reason), _) => Verdict::BadCertificate(reason),
        }
    }

    fn check_certificate(
        &self,
        certificate: &Certificate,
        authority: &PublicKey,
    ) -> Result<(), String> {
        if certificate.cert_type() != CertType::Host {
            return Err("it is not a host certificate".to_owned());
        }
        if matches!(
            certificate.signature().algorithm(),
            Algorithm::Rsa { hash: None } | Algorithm::Dsa
        ) {
            return Err("it is signed with SHA-1".to_owned());
        }
        let mut names = certificate.valid_principals().iter();
        if !names.any(|name| wildcard_match(name, &self.hostname)) {
            return Err(format!("it is not for {}", self.hostname));
        }
        if !certificate.critical_options().is_empty() {
            return Err("it has conditions that are not understood".to_owned());
        }
        certificate
            .validate([&authority.fingerprint(HashAlg::Sha256)])
            .map_err(|_| "it is expired, not yet valid, or its signature is wrong".to_owned())
    }

    fn revokes(&self, blob: &[u8]) -> Option<Place> {
        self.all()
            .find(|(_, entry)| entry.mark == Mark::Revoked && entry.key == blob)
            .map(|(place, _)| place.clone())
    }

    fn all(&self) -> impl Iterator<Item = &(Place, Entry)> {
        self.lines.iter().chain(&self.without_port)
    }
}

/// `[host]:port` without the brackets and the port.
fn bare_name(name: &str) -> &str {
    name.strip_prefix('[')
        .and_then(|inner| inner.rsplit_once("]:"))
        .map_or(name, |(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use hmac::{Hmac, KeyInit as _, Mac as _};
    use proptest::prelude::*;
    use russh::keys::key::safe_rng;
    use russh::keys::ssh_key::certificate::Builder;
    use russh::keys::{EcdsaCurve, PrivateKey};

    const P256: Algorithm = Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP256,
    };

    fn private(algorithm: Algorithm) -> PrivateKey {
        PrivateKey::random(&mut safe_rng(), algorithm).unwrap()
    }

    fn line(hosts: &str, key: &PrivateKey) -> String {
        format!("{hosts} {}\n", key.public_key().to_openssh().unwrap())
    }

    fn known(text: &str, name: &str) -> KnownHost {
        let mut known = KnownHost {
            hostname: bare_name(name).to_owned(),
            ..KnownHost::default()
        };
        known.add(Path::new("known_hosts"), text, name);
        known
    }

    fn judge(text: &str, name: &str, key: &PrivateKey) -> Verdict {
        known(text, name).judge(&key.public_key().clone().into())
    }

    fn at(line: usize) -> Place {
        Place {
            file: PathBuf::from("known_hosts"),
            line,
        }
    }

    fn hashed(name: &str) -> String {
        let salt = b"twenty bytes of salt";
        let mut hasher = Hmac::<sha1::Sha1>::new_from_slice(salt).unwrap();
        hasher.update(name.as_bytes());
        let hash = hasher.finalize().into_bytes();
        format!("|1|{}|{}", STANDARD.encode(salt), STANDARD.encode(hash))
    }

    #[test]
    fn verdicts() {
        let key = private(Algorithm::Ed25519);
        let other = private(Algorithm::Ed25519);
        let ecdsa = private(P256);
        let changed = |line, known_type: &str| Verdict::Changed {
            place: at(line),
            known_type: known_type.to_owned(),
        };
        let table = [
            (String::new(), "login", Verdict::New),
            (line("login", &key), "login", Verdict::Known),
            (line("LOGIN,10.0.0.1", &key), "login", Verdict::Known),
            (line("login", &key), "[login]:2222", Verdict::Known),
            (line("login", &other), "[login]:2222", Verdict::New),
            (line("[login]:2222", &key), "[login]:2222", Verdict::Known),
            (line("[login]:2222", &key), "login", Verdict::New),
            (line("*.example", &key), "login.example", Verdict::Known),
            (
                line("*.example,!login.example", &key),
                "login.example",
                Verdict::New,
            ),
            (line(&hashed("login"), &key), "login", Verdict::Known),
            (
                line(&hashed("[login]:2222"), &key),
                "[login]:2222",
                Verdict::Known,
            ),
            (line(&hashed("login2"), &key), "login", Verdict::New),
            // A farm of login nodes behind one name: any listed key will do.
            (
                line("login", &other) + &line("login", &key),
                "login",
                Verdict::Known,
            ),
            (line("login", &other), "login", changed(1, "ssh-ed25519")),
            // Another type of key is no first contact.
            (
                line("login", &ecdsa),
                "login",
                changed(1, "ecdsa-sha2-nistp256"),
            ),
            (
                line("login", &ecdsa) + &line("login", &other),
                "login",
                changed(2, "ssh-ed25519"),
            ),
            // Nor is a host with a key of a type that nobody here can check.
            (
                "login ssh-dss AAAAB3NzaC1kc3M=\n".to_owned(),
                "login",
                changed(1, "ssh-dss"),
            ),
            (
                line("login", &key) + &line("@revoked *", &key),
                "login",
                Verdict::Revoked(at(2)),
            ),
            (line("@revoked *", &other), "login", Verdict::New),
            (line("@cert-authority *", &key), "login", Verdict::New),
            // Damaged and unknown lines hide nothing.
            (
                format!(
                    "login ssh-ed25519 !!!\nlogin\n@new x y z\n# c\n\n{}",
                    line("login", &key)
                ),
                "login",
                Verdict::Known,
            ),
            (
                line("login", &key).replace(' ', "\t"),
                "login",
                Verdict::Known,
            ),
            (
                line("login", &key).replace('\n', "\r\n"),
                "login",
                Verdict::Known,
            ),
        ];
        for (text, name, verdict) in table {
            assert_eq!(judge(&text, name, &key), verdict, "{name}: {text}");
        }
    }

    #[test]
    fn a_host_certificate_counts_for_its_names_while_it_is_valid() {
        let authority = private(Algorithm::Ed25519);
        let host = private(P256);
        let signed = |name: &str, from: u64, to: u64| {
            let public = host.public_key().clone();
            let mut builder =
                Builder::new_with_random_nonce(&mut safe_rng(), public, from, to).unwrap();
            builder.cert_type(CertType::Host).unwrap();
            builder.valid_principal(name).unwrap();
            PublicKeyOrCertificate::Certificate(builder.sign(&authority).unwrap())
        };
        let trusting = known(
            &line("@cert-authority *.example", &authority),
            "[a.example]:22000",
        );
        assert!(trusting.has_authority());
        let good = signed("a.example", 0, 4_000_000_000);
        assert_eq!(trusting.judge(&good), Verdict::Known);
        for bad in [
            signed("b.example", 0, 4_000_000_000),
            signed("a.example", 0, 1_000),
        ] {
            assert!(matches!(trusting.judge(&bad), Verdict::BadCertificate(_)));
        }
        assert_eq!(known("", "a.example").judge(&good), Verdict::New);
        let revoking = line("@cert-authority *", &authority) + &line("@revoked *", &authority);
        assert_eq!(
            known(&revoking, "a.example").judge(&good),
            Verdict::Revoked(at(2))
        );
    }

    #[test]
    fn what_may_be_learnt_and_from_whom() {
        let key = private(Algorithm::Ed25519);
        let shown = key.public_key().clone().into();
        let may = |text: &str, own: &str| {
            let mut known = known(text, "login");
            known.own_file = Some(PathBuf::from(own));
            known.may_learn_from(&shown)
        };
        for (hosts, learn) in [
            ("login", true),
            (&*hashed("login"), true),
            ("login,10.0.0.1", false),
            ("log*", false),
        ] {
            assert_eq!(may(&line(hosts, &key), "known_hosts"), learn, "{hosts}");
        }
        assert!(!may(&line("login", &key), "another file"));
        assert!(!may(&line("login", &private(P256)), "known_hosts"));

        let (listed, revoked, new) = (key, private(P256), private(P256));
        let text = line("login", &listed) + &line("@revoked *", &revoked);
        let announced = [&listed, &revoked, &new].map(|key| key.public_key().clone());
        let unlisted = known(&text, "login").unlisted(announced.into());
        assert_eq!(unlisted, [new.public_key().clone()]);
        let many = vec![new.public_key().clone(); 1_000];
        assert_eq!(known("", "login").unlisted(many).len(), MOST_ANNOUNCED);
    }

    #[test]
    fn all_files_are_read_and_a_missing_one_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let key = private(Algorithm::Ed25519);
        let second = folder.path().join("second");
        std::fs::write(&second, line("login", &key)).unwrap();
        let known = KnownHost::read(&[folder.path().join("first"), second], "login");
        assert_eq!(
            known.judge(&key.public_key().clone().into()),
            Verdict::Known
        );
        assert_eq!(known.key_types().collect::<Vec<_>>(), ["ssh-ed25519"]);
    }

    proptest! {
        #[test]
        fn no_file_makes_it_panic_or_trust(text in any::<String>(), name in any::<String>()) {
            static KEY: std::sync::LazyLock<PrivateKey> =
                std::sync::LazyLock::new(|| private(Algorithm::Ed25519));
            prop_assert_ne!(judge(&text, &name, &KEY), Verdict::Known);
        }
    }
}
