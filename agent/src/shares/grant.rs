//! What a guest is let in by; looked at by `http::guests` with each question.
//!
//! Invariant: a name counts while it still is the user's with whom it was shared.

use std::{path::Path, sync::atomic::Ordering};

use hpcclient_protocol::{
    RunId, ShareId, StreamName,
    live::Access,
    share::{Share, SharedObject},
};
use tokio_util::sync::CancellationToken;

use super::{Active, Shares, record::Record};
use crate::files::Inode;

/// What a guest was let in by: one share, or several that each show a part.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The share; the first of several.
    pub id: ShareId,
    /// The guest's login name.
    pub guest: String,
    /// What they may do.
    pub access: Access,
    /// The only streams they may see; all, when empty.
    pub streams: Vec<StreamName>,
    /// What the share is about, in one line.
    pub title: String,
    /// The file that was shared, if it is one.
    pub inode: Option<Inode>,
    /// One of them is cancelled when a share that this needs ends.
    pub ended: Vec<CancellationToken>,
}

impl Grant {
    /// Returns whether it shows a stream.
    #[must_use]
    pub fn shows(&self, stream: StreamName) -> bool {
        self.streams.is_empty() || self.streams.contains(&stream)
    }

    /// Adds what another share shows. Neither shows all, because then it alone would be enough.
    pub fn join(&mut self, other: &Self) {
        if other.streams.iter().all(|stream| self.shows(*stream)) {
            return;
        }
        self.streams.extend(&other.streams);
        self.ended.extend(other.ended.iter().cloned());
    }
}

impl Shares {
    /// Returns what a guest may do with a run, by each share of it; the one that allows most comes first.
    pub async fn grants_of_run(&self, uid: u32, run: RunId) -> Vec<Grant> {
        self.grants(uid, |record| record.run() == Some(run)).await
    }

    /// Returns by what a guest may read a file.
    pub async fn grant_file(&self, uid: u32, path: &Path) -> Option<Grant> {
        let grants = self.grants(uid, |record| record.file().as_deref() == Some(path));
        grants.await.into_iter().next()
    }

    /// Returns what is shared with a guest, in the words for them.
    pub async fn for_guest(&self, uid: u32) -> Vec<Share> {
        let mut shares = Vec::new();
        for active in self.of_uid(uid) {
            let Some(name) = self.name_in(&active, uid).await else {
                continue;
            };
            let mut share = active.record.share.clone();
            share.spec.guests = vec![name];
            shares.push(share);
        }
        shares
    }

    /// Returns whether anything is shared with a user, and is not asked who that is.
    #[must_use]
    pub fn knows(&self, uid: u32) -> bool {
        !self.of_uid(uid).is_empty()
    }

    async fn grants(&self, uid: u32, fits: impl Fn(&Record) -> bool) -> Vec<Grant> {
        let mut found: Vec<Active> = self.of_uid(uid);
        found.retain(|active| fits(&active.record));
        found.sort_by_key(|active| {
            let spec = &active.record.share.spec;
            let is_part =
                matches!(&spec.object, SharedObject::Run { streams, .. } if !streams.is_empty());
            (spec.access == Access::View, is_part)
        });
        let mut grants = Vec::new();
        for active in found {
            if let Some(guest) = self.name_in(&active, uid).await {
                let share = &active.record.share;
                let streams = match &share.spec.object {
                    SharedObject::Run { streams, .. } => streams.clone(),
                    SharedObject::File { .. } => vec![],
                };
                grants.push(Grant {
                    id: share.id,
                    guest,
                    access: share.spec.access,
                    streams,
                    title: share.title.clone(),
                    inode: active.record.inode,
                    ended: vec![active.ended.clone()],
                });
            }
        }
        grants
    }

    fn of_uid(&self, uid: u32) -> Vec<Active> {
        if self.0.shut.load(Ordering::Acquire) {
            return vec![];
        }
        let active = self.lock();
        let on = active.values().rev().filter(|active| active.is_on());
        on.filter(|active| active.record.guests.iter().any(|guest| guest.uid == uid))
            .cloned()
            .collect()
    }

    /// Returns the name that a share has for a uid, if it still is that user's: the number of a user
    /// who left may have been given to another.
    async fn name_in(&self, active: &Active, uid: u32) -> Option<String> {
        for guest in &active.record.guests {
            if guest.uid == uid {
                let now = self.0.names.user(&guest.name).await;
                if now.is_some_and(|user| user.uid == uid) {
                    return Some(guest.name.clone());
                }
            }
        }
        None
    }
}
