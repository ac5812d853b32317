//! Holds the door open while something is shared, ends shares in time, and talks to who comes.
//!
//! One task, started by `serve`. Without a share it waits for a call and nothing else.
//! Invariants: the kernel says who comes; one connection carries one request; a request that does not
//! come within [`HEAD_LIMIT`] is cut; when the share that let a connection in ends, the connection is
//! dropped at once, also when its reader has stopped reading; while the site has sharing off, nobody is let in by a
//! connection of before either.
//! Not here: what may be asked (`http::guests`).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use axum::{Extension, Router};
use futures_util::future::select_all;
use hpcclient_protocol::{ApiError, ErrorCode, ShareId};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{net::UnixStream, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{Active, Reply, Shares, door::Door, record};
use crate::{
    clock,
    http::{AppState, guests},
    serve::connection,
    tasks::Tasks,
};

/// Reads the shares of before and starts the keeper. A share that is on lets guests in from here on.
pub async fn start(state: &AppState) {
    let shares = state.shares().clone();
    let calls = shares.0.calls.lock();
    let Some(mut calls) = calls.unwrap_or_else(PoisonError::into_inner).take() else {
        return;
    };
    let folder = shares.0.folder.clone();
    let read = crate::tasks::blocking(move || {
        super::door::tidy();
        record::read_all(&folder)
    });
    for record in read.await.unwrap_or_default() {
        shares.activate(&Arc::new(record));
    }
    let mut keeper = Keeper {
        router: guests::router(state.clone()),
        state: state.clone(),
        door: None,
        shares,
        coming: Arc::default(),
    };
    // Before the agent says that it serves, so that nobody finds the door shut after that.
    let _logged = keeper.keep().await;
    state.tracker().spawn(async move {
        let stopping = keeper.state.stopping().clone();
        loop {
            let called = tokio::select! {
                call = calls.recv() => call,
                () = keeper.serve() => None,
                () = stopping.cancelled() => break,
            };
            let kept = keeper.keep().await;
            if let Some(reply) = called {
                keeper.state.runs().events().tell_shares();
                let _gone: Result<(), _> = Reply::send(reply, kept);
            }
        }
        if let Err(error) = keeper.shares.audit().settle().await {
            tracing::warn!(%error, "what guests did last is not recorded");
        }
        // What is left of the door tells guests that this user's agent will be back.
        if let Some(door) = keeper.door.take()
            && keeper.state.leaves_nothing()
        {
            door.close();
        }
    });
}

struct Keeper {
    state: AppState,
    shares: Shares,
    router: Router,
    door: Option<Door>,
    /// How many connections each user has.
    coming: Coming,
}

impl Keeper {
    /// Ends what is over, and opens or closes the door.
    async fn keep(&mut self) -> Result<(), ApiError> {
        for id in self.over() {
            self.state.runs().events().tell_shares();
            if let Err(error) = self.shares.remove(id).await {
                tracing::warn!(%error, "a share that is over cannot be removed");
            }
        }
        self.state.runs().set_shared(self.shares.runs());
        if let Err(error) = self.shares.audit().settle().await {
            tracing::warn!(%error, "what guests did again is not recorded yet");
        }
        let is_open = self.door.as_ref().is_some_and(Door::is_there);
        let has_any = !self.shares.lock().is_empty();
        let off = if has_any {
            self.shares.off().await
        } else {
            None
        };
        if let Some(reason) = &off {
            tracing::warn!(reason, "sharing is off: nobody is let in");
        }
        self.shares.0.shut.store(off.is_some(), Ordering::Release);
        if off.is_some() {
            // Whoever is still inside leaves.
            self.cut_all();
        }
        let wanted = has_any && off.is_none();
        if is_open != wanted {
            if let Some(door) = self.door.take() {
                door.close();
            }
            if wanted {
                match Door::open() {
                    Ok(door) => self.door = Some(door),
                    Err(source) => {
                        let what = "the share socket cannot be opened in /tmp";
                        let error = ApiError::new(ErrorCode::Unavailable, what).caused_by(&source);
                        tracing::warn!(%error, "nobody is let in");
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    }

    /// Ends what is over for those who are inside, all of it before a disk can take its time.
    fn over(&self) -> Vec<ShareId> {
        let active = self.shares.lock();
        let over = active.iter().filter(|(_, active)| !active.is_on());
        let ended = over.map(|(id, active)| {
            active.ended.cancel();
            *id
        });
        ended.collect()
    }

    fn cut_all(&self) {
        for active in self.shares.lock().values_mut() {
            active.ended.cancel();
            // The share itself is still there, for the day on which the policy changes.
            active.ended = CancellationToken::new();
        }
    }

    /// Lets guests in until it is time to look after the door. Cancel-safe.
    async fn serve(&self) {
        let next = self
            .shares
            .lock()
            .values()
            .filter_map(|active: &Active| active.ends_at)
            .min();
        let until_next =
            next.map(|at| Duration::from_millis(at.saturating_sub(clock::since_boot_ms())));
        let Some(door) = &self.door else {
            // Without a door there may still be a share that ends, or a policy that changes.
            return match until_next {
                Some(left) => sleep(left.min(LOOK_EVERY)).await,
                None if self.shares.lock().is_empty() => std::future::pending().await,
                None => sleep(LOOK_EVERY).await,
            };
        };
        let look = sleep(until_next.unwrap_or(LOOK_EVERY).min(LOOK_EVERY));
        tokio::pin!(look);
        loop {
            let accepted = tokio::select! {
                accepted = door.listener.accept() => accepted,
                () = &mut look => return,
            };
            match accepted {
                Ok((stream, _)) => self.let_in(stream),
                Err(error) => {
                    // Mostly too many open files: accepting again at once would spin.
                    tracing::warn!(%error, "cannot accept a guest");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn let_in(&self, stream: UnixStream) {
        let Ok(peer) = stream.peer_cred() else { return };
        let uid = peer.uid();
        let Some(place) = Place::take(&self.coming, uid, self.shares.knows(uid)) else {
            tracing::debug!(uid, "too many connections of one user");
            return;
        };
        let leash = Leash::default();
        let router = self.router.clone().layer(Extension(guests::Visitor {
            uid,
            leash: leash.clone(),
        }));
        let (stopping, tracker) = (self.state.stopping().clone(), self.state.tracker().clone());
        self.state.tracker().spawn(async move {
            let talk = talk(stream, router, &tracker);
            tokio::select! {
                () = talk => {}
                () = leash.pulled() => {}
                () = stopping.cancelled() => {}
            }
            drop(place);
        });
    }
}

async fn talk(stream: UnixStream, router: Router, tracker: &Tasks) {
    // The same code as for the owner, which is why this is no server of its own.
    let mut builder = connection::builder(tracker).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(HEAD_BYTES)
        .keep_alive(false);
    let service = TowerToHyperService::new(router);
    let talking = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    if let Err(error) = talking.await {
        tracing::debug!(%error, "a guest's connection ended with an error");
    }
}

/// What ties a connection to the shares that let it in.
#[derive(Clone, Debug, Default)]
pub struct Leash(
    Arc<tokio::sync::OnceCell<Vec<CancellationToken>>>,
    Arc<tokio::sync::Notify>,
);

impl Leash {
    /// Ties the connection: it ends with the first of these tokens.
    pub fn tie(&self, ended: Vec<CancellationToken>) {
        let _tied = self.0.set(ended);
        self.1.notify_one();
    }

    async fn pulled(&self) {
        loop {
            match self.0.get() {
                Some(ended) => {
                    let ends = ended.iter().map(|ended| Box::pin(ended.cancelled()));
                    select_all(ends).await;
                    return;
                }
                None => self.1.notified().await,
            }
        }
    }
}

/// How many connections each guest has, and each stranger.
type Coming = Arc<Mutex<HashMap<(bool, u32), usize>>>;

/// A user's place among the connections; dropping it gives it back.
struct Place {
    who: (bool, u32),
    coming: Coming,
}

impl Place {
    /// Takes one. Strangers have places of their own, so that they keep no guest out.
    fn take(coming: &Coming, uid: u32, is_guest: bool) -> Option<Self> {
        let (limit, all) = if is_guest {
            (MAX_OF_GUEST, MAX_OF_GUESTS)
        } else {
            (MAX_OF_STRANGER, MAX_OF_STRANGERS)
        };
        let who = (is_guest, uid);
        let mut known = coming.lock().unwrap_or_else(PoisonError::into_inner);
        let of_user = known.get(&who).copied().unwrap_or(0);
        let alike = known.iter().filter(|((of, _), _)| *of == is_guest);
        if of_user >= limit || alike.map(|(_, number)| number).sum::<usize>() >= all {
            return None;
        }
        known.insert(who, of_user + 1);
        Some(Self {
            who,
            coming: Arc::clone(coming),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut known = self.coming.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_user) = known.get_mut(&self.who) {
            *of_user = of_user.saturating_sub(1);
            if *of_user == 0 {
                known.remove(&self.who);
            }
        }
    }
}

const HEAD_LIMIT: Duration = Duration::from_secs(10);

const HEAD_BYTES: usize = 16 * 1024;

/// The door is looked after, and the policy read, this often while something is shared.
const LOOK_EVERY: Duration = Duration::from_secs(10);

const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// A guest's page follows a few dozen runs at most.
const MAX_OF_GUEST: usize = 48;

/// Who has no share only asks whether there is one.
const MAX_OF_STRANGER: usize = 4;

const MAX_OF_GUESTS: usize = 192;

const MAX_OF_STRANGERS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_take_no_guests_place() {
        let coming = Coming::default();
        let strangers: Vec<_> = (0..100)
            .filter_map(|uid| Place::take(&coming, uid, false))
            .collect();
        assert_eq!(strangers.len(), MAX_OF_STRANGERS);
        let of_one = (0..100).filter_map(|_| Place::take(&coming, 7, true));
        assert_eq!(of_one.collect::<Vec<_>>().len(), MAX_OF_GUEST);
        drop(strangers);
        assert!(Place::take(&coming, 200, false).is_some());
        assert!(coming.lock().unwrap().is_empty());
    }
}
