//! Passes a checked request to a cluster's agent and the answer back, as it comes.
//!
//! Used by `control` and `page`.
//! Invariants: only headers of the list below reach the agent, so no cookie, token, origin or
//! referrer does; the agent sets no cookie on our origins; an answer that is cut off by a lost
//! connection is cut off for the client too.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, Method, Request, Response, Uri, header},
};
use hpcclient_protocol::{ApiError, ErrorCode};
use hyper::body::Incoming;

use super::{answer::Answer, cluster::Cluster, guard, server::Shared, websocket};

/// What the agent learns of a request besides its method, path and body.
const TO_AGENT: [HeaderName; 8] = [
    header::ACCEPT,
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::RANGE,
    header::IF_RANGE,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::CONTENT_RANGE,
];

/// What of the agent's answer stays here: hop-by-hop, and what would act on our origin.
const NOT_TO_CLIENT: [HeaderName; 10] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::SET_COOKIE,
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::STRICT_TRANSPORT_SECURITY,
    header::ALT_SVC,
    HeaderName::from_static("clear-site-data"),
    HeaderName::from_static("service-worker-allowed"),
];

/// Passes a request to `target`, a path with its query, at the cluster's agent.
pub(crate) async fn pass(
    cluster: &Cluster,
    target: &str,
    request: Request<Incoming>,
    shared: &Shared,
) -> Result<Answer, ApiError> {
    if guard::is_websocket(request.headers()) {
        return websocket::pass(cluster, target, request, shared).await;
    }
    let (parts, body) = request.into_parts();
    let mut onward = to_agent(&parts.method, target, Body::new(body))?;
    copy_listed(&parts.headers, onward.headers_mut());
    let stops_agent = parts.method == Method::POST && onward.uri().path() == "/v1/stop";
    let answer = cluster.ask(onward).await?;
    if stops_agent && answer.status().is_success() {
        cluster.agent_stopped().await;
    }
    Ok(to_client(answer))
}

/// Makes a request for the agent. The authority is a name for HTTP only; nothing resolves it.
pub(crate) fn to_agent(
    method: &Method,
    target: &str,
    body: Body,
) -> Result<Request<Body>, ApiError> {
    let uri = Uri::builder()
        .scheme("http")
        .authority("agent")
        .path_and_query(target)
        .build();
    let uri = uri.map_err(|error| {
        ApiError::new(ErrorCode::BadRequest, "the path cannot be passed on").caused_by(&error)
    })?;
    let mut request = Request::new(body);
    *request.method_mut() = method.clone();
    *request.uri_mut() = uri;
    Ok(request)
}

/// Turns the agent's answer into ours; the body flows on, and fails when it fails.
pub(crate) fn to_client(mut answer: Response<Body>) -> Answer {
    for name in &NOT_TO_CLIENT {
        answer.headers_mut().remove(name);
    }
    // The front speaks HTTP/1.1, whatever the agent's version was.
    *answer.version_mut() = axum::http::Version::HTTP_11;
    answer
}

fn copy_listed(from: &HeaderMap, to: &mut HeaderMap) {
    for name in &TO_AGENT {
        for value in from.get_all(name) {
            to.append(name, value.clone());
        }
    }
}
