//! What a guest is let in by; made by `shares`, and looked at by `http::guests` with each question.

use hpcclient_protocol::{ShareId, StreamName, live::Access};
use tokio_util::sync::CancellationToken;

use crate::files::Inode;

/// What a guest was let in by.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The share.
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
    /// Cancelled when the share ends.
    pub ended: CancellationToken,
}
