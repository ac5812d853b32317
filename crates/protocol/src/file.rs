//! Files on the node as the agent lists them.

use serde::{Deserialize, Serialize};
#[cfg(feature = "schema")]
use utoipa::ToSchema;

use crate::ByteString;

/// What an entry is, without following a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase")]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A fifo, socket or device.
    Other,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct FileEntry {
    /// The name, as bytes.
    pub name: ByteString,
    /// What it is.
    pub kind: FileKind,
    /// For a link: what it leads to, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_kind: Option<FileKind>,
    /// Its size in bytes.
    pub size: u64,
    /// When its content changed, in milliseconds since 1970.
    pub modified_ms: i64,
    /// Its permission bits.
    pub mode: u32,
}

/// A page of a directory, in the asked order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Listing {
    /// The directory's absolute path.
    pub path: ByteString,
    /// The page.
    pub entries: Vec<FileEntry>,
    /// The index of the page's first entry.
    pub offset: u64,
    /// How many entries the directory has.
    pub total: u64,
}

/// The order of a listing; directories always come first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase")]
pub enum SortKey {
    /// By name, as bytes.
    #[default]
    Name,
    /// Largest first.
    Size,
    /// Newest first.
    Modified,
}
