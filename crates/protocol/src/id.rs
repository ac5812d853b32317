//! Identities that clients make, so that a retry never runs anything twice.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
#[cfg(feature = "schema")]
use utoipa::ToSchema;
use uuid::Uuid;

/// Names one run. A version 7 UUID made by the client, so ids sort by time of creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(transparent)]
#[cfg_attr(feature = "schema", schema(value_type = String, format = "uuid"))]
pub struct RunId(Uuid);

impl RunId {
    /// Makes a new id from the current time and randomness.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::now_v7())
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl FromStr for RunId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Uuid::parse_str(text).map(Self).map_err(|_| IdError::Run)
    }
}

/// Names one session (a notebook's shell): 1 to 64 of `A-Z a-z 0-9 . _ -`, not starting with a dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "schema", schema(value_type = String, pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$"))]
pub struct SessionId(String);

impl SessionId {
    /// Returns the id as text; it is safe as a file name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SessionId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let fits = (1..=64).contains(&text.len()) && !text.starts_with('.');
        if fits && text.chars().all(legal) {
            Ok(Self(text.to_owned()))
        } else {
            Err(IdError::Session)
        }
    }
}

impl TryFrom<String> for SessionId {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<SessionId> for String {
    fn from(id: SessionId) -> Self {
        id.0
    }
}

/// Says why a text is not an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text is not a UUID.
    #[error("a run id is a UUID such as 0199f3a2-7c1e-7b04-9a6e-2f1d4c5b6a70")]
    Run,
    /// The text is not a UUID.
    #[error("a share id is a UUID such as 0199f3a2-7c1e-7b04-9a6e-2f1d4c5b6a70")]
    Share,
    /// The text is not a session id.
    #[error(
        "a session id is 1 to 64 letters, digits, `.`, `_` or `-`, and does not start with a dot"
    )]
    Session,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_ids_sort_by_creation() {
        let (first, second) = (RunId::random(), RunId::random());
        assert!(first < second);
        assert_eq!(first.to_string().parse(), Ok(first));
    }

    #[test]
    fn a_session_id_cannot_leave_its_folder() {
        for bad in ["", "..", ".hidden", "a/b", "a\0b", "é", &"x".repeat(65)] {
            assert_eq!(bad.parse::<SessionId>(), Err(IdError::Session), "{bad:?}");
        }
        assert!("nb-0199f3a2.7c1e_X".parse::<SessionId>().is_ok());
        assert!(serde_json::from_str::<SessionId>("\"../x\"").is_err());
    }
}
