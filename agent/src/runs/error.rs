//! What can go wrong with a run, in the agent's own words. `http::failure` turns it into the wire's.

use std::{io, path::PathBuf, sync::Arc};

use hpcclient_protocol::{ApiError, RunId, SessionId};

use crate::{shim::control::ControlError, store::StoreError};

/// A failure of the registry of runs.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No such run is stored.
    #[error("run {id} does not exist")]
    NotFound {
        /// The id.
        id: RunId,
    },
    /// No such session lives.
    #[error("session {id} does not exist")]
    NoSession {
        /// The id.
        id: SessionId,
    },
    /// The id was used for something else.
    #[error("run {id} exists with another spec")]
    OtherSpec {
        /// The id.
        id: RunId,
    },
    /// The spec cannot be run.
    #[error("{0}")]
    BadSpec(ApiError),
    /// The request is not one that a run understands.
    #[error("{what}")]
    BadRequest {
        /// What is wrong.
        what: String,
    },
    /// The run lives on another node, and only that node's agent can reach it.
    #[error("run {id} is on node {host}")]
    OtherNode {
        /// The id.
        id: RunId,
        /// The node.
        host: String,
    },
    /// The run has ended.
    #[error("run {id} has ended")]
    Ended {
        /// The id.
        id: RunId,
    },
    /// The run has not ended.
    #[error("run {id} has not ended")]
    Living {
        /// The id.
        id: RunId,
    },
    /// The run has ended, but what it left behind still writes.
    #[error("run {id} has ended, but processes that it left behind still write its output")]
    Written {
        /// The id.
        id: RunId,
    },
    /// The run is shared with others.
    #[error("run {id} is shared")]
    IsShared {
        /// The id.
        id: RunId,
    },
    /// The run's supervisor is gone: it can be signalled and killed, and nothing else.
    #[error("run {id} lost its supervisor, and can only be killed")]
    Orphaned {
        /// The id.
        id: RunId,
    },
    /// The operating system does not let us signal it.
    #[error("cannot signal the process of run {id}")]
    Signal {
        /// The id.
        id: RunId,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The run was made without stdin, or without a terminal.
    #[error("run {id} has no {what}")]
    Without {
        /// The id.
        id: RunId,
        /// What it lacks.
        what: &'static str,
    },
    /// Whoever asks may look at the run and do nothing to it.
    #[error("run {id} is only viewed here: nothing can be typed, and its size is not set")]
    OnlyViewed {
        /// The id.
        id: RunId,
    },
    /// There are no files left to read one more run with.
    #[error("too many streams are read from this node's agent at the same time")]
    TooManyReaders,
    /// The session's directory is gone.
    #[error("the session's directory {path} does not exist any more")]
    DirectoryGone {
        /// The directory.
        path: PathBuf,
    },
    /// No process could be started.
    #[error("cannot start a process on this node")]
    Spawn {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The process that keeps the run does not answer.
    #[error("the supervisor of run {id} cannot be reached")]
    Unreachable {
        /// The id.
        id: RunId,
    },
    /// The process that keeps the run or the session has just ended.
    #[error("the supervisor of the run has ended")]
    Gone,
    /// The supervisor does not take what it is sent as fast as it comes.
    #[error("the supervisor of the run has too much to do")]
    Busy,
    /// stdin was not taken.
    #[error("stdin was not taken: {reason}")]
    Stdin {
        /// Why, in the supervisor's words.
        reason: String,
    },
    /// A control message cannot be sent.
    #[error("the request does not fit a control message")]
    Control {
        /// Why.
        #[from]
        source: ControlError,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A task ended before its answer: the agent is stopping.
    #[error("the agent is stopping")]
    Stopping,
    /// The same failure, told to more than one who waited.
    #[error(transparent)]
    Shared(Arc<Self>),
}

impl RunError {
    /// Returns whether the node has no room for one more process now, but may have later.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::Spawn { source } => source.kind() == io::ErrorKind::WouldBlock,
            _ => false,
        }
    }
}
