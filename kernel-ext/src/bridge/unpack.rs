//! The web UI's files for a browser that does not take brotli, in which the agent keeps them.
//!
//! Called by `page`. It is done here and not by the agent, whose binary has to travel.
//! Invariants: a node that sends what is no brotli, or a little that becomes a lot, gets an error into its page and
//! nothing else: both sizes are bounded.

use std::io;

use axum::{
    body::to_bytes,
    http::{HeaderMap, HeaderValue, header},
};
use hpcclient_protocol::{ApiError, ErrorCode};

use super::answer::Answer;

/// Far above any file of the web UI, in bytes.
const MAX_PACKED: usize = 4 << 20;
const MAX_UNPACKED: usize = 32 << 20;

/// Returns the answer in a form that the browser with these headers takes.
pub(crate) async fn for_browser(asked: &HeaderMap, mut answer: Answer) -> Result<Answer, ApiError> {
    let is_packed = |answer: &Answer| {
        let coding = answer.headers().get(header::CONTENT_ENCODING);
        coding.is_some_and(|coding| coding == "br")
    };
    if takes_brotli(asked) || !is_packed(&answer) {
        return Ok(answer);
    }
    let broken = |_| ApiError::new(ErrorCode::AgentFailed, "a file of the web UI is damaged");
    let body = std::mem::take(answer.body_mut());
    let packed = to_bytes(body, MAX_PACKED)
        .await
        .map_err(|error| broken(io::Error::other(error)))?;
    // The answer to a HEAD has the headers only.
    if !packed.is_empty() {
        let unpacked = tokio::task::spawn_blocking(move || unpack(&packed))
            .await
            .map_err(|error| broken(error.into()))?
            .map_err(broken)?;
        *answer.body_mut() = unpacked.into();
    }
    let headers = answer.headers_mut();
    headers.remove(header::CONTENT_ENCODING);
    headers.remove(header::CONTENT_LENGTH);
    // The same content in other bytes.
    let weak = headers.get(header::ETAG).and_then(|tag| tag.to_str().ok());
    let weak = weak.and_then(|tag| HeaderValue::from_str(&format!("W/{tag}")).ok());
    if let Some(weak) = weak {
        headers.insert(header::ETAG, weak);
    }
    Ok(answer)
}

fn takes_brotli(asked: &HeaderMap) -> bool {
    let values = asked.get_all(header::ACCEPT_ENCODING).iter();
    let texts = values.filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let named = parts
            .next()
            .is_some_and(|name| name.eq_ignore_ascii_case("br"));
        let refused = |part: &str| {
            let quality = part.strip_prefix("q=").and_then(|q| q.parse::<f32>().ok());
            quality.is_some_and(|quality| quality <= 0.0)
        };
        named && !parts.any(refused)
    })
}

fn unpack(packed: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Limited(vec![]);
    brotli_decompressor::BrotliDecompress(&mut &*packed, &mut out)?;
    Ok(out.0)
}

/// A buffer that refuses to grow beyond [`MAX_UNPACKED`].
struct Limited(Vec<u8>);

impl io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_UNPACKED {
            return Err(io::Error::other("the unpacked file is too large"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Response};

    use super::*;

    /// `brotli` of "hello hello hello\n".
    const PACKED: [u8; 22] = [
        0x8b, 0x08, 0x80, 0x68, 0x65, 0x6c, 0x6c, 0x6f, 0x20, 0x68, 0x65, 0x6c, 0x6c, 0x6f, 0x20,
        0x68, 0x65, 0x6c, 0x6c, 0x6f, 0x0a, 0x03,
    ];

    fn asks(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(value))])
    }

    fn packed(bytes: &[u8]) -> Answer {
        let answer = Response::builder().header(header::CONTENT_ENCODING, "br");
        let answer = answer.header(header::ETAG, "\"x\"");
        answer.body(Body::from(bytes.to_vec())).unwrap()
    }

    #[test]
    fn brotli_goes_only_to_those_who_take_it() {
        assert!(takes_brotli(&asks("gzip, deflate, br, zstd")));
        assert!(takes_brotli(&asks("BR;q=0.5")));
        assert!(!takes_brotli(&asks("gzip, deflate")));
        assert!(!takes_brotli(&asks("gzip, br;q=0")));
        assert!(!takes_brotli(&HeaderMap::new()));
    }

    #[tokio::test]
    async fn a_browser_without_brotli_gets_the_same_bytes_unpacked() {
        let kept = for_browser(&asks("br"), packed(&PACKED)).await.unwrap();
        assert_eq!(
            to_bytes(kept.into_body(), 99).await.unwrap(),
            PACKED.to_vec()
        );
        let plain = for_browser(&asks("gzip"), packed(&PACKED)).await.unwrap();
        assert!(!plain.headers().contains_key(header::CONTENT_ENCODING));
        assert_eq!(plain.headers()[header::ETAG], "W/\"x\"");
        let body = to_bytes(plain.into_body(), 99).await.unwrap();
        assert_eq!(body, "hello hello hello\n");
    }

    #[tokio::test]
    async fn an_answer_of_headers_only_stays_one() {
        let plain = for_browser(&asks("gzip"), packed(b"")).await.unwrap();
        assert!(!plain.headers().contains_key(header::CONTENT_ENCODING));
        assert!(to_bytes(plain.into_body(), 9).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn what_is_no_brotli_is_an_error_in_the_page() {
        let refused = for_browser(&HeaderMap::new(), packed(b"not brotli at all")).await;
        assert_eq!(refused.unwrap_err().code, ErrorCode::AgentFailed);
    }
}
