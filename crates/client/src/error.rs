//! What can go wrong between this process and the bridge or the agent.

use hpcclient_protocol::{ApiError, ErrorCode};

/// A request failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The other side answered with an error.
    #[error("{}", .0.message)]
    Api(Box<ApiError>),
    /// The request did not get an answer.
    #[error("cannot reach {target}")]
    Transport {
        /// Whom we talked to: a URL without a token, or a socket's path.
        target: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The answer stopped before its end.
    #[error("the answer was cut off")]
    Cut {
        /// Why, if the transport said.
        #[source]
        source: Option<reqwest::Error>,
    },
    /// The answer is not what the protocol says.
    #[error(
        "the answer is not of protocol version {}: {detail}",
        hpcclient_protocol::PROTOCOL_VERSION
    )]
    Protocol {
        /// What was wrong with it.
        detail: String,
    },
}

impl ClientError {
    /// Returns the kind of failure, for exit codes.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Api(error) => error.code,
            Self::Transport { .. } | Self::Cut { .. } => ErrorCode::Unavailable,
            Self::Protocol { .. } => ErrorCode::Internal,
        }
    }

    /// Returns whether the same request may succeed later without anybody's doing.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(
            self.code(),
            ErrorCode::Unavailable | ErrorCode::NotConnected | ErrorCode::ConnectFailed
        )
    }
}

impl From<ApiError> for ClientError {
    fn from(error: ApiError) -> Self {
        Self::Api(Box::new(error))
    }
}

/// Keeps what the error says, with its sources as causes.
impl From<ClientError> for ApiError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Api(error) => *error,
            other => {
                let api = Self::new(other.code(), other.to_string());
                match std::error::Error::source(&other) {
                    Some(source) => api.caused_by(source),
                    None => api,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_login_is_final_and_a_cut_is_not() {
        let refused = ClientError::from(ApiError::new(ErrorCode::AuthFailed, "refused"));
        assert!(!refused.is_transient());
        let cut = ClientError::Cut { source: None };
        assert!(cut.is_transient());
        assert_eq!(ApiError::from(cut).message, "the answer was cut off");
        assert_eq!(ApiError::from(refused).code, ErrorCode::AuthFailed);
    }
}
