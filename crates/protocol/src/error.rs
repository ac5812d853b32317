//! The error that crosses every edge: a closed set of codes, words for people, what to do next.

use std::fmt;

use serde::{Deserialize, Serialize};
#[cfg(feature = "schema")]
use utoipa::ToSchema;

/// What kind of failure it is. Closed: a client may match on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase")]
pub enum ErrorCode {
    /// The request does not say anything that can be done.
    BadRequest,
    /// The token is missing or wrong.
    Unauthorized,
    /// The request came from where it may not, or names what this user may not touch.
    Forbidden,
    /// The named thing does not exist.
    NotFound,
    /// The thing exists and is not what the request assumes.
    Conflict,
    /// The run lives on another node, which `node` names; what is stored of it can be read here.
    OtherNode,
    /// The request or its body is larger than the limit.
    TooLarge,
    /// The offset lies beyond the end, or its bytes are gone.
    BadOffset,
    /// The cluster is not connected and connecting needs the user.
    NotConnected,
    /// The login node could not be reached.
    ConnectFailed,
    /// The server refused the login.
    AuthFailed,
    /// The server's key is unknown and nobody could be asked.
    HostKeyUnknown,
    /// The server's key is not the one that is known: nothing was sent.
    HostKeyChanged,
    /// The agent could not be installed or started.
    AgentFailed,
    /// The agent speaks another version of the protocol.
    VersionMismatch,
    /// The disk or the quota is full.
    NoSpace,
    /// The other side stopped answering, or a limit of this side was reached; try again.
    Unavailable,
    /// A defect of ours, or an operating system error without a better name.
    Internal,
}

impl ErrorCode {
    /// Returns the HTTP status that carries this code.
    #[must_use]
    pub const fn http_status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Conflict | Self::OtherNode | Self::NotConnected => 409,
            Self::TooLarge => 413,
            Self::BadOffset => 416,
            Self::HostKeyUnknown | Self::HostKeyChanged | Self::AuthFailed => 424,
            Self::VersionMismatch => 426,
            Self::Internal => 500,
            Self::ConnectFailed | Self::AgentFailed => 502,
            Self::Unavailable => 503,
            Self::NoSpace => 507,
        }
    }

    /// Returns the command line's exit code: 255 without a connection (as `ssh`), 2 usage, else 1.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::BadRequest => 2,
            Self::NotConnected
            | Self::ConnectFailed
            | Self::AuthFailed
            | Self::HostKeyUnknown
            | Self::HostKeyChanged
            | Self::AgentFailed
            | Self::VersionMismatch => 255,
            _ => 1,
        }
    }
}

/// A failure as every edge tells it: what failed, why, and what to do next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ApiError {
    /// The kind.
    pub code: ErrorCode,
    /// What failed and where, in a sentence fragment without a full stop.
    pub message: String,
    /// The causes, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// What the user can do next.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
    /// The node that the error speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The id under which the log has more, where a request was logged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

impl ApiError {
    /// Makes an error of a kind.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            causes: vec![],
            hints: vec![],
            node: None,
            request_id: None,
        }
    }

    /// Adds an error and its sources as causes.
    #[must_use]
    pub fn caused_by(mut self, error: &(dyn std::error::Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(cause) = next {
            self.causes.push(cause.to_string());
            next = cause.source();
        }
        self
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Names the node that the error speaks of.
    #[must_use]
    pub fn on_node(mut self, node: impl Into<String>) -> Self {
        self.node = Some(node.into());
        self
    }
}

/// Prints `message`, then a `caused by:` line each, a blank line and a `hint:` line each.
impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for cause in &self.causes {
            write!(f, "\n  caused by: {cause}")?;
        }
        if !self.hints.is_empty() {
            f.write_str("\n")?;
        }
        for hint in &self.hints {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ApiError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_reads_as_what_why_and_what_next() {
        let io = std::io::Error::other("no route to host");
        let error = ApiError::new(ErrorCode::ConnectFailed, "cannot reach login01:22")
            .caused_by(&io)
            .hint("the site may require VPN");
        assert_eq!(
            error.to_string(),
            "cannot reach login01:22\n  caused by: no route to host\n\nhint: the site may require VPN"
        );
        assert_eq!(error.code.exit_code(), 255);
    }

    #[test]
    fn the_wire_form_is_camel_case_and_omits_what_is_empty() {
        let error = ApiError::new(ErrorCode::BadOffset, "past the end");
        let json = serde_json::to_string(&error).unwrap();
        assert_eq!(json, r#"{"code":"badOffset","message":"past the end"}"#);
        assert_eq!(serde_json::from_str::<ApiError>(&json).unwrap(), error);
    }
}
