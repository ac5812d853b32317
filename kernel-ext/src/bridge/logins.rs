//! The requests that the control API and the login page have in common: connect, answer, open.
//!
//! Each is checked by its site before it comes here; a prompt's id is a secret of its own.

use axum::body::Body;
use hpcclient_protocol::{
    ApiError, ErrorCode,
    bridge::{PageAddress, PromptAnswer},
};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;

use super::{
    answer::{Answer, json, lines, no_content, read_json},
    prompt,
    registry::Registry,
};

/// Returns the cluster that a segment of a path names.
pub(crate) async fn name(registry: &Registry, segment: &str) -> Result<String, ApiError> {
    let text = percent_decode_str(segment).decode_utf8();
    let text = text.map_err(|_| ApiError::new(ErrorCode::BadRequest, "the name is not UTF-8"))?;
    registry.name(&text).await
}

/// `POST …/connect`: connects, or joins those who wait for it.
pub(crate) async fn connect(registry: &Registry, cluster: &str) -> Result<Answer, ApiError> {
    let (asker, events) = prompt::asker();
    registry.cluster(cluster).connect(asker).await?;
    Ok(lines(events))
}

/// `POST …/page`: a URL that opens the cluster's page once.
pub(crate) async fn page(registry: &Registry, cluster: &str) -> Result<Answer, ApiError> {
    let cluster = registry.known(cluster)?;
    cluster.link().await?;
    let url = registry.page_url(&cluster)?;
    Ok(json(&PageAddress { url }))
}

/// `POST /v1/prompts/{id}`: brings an answer.
pub(crate) async fn answer(
    registry: &Registry,
    prompt: &str,
    body: Incoming,
) -> Result<Answer, ApiError> {
    let PromptAnswer { answer } = read_json(Body::new(body)).await?;
    if registry.prompts.answer(prompt, answer) {
        Ok(no_content())
    } else {
        let message = "nobody waits for an answer to this prompt";
        Err(ApiError::new(ErrorCode::NotFound, message))
    }
}
