//! The questions of `ssh`: its askpass program brings them here, and takes the answers back.
//!
//! Invariants: nobody but this user gets in; one question is put at a time, and each to the person anew; an answer is
//! nowhere but in the memory of the two programs and in the socket between them.

use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

use crate::askpass::{ACCEPTED, DECLINED, NAME, SOCKET};
use crate::connection::Workshop;
use crate::prompt::visible;
use crate::{Prompt, Prompter, Question, SshError};

/// The longest path of a socket on any system.
const LONGEST_PATH: usize = 103;
/// The longest question.
const LONGEST: u64 = 64 << 10;
/// How long our own program may take to bring its question.
const BRINGING: Duration = Duration::from_secs(10);

/// Where `ssh` can ask. It is gone when this is dropped.
#[derive(Debug)]
pub(super) struct Questions {
    folder: TempDir,
    listener: UnixListener,
    asking: watch::Sender<bool>,
    pub(super) asked: Asked,
}

/// What became of the questions.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// A question stayed without an answer.
    pub(super) declined: bool,
    /// Nobody was there when `ssh` was started, so it was told to ask nothing.
    pub(super) is_unattended: bool,
    /// The host key that was not accepted: host, type and fingerprint.
    pub(super) refused_key: Option<(String, String, String)>,
}

impl Questions {
    /// Makes a private folder with a name for the askpass program and its socket.
    pub(super) fn listen(workshop: &Workshop) -> Result<Self, SshError> {
        let made = || -> io::Result<Self> {
            let mut folder = private_folder(&workshop.folder)?;
            if folder.path().join(SOCKET).as_os_str().len() > LONGEST_PATH {
                folder = private_folder(&std::env::temp_dir())?;
            }
            symlink(&workshop.askpass, folder.path().join(NAME))?;
            let listener = UnixListener::bind(folder.path().join(SOCKET))?;
            Ok(Self {
                folder,
                listener,
                asking: watch::Sender::new(false),
                asked: Asked::default(),
            })
        };
        made().map_err(|source| SshError::Io {
            step: format!(
                "cannot prepare for the questions of ssh in {}",
                workshop.folder.display()
            ),
            source,
        })
    }

    /// The program that asks.
    pub(super) fn askpass(&self) -> PathBuf {
        self.folder.path().join(NAME)
    }

    /// Tells whether a person is being asked, and each time that this changes.
    pub(super) fn asking(&self) -> watch::Receiver<bool> {
        self.asking.subscribe()
    }

    /// Puts the questions to the person; returns when one that `ssh` would send an empty answer for was declined.
    pub(super) async fn serve(&mut self, prompter: &dyn Prompter) {
        let mut notices = vec![];
        loop {
            let Ok((mut stream, _)) = self.listener.accept().await else {
                // Out of descriptors, perhaps: what asks is told no by the end of its time.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let me = rustix::process::geteuid().as_raw();
            if !stream.peer_cred().is_ok_and(|peer| peer.uid() == me) {
                continue;
            }
            let asked = tokio::time::timeout(BRINGING, receive(&mut stream)).await;
            let Ok(Some((hint, text))) = asked else {
                continue;
            };
            if hint == "none" {
                // `ssh` ends its program when what it told of is done.
                prompter.progress(&visible(text.trim()));
                notices.push(stream);
                continue;
            }
            self.asking.send_replace(true);
            let goes_on = self.answer(stream, &hint, &text, prompter).await;
            self.asking.send_replace(false);
            if !goes_on {
                return;
            }
        }
    }

    /// Returns whether `ssh` may go on.
    async fn answer(
        &mut self,
        mut stream: UnixStream,
        hint: &str,
        text: &str,
        prompter: &dyn Prompter,
    ) -> bool {
        let prompt = to_prompt(hint, text);
        let kind = prompt.kind.clone();
        let answer = tokio::select! {
            answer = prompter.ask(prompt) => answer,
            // Nothing more is sent to us: `ssh` and its program were ended.
            _ = stream.read_u8() => return true,
        };
        let answer = match (&kind, answer) {
            (Question::HostKey { fingerprint, .. }, Some(said)) => accepts(&said, fingerprint),
            (_, Some(said)) if hint == "confirm" => accepts(&said, "yes"),
            (_, answer) => answer,
        };
        let Some(answer) = answer else {
            self.asked.declined = true;
            if let Question::HostKey {
                host,
                key_type,
                fingerprint,
            } = &kind
            {
                self.asked.refused_key =
                    Some((host.clone(), key_type.clone(), fingerprint.clone()));
            }
            let goes_on = matches!(kind, Question::HostKey { .. } | Question::Passphrase);
            if goes_on || hint == "confirm" {
                let _ = stream.write_all(&[DECLINED]).await;
                return true;
            }
            // Our program is told nothing: it waits for its end, and `ssh` has no answer to send.
            return false;
        };
        // A program that is gone has no use for the answer.
        let _ = stream
            .write_all(&[&[ACCEPTED], answer.as_bytes()].concat())
            .await;
        true
    }
}

fn private_folder(parent: &Path) -> io::Result<TempDir> {
    // On Unix it is made for its owner alone.
    tempfile::Builder::new().prefix("ask-").tempdir_in(parent)
}

/// Reads a hint and a question, each up to its NUL.
async fn receive(stream: &mut UnixStream) -> Option<(String, String)> {
    let mut read = vec![];
    let mut limited = stream.take(LONGEST);
    while read.iter().filter(|byte| **byte == 0).count() < 2 {
        if limited.read_buf(&mut read).await.ok()? == 0 {
            return None;
        }
    }
    let mut parts = read.split(|byte| *byte == 0);
    let mut text = || {
        parts
            .next()
            .map(|part| String::from_utf8_lossy(part).into_owned())
    };
    Some((text()?, text()?))
}

/// An answer that accepts, as `ssh` understands it: yes, or the other one.
fn accepts(said: &str, other: &str) -> Option<String> {
    let said = said.trim();
    if said.eq_ignore_ascii_case("yes") {
        Some("yes".to_owned())
    } else {
        (said == other).then(|| said.to_owned())
    }
}

/// Recognises what is asked for. The server's own questions come behind `(user@host)`, so they cannot be taken for
/// those of `ssh`.
fn to_prompt(hint: &str, text: &str) -> Prompt {
    let lower = text.to_lowercase();
    let (kind, echo) = if let Some(key) = host_key(text) {
        (key, true)
    } else if text.starts_with("Enter passphrase for") {
        (Question::Passphrase, false)
    } else if lower.trim_end().ends_with("password:") {
        (Question::Password, false)
    } else {
        (Question::Text, hint == "confirm")
    };
    Prompt {
        kind,
        text: visible(text.trim_end()),
        echo,
    }
}

fn host_key(text: &str) -> Option<Question> {
    let rest = text.strip_prefix("The authenticity of host '")?;
    let (host, rest) = rest.split_once('\'')?;
    let host = host.split_once(" (").map_or(host, |(name, _)| name);
    let (kind, rest) = rest.split_once(" key fingerprint is ")?;
    let kind = kind
        .rsplit(|character: char| character.is_whitespace())
        .next()?;
    let fingerprint = rest.split_whitespace().next()?.trim_end_matches('.');
    Some(Question::HostKey {
        host: visible(host),
        key_type: visible(&super::said::key_type(kind)),
        fingerprint: visible(fingerprint),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_questions_of_ssh_are_recognised() {
        let text = "The authenticity of host '[127.0.0.1]:2222 ([127.0.0.1]:2222)' can't be established.\n\
                    ED25519 key fingerprint is SHA256:ggZb.\nThis key is not known by any other names.\n\
                    Are you sure you want to continue connecting (yes/no/[fingerprint])? ";
        let prompt = to_prompt("", text);
        let expected = Question::HostKey {
            host: "[127.0.0.1]:2222".to_owned(),
            key_type: "ssh-ed25519".to_owned(),
            fingerprint: "SHA256:ggZb".to_owned(),
        };
        assert_eq!((prompt.kind, prompt.echo), (expected, true));
        for (text, kind) in [
            ("alice@login's password: ", Question::Password),
            ("(alice@login) Password: ", Question::Password),
            (
                "Enter passphrase for key '/home/a/.ssh/id': ",
                Question::Passphrase,
            ),
            (
                "(alice@login) One-time password (OATH) for `alice': ",
                Question::Text,
            ),
            ("(alice@login) The authenticity of host 'x", Question::Text),
            ("Enter PIN for ED25519-SK key /x: ", Question::Text),
        ] {
            let prompt = to_prompt("", text);
            assert_eq!((prompt.kind, prompt.echo), (kind, false), "{text}");
        }
        assert!(to_prompt("confirm", "Allow?").echo);
    }

    #[test]
    fn a_host_key_is_accepted_by_yes_or_its_fingerprint_only() {
        assert_eq!(accepts(" Yes\n", "SHA256:aB").as_deref(), Some("yes"));
        assert_eq!(
            accepts("SHA256:aB", "SHA256:aB").as_deref(),
            Some("SHA256:aB")
        );
        for said in ["", "y", "no", "SHA256:ab"] {
            assert_eq!(accepts(said, "SHA256:aB"), None, "{said}");
        }
    }

    proptest! {
        #[test]
        fn no_question_makes_it_panic(text in any::<String>()) {
            let _ = to_prompt("", &text);
            let _ = to_prompt("", &format!("The authenticity of host '{text}"));
        }
    }
}
