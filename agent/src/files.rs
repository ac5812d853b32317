//! The node's files for viewers: directories by pages, regular files by ranges. Read only.
//!
//! Called by `http/files`. Everything here is the user's own view: the kernel decides what may be
//! seen, as it does for the user's shell.
//!
//! Invariants:
//! * A path is bytes; no name is changed, dropped or made text on the way.
//! * A file system call runs on a blocking thread, at most [`Calls::LIMIT`] at a time; a file system
//!   that does not answer costs such threads and never the agent.
//! * Nothing but a regular file is opened for reading, so no fifo, device or kernel file can hang
//!   or be changed by being looked at.
//!
//! Not here: HTTP headers and bodies.

mod calls;
mod error;
mod listing;
mod path;
mod regular;

pub use calls::Calls;
pub use error::FileError;
pub use listing::{MAX_ENTRIES, MAX_PAGE, Page, list};
pub use path::{QueryPath, query_values};
pub use regular::{Inode, RegularFile};
