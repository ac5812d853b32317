//! The way into a page: a code in a URL, taken once and within a minute, changed for a token.
//!
//! Used by `page` for each cluster's page and by `login_page`.
//! Invariants: a code is taken once and within [`CODE_LIFE`]; what it leads to was decided when it
//! was made, not by the URL around it; a token lives in memory only; guessing is slowed down.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::http::HeaderMap;
use hpcclient_protocol::{
    ApiError, ErrorCode,
    bridge::{PageCode, PageToken},
};
use hyper::body::Incoming;

use super::{answer::read_json, guard};

/// How long a code is good.
const CODE_LIFE: Duration = Duration::from_secs(60);

/// How many codes may wait; the oldest of the same cluster gives way, else the oldest.
const CODES: usize = 64;

/// How many tokens a page has; the oldest gives way.
const TOKENS: usize = 1024;

/// How many wrong codes are looked at in a row; after that one a second.
const WRONG_IN_A_ROW: u32 = 20;

/// The way into the page on one port.
#[derive(Debug)]
pub(crate) struct Door {
    port: u16,
    keys: Mutex<Keys>,
}

impl Door {
    pub(crate) fn new(port: u16) -> Self {
        let keys = Mutex::new(Keys::new(Instant::now()));
        Self { port, keys }
    }

    /// Returns a URL that opens the page once, for this cluster. `query` is empty or starts with `?`.
    pub(crate) fn new_url(&self, cluster: &str, query: &str) -> Result<String, ApiError> {
        let code = guard::new_secret()?;
        let url = format!("http://localhost:{}/{query}#code={code}", self.port);
        self.keys().put_code(code, cluster, Instant::now());
        Ok(url)
    }

    /// Answers `POST /page-token`: takes the code of the body and returns a token for it.
    pub(crate) async fn exchange(&self, body: Incoming) -> Result<PageToken, ApiError> {
        let PageCode { code } = read_json(axum::body::Body::new(body)).await?;
        let token = guard::new_secret()?;
        let cluster = self.keys().exchange(&code, &token, Instant::now())?;
        Ok(PageToken { token, cluster })
    }

    /// Refuses a request without a token of this page.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        if guard::token(headers).is_some_and(|token| self.keys().is_token(token)) {
            return Ok(());
        }
        let message = "this page is not open any more";
        Err(ApiError::new(ErrorCode::Unauthorized, message)
            .hint("run `marconiview` or `hpcclient open` again"))
    }

    /// A poisoned lock means that a holder panicked between two plain operations.
    fn keys(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A code that waits.
#[derive(Debug)]
struct Code {
    secret: String,
    cluster: String,
    made: Instant,
}

/// The codes that wait and the tokens that were given for them.
#[derive(Debug)]
struct Keys {
    codes: Vec<Code>,
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

    fn put_code(&mut self, secret: String, cluster: &str, now: Instant) {
        self.forget_old(now);
        if self.codes.len() >= CODES {
            // A page that asks for one after the other costs its own cluster's codes first.
            let same = self.codes.iter().position(|code| code.cluster == cluster);
            self.codes.remove(same.unwrap_or(0));
        }
        self.codes.push(Code {
            secret,
            cluster: cluster.to_owned(),
            made: now,
        });
    }

    /// Takes a code, remembers the token given for it, and returns the code's cluster.
    fn exchange(&mut self, code: &str, token: &str, now: Instant) -> Result<String, ApiError> {
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
            .fold(None, |found, (at, known)| {
                if guard::is_same_secret(&known.secret, code) {
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
        let taken = self.codes.remove(at);
        if self.tokens.len() >= TOKENS {
            self.tokens.remove(0);
        }
        self.tokens.push(token.to_owned());
        Ok(taken.cluster)
    }

    fn is_token(&self, token: &str) -> bool {
        let same = |known: &String| guard::is_same_secret(known, token);
        self.tokens
            .iter()
            .fold(false, |found, known| same(known) | found)
    }

    fn forget_old(&mut self, now: Instant) {
        self.codes
            .retain(|code| now.saturating_duration_since(code.made) < CODE_LIFE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_good_once_and_for_a_minute() {
        let start = Instant::now();
        let mut keys = Keys::new(start);
        keys.put_code("one".to_owned(), "marconi", start);
        keys.put_code("two".to_owned(), "", start);
        assert!(!keys.is_token("a"));
        assert_eq!(keys.exchange("one", "a", start).unwrap(), "marconi");
        assert!(keys.is_token("a") && !keys.is_token("b"));
        let again = keys.exchange("one", "b", start).unwrap_err();
        assert_eq!(again.code, ErrorCode::Unauthorized);
        let late = keys.exchange("two", "b", start + CODE_LIFE).unwrap_err();
        assert_eq!(late.code, ErrorCode::Unauthorized);
        assert!(!keys.is_token("b"));
    }

    #[test]
    fn many_codes_for_one_cluster_do_not_drive_out_anothers() {
        let now = Instant::now();
        let mut keys = Keys::new(now);
        keys.put_code("mine".to_owned(), "marconi", now);
        for number in 0..2 * CODES {
            keys.put_code(number.to_string(), "other", now);
        }
        assert_eq!(keys.codes.len(), CODES);
        assert_eq!(keys.exchange("mine", "t", now).unwrap(), "marconi");
        assert!(keys.exchange("0", "t", now).is_err());
    }

    #[test]
    fn guessing_is_slowed_down() {
        let start = Instant::now();
        let mut keys = Keys::new(start);
        for _ in 0..WRONG_IN_A_ROW {
            let wrong = keys.exchange("guess", "t", start).unwrap_err();
            assert_eq!(wrong.code, ErrorCode::Unauthorized);
        }
        keys.put_code("right".to_owned(), "", start);
        let slowed = keys.exchange("right", "t", start).unwrap_err();
        assert_eq!(slowed.code, ErrorCode::Unavailable);
        keys.exchange("right", "t", start + Duration::from_secs(1))
            .unwrap();
    }
}
