//! User certificates: from files and from the ssh-agent, good ones and those that are not.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hpcclient_ssh::{Connection, Destination, NoPrompts, Question, SshError};

use crate::login::SshAgent;
use crate::person::Person;
use crate::server::{Server, keygen, user};

/// A server that trusts an authority and no key.
struct Site {
    server: Server,
    folder: tempfile::TempDir,
}

impl Site {
    fn start() -> Self {
        Self::with("")
    }

    fn with(lines: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        keygen(&folder.path().join("ca"), "ed25519", "");
        let authority = folder.path().join("ca.pub");
        let server = Server::with(&format!(
            "TrustedUserCAKeys {}\n{lines}",
            authority.display()
        ));
        std::fs::write(server.path("authorized"), "").unwrap();
        Self { server, folder }
    }

    /// Makes a key and a certificate beside it, for a user and a time.
    fn certified(&self, kind: &str, passphrase: &str, name: &str, validity: &str) {
        let key = self.server.path(kind);
        keygen(&key, kind, passphrase);
        self.certify(kind, name, validity);
    }

    fn certify(&self, kind: &str, name: &str, validity: &str) {
        let signed = Command::new("ssh-keygen")
            .args(["-q", "-I", "the id", "-n", name, "-V", validity, "-s"])
            .arg(self.folder.path().join("ca"))
            .arg(self.server.path(&format!("{kind}.pub")))
            .status()
            .unwrap();
        assert!(signed.success());
    }

    fn destination(&self, keys: &[&str]) -> Destination {
        Destination {
            identity_files: keys.iter().map(|name| self.server.path(name)).collect(),
            ..self.server.destination()
        }
    }

    fn certificate(&self, kind: &str) -> String {
        let path = self.server.path(&format!("{kind}-cert.pub"));
        path.display().to_string()
    }
}

async fn alone(destination: &Destination) -> Result<Connection, SshError> {
    crate::open(destination, Arc::new(NoPrompts)).await
}

fn remove(path: &Path) {
    std::fs::remove_file(path).unwrap();
}

#[tokio::test]
async fn a_certificate_beside_its_key_logs_in_and_is_told_of() {
    let site = Site::start();
    for kind in ["ed25519", "ecdsa", "rsa"] {
        site.certified(kind, "", &user(), "-1h:+3h");
        let connection = alone(&site.destination(&[kind])).await.unwrap();
        let facts = connection.facts();
        assert_eq!(facts.offered, ["publickey"]);
        let path = site.certificate(kind);
        assert_eq!(facts.used, [format!("publickey (certificate {path})")]);
        assert!(facts.host_key.unwrap().starts_with("ssh-ed25519 SHA256:"));
        assert!(facts.server.unwrap().starts_with("SSH-2.0-OpenSSH"));
        let certificate = facts.certificate.unwrap();
        assert_eq!(
            (&*certificate.key_id, &*certificate.source),
            ("the id", &*path)
        );
        let left = certificate.valid_until.unwrap();
        let left = left.duration_since(SystemTime::now()).unwrap();
        assert!(left > Duration::from_secs(10_000) && left < Duration::from_secs(11_000));
    }
}

#[tokio::test]
async fn certificates_of_the_ssh_agent_log_in() {
    let site = Site::start();
    for kind in ["ed25519", "ecdsa", "rsa"] {
        let socket = site.server.path(&format!("{kind}.sock"));
        let agent = SshAgent::start(&socket).await;
        site.certified(kind, "", &user(), "-1h:+3h");
        // Takes the certificate along, as `step ssh login` does.
        agent.add(&site.server.path(kind));
        remove(&site.server.path(&format!("{kind}-cert.pub")));
        let mut destination = site.destination(&[]);
        destination.identity_agent = Some(socket);
        let facts = alone(&destination).await.unwrap().facts();
        assert_eq!(facts.used, ["publickey (ssh-agent certificate the id)"]);
        assert_eq!(facts.certificate.unwrap().source, "ssh-agent");

        // Only what the configuration names counts when it says so.
        destination.identities_only = true;
        let refused = alone(&destination).await.unwrap_err();
        assert!(
            matches!(&refused, SshError::AuthFailed { tried, .. } if tried.is_empty()),
            "{refused}"
        );
        destination.identity_files = vec![site.server.path(&format!("{kind}.pub"))];
        alone(&destination).await.unwrap();
    }
}

#[tokio::test]
async fn the_ssh_agent_signs_for_a_certificate_in_a_file() {
    let site = Site::start();
    let socket = site.server.path("agent.sock");
    let agent = SshAgent::start(&socket).await;
    keygen(&site.server.path("rsa"), "rsa", "");
    agent.add(&site.server.path("rsa"));
    remove(&site.server.path("rsa"));
    site.certify("rsa", &user(), "-1h:+3h");
    let mut destination = site.destination(&[]);
    destination.identity_agent = Some(socket);
    destination.identities_only = true;
    destination.certificate_files = vec![
        site.server.path("missing-cert.pub"),
        site.server.path("rsa-cert.pub"),
    ];
    let facts = alone(&destination).await.unwrap().facts();
    let path = site.certificate("rsa");
    assert_eq!(facts.used, [format!("publickey (certificate {path})")]);
}

#[tokio::test]
async fn a_certificate_of_a_locked_key_asks_for_the_passphrase_once() {
    let site = Site::start();
    site.certified("ed25519", "open sesame", &user(), "-1h:+3h");
    let person = Person::with(&["open sesame"]);
    let destination = site.destination(&["ed25519"]);
    crate::open(&destination, Arc::clone(&person) as Arc<_>)
        .await
        .unwrap();
    let asked = person.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].kind, Question::Passphrase);
}

#[tokio::test]
async fn an_expired_certificate_is_not_offered_and_the_error_says_so() {
    let site = Site::start();
    site.certified("ed25519", "", &user(), "-9h:-3h");
    let destination = site.destination(&["ed25519"]);
    let refused = alone(&destination).await.unwrap_err();
    let path = site.certificate("ed25519");
    assert!(
        refused
            .to_string()
            .ends_with(&format!("; the certificate {path} ended 3 h ago: renew it")),
        "{refused}"
    );
    match refused {
        SshError::AuthFailed { expired, tried, .. } => {
            assert_eq!(expired.unwrap().source, path);
            let key = site.server.path("ed25519");
            assert_eq!(tried, [format!("key {}", key.display())]);
        }
        other => panic!("{other}"),
    }

    // Another way in is not barred by it.
    let public = site.server.path("ed25519.pub");
    site.server.authorize(&public);
    let facts = alone(&destination).await.unwrap().facts();
    assert!(facts.certificate.is_none());
    let log = site.server.log_with("Accepted publickey").await;
    assert!(!log.contains("Certificate invalid"), "{log}");

    // Nor by a clock that is wrong, which is what an early certificate is a sign of.
    std::fs::write(site.server.path("authorized"), "").unwrap();
    site.certify("ed25519", &user(), "+5h:+9h");
    let early = alone(&destination).await.unwrap_err();
    assert!(early.to_string().contains("begins in 5 h"), "{early}");
}

#[tokio::test]
async fn a_certificate_for_somebody_else_is_refused_and_the_error_says_whose_it_is() {
    let site = Site::start();
    site.certified("ed25519", "", "bob,carol", "-1h:+3h");
    let refused = alone(&site.destination(&["ed25519"])).await.unwrap_err();
    assert!(
        refused.to_string().contains("(it is for bob, carol)"),
        "{refused}"
    );
    assert!(matches!(
        refused,
        SshError::AuthFailed { expired: None, .. }
    ));
    site.server.log_with("Certificate invalid").await;
}

#[tokio::test]
async fn two_keys_that_are_both_asked_for_are_two_different_ones() {
    let site = Site::with("AuthenticationMethods publickey,publickey");
    site.certified("ed25519", "", &user(), "-1h:+3h");
    keygen(&site.server.path("second"), "ed25519", "");
    // The certified key is let in by itself too, and does not count twice.
    let both = ["ed25519.pub", "second.pub"].map(|name| {
        let path = site.server.path(name);
        std::fs::read_to_string(path).unwrap()
    });
    std::fs::write(site.server.path("authorized"), both.concat()).unwrap();
    let destination = site.destination(&["ed25519", "second"]);
    let facts = alone(&destination).await.unwrap().facts();
    let second = site.server.path("second");
    assert_eq!(
        facts.used,
        [
            format!("publickey (certificate {})", site.certificate("ed25519")),
            format!("publickey (key {})", second.display())
        ]
    );
    let log = site.server.log_with("Accepted publickey").await;
    assert!(!log.contains("Failed publickey"), "{log}");
}
