//! What `ssh` asks through our program, and what it says when the answer is not the right one.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use hpcclient_ssh::{Destination, NoPrompts, Prompt, Prompter, Question, SshError};

use super::{Machine, config, options, refused};
use crate::person::Person;
use crate::server::{Server, children, keygen, until};

#[tokio::test]
async fn an_unknown_host_key_is_put_to_the_person_and_remembered() {
    let server = Server::start();
    let options = options(&server);
    for prompter in [
        Arc::new(NoPrompts) as Arc<dyn Prompter>,
        Person::with(&["no"]),
    ] {
        std::fs::write(server.path("known_hosts"), "").unwrap();
        match refused(&options, prompter).await {
            SshError::HostKeyUnknown {
                host,
                key_type,
                fingerprint,
            } => {
                assert_eq!(host, format!("[127.0.0.1]:{}", server.port));
                assert_eq!(key_type, "ssh-ed25519");
                assert!(fingerprint.starts_with("SHA256:"));
            }
            other => panic!("{other}"),
        }
    }
    let person = Person::with(&["yes"]);
    let destination = Destination::resolve(&options).await.unwrap();
    let opened = Machine::new()
        .open(&destination, Arc::clone(&person) as Arc<_>)
        .await;
    opened.unwrap();
    let asked = person.asked();
    assert_eq!(asked.len(), 1);
    assert!(matches!(asked[0].kind, Question::HostKey { .. }) && asked[0].echo);
    let known = std::fs::read_to_string(server.path("known_hosts")).unwrap();
    assert!(
        known.contains(server.known_line().split_whitespace().nth(2).unwrap()),
        "{known}"
    );

    std::fs::write(server.path("known_hosts"), "").unwrap();
    let mut strict = options;
    strict.ssh_config = Some(config(&server, "StrictHostKeyChecking yes"));
    let unknown = refused(&strict, Person::with(&["yes"])).await;
    assert!(
        matches!(unknown, SshError::HostKeyUnknown { .. }),
        "{unknown}"
    );
}

#[tokio::test]
async fn a_changed_and_a_revoked_host_key_are_named_with_their_line() {
    let server = Server::start();
    let mut options = options(&server);
    let other = std::fs::read_to_string(server.path("id.pub")).unwrap();
    let known = server.path("known_hosts");
    // Also where the configuration would rather not check.
    for lines in ["", "StrictHostKeyChecking no"] {
        options.ssh_config = Some(config(&server, lines));
        std::fs::write(
            &known,
            format!("# mine\n[127.0.0.1]:{} {other}", server.port),
        )
        .unwrap();
        match refused(&options, Person::with(&["yes"])).await {
            SshError::HostKeyChanged {
                file,
                line,
                known_type,
                key_type,
                ..
            } => {
                assert_eq!((file, line), (known.clone(), 2));
                assert_eq!((&*known_type, &*key_type), ("ssh-ed25519", "ssh-ed25519"));
            }
            other => panic!("{other}"),
        }
        std::fs::write(
            &known,
            format!("# mine\n\n@revoked {}", server.known_line()),
        )
        .unwrap();
        match refused(&options, Person::with(&["yes"])).await {
            SshError::HostKeyRevoked { file, line, .. } => {
                assert_eq!((file, line), (known.clone(), 3));
            }
            other => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn a_passphrase_is_asked_for_and_a_wrong_key_is_refused() {
    let server = Server::start();
    keygen(&server.path("locked"), "ed25519", "open sesame");
    server.authorize(&server.path("locked.pub"));
    let mut options = options(&server);
    match refused(&options, Person::with(&[])).await {
        SshError::AuthFailed {
            accepted,
            needs_person,
            tried,
            ..
        } => {
            assert_eq!(
                (accepted, tried),
                (vec!["publickey".to_owned()], vec!["publickey".to_owned()])
            );
            assert!(!needs_person);
        }
        other => panic!("{other}"),
    }
    options.identity_file = Some(server.path("locked"));
    let nobody = refused(&options, Arc::new(NoPrompts)).await;
    assert!(
        matches!(
            nobody,
            SshError::AuthFailed {
                needs_person: true,
                ..
            }
        ),
        "{nobody}"
    );
    let person = Person::with(&["wrong", "open sesame"]);
    let destination = Destination::resolve(&options).await.unwrap();
    let opened = Machine::new()
        .open(&destination, Arc::clone(&person) as Arc<_>)
        .await;
    opened.unwrap();
    let asked = person.asked();
    assert_eq!(asked.len(), 2);
    assert!(
        asked
            .iter()
            .all(|prompt| prompt.kind == Question::Passphrase && !prompt.echo)
    );
}

#[tokio::test]
async fn a_password_that_nobody_gives_is_never_sent() {
    let server = Server::with("PasswordAuthentication yes");
    let mut options = options(&server);
    options.ssh_config = Some(config(&server, "PreferredAuthentications password"));
    for prompter in [Arc::new(NoPrompts) as Arc<dyn Prompter>, Person::with(&[])] {
        match refused(&options, prompter).await {
            SshError::AuthFailed {
                accepted,
                needs_person,
                ..
            } => {
                assert!(needs_person && accepted.contains(&"password".to_owned()));
            }
            other => panic!("{other}"),
        }
    }
    let failed = |server: &Server| {
        let log = std::fs::read_to_string(server.path("log")).unwrap();
        log.matches("Failed password").count()
    };
    assert_eq!(failed(&server), 0);
    let person = Person::with(&["wrong", "wrong too", "wrong still", "right"]);
    let wrong = refused(&options, Arc::clone(&person) as Arc<_>).await;
    assert!(
        matches!(
            wrong,
            SshError::AuthFailed {
                needs_person: false,
                ..
            }
        ),
        "{wrong}"
    );
    assert_eq!(person.asked().len(), 3);
    assert!(
        person
            .asked()
            .iter()
            .all(|prompt| prompt.kind == Question::Password)
    );
    until("the refusals are in the log", || failed(&server) == 3).await;
}

#[tokio::test]
async fn a_login_that_is_given_up_at_a_question_sends_nothing() {
    let server = Server::with("PasswordAuthentication yes");
    let mut options = options(&server);
    options.ssh_config = Some(config(&server, "PreferredAuthentications password"));
    let destination = Destination::resolve(&options).await.unwrap();
    let (machine, slow) = (Machine::new(), Arc::new(Slow::default()));
    tokio::select! {
        opened = machine.open(&destination, Arc::clone(&slow) as Arc<_>) => panic!("{opened:?}"),
        () = slow.asked.notified() => {}
    }
    until("the session ends", || {
        children(server.process_id()).is_empty()
    })
    .await;
    let log = std::fs::read_to_string(server.path("log")).unwrap();
    assert!(!log.contains("Failed password"), "{log}");
}

/// Says that it was asked and thinks about it for ever.
#[derive(Default)]
struct Slow {
    asked: tokio::sync::Notify,
}

impl Prompter for Slow {
    fn ask(&self, _prompt: Prompt) -> BoxFuture<'_, Option<String>> {
        self.asked.notify_one();
        Box::pin(std::future::pending())
    }

    fn progress(&self, _message: &str) {}
}
