//! Passwords and one-time codes, against a server that this file plays: sshd would need accounts of its own for it.

use std::borrow::Cow;
use std::future::ready;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use hpcclient_ssh::{
    Destination, NoPrompts, Prompt, Prompter, Question, SshError, StrictHostKeyChecking,
};
use russh::keys::key::safe_rng;
use russh::keys::{Algorithm, PrivateKey};
use russh::server::{self, Auth, Response, VerifiedPublicKey};
use russh::{MethodKind, MethodSet};
use tokio::task::JoinSet;

use crate::person::Person;
use crate::server::{Server, children, keygen, until, user};

/// What the played server wants.
#[derive(Clone, Default)]
struct Wanted {
    methods: Vec<MethodKind>,
    password: &'static str,
    code: &'static str,
    key_first: bool,
}

/// What a client sent, in order.
type Seen = Arc<Mutex<Vec<String>>>;

struct Played {
    wanted: Wanted,
    seen: Seen,
    round: usize,
    key_done: bool,
}

impl Played {
    fn refuse(&self, partial: bool) -> Auth {
        let methods = if self.wanted.key_first && !self.key_done {
            &[MethodKind::PublicKey][..]
        } else {
            &self.wanted.methods
        };
        Auth::Reject {
            proceed_with_methods: Some(MethodSet::from(methods)),
            partial_success: partial,
        }
    }

    fn note(&self, what: String) {
        self.seen.lock().unwrap().push(what);
    }
}

impl server::Handler for Played {
    type Error = russh::Error;

    async fn auth_none(&mut self, _user: &str) -> Result<Auth, russh::Error> {
        Ok(self.refuse(false))
    }

    async fn auth_publickey(
        &mut self,
        _user: &str,
        _key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, russh::Error> {
        self.note("key".to_owned());
        self.key_done = true;
        Ok(self.refuse(true))
    }

    async fn auth_password(&mut self, _user: &str, password: &str) -> Result<Auth, russh::Error> {
        self.note(format!("password {password}"));
        if password == self.wanted.password {
            return Ok(Auth::Accept);
        }
        Ok(self.refuse(false))
    }

    /// A password, then a code, then a round without questions, as PAM does it.
    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        _user: &str,
        _submethods: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, russh::Error> {
        let answers: Vec<String> = response
            .into_iter()
            .flatten()
            .map(|answer| String::from_utf8_lossy(&answer).into_owned())
            .collect();
        self.round += 1;
        let ask =
            |instructions: &'static str, prompts: Vec<(Cow<'static, str>, bool)>| Auth::Partial {
                name: Cow::Borrowed(""),
                instructions: Cow::Borrowed(instructions),
                prompts: Cow::Owned(prompts),
            };
        if self.round == 1 {
            return Ok(ask(
                "\u{1b}]0;title\u{7}Hello",
                vec![("Password:".into(), false)],
            ));
        }
        self.note(format!("answers {answers:?}"));
        let right = match self.round {
            2 => answers == [self.wanted.password],
            3 => answers == [self.wanted.code],
            _ => answers.is_empty(),
        };
        if !right {
            self.round = 0;
            return Ok(self.refuse(false));
        }
        match self.round {
            2 => Ok(ask("", vec![("One-time code: ".into(), true)])),
            3 => Ok(ask("Last login: never", vec![])),
            _ => Ok(Auth::Accept),
        }
    }
}

/// Plays a server; returns what it sees, where it is, and the tasks that keep it alive.
async fn play(wanted: Wanted) -> (Seen, Destination, tempfile::TempDir, JoinSet<()>) {
    let folder = tempfile::tempdir().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let key = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap();
    let line = format!(
        "[127.0.0.1]:{port} {}\n",
        key.public_key().to_openssh().unwrap()
    );
    std::fs::write(folder.path().join("known_hosts"), line).unwrap();
    let config = Arc::new(server::Config {
        keys: vec![key],
        auth_rejection_time: Duration::ZERO,
        auth_rejection_time_initial: Some(Duration::ZERO),
        ..server::Config::default()
    });
    let seen = Seen::default();
    let mut tasks = JoinSet::new();
    let (for_all, wanted) = (Arc::clone(&seen), wanted);
    tasks.spawn(async move {
        let mut sessions = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let played = Played {
                wanted: wanted.clone(),
                seen: Arc::clone(&for_all),
                round: 0,
                key_done: false,
            };
            let session = server::run_stream(Arc::clone(&config), stream, played);
            sessions.spawn(async move {
                if let Ok(running) = session.await {
                    let _ = running.await;
                }
            });
        }
    });
    let destination = Destination {
        host_alias: "played".to_owned(),
        hostname: "127.0.0.1".to_owned(),
        user: "alice".to_owned(),
        port,
        identity_files: vec![],
        identities_only: false,
        identity_agent: None,
        known_hosts: vec![folder.path().join("known_hosts")],
        host_key_alias: None,
        strict_host_key_checking: StrictHostKeyChecking::Yes,
        connect_timeout: Duration::from_secs(10),
        server_alive_interval: Duration::from_secs(15),
        jumps: vec![],
        proxy_command: None,
        certificate_files: vec![],
        preferred_authentications: vec![],
        gssapi: false,
        hash_known_hosts: false,
        update_host_keys: false,
        preferred_address: None,
        only_openssh: None,
        options: hpcclient_ssh::DestinationOptions::default(),
        notes: vec!["ProxyJump gate of the ssh configuration is not used".to_owned()],
    };
    (seen, destination, folder, tasks)
}

fn password_only() -> Wanted {
    Wanted {
        methods: vec![MethodKind::Password],
        password: "right",
        ..Wanted::default()
    }
}

#[tokio::test]
async fn a_password_is_asked_for_again_after_a_mistake() {
    let (seen, destination, _folder, _tasks) = play(password_only()).await;
    let person = Person::with(&["wrong", "right"]);
    crate::open(&destination, Arc::clone(&person) as Arc<_>)
        .await
        .unwrap();
    assert_eq!(*seen.lock().unwrap(), ["password wrong", "password right"]);
    let asked = person.asked();
    assert!(
        asked
            .iter()
            .all(|prompt| prompt.kind == Question::Password && !prompt.echo)
    );
    assert!(asked[0].text.contains("alice@127.0.0.1"));
    assert!(person.told().contains("ProxyJump"));
}

#[tokio::test]
async fn a_person_is_asked_three_times_and_then_no_more() {
    for methods in [
        vec![MethodKind::Password],
        vec![MethodKind::KeyboardInteractive, MethodKind::Password],
    ] {
        let wanted = Wanted {
            methods,
            ..password_only()
        };
        let (_seen, destination, _folder, _tasks) = play(wanted).await;
        let person = Person::with(&["a", "b", "c", "d", "e"]);
        let refused = crate::open(&destination, Arc::clone(&person) as Arc<_>)
            .await
            .unwrap_err();
        assert!(matches!(refused, SshError::AuthFailed { .. }), "{refused}");
        assert_eq!(person.asked().len(), 3);
    }
}

#[tokio::test]
async fn without_a_person_nothing_is_sent() {
    let (seen, destination, _folder, _tasks) = play(password_only()).await;
    let refused = crate::open(&destination, Arc::new(NoPrompts))
        .await
        .unwrap_err();
    match refused {
        SshError::AuthFailed {
            needs_person,
            accepted,
            ..
        } => assert!(needs_person && accepted == ["password"]),
        other => panic!("{other}"),
    }
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_key_a_password_and_a_code_are_three_factors() {
    let wanted = Wanted {
        methods: vec![MethodKind::KeyboardInteractive],
        password: "right",
        code: "123456",
        key_first: true,
    };
    let (seen, mut destination, folder, _tasks) = play(wanted).await;
    let key = folder.path().join("id");
    keygen(&key, "ed25519", "");
    destination.identity_files = vec![key];
    let person = Person::with(&["right", "123456"]);
    crate::open(&destination, Arc::clone(&person) as Arc<_>)
        .await
        .unwrap();
    let expected = [
        "key",
        "answers [\"right\"]",
        "answers [\"123456\"]",
        "answers []",
    ];
    assert_eq!(*seen.lock().unwrap(), expected);
    let asked = person.asked();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0].kind, Question::Password);
    assert_eq!(asked[0].text, "\\u{1b}]0;title\\u{7}Hello\nPassword:");
    assert_eq!(asked[1].kind, Question::Text);
    assert!(asked[1].echo);
    assert!(person.told().contains("Last login: never"));
}

#[tokio::test]
async fn a_server_that_does_not_wait_for_the_passphrase_is_logged_in_to_again() {
    let server = Server::with("LoginGraceTime 1");
    keygen(&server.path("locked"), "ed25519", "open sesame");
    server.authorize(&server.path("locked.pub"));
    let mut destination = server.destination();
    destination.user = user();
    destination.identity_files = vec![server.path("locked")];
    let slow = Arc::new(Slow {
        sshd: server.process_id(),
        asked: Mutex::new(0),
    });
    crate::open(&destination, Arc::clone(&slow) as Arc<_>)
        .await
        .unwrap();
    assert_eq!(*slow.asked.lock().unwrap(), 1);
}

/// Types the passphrase when the server has hung up.
struct Slow {
    sshd: u32,
    asked: Mutex<usize>,
}

impl Prompter for Slow {
    fn ask(&self, prompt: Prompt) -> BoxFuture<'_, Option<String>> {
        if prompt.kind != Question::Passphrase {
            return Box::pin(ready(None));
        }
        *self.asked.lock().unwrap() += 1;
        Box::pin(async {
            until("the server hangs up", || children(self.sshd).is_empty()).await;
            Some("open sesame".to_owned())
        })
    }

    fn progress(&self, _message: &str) {}
}
