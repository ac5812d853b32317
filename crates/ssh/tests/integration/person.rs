//! A person with prepared answers.

use std::collections::VecDeque;
use std::future::ready;
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use hpcclient_ssh::{Prompt, Prompter};

/// Gives its answers in order and remembers what it was asked and told.
#[derive(Default)]
pub(crate) struct Person {
    answers: Mutex<VecDeque<String>>,
    asked: Mutex<Vec<Prompt>>,
    told: Mutex<Vec<String>>,
}

impl Person {
    pub(crate) fn with(answers: &[&str]) -> Arc<Self> {
        Arc::new(Self {
            answers: Mutex::new(answers.iter().map(|answer| (*answer).to_owned()).collect()),
            ..Self::default()
        })
    }

    pub(crate) fn asked(&self) -> Vec<Prompt> {
        self.asked.lock().unwrap().clone()
    }

    pub(crate) fn told(&self) -> String {
        self.told.lock().unwrap().join("\n")
    }
}

impl Prompter for Person {
    fn ask(&self, prompt: Prompt) -> BoxFuture<'_, Option<String>> {
        self.asked.lock().unwrap().push(prompt);
        Box::pin(ready(self.answers.lock().unwrap().pop_front()))
    }

    fn progress(&self, message: &str) {
        self.told.lock().unwrap().push(message.to_owned());
    }
}
