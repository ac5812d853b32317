//! Turns every failure of the agent into the wire's `ApiError`, and logs what someone must look at.
//!
//! Called by every handler. Invariants: the status is that of the code; a failure of ours is logged
//! once, here, under the request id that the client gets.

use axum::{
    Json,
    extract::rejection::{BytesRejection, QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use hpcclient_protocol::{ApiError, ErrorCode, id::IdError};
use serde::de::DeserializeOwned;

use crate::{runs::RunError, store::StoreError};

/// A failure on its way to the client.
#[derive(Debug)]
pub struct Failure(pub ApiError);

impl Failure {
    /// Says that a request cannot be understood.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self(ApiError::new(ErrorCode::BadRequest, message))
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let error = logged(self.0);
        let status = StatusCode::from_u16(error.code.http_status());
        (
            status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            Json(error),
        )
            .into_response()
    }
}

/// Logs a failure that is not the client's, and gives it an id to find it by.
#[must_use]
pub fn logged(mut error: ApiError) -> ApiError {
    if matches!(
        error.code,
        ErrorCode::Internal | ErrorCode::NoSpace | ErrorCode::Unavailable
    ) {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let id = id.get(..8).unwrap_or_default().to_owned();
        tracing::warn!(request = id, error = %error, "a request failed");
        error.request_id = Some(id);
    }
    error
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self(error.to_api())
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        Self(api_error(&error))
    }
}

impl From<IdError> for Failure {
    fn from(error: IdError) -> Self {
        Self::bad_request(error.to_string())
    }
}

impl From<QueryRejection> for Failure {
    fn from(error: QueryRejection) -> Self {
        Self::bad_request(error.body_text())
    }
}

impl From<BytesRejection> for Failure {
    fn from(error: BytesRejection) -> Self {
        if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
            Self(ApiError::new(
                ErrorCode::TooLarge,
                "the request's body is larger than the limit",
            ))
        } else {
            Self::bad_request(error.body_text())
        }
    }
}

/// Returns a failure of the registry in the words of the API.
#[must_use]
pub fn api_error(error: &RunError) -> ApiError {
    let plain = |code| ApiError::new(code, error.to_string());
    match error {
        RunError::Store(error) => error.to_api(),
        RunError::Shared(error) => api_error(error),
        RunError::BadSpec(error) => error.clone(),
        RunError::NotFound { .. } | RunError::NoSession { .. } => plain(ErrorCode::NotFound),
        RunError::BadRequest { .. } => plain(ErrorCode::BadRequest),
        RunError::TooManyReaders => {
            plain(ErrorCode::Unavailable).hint("close pages and consoles that you do not need")
        }
        RunError::OnlyViewed { .. } => {
            plain(ErrorCode::Forbidden).hint("open it with the access `drive`")
        }
        RunError::OtherSpec { .. } => plain(ErrorCode::Conflict).hint("use a new id for a new run"),
        RunError::Ended { .. } | RunError::Without { .. } | RunError::Stdin { .. } => {
            plain(ErrorCode::Conflict)
        }
        RunError::Living { .. } => plain(ErrorCode::Conflict).hint("kill it first"),
        RunError::Written { .. } => plain(ErrorCode::Conflict).hint("end those processes first"),
        RunError::IsShared { .. } => plain(ErrorCode::Conflict).hint("unshare it first"),
        RunError::Orphaned { .. } => plain(ErrorCode::Conflict),
        RunError::Signal { source, .. } => plain(ErrorCode::Forbidden).caused_by(source),
        RunError::DirectoryGone { .. } => {
            plain(ErrorCode::Conflict).hint("run `cd` with a directory that exists")
        }
        RunError::OtherNode { host, .. } => plain(ErrorCode::OtherNode).on_node(host).hint(
            format!("connect to {host}; what it wrote so far can be read from here"),
        ),
        RunError::Spawn { source: cause } => {
            let full = error.is_full();
            let error = plain(ErrorCode::Unavailable).caused_by(cause);
            if full {
                error.hint("this node limits the number of your processes; end some and try again")
            } else {
                error
            }
        }
        RunError::Unreachable { .. } | RunError::Gone | RunError::Busy | RunError::Stopping => {
            plain(ErrorCode::Unavailable)
        }
        RunError::Control { source } => plain(ErrorCode::TooLarge).caused_by(source),
    }
}

/// Reads a JSON body.
///
/// # Errors
/// It is too large, or not what is expected; the message names the place.
pub fn json<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<T, Failure> {
    let body = body?;
    serde_json::from_slice(&body)
        .map_err(|error| Failure::bad_request(format!("the body cannot be read: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_process_table_is_told_with_what_to_do() {
        let source = std::io::Error::from(rustix::io::Errno::AGAIN);
        let error = api_error(&RunError::Spawn { source });
        assert_eq!(error.code, ErrorCode::Unavailable);
        assert!(error.hints[0].contains("number of your processes"));
    }

    #[test]
    fn only_our_own_failures_get_a_request_id() {
        assert!(
            logged(ApiError::new(ErrorCode::NoSpace, "full"))
                .request_id
                .is_some()
        );
        assert!(
            logged(ApiError::new(ErrorCode::NotFound, "none"))
                .request_id
                .is_none()
        );
    }
}
