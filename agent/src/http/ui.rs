//! `GET /` and `GET /assets/*`: the web UI.
//!
//! Invariants: the page runs only its own scripts and those inline ones that its build hashed, talks
//! to its own origin only, and is framed by pages of this machine only. Nothing secret is in it, so
//! it needs no token.
//! Files go out in brotli whatever is asked for: the bridge unpacks them for a browser that does not take it.
//! Not here: the files themselves (`ui`).

use axum::{
    Router,
    extract::Path,
    response::{IntoResponse, Response},
    routing::get,
};
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{
        CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
        IF_NONE_MATCH, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
    },
};

use super::by::by;
use crate::{
    media::Media,
    ui::{self, UiFile},
};

/// The policy around `script-src`. xterm.js and CodeMirror put styles into the page.
const POLICY: [&str; 2] = [
    "default-src 'none'; script-src 'self'",
    "; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; \
     media-src 'self' blob:; connect-src 'self'; frame-src 'self' blob:; worker-src 'self' blob:; \
     base-uri 'none'; form-action 'none'; object-src 'none'; \
     frame-ancestors 'self' http://localhost:* http://127.0.0.1:*",
];
/// What a build without the web UI shows.
const NOT_BUILT: &str = "<!doctype html><meta charset=\"utf-8\"><title>hpcclient</title>\
    <h1>This agent was built without the web UI</h1>\
    <p>Build it and then the agent: <code>npm --prefix webui ci</code>, \
    <code>npm --prefix webui run build</code>, <code>cargo build -p hpcagent</code>. \
    <code>cargo xtask demo</code> does all of it.</p>";

/// Returns the routes of the web UI.
pub(super) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/", get(by(index)))
        .route("/assets/{*path}", get(by(asset)))
}

/// `GET /`.
async fn index(headers: HeaderMap) -> Response {
    match UiFile::find("") {
        Some(file) => serve(&file, "index.html", &headers),
        None => page(StatusCode::OK, NOT_BUILT),
    }
}

/// `GET /assets/{*path}`.
async fn asset(Path(path): Path<String>, headers: HeaderMap) -> Response {
    let path = format!("assets/{path}");
    match UiFile::find(&path) {
        Some(file) => serve(&file, &path, &headers),
        None => page(
            StatusCode::NOT_FOUND,
            "<!doctype html><title>hpcclient</title><p>no such file",
        ),
    }
}

fn serve(file: &UiFile, path: &str, asked: &HeaderMap) -> Response {
    let tag = format!("\"{}\"", file.tag());
    let known = asked.get_all(IF_NONE_MATCH).iter();
    let mut response = if known.into_iter().any(|known| names(known, &tag)) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let mut response = file.packed().into_response();
        put(&mut response, CONTENT_ENCODING, "br");
        response
    };
    let media = Media::of(std::path::Path::new(path));
    put(&mut response, CONTENT_TYPE, media.content_type);
    put(&mut response, ETAG, &tag);
    put(&mut response, VARY, "accept-encoding");
    // The name of an asset holds a hash of its content; the page's does not.
    let caching = match path {
        "index.html" => "no-cache",
        _ => "private, max-age=31536000, immutable",
    };
    put(&mut response, CACHE_CONTROL, caching);
    protect(&mut response);
    response
}

fn page(status: StatusCode, html: &'static str) -> Response {
    let mut response = (status, html).into_response();
    put(&mut response, CONTENT_TYPE, "text/html; charset=utf-8");
    put(&mut response, CACHE_CONTROL, "no-store");
    protect(&mut response);
    response
}

fn protect(response: &mut Response) {
    let [before, after] = POLICY;
    let policy = format!("{before}{}{after}", ui::script_sources());
    put(response, CONTENT_SECURITY_POLICY, &policy);
    put(response, X_CONTENT_TYPE_OPTIONS, "nosniff");
    put(response, REFERRER_POLICY, "no-referrer");
}

fn names(header: &HeaderValue, tag: &str) -> bool {
    let Ok(text) = header.to_str() else {
        return false;
    };
    text.split(',')
        .map(|known| known.trim().trim_start_matches("W/"))
        .any(|known| known == tag || known == "*")
}

fn put(response: &mut Response, name: HeaderName, value: &str) {
    // Every value here is ASCII without control characters.
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_page_is_protected_whether_it_was_built_or_not() {
        let response = index(HeaderMap::new()).await;
        assert_eq!(response.status(), StatusCode::OK);
        let policy = response.headers()[CONTENT_SECURITY_POLICY]
            .to_str()
            .unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'"));
        assert!(!policy.contains("script-src 'self' 'unsafe"));
        assert!(policy.contains("frame-ancestors 'self' http://localhost:* http://127.0.0.1:*"));
        assert_eq!(response.headers()[REFERRER_POLICY], "no-referrer");
        let missing = asset(Path("no.js".into()), HeaderMap::new()).await;
        assert_eq!(missing.status(), StatusCode::NOT_FOUND);
    }
}
