//! Further keys of a server that is known: it announces them after the login, proves to have them, and known_hosts
//! learns them, so that a site can change its key without anybody being asked (`UpdateHostKeys`).
//!
//! Invariants: a key is written only after the server signed with it in this very session; nothing is ever removed.
//! OpenSSH also drops keys that are no longer announced, which means writing the whole file anew while others may append
//! to it; an old key that stays does no harm that it did not do before.

use std::path::PathBuf;
use std::sync::{Arc, Weak};

use russh::keys::{HashAlg, PublicKey};
use tokio::sync::oneshot;

use super::Inner;
use crate::known_hosts::remember;
use crate::prompt::visible;
use crate::{Destination, Prompter};

/// Where new keys go.
pub(super) struct Learner {
    file: Option<PathBuf>,
    name: String,
    hashed: bool,
    prompter: Arc<dyn Prompter>,
}

impl Learner {
    pub(super) fn new(destination: &Destination, prompter: Arc<dyn Prompter>) -> Self {
        Self {
            file: destination.known_hosts.first().cloned(),
            name: destination.host_key_name(),
            hashed: destination.hash_known_hosts,
            prompter,
        }
    }
}

/// Waits for the announcement and learns what is proven. Ends with the session.
pub(super) async fn learn(
    announced: oneshot::Receiver<Vec<PublicKey>>,
    login: Weak<Inner>,
    learner: Learner,
) {
    let Ok(keys) = announced.await else { return };
    if keys.is_empty() {
        return;
    }
    let Some(login) = login.upgrade() else { return };
    if let Err(error) = login.opener.prove(keys.clone()).await {
        return tracing::warn!(%error, "the server did not prove its new keys");
    }
    drop(login);
    let Some(file) = learner.file else { return };
    let shown = file.display().to_string();
    let list: Vec<String> = keys
        .iter()
        .map(|key| format!("{} {}", key.algorithm(), key.fingerprint(HashAlg::Sha256)))
        .collect();
    let (name, hashed) = (learner.name, learner.hashed);
    let saved = tokio::task::spawn_blocking(move || remember(&file, &name, hashed, &keys)).await;
    learner.prompter.progress(&visible(&match saved {
        Ok(Ok(())) => format!(
            "the server's new keys were added to {shown}: {}",
            list.join(", ")
        ),
        Ok(Err(error)) => format!("the server's new keys could not be added to {shown}: {error}"),
        Err(error) => format!("the server's new keys could not be added to {shown}: {error}"),
    }));
}
