//! One HTTP endpoint: where it is, the token it wants, and how its errors are read.
//!
//! Used by `agent` and `bridge`. Invariant: a failed status becomes the `ApiError` of its body, or
//! one made from the status when the body is not ours.

use std::{path::Path, time::Duration};

use hpcclient_protocol::{ApiError, ErrorCode};
use reqwest::{Method, RequestBuilder, Response};
use serde::{Serialize, de::DeserializeOwned};

use crate::ClientError;

/// The longest wait for a whole answer; the bridge itself waits up to 30 s for a lost connection.
const ANSWER: Duration = Duration::from_secs(60);

/// The longest wait for a connection to loopback or to a socket.
const CONNECT: Duration = Duration::from_secs(5);

/// An HTTP endpoint.
#[derive(Clone)]
pub(crate) struct Endpoint {
    http: reqwest::Client,
    /// Ends with `/`.
    base: String,
    origin: Option<String>,
    token: Option<String>,
    target: String,
    /// Whose runs are asked for, if another user's: a segment of the path.
    owner: Option<String>,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint")
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

impl Endpoint {
    /// Makes an endpoint on loopback; `url` is `http://host:port/`.
    pub(crate) fn tcp(url: &str, token: &str) -> Result<Self, ClientError> {
        let origin = url.trim_end_matches('/').to_owned();
        let http = builder().build();
        Ok(Self {
            http: http.map_err(|source| transport(&origin, source))?,
            base: format!("{origin}/"),
            target: origin.clone(),
            origin: Some(origin),
            token: Some(token.to_owned()),
            owner: None,
        })
    }

    /// Makes an endpoint on a Unix socket, where the file's mode is the permission.
    pub(crate) fn unix(socket: &Path) -> Result<Self, ClientError> {
        let target = socket.display().to_string();
        let http = builder().unix_socket(socket).build();
        Ok(Self {
            http: http.map_err(|source| transport(&target, source))?,
            base: "http://localhost/".to_owned(),
            origin: None,
            token: None,
            target,
            owner: None,
        })
    }

    /// Returns the endpoint whose paths start with `prefix`, which ends with `/`.
    pub(crate) fn below(&self, prefix: &str) -> Self {
        let base = format!("{}{prefix}", self.base);
        Self {
            base,
            ..self.clone()
        }
    }

    /// Returns the endpoint of what another user shares: `v1/runs/…` is theirs.
    pub(crate) fn shared_by(&self, owner: String) -> Self {
        Self {
            owner: Some(owner),
            ..self.clone()
        }
    }

    /// Starts a request; `path` has no leading slash.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let of_owner = self.owner.as_ref().zip(path.strip_prefix("v1/"));
        let path = match of_owner {
            Some((owner, rest)) => format!("v1/shared/{owner}/{rest}"),
            None => path.to_owned(),
        };
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(origin) = &self.origin {
            request = request.header("origin", origin);
        }
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Sends a request whose answer is a stream; only its head has a deadline.
    pub(crate) async fn open(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let sent = tokio::time::timeout(ANSWER, request.send()).await;
        let Ok(sent) = sent else {
            let late = format!(
                "{} did not answer within {} s",
                self.target,
                ANSWER.as_secs()
            );
            return Err(ApiError::new(ErrorCode::Unavailable, late).into());
        };
        let response = sent.map_err(|source| transport(&self.target, source))?;
        if response.status().is_success() {
            Ok(response)
        } else {
            Err(refusal(response).await.into())
        }
    }

    /// Sends a request and reads its JSON answer.
    pub(crate) async fn json<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> Result<T, ClientError> {
        let response = self.open(request.timeout(ANSWER)).await?;
        let body = response.bytes().await;
        let body = body.map_err(|source| ClientError::Cut {
            source: Some(source),
        })?;
        serde_json::from_slice(&body).map_err(|error| ClientError::Protocol {
            detail: error.to_string(),
        })
    }

    /// Sends a request whose answer has no body.
    pub(crate) async fn done(&self, request: RequestBuilder) -> Result<(), ClientError> {
        self.open(request.timeout(ANSWER)).await.map(drop)
    }

    /// Sends a `POST` with a JSON body and reads its JSON answer.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<T, ClientError> {
        self.json(self.request(Method::POST, path).json(body)).await
    }
}

fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT)
}

fn transport(target: &str, source: reqwest::Error) -> ClientError {
    ClientError::Transport {
        target: target.to_owned(),
        source: source.without_url(),
    }
}

async fn refusal(response: Response) -> ApiError {
    let status = response.status();
    let body = response.bytes().await.unwrap_or_default();
    serde_json::from_slice(&body).unwrap_or_else(|_| {
        let code = match status.as_u16() {
            400 | 405 | 415 => ErrorCode::BadRequest,
            401 => ErrorCode::Unauthorized,
            403 => ErrorCode::Forbidden,
            404 => ErrorCode::NotFound,
            413 => ErrorCode::TooLarge,
            502..=504 => ErrorCode::Unavailable,
            _ => ErrorCode::Internal,
        };
        ApiError::new(code, format!("the answer was HTTP {status}"))
    })
}
