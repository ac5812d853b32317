//! known_hosts: is this the host it was last time?
//!
//! The session's handler asks for a [`Verdict`] on the key that the server showed; `algorithms` asks which types are
//! known so that the server is asked for one of them first.
//!
//! Invariants: a host that is known by any key is never new, whatever type of key it shows; a line that cannot be read
//! never hides another; a revoked key is refused whatever else is listed; keys are compared as the bytes on the wire.
//!
//! Not here: asking the person, and deciding what an unknown key means.

mod certificate;
mod entry;
mod learn;
mod remember;

use std::path::{Path, PathBuf};

use russh::keys::{PublicKey, PublicKeyOrCertificate};

use entry::{Entry, Mark};
pub(crate) use entry::{wildcard_match, wildcard_match_case};
pub(crate) use remember::remember;

/// A file above this size is not read: no list of hosts is so long.
const LARGEST: u64 = 64 << 20;

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
    /// Lines for the same host by another name, which may confirm a key and never make it a changed one.
    by_another_name: Vec<(Place, Entry)>,
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
                self.by_another_name.push((place, entry));
            }
        }
    }

    /// Forgets the keys, and not that some are revoked.
    pub(crate) fn only_revocations(mut self) -> Self {
        self.lines.retain(|(_, entry)| entry.mark == Mark::Revoked);
        self.by_another_name
            .retain(|(_, entry)| entry.mark == Mark::Revoked);
        self
    }

    /// The types of the keys that are listed, as `ssh-ed25519`.
    pub(crate) fn key_types(&self) -> impl Iterator<Item = &str> {
        let own = self.lines.iter().any(is_plain);
        let lines = if own {
            &self.lines
        } else {
            &self.by_another_name
        };
        lines
            .iter()
            .filter(|line| is_plain(line))
            .map(|(_, entry)| entry.key_type.as_str())
    }

    /// Lets the keys of another host count for this one too, unless it has keys of its own.
    pub(crate) fn confirmed_by(mut self, other: Self) -> Self {
        let own = self.lines.iter().any(is_plain);
        let others = other.lines.into_iter().chain(other.by_another_name);
        self.by_another_name
            .extend(others.filter(|line| !own || !is_plain(line)));
        self
    }

    /// Whether an authority is listed that may sign this host's keys.
    pub(crate) fn has_authority(&self) -> bool {
        self.all().any(|(_, entry)| entry.mark == Mark::Authority)
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
        // Another name of the host says something only where its own says nothing.
        let others = (!self.lines.iter().any(is_plain)).then_some(&self.by_another_name);
        let mut listed = self.lines.iter().chain(others.into_iter().flatten());
        if listed.any(|line| is_plain(line) && line.1.key == blob) {
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

    fn revokes(&self, blob: &[u8]) -> Option<Place> {
        self.all()
            .find(|(_, entry)| entry.mark == Mark::Revoked && entry.key == blob)
            .map(|(place, _)| place.clone())
    }

    fn all(&self) -> impl Iterator<Item = &(Place, Entry)> {
        self.lines.iter().chain(&self.by_another_name)
    }
}

/// Whether a line simply lists a key.
fn is_plain((_, entry): &(Place, Entry)) -> bool {
    entry.mark == Mark::None
}

/// `[host]:port` without the brackets and the port.
fn bare_name(name: &str) -> &str {
    name.strip_prefix('[')
        .and_then(|inner| inner.rsplit_once("]:"))
        .map_or(name, |(host, _)| host)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use hmac::{Hmac, KeyInit as _, Mac as _};
    use proptest::prelude::*;
    use russh::keys::key::safe_rng;
    use russh::keys::{Algorithm, EcdsaCurve, PrivateKey};

    pub(super) const P256: Algorithm = Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP256,
    };

    pub(super) fn private(algorithm: Algorithm) -> PrivateKey {
        PrivateKey::random(&mut safe_rng(), algorithm).unwrap()
    }

    pub(super) fn line(hosts: &str, key: &PrivateKey) -> String {
        format!("{hosts} {}\n", key.public_key().to_openssh().unwrap())
    }

    pub(super) fn known(text: &str, name: &str) -> KnownHost {
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

    pub(super) fn at(line: usize) -> Place {
        Place {
            file: PathBuf::from("known_hosts"),
            line,
        }
    }

    pub(super) fn hashed(name: &str) -> String {
        let salt = b"twenty bytes of salt";
        let mut hasher = Hmac::<sha1::Sha1>::new_from_slice(salt).unwrap();
        hasher.update(name.as_bytes());
        let hash = hasher.finalize().into_bytes();
        format!("|1|{}|{}", STANDARD.encode(salt), STANDARD.encode(hash))
    }

    fn changed(line: usize, known_type: &str) -> Verdict {
        Verdict::Changed {
            place: at(line),
            known_type: known_type.to_owned(),
        }
    }

    #[test]
    fn verdicts() {
        let key = private(Algorithm::Ed25519);
        let other = private(Algorithm::Ed25519);
        let ecdsa = private(P256);
        let table = [
            (String::new(), "login", Verdict::New),
            (line("login", &key), "login", Verdict::Known),
            (line("LOGIN,10.0.0.1", &key), "login", Verdict::Known),
            (line("login", &key), "[login]:2222", Verdict::Known),
            (line("login", &other), "[login]:2222", Verdict::New),
            (line("[login]:2222", &key), "[login]:2222", Verdict::Known),
            (line("[login]:2222", &key), "login", Verdict::New),
            // What is known of the port counts alone.
            (
                line("[login]:2222", &other) + &line("login", &key),
                "[login]:2222",
                changed(1, "ssh-ed25519"),
            ),
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
    fn another_name_confirms_a_key_and_never_makes_it_a_changed_one() {
        let (key, other) = (private(Algorithm::Ed25519), private(P256));
        let node = |node: &str, cluster: &str| {
            known(node, "login02").confirmed_by(known(cluster, "cluster"))
        };
        let judge = |known: &KnownHost| known.judge(&key.public_key().clone().into());
        let confirmed = node("", &line("cluster", &key));
        assert_eq!(judge(&confirmed), Verdict::Known);
        assert_eq!(confirmed.key_types().collect::<Vec<_>>(), ["ssh-ed25519"]);
        assert_eq!(judge(&node("", &line("cluster", &other))), Verdict::New);
        let own = node(&line("login02", &other), &line("cluster", &key));
        assert_eq!(judge(&own), changed(1, "ecdsa-sha2-nistp256"));
        let revoked = node(&line("@revoked *", &key), &line("cluster", &key));
        assert!(matches!(judge(&revoked), Verdict::Revoked(_)));
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
