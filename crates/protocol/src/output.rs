//! What can be asked of a run's stored output: a search, a screen, a moment in time.

use serde::{Deserialize, Serialize};
#[cfg(feature = "schema")]
use utoipa::ToSchema;

use crate::{ByteString, StreamName, run::TerminalSize};

/// The answer of `GET /v1/runs/{id}/search`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct SearchResult {
    /// The lines that match, in the order of the stream.
    pub hits: Vec<SearchHit>,
    /// Whether a limit ended the search before the end of the output, and which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut: Option<String>,
}

/// One line that matches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct SearchHit {
    /// The stream.
    pub stream: StreamName,
    /// The number of the line among those that are kept, from 1.
    pub line: u64,
    /// The offset of the line's first byte in the stream.
    pub offset: u64,
    /// When that byte was written, in milliseconds since 1970.
    pub t_ms: u64,
    /// The line, cut when it is long.
    pub text: ByteString,
}

/// The answer of `GET /v1/runs/{id}/screen`: a console as it looks at an offset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Screen {
    /// The terminal's size there.
    pub size: TerminalSize,
    /// The offset in the `tty` stream: follow the run from here.
    pub offset: u64,
    /// What brings a fresh terminal of that size to this state: lines scrolled off, the screen, colours, modes, the
    /// cursor. It asks the terminal nothing.
    pub data: ByteString,
    /// How many lines lie above the screen in `data`.
    pub scrollback: u32,
}
