//! Who may talk to a listener: exact `Host`, exact `Origin`, a token.
//!
//! Used by `server` for every request before anything else looks at it, WebSockets included.
//! Invariants: nothing is allowed by a prefix or a suffix; a missing or `null` origin is a wrong
//! one where an origin is asked for; tokens are compared in constant time.

use axum::http::{HeaderMap, Method, header, request::Parts};
use hpcclient_protocol::{ApiError, ErrorCode};
use subtle::ConstantTimeEq as _;

/// The WebSocket sub-protocol that we speak.
pub(crate) const SUBPROTOCOL: &str = "hpcclient.v1";

/// What stands before the token in a WebSocket's list of sub-protocols.
const BEARER_SUBPROTOCOL: &str = "bearer.";

/// The names that one listener answers to.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    hosts: [String; 2],
}

impl Guard {
    /// Makes the guard of the listener on this port of loopback.
    pub(crate) fn new(port: u16) -> Self {
        Self {
            hosts: [format!("127.0.0.1:{port}"), format!("localhost:{port}")],
        }
    }

    /// Checks where a request comes from.
    pub(crate) fn check(&self, request: &Parts) -> Result<(), ApiError> {
        let refuse = |what: &str| Err(ApiError::new(ErrorCode::Forbidden, what));
        // `GET http://other/ HTTP/1.1` is how proxies are asked; its Host header may say anything.
        if request.uri.authority().is_some() || request.method == Method::CONNECT {
            return refuse("this is not a proxy");
        }
        let Some(host) = single(&request.headers, header::HOST.as_str()) else {
            return refuse("the request has no single Host");
        };
        if !self.hosts.iter().any(|known| known == host) {
            return refuse("the Host is not this listener's");
        }
        let needs_origin =
            !matches!(request.method, Method::GET | Method::HEAD) || is_websocket(&request.headers);
        let origins = request.headers.get_all(header::ORIGIN);
        if needs_origin || origins.iter().next().is_some() {
            let origin = single(&request.headers, header::ORIGIN.as_str());
            if origin.and_then(|origin| origin.strip_prefix("http://")) != Some(host) {
                return refuse("the Origin is not this listener's");
            }
        }
        // A browser tells this of pages that send no Origin, such as a foreign page's `<img>`.
        let site = single(&request.headers, "sec-fetch-site");
        let mode = single(&request.headers, "sec-fetch-mode");
        if matches!(site, Some("cross-site" | "same-site")) && mode != Some("navigate") {
            return refuse("the request comes from another site's page");
        }
        Ok(())
    }
}

/// Returns the token that a request carries.
pub(crate) fn token(headers: &HeaderMap) -> Option<&str> {
    if let Some(value) = single(headers, header::AUTHORIZATION.as_str()) {
        let (scheme, token) = value.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then_some(token);
    }
    if !is_websocket(headers) {
        return None;
    }
    subprotocols(headers).find_map(|name| name.strip_prefix(BEARER_SUBPROTOCOL))
}

/// Returns whether two secrets are the same, in a time that does not depend on where they differ.
pub(crate) fn is_same_secret(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

/// Makes a secret of 256 random bits, safe in a URL's fragment and a sub-protocol's name.
pub(crate) fn new_secret() -> Result<String, ApiError> {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(|error| {
        ApiError::new(ErrorCode::Internal, "the system has no randomness").caused_by(&error)
    })?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Returns whether the request asks to become a WebSocket.
pub(crate) fn is_websocket(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::UPGRADE)
        .iter()
        .any(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Returns whether a WebSocket's client offers our sub-protocol.
pub(crate) fn offers_ours(headers: &HeaderMap) -> bool {
    subprotocols(headers).any(|name| name == SUBPROTOCOL)
}

fn subprotocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

/// Returns a header's value if the header is there exactly once.
fn single<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn request(method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn the_matrix_of_hosts_origins_and_methods() {
        let guard = Guard::new(4000);
        let hosts = [
            ("127.0.0.1:4000", true),
            ("localhost:4000", true),
            ("localhost", false),
            ("LOCALHOST:4000", false),
            ("localhost:4001", false),
            ("127.0.0.1:40000", false),
            ("localhost.evil.example:4000", false),
            ("evil.example:4000", false),
            ("0.0.0.0:4000", false),
            ("[::1]:4000", false),
            ("127.0.0.1.:4000", false),
            ("", false),
        ];
        for (host, host_ok) in hosts {
            let own = format!("http://{host}");
            let origins: [(Option<&str>, bool); 9] = [
                (Some(&own), true),
                (None, false),
                (Some("null"), false),
                (Some(""), false),
                (Some("http://evil.example"), false),
                (Some("https://localhost:4000"), false),
                (Some("http://localhost:4000.evil.example"), false),
                (Some("http://localhost:4000/"), false),
                (Some("http://localhost"), false),
            ];
            for (origin, origin_ok) in origins {
                for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"] {
                    let mut headers = vec![("host", host)];
                    headers.extend(origin.map(|origin| ("origin", origin)));
                    let reads = matches!(method, "GET" | "HEAD");
                    let expected = host_ok && (origin_ok || (reads && origin.is_none()));
                    let seen = guard
                        .check(&request(method, "/v1/bridge", &headers))
                        .is_ok();
                    assert_eq!(seen, expected, "{method} {host} {origin:?}");
                    headers.push(("upgrade", "WebSocket"));
                    let seen = guard.check(&request(method, "/v1/live", &headers)).is_ok();
                    assert_eq!(seen, host_ok && origin_ok, "ws {method} {host} {origin:?}");
                }
            }
        }
    }

    #[test]
    fn two_hosts_a_proxy_request_and_a_foreign_page_are_refused() {
        let guard = Guard::new(4000);
        let host = ("host", "localhost:4000");
        let twice = request("GET", "/", &[host, ("host", "evil.example")]);
        assert!(guard.check(&twice).is_err());
        assert!(
            guard
                .check(&request("GET", "http://evil.example/", &[host]))
                .is_err()
        );
        let image = [
            host,
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "no-cors"),
        ];
        assert!(guard.check(&request("GET", "/", &image)).is_err());
        let frame = [
            host,
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
        ];
        assert!(guard.check(&request("GET", "/", &frame)).is_ok());
    }

    #[test]
    fn a_token_travels_in_a_header_or_a_sub_protocol() {
        let token_of = |headers: &[(&str, &str)]| {
            token(&request("GET", "/", headers).headers).map(str::to_owned)
        };
        assert_eq!(
            token_of(&[("authorization", "Bearer x")]),
            Some("x".to_owned())
        );
        assert_eq!(token_of(&[("authorization", "Basic x")]), None);
        let list = ("sec-websocket-protocol", "hpcclient.v1, bearer.x");
        assert_eq!(
            token_of(&[("upgrade", "websocket"), list]),
            Some("x".to_owned())
        );
        assert_eq!(token_of(&[list]), None, "only for a WebSocket");
        assert!(is_same_secret("abc", "abc"));
        assert!(!is_same_secret("abc", "abd") && !is_same_secret("abc", "ab"));
        assert_ne!(new_secret().unwrap(), new_secret().unwrap());
    }
}
