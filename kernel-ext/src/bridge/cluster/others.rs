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
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

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
    links: Mutex<HashMap<String, Arc<Slot>>>,
    places: Mutex<HashMap<String, String>>,
}

/// One node; whoever holds the lock reaches it.
type Slot = tokio::sync::Mutex<Reach>;

#[derive(Debug)]
enum Reach {
    Never,
    Open(Link),
    Failed(ApiError, Instant),
}

impl Others {
    pub(super) fn new(node: Arc<dyn Node>, tasks: &TaskTracker) -> Self {
        Self {
            node,
            tasks: tasks.clone(),
            links: Mutex::default(),
            places: Mutex::default(),
        }
    }

    /// Keeps a connection to a node that was made on the way to another one.
    pub(super) async fn keep(&self, host: &str, link: Link) {
        if let Ok(slot) = self.slot(host) {
            *slot.lock().await = Reach::Open(link);
        }
    }

    /// Returns the connection to a node, and makes it if there is none.
    pub(super) async fn link(&self, host: &str) -> Result<Link, ApiError> {
        let slot = self.slot(host)?;
        let mut slot = slot.lock().await;
        match &*slot {
            Reach::Open(link) if link.is_open() => return Ok(link.clone()),
            Reach::Failed(error, at) if at.elapsed() < LEFT_ALONE => return Err(error.clone()),
            _ => {}
        }
        let node = self.node.as_ref();
        let reaching = reach(node, Some(host), OtherBuild::Keep, &NoPrompts, &self.tasks);
        match hop(reaching, host).await {
            Ok((_, _, link)) => {
                tracing::info!(node = host, "reached another node");
                *slot = Reach::Open(link.clone());
                Ok(link)
            }
            Err(error) => {
                tracing::warn!(node = host, reason = error.message, "not reached");
                *slot = Reach::Failed(error.clone(), Instant::now());
                Err(error)
            }
        }
    }

    /// Returns where a thing lives, as far as it was learnt.
    pub(super) fn place_of(&self, thing: &str) -> Option<String> {
        locked(&self.places).get(thing).cloned()
    }

    /// Remembers where a thing lives.
    pub(super) fn lives_on(&self, thing: &str, host: &str) {
        let mut places = locked(&self.places);
        if places.len() >= PLACES {
            places.clear();
        }
        places.insert(thing.to_owned(), host.to_owned());
    }

    fn slot(&self, host: &str) -> Result<Arc<Slot>, ApiError> {
        if !is_host_name(host) {
            let message = "the agent names a node that cannot be one";
            return Err(ApiError::new(ErrorCode::AgentFailed, message));
        }
        let mut links = locked(&self.links);
        if let Some(slot) = links.get(host) {
            return Ok(Arc::clone(slot));
        }
        if links.len() >= NODES {
            let message = format!("the agent named more than {NODES} nodes");
            return Err(ApiError::new(ErrorCode::Unavailable, message));
        }
        let slot = Arc::new(Slot::new(Reach::Never));
        links.insert(host.to_owned(), Arc::clone(&slot));
        Ok(slot)
    }
}

/// A poisoned lock means that a holder panicked between two plain operations; the data is whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
