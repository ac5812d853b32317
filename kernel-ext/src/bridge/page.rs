//! One cluster's page: an origin of its own, codes that open it, tokens that keep it open.
//!
//! Made by `registry` when the first page of a cluster is asked for.
//! Invariants: a code is taken once and within [`CODE_LIFE`]; a token opens this cluster only and
//! lives in memory only; guessing is slowed down.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::http::{Method, Request};
use hpcclient_protocol::{
    ApiError, ErrorCode,
    bridge::{PageCode, PageToken},
};
use hyper::body::Incoming;

use super::{
    answer::{Answer, json, read_json},
    cluster::Cluster,
    guard, proxy,
    server::{self, Shared, Site},
};

/// How long a code is good.
const CODE_LIFE: Duration = Duration::from_secs(60);

/// How many codes may wait; the oldest gives way.
const CODES: usize = 64;

/// How many tokens a cluster's page has; the oldest gives way.
const TOKENS: usize = 1024;

/// How many wrong codes are looked at in a row; after that one a second.
const WRONG_IN_A_ROW: u32 = 20;

/// A page's listener.
#[derive(Debug)]
pub(crate) struct Page {
    cluster: Cluster,
    port: u16,
    keys: Mutex<Keys>,
    shared: Shared,
}

impl Page {
    /// Opens the listener of a cluster's page.
    pub(crate) fn open(cluster: Cluster, shared: &Shared) -> Result<Arc<Self>, ApiError> {
        let (port, sockets) = server::listen().map_err(|error| {
            ApiError::new(ErrorCode::Internal, "cannot listen on loopback").caused_by(&error)
        })?;
        let page = Arc::new(Self {
            cluster,
            port,
            keys: Mutex::new(Keys::new(Instant::now())),
            shared: shared.clone(),
        });
        server::serve(sockets, port, &page, shared);
        Ok(page)
    }

    /// Returns a URL that opens the page once.
    pub(crate) fn new_url(&self) -> Result<String, ApiError> {
        let code = guard::new_secret()?;
        let url = format!("http://localhost:{}/#code={code}", self.port);
        self.keys().put_code(code, Instant::now());
        Ok(url)
    }

    fn keys(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_token(&self, request: &Request<Incoming>) -> bool {
        guard::token(request.headers()).is_some_and(|token| self.keys().is_token(token))
    }
}

impl Site for Page {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Answer, ApiError> {
        let path = request.uri().path();
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        let is_ui = path == "/" || path.starts_with("/assets/");
        if is_ui && reads && !guard::is_websocket(request.headers()) {
            let target = path.to_owned();
            return proxy::pass(&self.cluster, &target, request, &self.shared).await;
        }
        if path == "/page-token" && *request.method() == Method::POST {
            let body = axum::body::Body::new(request.into_body());
            let PageCode { code } = read_json(body).await?;
            let token = guard::new_secret()?;
            self.keys().exchange(&code, &token, Instant::now())?;
            let cluster = self.cluster.name().to_owned();
            return Ok(json(&PageToken { token, cluster }));
        }
        if !self.has_token(&request) {
            let message = "this page is not open any more";
            return Err(ApiError::new(ErrorCode::Unauthorized, message)
                .hint("run `marconiview` or `hpcclient open` again"));
        }
        if path == "/bridge-status" && reads {
            return Ok(json(&self.cluster.status()));
        }
        if !path.starts_with("/v1/") {
            return Err(ApiError::new(ErrorCode::NotFound, "there is no such path"));
        }
        let target = request
            .uri()
            .path_and_query()
            .map_or_else(|| path.to_owned(), |target| target.as_str().to_owned());
        proxy::pass(&self.cluster, &target, request, &self.shared).await
    }
}

/// The codes that wait and the tokens that were given for them.
#[derive(Debug)]
struct Keys {
    codes: Vec<(String, Instant)>,
    tokens: Vec<String>,
    tries_left: u32,
    tries_since: Instant,
}

impl Keys {
    const fn new(now: Instant) -> Self {
        Self {
            codes: Vec::new(),
            tokens: Vec::new(),
            tries_left: WRONG_IN_A_ROW,
            tries_since: now,
        }
    }

    fn put_code(&mut self, code: String, now: Instant) {
        self.forget_old(now);
        if self.codes.len() >= CODES {
            self.codes.remove(0);
        }
        self.codes.push((code, now));
    }

    /// Takes a code and remembers the token given for it.
    fn exchange(&mut self, code: &str, token: &str, now: Instant) -> Result<(), ApiError> {
        let seconds = now.saturating_duration_since(self.tries_since).as_secs();
        if seconds > 0 {
            self.tries_since = now;
            let more = u32::try_from(seconds).unwrap_or(u32::MAX);
            self.tries_left = self.tries_left.saturating_add(more).min(WRONG_IN_A_ROW);
        }
        if self.tries_left == 0 {
            let message = "too many wrong codes; wait a second";
            return Err(ApiError::new(ErrorCode::Unavailable, message));
        }
        self.forget_old(now);
        // Every code is compared, so that the time does not tell which one was close.
        let found = self
            .codes
            .iter()
            .enumerate()
            .fold(None, |found, (at, (known, _))| {
                if guard::is_same_secret(known, code) {
                    Some(at)
                } else {
                    found
                }
            });
        let Some(at) = found else {
            self.tries_left -= 1;
            let message = "the code was used, or is older than a minute";
            return Err(ApiError::new(ErrorCode::Unauthorized, message)
                .hint("run `marconiview` or `hpcclient open` again"));
        };
        self.codes.remove(at);
        if self.tokens.len() >= TOKENS {
            self.tokens.remove(0);
        }
        self.tokens.push(token.to_owned());
        Ok(())
    }

    fn is_token(&self, token: &str) -> bool {
        let same = |known: &String| guard::is_same_secret(known, token);
        self.tokens
            .iter()
            .fold(false, |found, known| same(known) | found)
    }

    fn forget_old(&mut self, now: Instant) {
        self.codes
            .retain(|(_, made)| now.saturating_duration_since(*made) < CODE_LIFE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_good_once_and_for_a_minute() {
        let start = Instant::now();
        let mut keys = Keys::new(start);
        keys.put_code("one".to_owned(), start);
        keys.put_code("two".to_owned(), start);
        assert!(!keys.is_token("a"));
        keys.exchange("one", "a", start).unwrap();
        assert!(keys.is_token("a") && !keys.is_token("b"));
        let again = keys.exchange("one", "b", start).unwrap_err();
        assert_eq!(again.code, ErrorCode::Unauthorized);
        let late = keys.exchange("two", "b", start + CODE_LIFE).unwrap_err();
        assert_eq!(late.code, ErrorCode::Unauthorized);
        assert!(!keys.is_token("b"));
    }

    #[test]
    fn guessing_is_slowed_down() {
        let start = Instant::now();
        let mut keys = Keys::new(start);
        for _ in 0..WRONG_IN_A_ROW {
            let wrong = keys.exchange("guess", "t", start).unwrap_err();
            assert_eq!(wrong.code, ErrorCode::Unauthorized);
        }
        keys.put_code("right".to_owned(), start);
        let slowed = keys.exchange("right", "t", start).unwrap_err();
        assert_eq!(slowed.code, ErrorCode::Unavailable);
        keys.exchange("right", "t", start + Duration::from_secs(1))
            .unwrap();
    }
}
