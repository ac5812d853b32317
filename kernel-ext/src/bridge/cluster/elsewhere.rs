//! Requests about what lives on another node of the cluster: they are sent again there.
//!
//! Used by `proxy` and `websocket`. An agent answers `otherNode` and names the node; that is
//! remembered for the run, so its next requests take the short way while it is open.
//! Invariants: a request goes to at most one other node; only a body that fits in memory is sent
//! twice; where the node cannot be reached the agent's own answer stands, with the reason.

use axum::{
    body::{Body, Bytes, HttpBody as _},
    http::{Request, Response, StatusCode, request::Parts},
};
use hpcclient_protocol::{ApiError, ErrorCode};
use hpcclient_ssh::visible;

use super::{
    Cluster,
    link::{Link, Unsent},
};
use crate::bridge::answer;

/// The largest body that is kept to be sent again, in bytes.
const KEPT: usize = 64 << 10;

/// The largest refusal that is looked at, in bytes.
const REFUSAL: usize = 64 << 10;

impl Cluster {
    /// Sends a request to the agent that has what it is about.
    pub(crate) async fn ask(&self, request: Request<Body>) -> Result<Response<Body>, ApiError> {
        let Some(thing) = thing_of(request.uri().path()) else {
            return Ok(self.send(request).await?.map(Body::new));
        };
        let (request, copy) = keep(request).await?;
        let known = self.others().and_then(|others| others.known_way(&thing));
        let request = match known {
            None => request,
            Some(link) => match link.send(request).await {
                Ok(answer) => return Ok(answer.map(Body::new)),
                // That node was lost just now; the one we are on knows what can be said.
                Err(Unsent::Kept(back)) => *back,
                Err(Unsent::Gone(error)) => return Err(error),
            },
        };
        let answer = self.send(request).await?;
        if answer.status() != StatusCode::CONFLICT {
            return Ok(answer.map(Body::new));
        }
        let (head, body) = answer.into_parts();
        let body = axum::body::to_bytes(Body::new(body), REFUSAL).await;
        let body = body.map_err(|error| {
            ApiError::new(ErrorCode::Unavailable, "the agent's answer was cut").caused_by(&error)
        })?;
        let Some((mut error, host)) = other_node(&body) else {
            return Ok(Response::from_parts(head, Body::from(body)));
        };
        match self.way_to(&host, &thing).await {
            Ok(link) => send_again(&link, copy, &host).await,
            // The next connection may reach it; trying again helps.
            Err(_) if self.others().is_none() => Err(lost()),
            Err(reason) => {
                let reason = format!("{host} cannot be reached: {}", reason.message);
                error.causes.push(visible(&reason));
                Ok(answer::refusal(&error))
            }
        }
    }

    async fn way_to(&self, host: &str, thing: &str) -> Result<Link, ApiError> {
        if self.status().node.as_deref() == Some(host) {
            let message = "it is the node that says so";
            return Err(ApiError::new(ErrorCode::AgentFailed, message));
        }
        let others = self.others().ok_or_else(lost)?;
        let link = others.link(host).await?;
        others.lives_on(thing, host);
        Ok(link)
    }
}

/// A request that can be sent again, or the head of one that is too long for that.
struct Copy {
    head: Parts,
    body: Option<Bytes>,
}

/// Reads a short body, so that the request can be sent again.
async fn keep(request: Request<Body>) -> Result<(Request<Body>, Copy), ApiError> {
    let (head, body) = request.into_parts();
    let is_short = body
        .size_hint()
        .upper()
        .is_some_and(|size| size <= KEPT as u64);
    if !is_short {
        let copy = Copy {
            head: head.clone(),
            body: None,
        };
        return Ok((Request::from_parts(head, body), copy));
    }
    let body = axum::body::to_bytes(body, KEPT).await;
    let body =
        body.map_err(|_| ApiError::new(ErrorCode::BadRequest, "the body was cut off on its way"))?;
    let copy = Copy {
        head: head.clone(),
        body: Some(body.clone()),
    };
    Ok((Request::from_parts(head, Body::from(body)), copy))
}

async fn send_again(link: &Link, copy: Copy, host: &str) -> Result<Response<Body>, ApiError> {
    let Some(body) = copy.body else {
        // The sender has the body and knows how to try again; then it takes the right way at once.
        let message = format!("it goes to {}; send it again", visible(host));
        return Err(ApiError::new(ErrorCode::Unavailable, message));
    };
    match link
        .send(Request::from_parts(copy.head, Body::from(body)))
        .await
    {
        Ok(answer) => Ok(answer.map(Body::new)),
        Err(Unsent::Kept(_)) => Err(lost()),
        Err(Unsent::Gone(error)) => Err(error),
    }
}

fn lost() -> ApiError {
    ApiError::new(ErrorCode::Unavailable, "the connection was lost")
}

/// Returns the run or the session that a path is about.
fn thing_of(path: &str) -> Option<String> {
    let mut segments = path.split('/');
    let is_api = segments.next() == Some("") && segments.next() == Some("v1");
    let kind = segments
        .next()
        .filter(|kind| is_api && matches!(*kind, "runs" | "sessions"))?;
    let id = segments.next().filter(|id| !id.is_empty())?;
    Some(format!("{kind}/{id}"))
}

fn other_node(body: &[u8]) -> Option<(ApiError, String)> {
    let error: ApiError = serde_json::from_slice(body).ok()?;
    let host = error.node.clone()?;
    (error.code == ErrorCode::OtherNode).then_some((error, host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_run_or_a_session_lives_somewhere() {
        assert_eq!(thing_of("/v1/runs/a").as_deref(), Some("runs/a"));
        assert_eq!(thing_of("/v1/runs/a/stdin").as_deref(), Some("runs/a"));
        assert_eq!(thing_of("/v1/sessions/s").as_deref(), Some("sessions/s"));
        for path in [
            "/v1/runs",
            "/v1/runs/",
            "/v1/live",
            "/v1/files/a",
            "/runs/a/b",
        ] {
            assert_eq!(thing_of(path), None, "{path}");
        }
    }
}
