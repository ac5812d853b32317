//! Guests who look at a run: seen by the owner as viewers, and with a say in the terminal's size as every viewer.
//!
//! Called by `guests`. Invariants: a stay ends with the body that it follows; a guest's size and keys count as those
//! of the window that they opened last; that a guest left is recorded.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use hpcclient_protocol::{
    ApiError, ErrorCode, RunId, live::Access, run::TerminalSize, share::AuditEntry,
};
use tokio::time::timeout;

use super::Failure;
use crate::{clock, http::AppState, presence::Present, shares::Grant};

/// Who is inside; clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Inside(Arc<Mutex<Vec<Window>>>);

/// A guest's number, what they look at, and their place there.
type Window = (u32, RunId, Weak<Present>);

impl Inside {
    /// Shows that a guest is there, until the stay is dropped.
    pub(super) fn stay(
        &self,
        state: &AppState,
        uid: u32,
        run: RunId,
        grant: &Grant,
        access: Access,
    ) -> Stay {
        let present = Arc::new(state.presence().join(run, &grant.guest, access));
        let mut inside = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inside.retain(|(_, _, present)| present.strong_count() > 0);
        inside.push((uid, run, Arc::downgrade(&present)));
        Stay {
            _present: present,
            state: state.clone(),
            leaving: Some(entry(uid, grant, "left")),
        }
    }

    /// Returns whether a guest looks at a run now.
    pub(super) fn has(&self, uid: u32, run: RunId) -> bool {
        self.window(uid, run, |_| true).is_some()
    }

    /// Remembers the size of a guest's window; the terminal gets it now or when they type.
    pub(super) async fn resize(
        &self,
        uid: u32,
        run: RunId,
        size: TerminalSize,
    ) -> Result<(), Failure> {
        let busy = |what| Failure(ApiError::new(ErrorCode::Unavailable, what));
        let present = self
            .driving(uid, run)
            .ok_or_else(|| busy("the size counts while you follow the console"))?;
        match timeout(RESIZE_LIMIT, present.resize(size)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(super::shown::sentence(
                super::super::failure::api_error(&error).code,
            )),
            Err(_) => Err(busy("the console has not begun")),
        }
    }

    /// Says that a guest types: the terminal has their size before the keys arrive.
    pub(super) fn types(&self, uid: u32, run: RunId) {
        if let Some(present) = self.driving(uid, run) {
            // It drives, so nothing is refused.
            let _typed = present.types();
        }
    }

    fn driving(&self, uid: u32, run: RunId) -> Option<Arc<Present>> {
        self.window(uid, run, |present| present.access() == Access::Drive)
    }

    /// Returns the newest of a guest's windows to a run that fits.
    fn window(
        &self,
        uid: u32,
        run: RunId,
        fits: impl Fn(&Present) -> bool,
    ) -> Option<Arc<Present>> {
        let inside = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let theirs = inside
            .iter()
            .rev()
            .filter(|(of, at, _)| (*of, *at) == (uid, run));
        theirs
            .filter_map(|(_, _, present)| present.upgrade())
            .find(|present| fits(present))
    }
}

/// A guest who looks at a run; dropping it is leaving.
pub(super) struct Stay {
    _present: Arc<Present>,
    state: AppState,
    leaving: Option<AuditEntry>,
}

impl Drop for Stay {
    fn drop(&mut self) {
        if let Some(mut entry) = self.leaving.take() {
            entry.t_ms = clock::now_ms();
            let audit = self.state.shares().audit().clone();
            self.state.tracker().spawn(async move {
                if let Err(error) = audit.record(entry).await {
                    tracing::warn!(%error, "a guest left unrecorded");
                }
            });
        }
    }
}

pub(super) fn entry(uid: u32, grant: &Grant, action: &str) -> AuditEntry {
    AuditEntry {
        t_ms: clock::now_ms(),
        guest: grant.guest.clone(),
        uid,
        share: grant.id,
        action: action.to_owned(),
        object: grant.title.clone(),
    }
}

/// A console that waits for its turn has no terminal yet.
const RESIZE_LIMIT: Duration = Duration::from_secs(2);
