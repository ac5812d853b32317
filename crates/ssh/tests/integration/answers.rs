//! Passwords and one-time codes, against a server that this file plays: sshd would need accounts of its own for it.

use std::borrow::Cow;
use std::future::ready;
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use hpcclient_ssh::{NoPrompts, Prompt, Prompter, Question, SshError};
use russh::server::{self, Auth, Response, VerifiedPublicKey};
use russh::{MethodKind, MethodSet};

use crate::person::Person;
use crate::played::{Late, Stage};
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

/// Plays a server that wants something; returns what it sees, too.
async fn play(wanted: Wanted) -> (Seen, Stage) {
    let seen = Seen::default();
    let for_all = Arc::clone(&seen);
    let stage = Stage::set(move || Played {
        wanted: wanted.clone(),
        seen: Arc::clone(&for_all),
        round: 0,
        key_done: false,
    });
    (seen, stage.await)
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
    let (seen, stage) = play(password_only()).await;
    let person = Person::with(&["wrong", "right"]);
    let destination = stage.destination();
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
        let (_seen, stage) = play(wanted).await;
        let person = Person::with(&["a", "b", "c", "d", "e"]);
        let refused = crate::open(&stage.destination(), Arc::clone(&person) as Arc<_>)
            .await
            .unwrap_err();
        assert!(matches!(refused, SshError::AuthFailed { .. }), "{refused}");
        assert_eq!(person.asked().len(), 3);
    }
}

#[tokio::test]
async fn without_a_person_nothing_is_sent() {
    let (seen, stage) = play(password_only()).await;
    let refused = crate::open(&stage.destination(), Arc::new(NoPrompts))
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
    let (seen, stage) = play(wanted).await;
    let key = stage.path("id");
    keygen(&key, "ed25519", "");
    let mut destination = stage.destination();
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

#[tokio::test]
async fn a_password_typed_too_late_is_sent_once() {
    let (seen, stage) = play(password_only()).await;
    let late = Late::at(&stage, 0, true, &["wrong", "right"]);
    crate::open(&stage.destination(), Arc::clone(&late) as Arc<_>)
        .await
        .unwrap();
    assert_eq!(*seen.lock().unwrap(), ["password wrong", "password right"]);
    assert_eq!(late.asked(), 2);
}

#[tokio::test]
async fn what_was_answered_before_the_session_ended_is_asked_for_again() {
    let wanted = Wanted {
        methods: vec![MethodKind::KeyboardInteractive],
        password: "right",
        code: "123456",
        key_first: false,
    };
    let (seen, stage) = play(wanted).await;
    let late = Late::at(&stage, 1, false, &["right", "too late", "right", "123456"]);
    crate::open(&stage.destination(), Arc::clone(&late) as Arc<_>)
        .await
        .unwrap();
    let expected = [
        "answers [\"right\"]",
        "answers [\"right\"]",
        "answers [\"123456\"]",
        "answers []",
    ];
    assert_eq!(*seen.lock().unwrap(), expected);
    assert_eq!(late.asked(), 4);
}

#[tokio::test]
async fn a_refused_password_is_not_sent_again_when_the_person_is_gone() {
    let (seen, stage) = play(password_only()).await;
    let person = Person::with(&["wrong"]);
    let refused = crate::open(&stage.destination(), Arc::clone(&person) as Arc<_>)
        .await
        .unwrap_err();
    assert!(
        matches!(
            refused,
            SshError::AuthFailed {
                needs_person: true,
                ..
            }
        ),
        "{refused}"
    );
    assert_eq!(*seen.lock().unwrap(), ["password wrong"]);
}

/// Reads the rules out before it asks.
struct Solemn;

impl server::Handler for Solemn {
    type Error = russh::Error;

    async fn auth_none(&mut self, _user: &str) -> Result<Auth, russh::Error> {
        Ok(Auth::Reject {
            proceed_with_methods: Some(MethodSet::from(&[MethodKind::KeyboardInteractive][..])),
            partial_success: false,
        })
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        _user: &str,
        _submethods: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, russh::Error> {
        Ok(match response {
            Some(_) => Auth::Accept,
            None => Auth::Partial {
                name: "Rules".into(),
                instructions: "You shall not mine coins. ".repeat(200).into(),
                prompts: vec![("Code:".into(), false)].into(),
            },
        })
    }
}

#[tokio::test]
async fn a_long_introduction_does_not_hide_the_question() {
    let stage = Stage::set(|| Solemn).await;
    let person = Person::with(&["123456"]);
    crate::open(&stage.destination(), Arc::clone(&person) as Arc<_>)
        .await
        .unwrap();
    assert_eq!(person.asked()[0].text, "Code:");
    assert!(person.told().contains("Rules\nYou shall not"));
}
