//! Questions to the person at the keyboard, and the neutralised text they are made of.
//!
//! The bridge implements [`Prompter`] for a terminal or a page; [`NoPrompts`] is for reconnects, when nobody watches.
//!
//! Invariants: every text in a [`Prompt`] has been through [`visible`], because much of it was chosen by a server.

use std::fmt::Write as _;

use futures_util::future::BoxFuture;

/// The longest question that is shown; a server has no business asking for more.
const LONGEST_TEXT: usize = 2_000;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Whether to trust a host key seen for the first time: `yes` or anything else.
    HostKey {
        /// The name that known_hosts will know the host by.
        host: String,
        /// The key's type, as in known_hosts.
        key_type: String,
        /// `SHA256:…`.
        fingerprint: String,
    },
    /// The account's password.
    Password,
    /// A private key's passphrase.
    Passphrase,
    /// Something the server asks in its own words, such as a one-time password.
    Text,
}

/// One question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// What is asked for.
    pub kind: Question,
    /// The question, with control characters made visible.
    pub text: String,
    /// Whether the answer may be shown while it is typed.
    pub echo: bool,
}

/// Whoever can answer questions.
pub trait Prompter: Send + Sync {
    /// Asks and waits; `None` when nobody answers or the person declined.
    fn ask(&self, prompt: Prompt) -> BoxFuture<'_, Option<String>>;

    /// Tells what is being done, for people.
    fn progress(&self, message: &str);

    /// Whether anybody could answer now. If not, no dialogue is begun: it may begin with a message to a telephone.
    fn is_anybody_there(&self) -> bool {
        true
    }

    /// Tells what would have been asked, had anybody been there.
    fn missed(&self, _question: &str) {}
}

/// What is missed where no dialogue was begun, so that its question is not known.
pub(crate) const SOME_QUESTION: &str = "a password or a code";

/// Nobody: every question stays without an answer.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPrompts;

impl Prompter for NoPrompts {
    fn ask(&self, _prompt: Prompt) -> BoxFuture<'_, Option<String>> {
        Box::pin(std::future::ready(None))
    }

    fn progress(&self, message: &str) {
        tracing::debug!(message, "ssh");
    }

    fn is_anybody_there(&self) -> bool {
        false
    }
}

/// Returns text with every character that could act on a terminal or reorder a line written out as `\u{…}`.
///
/// Newlines stay, tabs become spaces, and what is too long is cut.
#[must_use]
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (count, character) in text.chars().enumerate() {
        if count == LONGEST_TEXT {
            out.push('…');
            break;
        }
        match character {
            '\n' => out.push('\n'),
            '\t' => out.push(' '),
            // A carriage return before a newline is how servers end lines.
            '\r' => {}
            hidden if acts_on_the_reader(hidden) => {
                // Writing to a String cannot fail.
                let _ = write!(out, "{}", hidden.escape_unicode());
            }
            plain => out.push(plain),
        }
    }
    out
}

/// The last `limit` characters of text, made visible: what an error shows of a long output.
pub(crate) fn visible_end(text: &str, limit: usize) -> String {
    let text = text.trim();
    let skip = text.chars().count().saturating_sub(limit);
    let end: String = text.chars().skip(skip).collect();
    if skip == 0 {
        visible(&end)
    } else {
        format!("…{}", visible(&end))
    }
}

fn acts_on_the_reader(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escapes_and_direction_marks_are_written_out() {
        for (given, shown) in [
            ("Password: ", "Password: "),
            ("\u{1b}[2J\u{7}Password:", "\\u{1b}[2J\\u{7}Password:"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("a\u{202e}b\u{2066}c", "a\\u{202e}b\\u{2066}c"),
            ("one\r\ntwo\tthree", "one\ntwo three"),
            ("Grüße, 密码", "Grüße, 密码"),
        ] {
            assert_eq!(visible(given), shown);
        }
    }

    #[test]
    fn a_carriage_return_cannot_overwrite_a_line() {
        assert!(!visible("safe\rEVIL").contains('\r'));
    }

    #[test]
    fn a_flood_is_cut() {
        assert!(visible(&"x".repeat(1 << 20)).chars().count() <= LONGEST_TEXT + 1);
        assert_eq!(visible_end("0123456789", 4), "…6789");
    }

    proptest! {
        #[test]
        fn nothing_that_acts_gets_through(text in any::<String>()) {
            prop_assert!(visible(&text).chars().all(|c| c == '\n' || !acts_on_the_reader(c)));
        }
    }
}
