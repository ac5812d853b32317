//! The other nodes of a cluster: a connection to each that has a run somebody asked for.
//!
//! Made with a login and gone with it. Invariants: one connection a node, made once by whoever
//! comes first while the rest wait; a node that could not be reached is left alone for a while; the
//! agent's word for a node is checked before it is used as a name.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hpcclient_protocol::{ApiError, ErrorCode};
use hpcclient_ssh::NoPrompts;
use tokio::{sync::watch, time::Instant};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use super::{
    arrive::hop,
    link::Link,
    reach::{OtherBuild, reach},
};
use crate::bridge::node::{Node, is_host_name};

/// How long a node is left alone that could not be reached.
const LEFT_ALONE: Duration = Duration::from_secs(10);

/// How many nodes are reached at most.
const NODES: usize = 32;

/// How many places are remembered; then all are forgotten, which costs one more round trip each.
const PLACES: usize = 4096;

/// The other nodes, by way of the one that the login landed on.
#[derive(Debug)]
pub(super) struct Others {
    node: Arc<dyn Node>,
    tasks: TaskTracker,
    ways: Mutex<HashMap<String, watch::Receiver<Reach>>>,
    places: Mutex<HashMap<String, String>>,
    over: CancellationToken,
    _end: DropGuard,
}

/// How far the way to a node is; a task of its own makes it.
#[derive(Clone, Debug)]
enum Reach {
    OnTheWay,
    Open(Link),
    Failed(ApiError, Instant),
}

impl Reach {
    /// Returns whether it may still be used, or is worth waiting for.
    fn holds(&self) -> bool {
        match self {
            Self::OnTheWay => true,
            Self::Open(link) => link.is_open(),
            Self::Failed(_, at) => at.elapsed() < LEFT_ALONE,
        }
    }
}

impl Others {
    pub(super) fn new(node: Arc<dyn Node>, tasks: &TaskTracker) -> Self {
        let over = CancellationToken::new();
        Self {
            node,
            tasks: tasks.clone(),
            ways: Mutex::default(),
            places: Mutex::default(),
            _end: over.clone().drop_guard(),
            over,
        }
    }

    /// Keeps a connection to a node that was made on the way to another one.
    pub(super) fn keep(&self, host: &str, link: Link) {
        let (_, way) = watch::channel(Reach::Open(link));
        locked(&self.ways).insert(host.to_owned(), way);
    }

    /// Returns the connection to a node, and makes it if there is none.
    pub(super) async fn link(&self, host: &str) -> Result<Link, ApiError> {
        let mut way = self.way(host)?;
        let end = way.wait_for(|reach| !matches!(reach, Reach::OnTheWay));
        let end = end.await.map(|reach| reach.clone());
        match end {
            Ok(Reach::Open(link)) => Ok(link),
            Ok(Reach::Failed(error, _)) => Err(error),
            Ok(Reach::OnTheWay) | Err(_) => Err(lost()),
        }
    }

    /// Returns the way to a node, and begins it if there is none that holds.
    fn way(&self, host: &str) -> Result<watch::Receiver<Reach>, ApiError> {
        if !is_host_name(host) {
            let message = "the agent names a node that cannot be one";
            return Err(ApiError::new(ErrorCode::AgentFailed, message));
        }
        let mut ways = locked(&self.ways);
        match ways.get(host) {
            Some(way) if way.borrow().holds() => return Ok(way.clone()),
            None if ways.len() >= NODES => {
                let message = format!("the agent named more than {NODES} nodes");
                return Err(ApiError::new(ErrorCode::Unavailable, message));
            }
            _ => {}
        }
        let (found, way) = watch::channel(Reach::OnTheWay);
        ways.insert(host.to_owned(), way.clone());
        let (node, tasks) = (Arc::clone(&self.node), self.tasks.clone());
        let (over, host) = (self.over.clone(), host.to_owned());
        self.tasks.spawn(async move {
            let node = node.as_ref();
            let reaching = reach(node, Some(&host), OtherBuild::Keep, &NoPrompts, &tasks);
            let reached = over.run_until_cancelled(hop(reaching, &host)).await;
            found.send_replace(match reached.unwrap_or_else(|| Err(lost())) {
                Ok((_, _, link)) => {
                    tracing::info!(node = host, "reached another node");
                    Reach::Open(link)
                }
                Err(error) => {
                    tracing::warn!(node = host, reason = error.message, "not reached");
                    Reach::Failed(error, Instant::now())
                }
            });
        });
        Ok(way)
    }

    /// Returns the connection to the node where a thing lives, if both are at hand. Without the
    /// connection the place is forgotten: nobody waits for a node that may be dead while the one we
    /// are on can say what is stored, and whether the other is needed.
    pub(super) fn known_way(&self, thing: &str) -> Option<Link> {
        let host = locked(&self.places).get(thing).cloned()?;
        let way = locked(&self.ways).get(&host).cloned();
        let way = way.map(|way| way.borrow().clone());
        match way {
            Some(Reach::Open(link)) if link.is_open() => Some(link),
            _ => {
                locked(&self.places).remove(thing);
                None
            }
        }
    }

    /// Remembers where a thing lives.
    pub(super) fn lives_on(&self, thing: &str, host: &str) {
        let mut places = locked(&self.places);
        if places.len() >= PLACES {
            places.clear();
        }
        places.insert(thing.to_owned(), host.to_owned());
    }
}

fn lost() -> ApiError {
    ApiError::new(ErrorCode::Unavailable, "the connection was lost")
}

/// A poisoned lock means that a holder panicked between two plain operations; the data is whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
