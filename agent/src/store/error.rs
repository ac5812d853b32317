//! Why the store could not do what it was asked.

use std::{io, path::PathBuf};

use hpcclient_protocol::{ApiError, ErrorCode, RunId};

/// A failure of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A run of this id is already there.
    #[error("run {id} exists already")]
    Exists {
        /// The id.
        id: RunId,
    },
    /// There is no such run.
    #[error("run {id} is not in the store")]
    NotFound {
        /// The id.
        id: RunId,
    },
    /// The disk or the quota is so full that a new run is refused.
    #[error("{path} has {free_bytes} bytes and {free_inodes} files left, too few for a new run")]
    NoSpace {
        /// Where.
        path: PathBuf,
        /// Bytes left for this user.
        free_bytes: u64,
        /// Files left for this user.
        free_inodes: u64,
    },
    /// A reader asked for bytes beyond the end of a stream.
    #[error("offset {offset} is beyond the end of {stream}, which has {size} bytes")]
    BadOffset {
        /// The stream.
        stream: &'static str,
        /// What was asked for.
        offset: u64,
        /// What there is.
        size: u64,
    },
    /// A file holds something that was never written by us, or was written by half.
    #[error("{path} is damaged: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The operating system refused.
    #[error("cannot {action} {path}")]
    Io {
        /// What was being done, such as `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it was refused.
        #[source]
        source: io::Error,
    },
}

impl StoreError {
    /// Makes an error of the operating system out of its parts.
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
        source: impl Into<io::Error>,
    ) -> Self {
        let (path, source) = (path.into(), source.into());
        Self::Io {
            action,
            path,
            source,
        }
    }

    /// Returns the error in the words of the API.
    #[must_use]
    pub fn to_api(&self) -> ApiError {
        let code = match self {
            Self::Exists { .. } => ErrorCode::Conflict,
            Self::NotFound { .. } => ErrorCode::NotFound,
            Self::NoSpace { .. } => ErrorCode::NoSpace,
            Self::BadOffset { .. } => ErrorCode::BadOffset,
            Self::Damaged { .. } => ErrorCode::Internal,
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorCode::NoSpace,
                io::ErrorKind::PermissionDenied => ErrorCode::Forbidden,
                _ => ErrorCode::Internal,
            },
        };
        let error = ApiError::new(code, self.to_string());
        let error = match std::error::Error::source(self) {
            Some(cause) => error.caused_by(cause),
            None => error,
        };
        if code == ErrorCode::NoSpace {
            error.hint("delete what you do not need there, or set `node_home` to a larger disk")
        } else {
            error
        }
    }

    /// Returns the error and its cause in one line, for a run's `reason`.
    #[must_use]
    pub fn in_one_line(&self) -> String {
        match self {
            Self::Io { source, .. } => {
                // The number that std appends says nothing to a user.
                let cause = source.to_string();
                let cause = cause.split(" (os error").next().unwrap_or_default();
                format!("{self}: {}", cause.to_lowercase())
            }
            _ => self.to_string(),
        }
    }
}
