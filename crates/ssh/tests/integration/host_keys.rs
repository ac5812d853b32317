//! Which servers are talked to, and what is remembered of them.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use hpcclient_ssh::{NoPrompts, Question, SshError, StrictHostKeyChecking};

use crate::person::Person;
use crate::server::{Server, keygen, until};

#[tokio::test]
async fn a_first_contact_is_put_to_the_person_and_remembered() {
    let server = Server::start();
    let mut destination = server.destination();
    let file = server.path("new/.ssh/known_hosts");
    destination.known_hosts = vec![file.clone()];

    // Nobody to ask, or a no: nothing is written and nobody is logged in.
    let refused = crate::open(&destination, Arc::new(NoPrompts))
        .await
        .unwrap_err();
    assert!(
        matches!(refused, SshError::HostKeyUnknown { .. }),
        "{refused}"
    );
    let person = Person::with(&["no"]);
    let refused = crate::open(&destination, person as Arc<_>)
        .await
        .unwrap_err();
    let SshError::HostKeyUnknown { fingerprint, .. } = refused else {
        panic!("{refused}");
    };
    assert!(!file.exists());
    let listed = Command::new("ssh-keygen")
        .arg("-lf")
        .arg(server.path("host.pub"))
        .output()
        .unwrap();
    assert!(
        String::from_utf8(listed.stdout)
            .unwrap()
            .contains(&fingerprint)
    );

    let person = Person::with(&["yes"]);
    crate::open(&destination, Arc::clone(&person) as Arc<_>)
        .await
        .unwrap();
    let asked = person.asked();
    assert_eq!(asked.len(), 1);
    let name = format!("[127.0.0.1]:{}", server.port);
    assert_eq!(
        asked[0].kind,
        Question::HostKey {
            host: name.clone(),
            key_type: "ssh-ed25519".to_owned(),
            fingerprint: fingerprint.clone(),
        }
    );
    assert!(asked[0].text.contains(&fingerprint) && asked[0].text.contains(&name));

    // OpenSSH itself finds the key that was written.
    let found = Command::new("ssh-keygen")
        .args(["-F", &name, "-f"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(found.status.success());
    crate::open(&destination, Arc::new(NoPrompts))
        .await
        .unwrap();
}

#[tokio::test]
async fn strictness_decides_about_new_keys() {
    let server = Server::start();
    let mut destination = server.destination();
    destination.known_hosts = vec![server.path("fresh")];
    destination.strict_host_key_checking = StrictHostKeyChecking::Yes;
    let person = Person::with(&["yes"]);
    let refused = crate::open(&destination, Arc::clone(&person) as Arc<_>)
        .await
        .unwrap_err();
    assert!(
        matches!(refused, SshError::HostKeyUnknown { .. }),
        "{refused}"
    );
    assert!(person.asked().is_empty());

    destination.strict_host_key_checking = StrictHostKeyChecking::AcceptNew;
    crate::open(&destination, Arc::clone(&person) as Arc<_>)
        .await
        .unwrap();
    assert!(person.asked().is_empty());
    assert!(person.told().contains("host key was added"));
}

#[tokio::test]
async fn a_changed_key_is_refused_whatever_the_strictness() {
    let server = Server::start();
    let mut destination = server.destination();
    destination.strict_host_key_checking = StrictHostKeyChecking::AcceptNew;
    for kind in ["ed25519", "ecdsa", "rsa"] {
        let other = server.path(kind);
        keygen(&other, kind, "");
        let key = std::fs::read_to_string(server.path(&format!("{kind}.pub"))).unwrap();
        let text = format!("# old\n[127.0.0.1]:{} {key}", server.port);
        std::fs::write(server.path("known_hosts"), &text).unwrap();
        let person = Person::with(&["yes"]);
        let refused = crate::open(&destination, Arc::clone(&person) as Arc<_>)
            .await
            .unwrap_err();
        match &refused {
            SshError::HostKeyChanged { file, line, .. } => {
                assert_eq!((file, *line), (&server.path("known_hosts"), 2));
            }
            other => panic!("{other}"),
        }
        assert!(person.asked().is_empty());
        assert_eq!(
            std::fs::read_to_string(server.path("known_hosts")).unwrap(),
            text
        );
    }
}

#[tokio::test]
async fn a_revoked_key_is_refused() {
    let server = Server::start();
    let destination = server.destination();
    let key = std::fs::read_to_string(server.path("host.pub")).unwrap();
    let text = format!("{}@revoked * {key}", server.known_line());
    std::fs::write(server.path("known_hosts"), text).unwrap();
    let refused = crate::open(&destination, Arc::new(NoPrompts))
        .await
        .unwrap_err();
    assert!(
        matches!(refused, SshError::HostKeyRevoked { line: 2, .. }),
        "{refused}"
    );
}

#[tokio::test]
async fn a_known_type_of_several_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let second = folder.path().join("host_ecdsa");
    keygen(&second, "ecdsa", "");
    let server = Server::with(&format!("HostKey {}", second.display()));
    let destination = server.destination();
    let key = std::fs::read_to_string(folder.path().join("host_ecdsa.pub")).unwrap();
    let text = format!("[127.0.0.1]:{} {key}", server.port);
    std::fs::write(server.path("known_hosts"), text).unwrap();
    crate::open(&destination, Arc::new(NoPrompts))
        .await
        .unwrap();
}

/// A server with a host certificate for `login.example`, and its authority's public key.
fn certified(kind: &str, validity: &str, folder: &Path) -> (Server, String) {
    let at = |name: &str| folder.join(name);
    keygen(&at("authority"), kind, "");
    keygen(&at("host"), kind, "");
    let signed = Command::new("ssh-keygen")
        .args(["-q", "-I", "host", "-h", "-n", "login.example"])
        .args(["-V", validity, "-s"])
        .arg(at("authority"))
        .arg(at("host.pub"))
        .status()
        .unwrap();
    assert!(signed.success());
    let host = at("host");
    let lines = format!("HostKey {0}\nHostCertificate {0}-cert.pub", host.display());
    let authority = std::fs::read_to_string(at("authority.pub")).unwrap();
    (Server::with(&lines), authority)
}

#[tokio::test]
async fn a_host_certificate_of_a_listed_authority_is_enough() {
    for kind in ["ed25519", "ecdsa", "rsa"] {
        let folder = tempfile::tempdir().unwrap();
        let (server, authority) = certified(kind, "-1d:+1d", folder.path());
        let mut destination = server.destination();
        std::fs::write(
            server.path("known_hosts"),
            format!("@cert-authority *.example {authority}"),
        )
        .unwrap();
        destination.host_key_alias = Some("login.example".to_owned());
        crate::open(&destination, Arc::new(NoPrompts))
            .await
            .unwrap();

        destination.host_key_alias = Some("other.example".to_owned());
        let refused = crate::open(&destination, Arc::new(NoPrompts))
            .await
            .unwrap_err();
        assert!(
            matches!(refused, SshError::HostCertificate { .. }),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn an_expired_host_certificate_is_refused_unless_the_key_itself_is_listed() {
    let folder = tempfile::tempdir().unwrap();
    let (server, authority) = certified("ed25519", "-2d:-1d", folder.path());
    let mut destination = server.destination();
    let trusting = format!("@cert-authority *.example {authority}");
    std::fs::write(server.path("known_hosts"), &trusting).unwrap();
    destination.host_key_alias = Some("login.example".to_owned());
    let refused = crate::open(&destination, Arc::new(NoPrompts))
        .await
        .unwrap_err();
    assert!(
        matches!(refused, SshError::HostCertificate { .. }),
        "{refused}"
    );

    let key = std::fs::read_to_string(folder.path().join("host.pub")).unwrap();
    let listed = format!("{trusting}login.example {key}");
    std::fs::write(server.path("known_hosts"), listed).unwrap();
    crate::open(&destination, Arc::new(NoPrompts))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_new_host_is_written_without_its_name_if_names_are_hashed() {
    let server = Server::start();
    let mut destination = server.destination();
    let file = server.path("fresh");
    destination.known_hosts = vec![file.clone()];
    destination.hash_known_hosts = true;
    crate::open(&destination, Person::with(&["yes"]) as Arc<_>)
        .await
        .unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(
        text.starts_with("|1|") && !text.contains("127.0.0.1"),
        "{text}"
    );
    let found = Command::new("ssh-keygen")
        .args(["-F", &format!("[127.0.0.1]:{}", server.port), "-f"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(found.status.success());
    crate::open(&destination, Arc::new(NoPrompts))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_server_may_announce_the_keys_that_it_will_have_one_day() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    keygen(&at("ecdsa"), "ecdsa", "");
    keygen(&at("rsa"), "rsa", "");
    let keys = format!(
        "HostKey {}\nHostKey {}",
        at("ecdsa").display(),
        at("rsa").display()
    );
    let today = Server::with(&keys);
    let mut destination = today.destination();
    destination.host_key_alias = Some("login.example".to_owned());
    destination.update_host_keys = true;
    let known = today.path("known_hosts");
    let own = std::fs::read_to_string(today.path("host.pub")).unwrap();
    let read = || std::fs::read_to_string(&known).unwrap();

    // Not if the key was trusted for other hosts too, nor if nobody wants to learn.
    for (name, learn) in [("*.example", true), ("login.example", false)] {
        let text = format!("{name} {own}");
        std::fs::write(&known, &text).unwrap();
        destination.update_host_keys = learn;
        let connection = crate::open(&destination, Arc::new(NoPrompts))
            .await
            .unwrap();
        assert!(connection.alive(Duration::from_secs(5)).await);
        connection.close().await;
        assert_eq!(read(), text);
    }

    destination.update_host_keys = true;
    let person = Person::with(&[]);
    let connection = crate::open(&destination, Arc::clone(&person) as Arc<_>)
        .await
        .unwrap();
    until("the keys are learnt", || person.told().contains("new keys")).await;
    connection.close().await;
    let text = read();
    assert!(text.starts_with(&format!("login.example {own}")), "{text}");
    let added: Vec<String> = text.lines().skip(1).map(str::to_owned).collect();
    for name in ["ecdsa.pub", "rsa.pub"] {
        let key = std::fs::read_to_string(at(name)).unwrap();
        let (key, _comment) = key.trim().rsplit_once(' ').unwrap();
        assert!(added.contains(&format!("login.example {key}")), "{text}");
    }
    assert_eq!(added.len(), 2);

    // The day has come: the old key is gone, and nobody is asked.
    let tomorrow = Server::with(&format!(
        "{keys}\nHostKeyAlgorithms ecdsa-sha2-nistp256,rsa-sha2-512"
    ));
    tomorrow.authorize(&today.path("id.pub"));
    destination.port = tomorrow.port;
    crate::open(&destination, Arc::new(NoPrompts))
        .await
        .unwrap();
    assert_eq!(read(), text);
}
