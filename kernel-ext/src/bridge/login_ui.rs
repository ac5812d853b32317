//! The login page's one file, embedded, and the policy around it.
//!
//! Invariants: the page runs and looks only as its build hashed it, talks to its own origin only and
//! is framed by pages of this machine only; nothing secret is in it, so it needs no token. A build
//! without it compiles and says how to make one.

use axum::http::{HeaderValue, Response, header};
use rust_embed::RustEmbed;

use super::answer::Answer;

/// The files of `webui/dist-login`, as they are: on loopback nothing is gained by packing them.
/// Debug builds read them from there whenever they are asked for.
#[derive(RustEmbed)]
#[folder = "../webui/dist-login"]
#[include = "login.html"]
#[include = "csp-*.txt"]
#[allow_missing = true]
struct Dist;

/// What a build without the page shows.
const NOT_BUILT: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
    <title>hpcclient</title><h1>This hpcclient was built without its login page</h1>\
    <p>Log in with <code>hpcclient connect</code> in a terminal. To build the page: \
    <code>npm --prefix webui ci</code>, <code>npm --prefix webui run build</code>, \
    <code>cargo build -p hpcclient</code>.</p>";

/// Returns the page.
pub(crate) fn page() -> Answer {
    let html = Dist::get("login.html").map_or_else(
        || NOT_BUILT.as_bytes().to_vec(),
        |file| file.data.into_owned(),
    );
    let mut answer = Response::new(html.into());
    let headers = answer.headers_mut();
    let mut put = |name, value| headers.insert(name, HeaderValue::from_static(value));
    put(header::CONTENT_TYPE, "text/html; charset=utf-8");
    put(header::CACHE_CONTROL, "no-store");
    put(header::REFERRER_POLICY, "no-referrer");
    // Hashes and the text around them are ASCII without control characters.
    if let Ok(policy) = HeaderValue::from_str(&policy()) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    answer
}

fn policy() -> String {
    format!(
        "default-src 'none'; script-src {}; style-src {}; img-src data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; \
         frame-ancestors 'self' http://localhost:* http://127.0.0.1:*",
        sources("csp-hash.txt"),
        sources("csp-style-hash.txt"),
    )
}

/// Returns the hashes of a file that the page's build wrote, or `'none'`.
fn sources(file: &str) -> String {
    let text = Dist::get(file).map(|file| String::from_utf8_lossy(&file.data).into_owned());
    let text = text.unwrap_or_default();
    // Anything else than a hash would be a hole in the policy, or break the header.
    let plain = |word: &&str| {
        let hash = word
            .strip_prefix("'sha256-")
            .and_then(|word| word.strip_suffix('\''));
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
        hash.is_some_and(|hash| hash.chars().all(legal))
    };
    let hashes: Vec<_> = text.split_whitespace().filter(plain).collect();
    if hashes.is_empty() {
        "'none'".to_owned()
    } else {
        hashes.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_protected_whether_it_was_built_or_not() {
        let answer = page();
        let policy = &answer.headers()[header::CONTENT_SECURITY_POLICY];
        let policy = policy.to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src '"));
        assert!(!policy.contains("unsafe") && !policy.contains("script-src 'self'"));
        assert!(policy.ends_with("frame-ancestors 'self' http://localhost:* http://127.0.0.1:*"));
        assert_eq!(answer.headers()[header::REFERRER_POLICY], "no-referrer");
        assert_eq!(answer.headers()[header::CACHE_CONTROL], "no-store");
    }
}
