//! Chains of methods, in whatever order a server asks for them and a configuration prefers them.

use std::sync::{Arc, Mutex};

use hpcclient_ssh::{Destination, NoPrompts, SshError};
use russh::MethodKind::{self, KeyboardInteractive, Password, PublicKey};
use russh::MethodSet;
use russh::server::{self, Auth, Response, VerifiedPublicKey};

use crate::person::Person;
use crate::played::Stage;
use crate::server::keygen;

/// Takes one method after the other, each with a right answer, and lists beside the next one what it would not take.
#[derive(Clone, Default)]
struct Chain {
    steps: Vec<Vec<MethodKind>>,
    /// Whether the last step is never enough.
    endless: bool,
    at: usize,
    seen: Arc<Mutex<Vec<&'static str>>>,
}

impl Chain {
    fn of(steps: &[&[MethodKind]]) -> Self {
        Self {
            steps: steps.iter().map(|step| step.to_vec()).collect(),
            ..Self::default()
        }
    }

    fn take(&mut self, method: MethodKind, name: &'static str, right: bool) -> Auth {
        self.seen.lock().unwrap().push(name);
        let next = self.steps[self.at][0] == method && right;
        if next && !(self.endless && self.at + 1 == self.steps.len()) {
            self.at += 1;
        }
        match self.steps.get(self.at) {
            None => Auth::Accept,
            Some(step) => Auth::Reject {
                proceed_with_methods: Some(MethodSet::from(&step[..])),
                partial_success: next,
            },
        }
    }
}

impl server::Handler for Chain {
    type Error = russh::Error;

    async fn auth_none(&mut self, _user: &str) -> Result<Auth, russh::Error> {
        Ok(Auth::Reject {
            proceed_with_methods: Some(MethodSet::from(&self.steps[0][..])),
            partial_success: false,
        })
    }

    async fn auth_publickey(
        &mut self,
        _user: &str,
        _key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, russh::Error> {
        Ok(self.take(PublicKey, "key", true))
    }

    async fn auth_password(&mut self, _user: &str, password: &str) -> Result<Auth, russh::Error> {
        Ok(self.take(Password, "password", password == "right"))
    }

    /// A round without a question.
    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        _user: &str,
        _submethods: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, russh::Error> {
        Ok(match response {
            None => Auth::Partial {
                name: "".into(),
                instructions: "Look at your telephone".into(),
                prompts: vec![].into(),
            },
            Some(_) => self.take(KeyboardInteractive, "dialogue", true),
        })
    }
}

async fn destination(stage: &Stage, preferred: &[&str]) -> Destination {
    let key = stage.path("id");
    if !key.exists() {
        keygen(&key, "ed25519", "");
    }
    Destination {
        identity_files: vec![key],
        preferred_authentications: preferred.iter().map(|name| (*name).to_owned()).collect(),
        ..stage.destination()
    }
}

#[tokio::test]
async fn methods_are_chained_in_the_order_the_server_wants() {
    for (steps, expected) in [
        (
            [&[Password][..], &[KeyboardInteractive, Password]],
            ["password", "dialogue"],
        ),
        // The key is looked for when it is asked for, which is not at the start.
        (
            [&[KeyboardInteractive][..], &[PublicKey]],
            ["dialogue", "key"],
        ),
        ([&[PublicKey][..], &[Password]], ["key", "password"]),
    ] {
        let chain = Chain::of(&steps);
        let seen = Arc::clone(&chain.seen);
        let stage = Stage::set(move || chain.clone()).await;
        let person = Person::with(&["right"]);
        let connection = crate::open(
            &destination(&stage, &[]).await,
            Arc::clone(&person) as Arc<_>,
        )
        .await
        .unwrap();
        assert_eq!(*seen.lock().unwrap(), expected);
        assert_eq!(connection.facts().used.len(), 2);
    }
}

#[tokio::test]
async fn only_the_preferred_methods_are_tried_and_in_their_order() {
    let all = [Password, KeyboardInteractive, PublicKey];
    let chain = Chain::of(&[&all]);
    let seen = Arc::clone(&chain.seen);
    let stage = Stage::set(move || chain.clone()).await;
    let person = Person::with(&["wrong", "right"]);
    let preferred = ["gssapi-with-mic", "password", "publickey"];
    crate::open(
        &destination(&stage, &preferred).await,
        Arc::clone(&person) as Arc<_>,
    )
    .await
    .unwrap();
    assert_eq!(*seen.lock().unwrap(), ["password", "password"]);

    let only_key = destination(&stage, &["publickey"]).await;
    seen.lock().unwrap().clear();
    let refused = crate::open(&only_key, Person::with(&["right"]) as Arc<_>)
        .await
        .unwrap_err();
    assert_eq!(*seen.lock().unwrap(), ["key"]);
    assert!(
        matches!(
            refused,
            SshError::AuthFailed {
                needs_person: false,
                ..
            }
        ),
        "{refused}"
    );
}

#[tokio::test]
async fn a_server_that_always_wants_one_more_proof_is_left() {
    let chain = Chain {
        endless: true,
        ..Chain::of(&[&[KeyboardInteractive]])
    };
    let seen = Arc::clone(&chain.seen);
    let stage = Stage::set(move || chain.clone()).await;
    let refused = crate::open(&stage.destination(), Person::with(&[]) as Arc<_>)
        .await
        .unwrap_err();
    assert!(matches!(refused, SshError::Protocol { .. }), "{refused}");
    assert!(seen.lock().unwrap().len() < 12);
}

/// The dialogue's first message may be one to a telephone, and its owner would wonder.
#[tokio::test]
async fn with_nobody_there_no_dialogue_is_begun() {
    let chain = Chain::of(&[&[KeyboardInteractive]]);
    let seen = Arc::clone(&chain.seen);
    let stage = Stage::set(move || chain.clone()).await;
    let refused = crate::open(&stage.destination(), Arc::new(NoPrompts))
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
    assert!(seen.lock().unwrap().is_empty());
    crate::open(&stage.destination(), Person::with(&[]) as Arc<_>)
        .await
        .unwrap();
}
