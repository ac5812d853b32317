//! The methods in which a person answers: `keyboard-interactive` in the server's words, and `password`.
//!
//! Invariants: an answer goes into one request and is forgotten, whatever becomes of it; only a password that was typed
//! after its session had ended is kept for the next one, from which it is taken before it is sent.

use russh::client::KeyboardInteractiveAuthResponse as Reply;

use super::{Login, Outcome, PERSON_DEADLINE, answered_within};
use crate::prompt::visible;
use crate::{Prompt, Question, SshError};

/// A dialogue with more rounds than this does not end.
const MOST_ROUNDS: usize = 20;
/// A round with more questions than this is no dialogue.
const MOST_PROMPTS: usize = 16;
/// A longer text is shown by itself, so that the question after it is not cut off.
const LONGEST_INTRODUCTION: usize = 1_000;

impl Login<'_> {
    pub(super) async fn keyboard_interactive(&mut self) -> Result<Outcome, SshError> {
        self.tried.push("keyboard-interactive".to_owned());
        let user = self.destination.user.clone();
        let handle = &mut self.session.handle;
        let start = handle.authenticate_keyboard_interactive_start(user, None::<String>);
        let mut reply = answered_within(PERSON_DEADLINE, start).await?;
        let mut is_counted = false;
        for round in 0..MOST_ROUNDS {
            let (name, instructions, prompts) = match reply {
                Reply::Success => return Ok(Outcome::Accepted),
                Reply::Failure {
                    remaining_methods,
                    partial_success,
                } => {
                    return Ok(Outcome::Refused {
                        remaining: remaining_methods,
                        partial: partial_success,
                    });
                }
                Reply::InfoRequest {
                    name,
                    instructions,
                    prompts,
                } => (name, instructions, prompts),
            };
            if prompts.len() > MOST_PROMPTS {
                return Err(SshError::Protocol {
                    reason: format!("the server asks {} questions at once", prompts.len()),
                });
            }
            // Most servers just begin anew.
            let refused = round == 0 && self.secrets.refused > 0;
            let refusal = if refused { "That was refused." } else { "" }.to_owned();
            let mut introduction = [refusal, name, instructions]
                .into_iter()
                .filter(|text| !text.trim().is_empty())
                .collect::<Vec<_>>()
                .join("\n");
            let long = introduction.chars().count() > LONGEST_INTRODUCTION;
            if long || (prompts.is_empty() && !introduction.is_empty()) {
                self.prompter.progress(&visible(&introduction));
                introduction.clear();
            }
            let mut answers = vec![];
            for prompt in prompts {
                if !introduction.is_empty() {
                    introduction.push('\n');
                }
                let text = std::mem::take(&mut introduction) + &prompt.prompt;
                let kind = if !prompt.echo && prompt.prompt.to_lowercase().contains("password:") {
                    Question::Password
                } else {
                    Question::Text
                };
                match self.ask(kind, &text, prompt.echo).await {
                    Some(answer) => answers.push(answer),
                    None => return Ok(Outcome::Declined),
                }
            }
            if !answers.is_empty() && !is_counted {
                self.secrets.sent += 1;
                is_counted = true;
            }
            let handle = &mut self.session.handle;
            let respond = handle.authenticate_keyboard_interactive_respond(answers);
            reply = answered_within(PERSON_DEADLINE, respond).await?;
        }
        Err(SshError::Protocol {
            reason: "the server does not stop asking".to_owned(),
        })
    }

    pub(super) async fn password(&mut self) -> Result<Outcome, SshError> {
        let password = match self.secrets.unsent_password.take() {
            Some(password) => password,
            None => {
                let again = if self.secrets.refused == 0 {
                    ""
                } else {
                    "That was refused. "
                };
                let text = format!(
                    "{again}Password for {}@{}:",
                    self.destination.user, self.destination.hostname
                );
                match self.ask(Question::Password, &text, false).await {
                    Some(password) => password,
                    None => return Ok(Outcome::Declined),
                }
            }
        };
        if let Some(reason) = self.end_of_session().await {
            self.secrets.unsent_password = Some(password);
            return Err(SshError::Closed { reason });
        }
        self.tried.push("password".to_owned());
        self.secrets.sent += 1;
        let user = self.destination.user.clone();
        let request = self.session.handle.authenticate_password(user, password);
        Ok(answered_within(PERSON_DEADLINE, request).await?.into())
    }

    pub(super) async fn ask(&mut self, kind: Question, text: &str, echo: bool) -> Option<String> {
        self.secrets.asked = true;
        let prompt = Prompt {
            kind,
            text: visible(text),
            echo,
        };
        let answer = self.prompter.ask(prompt).await;
        self.needs_person |= answer.is_none();
        answer
    }
}
