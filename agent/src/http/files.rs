//! `GET /v1/files` and `GET /v1/file`: directories as JSON pages, regular files as bytes.
//!
//! Invariants: the bytes of a file never run as a page of ours (`sandbox`, `nosniff`, and most types
//! are downloads); a body holds at most one piece of [`PIECE`] bytes in memory beside what the
//! connection buffers; a file that shrinks meanwhile cuts the body instead of filling it up.
//! Not here: what a path is and what may be opened (`files`).

use std::{fmt::Write as _, io, os::unix::ffi::OsStrExt as _, path::Path, sync::Arc};

use axum::{
    Json, Router,
    body::Body,
    extract::{Extension, FromRef, RawQuery, State},
    response::{IntoResponse, Response},
    routing,
};
use futures_util::stream;
use hpcclient_protocol::{
    ApiError, ErrorCode,
    file::{Listing, SortKey},
};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{
        ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE,
        CONTENT_SECURITY_POLICY, CONTENT_TYPE, IF_RANGE, RANGE, X_CONTENT_TYPE_OPTIONS,
    },
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use super::{
    by::by,
    failure::Failure,
    range::{Asked, asked_range},
};
use crate::files::{self, Calls, FileError, MAX_PAGE, Page, QueryPath, RegularFile, query_values};
use crate::media::Media;
use crate::state::AppState;

/// How much of a file is read at a time.
const PIECE: usize = 256 * 1024;
/// The page's length when the request does not say.
const DEFAULT_PAGE: usize = 1_000;
/// What need not be escaped in `filename*` (RFC 5987).
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'_').remove(b'-');

/// The user's home directory, which `~` stands for.
#[derive(Clone, Debug)]
pub(super) struct Home(Arc<Path>);

impl FromRef<AppState> for Home {
    fn from_ref(state: &AppState) -> Self {
        Self(state.home().into())
    }
}

/// Returns the routes of files. They share one room for file system calls.
pub(super) fn router<S>() -> Router<S>
where
    Home: FromRef<S>,
    S: Clone + Send + Sync + 'static,
{
    Router::new()
        .route("/v1/files", routing::get(by(list)))
        .route("/v1/file", routing::get(by(read)))
        .layer(Extension(Calls::default()))
}

/// What `docs/openapi.json` says of this file.
#[cfg(test)]
#[derive(utoipa::OpenApi)]
#[openapi(paths(list, read))]
pub(super) struct Described;

/// `GET /v1/files?path=&offset=&limit=&sort=`.
#[cfg_attr(test, utoipa::path(get, path = "/v1/files", operation_id = "listFiles",
    params(
        ("path" = String, Query, description = "Percent-encoded bytes; `~` is the home directory."),
        ("offset" = Option<u64>, Query, description = "The index of the first entry."),
        ("limit" = Option<u64>, Query, description = "How many entries, at most 5000."),
        ("sort" = Option<SortKey>, Query, description = "The order; directories come first."),
    ),
    responses(
        (status = 200, body = Listing),
        (status = "default", body = ApiError),
    )))]
async fn list(
    State(home): State<Home>,
    Extension(calls): Extension<Calls>,
    RawQuery(query): RawQuery,
) -> Result<Json<Listing>, Failure> {
    let query = query.unwrap_or_default();
    let page = asked_page(&query)?;
    let path = QueryPath::from_query(&query)?.resolve(&home.0)?;
    let list = move || files::list(&path, page);
    Ok(Json(calls.run(list).await?))
}

/// `GET /v1/file?path=`.
#[cfg_attr(test, utoipa::path(get, path = "/v1/file", operation_id = "readFile",
    params(
        ("path" = String, Query, description = "Percent-encoded bytes; `~` is the home directory."),
    ),
    responses(
        (status = 200, description = "The file.", content_type = "application/octet-stream"),
        (status = 206, description = "The asked range.", content_type = "application/octet-stream"),
        (status = "default", body = ApiError),
    )))]
async fn read(
    State(home): State<Home>,
    Extension(calls): Extension<Calls>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let path = QueryPath::from_query(&query.unwrap_or_default())?.resolve(&home.0)?;
    let open = move || RegularFile::open(&path);
    let file = calls.run(open).await?;
    Ok(answer(file, &headers, calls))
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        Self(error.into())
    }
}

fn asked_page(query: &str) -> Result<Page, ApiError> {
    let mut page = Page {
        offset: 0,
        limit: DEFAULT_PAGE,
        sort: SortKey::Name,
    };
    for (name, value) in query_values(query) {
        let value = String::from_utf8_lossy(&value).into_owned();
        let bad = |wanted| ApiError::new(ErrorCode::BadRequest, format!("{wanted}, not `{value}`"));
        let number = || value.parse::<usize>();
        match name.as_slice() {
            b"offset" => page.offset = number().map_err(|_| bad("`offset` is a number"))?,
            b"limit" => {
                let limit = number().map_err(|_| bad("`limit` is a number"))?;
                page.limit = limit.clamp(1, MAX_PAGE);
            }
            b"sort" => {
                page.sort = match value.as_str() {
                    "name" => SortKey::Name,
                    "size" => SortKey::Size,
                    "modified" => SortKey::Modified,
                    _ => return Err(bad("`sort` is name, size or modified")),
                };
            }
            _ => {}
        }
    }
    Ok(page)
}

/// Returns a file, or the range of it that is asked for.
pub(super) fn answer(file: RegularFile, asked: &HeaderMap, calls: Calls) -> Response {
    let size = file.size();
    // Without a validator of ours `If-Range` cannot hold, so it asks for the whole.
    let range = match asked.get(RANGE) {
        Some(range) if !asked.contains_key(IF_RANGE) => asked_range(range.as_bytes(), size),
        _ => Asked::Whole,
    };
    let (status, start, end) = match range {
        Asked::Whole => (StatusCode::OK, 0, size),
        Asked::Part { start, end } => (StatusCode::PARTIAL_CONTENT, start, end),
        Asked::Outside => {
            let message = format!("the range lies outside the {size} bytes");
            let error = ApiError::new(ErrorCode::BadOffset, message);
            let mut response = Failure(error).into_response();
            set(&mut response, CONTENT_RANGE, &format!("bytes */{size}"));
            return response;
        }
    };
    let media = Media::of(file.path());
    let disposition = disposition(file.path(), media);
    let mut response = Response::new(body(file, start, end, calls));
    *response.status_mut() = status;
    set(&mut response, CONTENT_TYPE, media.content_type);
    set(&mut response, CONTENT_DISPOSITION, &disposition);
    set(&mut response, CONTENT_LENGTH, &(end - start).to_string());
    if status == StatusCode::PARTIAL_CONTENT {
        let range = format!("bytes {start}-{}/{size}", end.saturating_sub(1));
        set(&mut response, CONTENT_RANGE, &range);
    }
    set(&mut response, ACCEPT_RANGES, "bytes");
    set(&mut response, CACHE_CONTROL, "no-store");
    set(&mut response, X_CONTENT_TYPE_OPTIONS, "nosniff");
    let policy = "sandbox; default-src 'none'";
    set(&mut response, CONTENT_SECURITY_POLICY, policy);
    let headers = response.headers_mut();
    let same_origin = HeaderValue::from_static("same-origin");
    headers.insert("cross-origin-resource-policy", same_origin);
    response
}

fn body(file: RegularFile, start: u64, end: u64, calls: Calls) -> Body {
    let file = Arc::new(file);
    let pieces = stream::try_unfold(start, move |at| {
        let (file, calls) = (Arc::clone(&file), calls.clone());
        async move {
            let left = usize::try_from(end - at).unwrap_or(usize::MAX);
            if left == 0 {
                return Ok(None);
            }
            let read = move || file.read_at(at, left.min(PIECE));
            let piece = calls.run(read).await.map_err(io::Error::other)?;
            if piece.is_empty() {
                return Err(io::Error::other("the file became shorter"));
            }
            let next = at + piece.len() as u64;
            Ok(Some((piece, next)))
        }
    });
    Body::from_stream(pieces)
}

/// Returns a `Content-Disposition` whose name survives every client: plain ASCII for old ones, and
/// UTF-8 by RFC 5987.
pub(super) fn disposition(path: &Path, media: Media) -> String {
    let name = path.file_name().unwrap_or_default().as_bytes();
    let text = String::from_utf8_lossy(name);
    let ascii: String = text
        .chars()
        .map(|c| match c {
            '"' | '\\' => '_',
            ' '..='~' => c,
            _ => '_',
        })
        .collect();
    let kind = if media.is_harmless {
        "inline"
    } else {
        "attachment"
    };
    let mut value = format!("{kind}; filename=\"{ascii}\"");
    if ascii != text {
        let encoded = percent_encode(text.as_bytes(), PLAIN);
        // Writing into a string does not fail.
        let _ = write!(value, "; filename*=UTF-8''{encoded}");
    }
    value
}

fn set(response: &mut Response, name: http::HeaderName, value: &str) {
    // Every value here is ASCII without control characters.
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, fs, time::Duration};

    use http::Request;
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::*;

    struct Answer {
        status: StatusCode,
        headers: HeaderMap,
        body: Vec<u8>,
    }

    async fn ask(home: &Path, target: &str, range: Option<&str>) -> Answer {
        let app = router();
        let app = app.with_state(Home(home.into()));
        let mut request = Request::get(target);
        if let Some(range) = range {
            request = request.header(RANGE, range);
        }
        let answer = app.oneshot(request.body(Body::empty()).unwrap());
        let answer = tokio::time::timeout(Duration::from_secs(20), answer);
        let (head, body) = answer.await.unwrap().unwrap().into_parts();
        Answer {
            status: head.status,
            headers: head.headers,
            body: body.collect().await.unwrap().to_bytes().to_vec(),
        }
    }

    #[tokio::test]
    async fn a_home_directory_is_listed_by_pages() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("z")).unwrap();
        fs::write(home.path().join(OsStr::from_bytes(b"n\xe9")), "x").unwrap();
        fs::write(home.path().join("a"), "x").unwrap();
        let answer = ask(home.path(), "/v1/files?path=~&limit=2", None).await;
        assert_eq!(answer.status, StatusCode::OK);
        let listing: Listing = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((listing.total, listing.offset), (3, 0));
        let names = |listing: Listing| {
            let names = listing.entries.into_iter().map(|entry| entry.name);
            names.collect::<Vec<_>>()
        };
        assert_eq!(names(listing), ["z".into(), "a".into()]);
        let answer = ask(home.path(), "/v1/files?path=~/&offset=2", None).await;
        let listing = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(names(listing), [b"n\xe9".to_vec().into()]);
    }

    #[tokio::test]
    async fn refusals_say_what_is_wrong() {
        let home = tempfile::tempdir().unwrap();
        let said = async |target: &str| {
            let answer = ask(home.path(), target, None).await;
            let error: ApiError = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(error.code.http_status(), answer.status.as_u16());
            error.to_string()
        };
        assert_eq!(said("/v1/files").await, "`path` is missing");
        assert!(said("/v1/files?path=x").await.ends_with("`~/`: x"));
        let text = said("/v1/files?path=/no-such-place").await;
        assert!(text.contains("No such file or directory"), "{text}");
        let text = said("/v1/files?path=/&sort=colour").await;
        assert_eq!(text, "`sort` is name, size or modified, not `colour`");
        let text = said("/v1/file?path=~").await;
        assert!(text.starts_with("a directory, not a file: /"), "{text}");
        let text = said("/v1/file?path=/dev/zero").await;
        assert!(text.starts_with("not a regular file: /dev/zero"), "{text}");
        let text = said("/v1/file?path=/proc/kmsg").await;
        assert!(text.contains("/proc/kmsg"), "{text}");
    }

    #[tokio::test]
    async fn a_file_comes_whole_or_in_part() {
        let home = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..600_000u32).map(|n| (n % 251) as u8).collect();
        fs::write(home.path().join("data.bin"), &content).unwrap();
        let whole = ask(home.path(), "/v1/file?path=~/data.bin", None).await;
        assert_eq!(whole.status, StatusCode::OK);
        assert_eq!(whole.headers[CONTENT_LENGTH], "600000");
        assert!(whole.body == content);
        let range = Some("bytes=299990-300009");
        let part = ask(home.path(), "/v1/file?path=~/data.bin", range).await;
        assert_eq!(part.status, StatusCode::PARTIAL_CONTENT);
        assert_eq!(part.headers[CONTENT_RANGE], "bytes 299990-300009/600000");
        assert_eq!(part.body, content[299_990..300_010]);
        let range = Some("bytes=600000-");
        let outside = ask(home.path(), "/v1/file?path=~/data.bin", range).await;
        assert_eq!(outside.status, StatusCode::RANGE_NOT_SATISFIABLE);
        assert_eq!(outside.headers[CONTENT_RANGE], "bytes */600000");
        fs::write(home.path().join("empty"), "").unwrap();
        let empty = ask(home.path(), "/v1/file?path=~/empty", None).await;
        assert_eq!((empty.status, empty.body.len()), (StatusCode::OK, 0));
    }

    #[tokio::test]
    async fn no_file_can_act_as_a_page_of_ours() {
        let home = tempfile::tempdir().unwrap();
        for (name, kind, disposition) in [
            ("evil.html", "text/html; charset=utf-8", "attachment"),
            ("evil.svg", "image/svg+xml", "attachment"),
            ("evil.xml", "text/xml; charset=utf-8", "attachment"),
            ("evil.xhtml", "application/xhtml+xml", "attachment"),
            ("run.out", "application/octet-stream", "attachment"),
            ("a.txt", "text/plain; charset=utf-8", "inline"),
            ("a.png", "image/png", "inline"),
        ] {
            fs::write(home.path().join(name), "<script>alert(1)</script>").unwrap();
            let target = format!("/v1/file?path=~/{name}");
            let headers = ask(home.path(), &target, None).await.headers;
            assert_eq!(headers[CONTENT_TYPE], kind);
            let policy = &headers[CONTENT_SECURITY_POLICY];
            assert_eq!(policy, "sandbox; default-src 'none'");
            assert_eq!(headers[X_CONTENT_TYPE_OPTIONS], "nosniff");
            assert_eq!(headers[CACHE_CONTROL], "no-store");
            let said = headers[CONTENT_DISPOSITION].to_str().unwrap();
            assert_eq!(said, format!("{disposition}; filename=\"{name}\""));
        }
    }

    #[test]
    fn a_hostile_name_stays_inside_its_header() {
        let media = Media::of(Path::new("a"));
        let name = |bytes: &[u8]| disposition(Path::new(OsStr::from_bytes(bytes)), media);
        assert_eq!(
            name(b"/x/a\"\r\nSet-Cookie: b"),
            "attachment; filename=\"a___Set-Cookie: b\"; \
             filename*=UTF-8''a%22%0D%0ASet%2DCookie%3A%20b"
                .replace("%2D", "-")
        );
        assert_eq!(
            name("naïve.txt".as_bytes()),
            "attachment; filename=\"na_ve.txt\"; filename*=UTF-8''na%C3%AFve.txt"
        );
    }
}
