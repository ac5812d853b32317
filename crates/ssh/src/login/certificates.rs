//! User certificates: reading them from files, and telling whether their time is now.
//!
//! `candidates` pairs them with their private keys. A certificate whose time is over is not offered, and the error of a
//! login that then fails names it.
//!
//! Not here: principals. Whom a certificate lets in is the server's to say, which may map them in its configuration.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use russh::keys::Certificate;

use crate::error::IdleCertificate;
use crate::facts::CertificateFacts;
use crate::prompt::visible;

/// A certificate file is never larger.
const LARGEST: u64 = 64 << 10;

/// A user certificate and where it came from.
#[derive(Clone, Debug)]
pub(super) struct UserCertificate {
    pub(super) certificate: Certificate,
    /// Where it was found; nothing if in the ssh-agent.
    pub(super) file: Option<PathBuf>,
}

impl UserCertificate {
    /// A file, or `ssh-agent`.
    pub(super) fn source(&self) -> String {
        self.file
            .as_deref()
            .map_or_else(|| "ssh-agent".to_owned(), short)
    }

    pub(super) fn facts(&self) -> CertificateFacts {
        CertificateFacts {
            key_id: visible(self.certificate.key_id()),
            source: self.source(),
            valid_until: end(&self.certificate),
        }
    }

    /// What to say of it if its time is not now.
    pub(super) fn idle(&self, now: SystemTime) -> Option<IdleCertificate> {
        let begins = UNIX_EPOCH.checked_add(Duration::from_secs(self.certificate.valid_after()));
        let ended = end(&self.certificate).filter(|end| *end <= now);
        let not_yet = begins.filter(|begins| *begins > now);
        (ended.is_some() || not_yet.is_some()).then(|| IdleCertificate {
            source: self.source(),
            ended: ended.map(|end| now.duration_since(end).unwrap_or_default()),
            begins: not_yet.map(|begins| begins.duration_since(now).unwrap_or_default()),
        })
    }

    /// Says whom it is for if that does not sound like a user; for the words about a refusal.
    pub(super) fn names_others(&self, user: &str) -> Option<String> {
        let names = self.certificate.valid_principals();
        let others = !names.is_empty() && !names.iter().any(|name| name == user);
        others.then(|| visible(&names.join(", ")))
    }
}

/// The end of a certificate's time; nothing if it has none, or one that no clock will show.
fn end(certificate: &Certificate) -> Option<SystemTime> {
    let seconds = certificate.valid_before();
    (seconds < u64::MAX)
        .then(|| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)))
        .flatten()
}

/// Reads a user certificate; nothing if there is none.
pub(super) fn read(path: &Path) -> Option<UserCertificate> {
    let size = std::fs::metadata(path).ok()?.len();
    if size > LARGEST {
        return None;
    }
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| !line.trim().is_empty())?;
    match Certificate::from_openssh(line.trim()) {
        Ok(certificate) if certificate.cert_type().is_user() => Some(UserCertificate {
            certificate,
            file: Some(path.to_path_buf()),
        }),
        Ok(_) => None,
        Err(error) => {
            tracing::debug!(path = %path.display(), %error, "not a certificate");
            None
        }
    }
}

/// The file beside a key in which OpenSSH looks for its certificate.
pub(super) fn beside(key: &Path) -> PathBuf {
    let mut name = key.as_os_str().to_owned();
    name.push("-cert.pub");
    PathBuf::from(name)
}

/// A path for people: the home directory as `~`.
pub(super) fn short(path: &Path) -> String {
    let home = std::env::home_dir().filter(|home| home.parent().is_some());
    let shown = match home.and_then(|home| Some(path.strip_prefix(home).ok()?.to_path_buf())) {
        Some(inside) => format!("~/{}", inside.display()),
        None => path.display().to_string(),
    };
    visible(&shown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use russh::keys::key::safe_rng;
    use russh::keys::ssh_key::certificate::{Builder, CertType};
    use russh::keys::{Algorithm, PrivateKey};

    fn signed(kind: CertType, from: u64, to: u64) -> UserCertificate {
        let key = || PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap();
        let public = key().public_key().clone();
        let mut builder =
            Builder::new_with_random_nonce(&mut safe_rng(), public, from, to).unwrap();
        builder.cert_type(kind).unwrap();
        builder.key_id("alice\u{1b}[2J").unwrap();
        builder.valid_principal("alice").unwrap();
        UserCertificate {
            certificate: builder.sign(&key()).unwrap(),
            file: None,
        }
    }

    #[test]
    fn the_time_of_a_certificate() {
        let now = UNIX_EPOCH + Duration::from_secs(10_000);
        assert!(signed(CertType::User, 9_000, 10_001).idle(now).is_none());
        let ended = signed(CertType::User, 0, 10_000).idle(now).unwrap();
        assert_eq!(ended.ended, Some(Duration::ZERO));
        let ended = signed(CertType::User, 0, 9_000).idle(now).unwrap();
        assert_eq!(
            ended.to_string(),
            "the certificate ssh-agent ended 17 min ago: renew it"
        );
        let early = signed(CertType::User, 20_800, 30_000).idle(now).unwrap();
        assert_eq!(
            early.to_string(),
            "the certificate ssh-agent begins in 3 h: is the clock of this machine right?"
        );
        let for_ever = signed(CertType::User, 0, u64::MAX);
        assert!(for_ever.idle(now).is_none());
        assert_eq!(for_ever.facts().valid_until, None);
        assert!(!for_ever.facts().key_id.contains('\u{1b}'));
    }

    #[test]
    fn only_user_certificates_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let text = |kind| signed(kind, 0, u64::MAX).certificate.to_openssh().unwrap();
        let good = write("good", &format!("\n{}\n", text(CertType::User)));
        assert_eq!(read(&good).unwrap().file, Some(good));
        assert!(read(&write("host", &text(CertType::Host))).is_none());
        assert!(read(&write("noise", "ssh-ed25519-cert-v01@openssh.com AAAA")).is_none());
        assert!(read(&folder.path().join("gone")).is_none());
    }

    #[test]
    fn whom_a_certificate_is_for() {
        let certificate = signed(CertType::User, 0, 1);
        assert_eq!(certificate.names_others("alice"), None);
        assert_eq!(certificate.names_others("bob").as_deref(), Some("alice"));
    }
}
