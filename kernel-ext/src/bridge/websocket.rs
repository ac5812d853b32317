//! A client's WebSocket joined to the agent's: an HTTP/1.1 upgrade here, an extended CONNECT there.
//!
//! Used by `proxy`. Invariants: the bytes of the WebSocket are passed on and never looked at; when
//! one side ends without a close message, so does the other.

use axum::{
    body::Body,
    http::{HeaderValue, Method, Request, Response, StatusCode, header},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hpcclient_protocol::{ApiError, ErrorCode};
use hyper::{
    body::Incoming,
    ext::Protocol,
    upgrade::{OnUpgrade, on},
};
use hyper_util::rt::TokioIo;
use sha1::{Digest as _, Sha1};

use super::{answer::Answer, cluster::Cluster, guard, proxy, server::Shared};

/// What RFC 6455 appends to the client's key.
const KEY_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// How much is read at once in each direction, in bytes.
const BUFFER: usize = 16 << 10;

/// Opens the agent's WebSocket at `target` and joins the client's to it.
pub(crate) async fn pass(
    cluster: &Cluster,
    target: &str,
    mut request: Request<Incoming>,
    shared: &Shared,
) -> Result<Answer, ApiError> {
    let bad = |what: &str| ApiError::new(ErrorCode::BadRequest, what);
    let headers = request.headers();
    let version = headers.get(header::SEC_WEBSOCKET_VERSION);
    let key = headers.get(header::SEC_WEBSOCKET_KEY).cloned();
    let (Some(b"13"), Some(key)) = (version.map(HeaderValue::as_bytes), key) else {
        return Err(bad("this is not a WebSocket of version 13"));
    };
    if *request.method() != Method::GET {
        return Err(bad("a WebSocket is opened with GET"));
    }
    let ours = HeaderValue::from_static(guard::SUBPROTOCOL);
    let is_ours = guard::offers_ours(headers);

    let mut onward = proxy::to_agent(&Method::CONNECT, target, Body::empty())?;
    onward
        .extensions_mut()
        .insert(Protocol::from_static("websocket"));
    let version = HeaderValue::from_static("13");
    onward
        .headers_mut()
        .insert(header::SEC_WEBSOCKET_VERSION, version);
    if is_ours {
        onward
            .headers_mut()
            .insert(header::SEC_WEBSOCKET_PROTOCOL, ours.clone());
    }
    let mut answer = cluster.ask(onward).await?;
    if answer.status() != StatusCode::OK {
        return Ok(proxy::to_client(answer));
    }
    let (front, back) = (on(&mut request), on(&mut answer));
    let cancel = shared.cancel.clone();
    shared.tasks.spawn(async move {
        // When the bridge stops, both sides are dropped: the viewer sees a cut and comes back.
        cancel.run_until_cancelled(join(front, back)).await;
    });

    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept(&key)?);
    if is_ours {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, ours);
    }
    Ok(answer)
}

async fn join(front: OnUpgrade, back: OnUpgrade) {
    let joined = async {
        let (front, back) = tokio::try_join!(front, back)?;
        let (mut front, mut back) = (TokioIo::new(front), TokioIo::new(back));
        tokio::io::copy_bidirectional_with_sizes(&mut front, &mut back, BUFFER, BUFFER).await?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
    };
    if let Err(error) = joined.await {
        tracing::debug!(%error, "a websocket ended early");
    }
}

fn accept(key: &HeaderValue) -> Result<HeaderValue, ApiError> {
    let mut hash = Sha1::new();
    hash.update(key.as_bytes());
    hash.update(KEY_SUFFIX);
    let text = STANDARD.encode(hash.finalize());
    HeaderValue::from_str(&text).map_err(|error| {
        ApiError::new(ErrorCode::Internal, "cannot answer the WebSocket").caused_by(&error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_answered_as_the_rfc_has_it() {
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept(&key).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
