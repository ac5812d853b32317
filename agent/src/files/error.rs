//! Why a path cannot be listed or read, and how viewers are told.

use std::io;

use hpcclient_protocol::{ApiError, ByteString, ErrorCode};
use rustix::io::Errno;

/// Says why a path cannot be listed or read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The request has no `path`.
    #[error("`path` is missing")]
    NoPath,
    /// The path is relative, names another user's home or holds a NUL byte.
    #[error("`path` is neither absolute nor starts with `~/`: {}", path.to_lossy())]
    BadPath {
        /// As it was asked for.
        path: ByteString,
    },
    /// The operating system refused.
    #[error("cannot read {}", path.to_lossy())]
    Io {
        /// The path.
        path: ByteString,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// A directory was asked for and the path is something else.
    #[error("not a directory: {}", path.to_lossy())]
    NotDirectory {
        /// The path.
        path: ByteString,
    },
    /// A file was asked for and the path is a directory.
    #[error("a directory, not a file: {}", path.to_lossy())]
    IsDirectory {
        /// The path.
        path: ByteString,
    },
    /// The path is a fifo, a socket or a device.
    #[error("not a regular file: {}", path.to_lossy())]
    Special {
        /// The path.
        path: ByteString,
    },
    /// The file belongs to another user, or a link leads to it; such a file is not for others.
    #[error("not your own file at this very path: {}", path.to_lossy())]
    NotOwn {
        /// The path.
        path: ByteString,
    },
    /// The path lies in a file system that the kernel makes up, such as `/proc`.
    #[error("not a stored file: {}", path.to_lossy())]
    Kernel {
        /// The path.
        path: ByteString,
    },
    /// The directory has more entries than can be sorted here.
    #[error("more than {limit} entries: {}", path.to_lossy())]
    TooMany {
        /// The path.
        path: ByteString,
        /// The limit.
        limit: usize,
    },
    /// The file system did not answer in time.
    #[error("the file system does not answer")]
    NoAnswer,
}

impl FileError {
    /// Makes an error of what a system call said about a path.
    pub(super) fn io(path: &[u8], source: impl Into<io::Error>) -> Self {
        let path = ByteString::from(path.to_vec());
        let source = source.into();
        Self::Io { path, source }
    }

    fn code(&self) -> ErrorCode {
        match self {
            Self::NoPath | Self::BadPath { .. } => ErrorCode::BadRequest,
            Self::NotDirectory { .. }
            | Self::IsDirectory { .. }
            | Self::Special { .. }
            | Self::Kernel { .. } => ErrorCode::Conflict,
            Self::NotOwn { .. } => ErrorCode::Forbidden,
            Self::TooMany { .. } => ErrorCode::TooLarge,
            Self::NoAnswer => ErrorCode::Unavailable,
            Self::Io { source, .. } => match Errno::from_io_error(source) {
                Some(Errno::NOENT) => ErrorCode::NotFound,
                Some(Errno::NOTDIR) => ErrorCode::Conflict,
                Some(Errno::ACCESS | Errno::PERM) => ErrorCode::Forbidden,
                Some(Errno::NAMETOOLONG | Errno::LOOP | Errno::INVAL) => ErrorCode::BadRequest,
                Some(Errno::IO | Errno::STALE | Errno::TIMEDOUT | Errno::HOSTDOWN) => {
                    ErrorCode::Unavailable
                }
                _ => ErrorCode::Internal,
            },
        }
    }

    const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Special { .. } => Some("only regular files can be opened here"),
            Self::NotOwn { .. } => Some("only your own files can be shared"),
            Self::Kernel { .. } => Some("read it with a command, such as `cat`"),
            Self::TooMany { .. } => Some("list it with a command, such as `ls -f`"),
            Self::NoAnswer => Some("it may be overloaded or unmounted; try again"),
            _ => None,
        }
    }
}

impl From<FileError> for ApiError {
    fn from(error: FileError) -> Self {
        let mut api = Self::new(error.code(), error.to_string());
        if let FileError::Io { source, .. } = &error {
            api = api.caused_by(source);
        }
        match error.hint() {
            Some(hint) => api.hint(hint),
            None => api,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_says_what_the_system_said() {
        let code = |errno| ApiError::from(FileError::io(b"/x", errno)).code;
        assert_eq!(code(Errno::NOENT), ErrorCode::NotFound);
        assert_eq!(code(Errno::ACCESS), ErrorCode::Forbidden);
        assert_eq!(code(Errno::STALE), ErrorCode::Unavailable);
        let error = ApiError::from(FileError::io(b"/x", Errno::NOENT));
        assert_eq!(
            error.to_string(),
            "cannot read /x\n  caused by: No such file or directory (os error 2)"
        );
    }
}
