//! Shares: who gets what through the share socket, how a share ends, and what is left of it.
//!
//! The guests are users that every system has; to be them the tests need root.

mod as_root {
    mod ends;
    mod files;
    mod grants;
    mod limits;
    mod others;
}
mod visit;
