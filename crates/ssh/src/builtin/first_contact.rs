//! A session with a server whose key is not known yet: the person is asked, and then a new session has to show the
//! same key.
//!
//! Invariants: the session that showed an unknown key is over before the person is asked, and nothing was sent in it.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError};

use russh::keys::PublicKey;

use super::way::Way;
use crate::known_hosts::{KnownHost, remember};
use crate::prompt::visible;
use crate::session::{Session, ShownKey};
use crate::{Destination, Prompt, Prompter, Question, SshError, StrictHostKeyChecking};

/// Starts a session with a server whose key is known, or accepted on the way.
pub(super) async fn session(
    destination: &Destination,
    way: &Way,
    accepted: &mut Option<PublicKey>,
    prompter: &Arc<dyn Prompter>,
) -> Result<(Session, Option<IpAddr>), SshError> {
    let shown = ShownKey::default();
    let known = known_host(destination).await;
    let first = way
        .session(destination, known, accepted.as_ref(), &shown, prompter)
        .await;
    let Err(unknown @ SshError::HostKeyUnknown { .. }) = first else {
        return first;
    };
    let Some(key) = shown.lock().unwrap_or_else(PoisonError::into_inner).take() else {
        return Err(unknown);
    };
    if !accept(destination, &unknown, &**prompter).await {
        return Err(unknown);
    }
    save(destination, &key, &**prompter).await;
    *accepted = Some(key);
    let known = known_host(destination).await;
    let shown = ShownKey::default();
    // Of several nodes behind one name, the one whose key was shown.
    let same_node = Destination {
        preferred_address: way.last_address().or(destination.preferred_address),
        ..destination.clone()
    };
    way.session(&same_node, known, accepted.as_ref(), &shown, prompter)
        .await
}

async fn known_host(destination: &Destination) -> KnownHost {
    let files = destination.known_hosts.clone();
    let name = destination.host_key_name();
    let read = tokio::task::spawn_blocking(move || KnownHost::read(&files, &name));
    read.await.unwrap_or_default()
}

async fn accept(destination: &Destination, unknown: &SshError, prompter: &dyn Prompter) -> bool {
    let SshError::HostKeyUnknown {
        host,
        key_type,
        fingerprint,
    } = unknown
    else {
        return false;
    };
    match destination.strict_host_key_checking {
        StrictHostKeyChecking::Yes => return false,
        StrictHostKeyChecking::AcceptNew => return true,
        StrictHostKeyChecking::Ask => {}
    }
    let text = format!(
        "The authenticity of host {host} cannot be established.\n\
         Its {key_type} key has the fingerprint {fingerprint}.\n\
         Connect and remember this key (yes/no)?"
    );
    let prompt = Prompt {
        kind: Question::HostKey {
            host: visible(host),
            key_type: key_type.clone(),
            fingerprint: fingerprint.clone(),
        },
        text: visible(&text),
        echo: true,
    };
    let answer = prompter.ask(prompt).await.unwrap_or_default();
    let answer = answer.trim();
    answer.eq_ignore_ascii_case("yes") || answer == fingerprint
}

/// Remembers the key. A file that cannot be written must not keep the person from what they agreed to.
async fn save(destination: &Destination, key: &PublicKey, prompter: &dyn Prompter) {
    let Some(file) = destination.known_hosts.first().cloned() else {
        return;
    };
    let shown = file.display().to_string();
    let name = destination.host_key_name();
    let key = key.clone();
    let hashed = destination.hash_known_hosts;
    let saved = tokio::task::spawn_blocking(move || remember(&file, &name, hashed, &[key])).await;
    match saved.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
        Ok(()) => prompter.progress(&visible(&format!("the host key was added to {shown}"))),
        Err(error) => prompter.progress(&visible(&format!(
            "the host key could not be added to {shown}: {error}"
        ))),
    }
}
