//! What another user of the node may ask on the share socket, and nothing else.
//!
//! Served by `shares::keeper`, one connection a request. A request is taken apart into an [`Ask`] and a
//! run's id; what is asked of the agent's own router is built from those and a list of known query
//! words, so nothing of a guest's text can name another route.
//! Invariants: who asks is the kernel's word; whatever is not there, not theirs, over, or not allowed is
//! one and the same 404; what a guest does is recorded before it is done; a share of one stream shows
//! neither the others nor their sizes; a run is shown without its environment.
//! Not here: the guest's own agent (`http::shared`).

mod ask;

use std::time::Duration;

use axum::{
    Extension, Json, Router,
    body::{Body, Bytes, to_bytes},
    extract::{Path, RawQuery, State},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::BytesMut;
use futures_util::StreamExt as _;
use hpcclient_protocol::{
    ApiError, ErrorCode, Frame, FrameDecoder, Run, RunId, StreamName,
    live::{Access, Viewer},
    run::SignalRequest,
    share::{AuditEntry, Share},
};
use http::{HeaderMap, Method, Request, header};
use tokio::time::timeout;
use tower::ServiceExt as _;

use self::ask::{Ask, words};
use super::{AppState, failure::Failure, files};
use crate::{
    clock,
    files::{Calls, QueryPath, RegularFile, query_values},
    presence::Present,
    shares::{Grant, Leash},
    shim::control::MAX_DATA,
};

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub struct Visitor {
    /// The kernel's number.
    pub uid: u32,
    /// What the connection hangs on.
    pub leash: Leash,
}

#[derive(Clone, Debug)]
struct Guests {
    state: AppState,
    /// The agent's own routes, reached through [`Guests::own`] only.
    own: Router,
    calls: Calls,
}

/// Returns the routes of the share socket; each request carries its [`Visitor`].
pub fn router(state: AppState) -> Router {
    let own = super::router(state.clone());
    let calls = Calls::default();
    Router::new()
        .route("/v1/shares", get(list))
        .route("/v1/runs/{id}", get(look))
        .route("/v1/runs/{id}/{part}", get(view).post(drive))
        .route("/v1/file", get(file))
        .fallback(async || hidden())
        .method_not_allowed_fallback(async || hidden())
        .with_state(Guests { state, own, calls })
}

/// The answer to everything that a guest is not to know of.
fn hidden() -> Failure {
    Failure(ApiError::new(
        ErrorCode::NotFound,
        "nothing of this name is shared with you",
    ))
}

async fn list(
    State(guests): State<Guests>,
    Extension(who): Extension<Visitor>,
) -> Json<Vec<Share>> {
    Json(guests.state.shares().for_guest(who.uid).await)
}

async fn look(
    State(guests): State<Guests>,
    Extension(who): Extension<Visitor>,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let (id, grant) = guests.enter(&who, &id, Ask::Info).await?;
    guests.note(&who, &grant, "looked at").await?;
    let answer = guests.own(id, Ask::Info, "", Body::empty()).await?;
    shown(answer, &grant).await
}

async fn view(
    State(guests): State<Guests>,
    Extension(who): Extension<Visitor>,
    Path((id, part)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let ask = Ask::of(&Method::GET, &part).ok_or_else(hidden)?;
    let (id, grant) = guests.enter(&who, &id, ask).await?;
    let query = query.unwrap_or_default();
    let word = |name: &str| query_values(&query).find(|(key, _)| key == name.as_bytes());
    let is = |name, text: &str| word(name).is_some_and(|(_, value)| value == text.as_bytes());
    let follows = match ask {
        Ask::Stream => !is("follow", "false"),
        Ask::Raw(_) => is("follow", "true"),
        _ => false,
    };
    let mut asked = words(&query, ask);
    if ask == Ask::Search
        && let Some(name) = grant.streams.first()
    {
        // A share of less than all has one stream.
        if word("stream").is_some_and(|(_, value)| value != name.as_str().as_bytes()) {
            return Err(hidden());
        }
        asked = format!("{asked}&stream={}", name.as_str());
    }
    let what = match ask {
        Ask::Search => "searched",
        Ask::Screen => "saw the screen of",
        _ if follows => "opened",
        _ => "read",
    };
    guests.note(&who, &grant, what).await?;
    let access = if is("access", "view") {
        Access::View
    } else {
        grant.access
    };
    let stay = follows.then(|| guests.stay(&who, id, &grant, access));
    let answer = guests.own(id, ask, &asked, Body::empty()).await?;
    let (head, body) = answer.into_parts();
    let body = if ask == Ask::Stream {
        shown_frames(body, grant)
    } else {
        body
    };
    // The stay ends with the body: when it is read to its end or the connection is gone.
    let body = Body::from_stream(body.into_data_stream().map(move |piece| {
        let _here = &stay;
        piece
    }));
    Ok((head.status, kept(&head.headers), body).into_response())
}

async fn drive(
    State(guests): State<Guests>,
    Extension(who): Extension<Visitor>,
    Path((id, part)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Result<Response, Failure> {
    let ask = Ask::of(&Method::POST, &part).ok_or_else(hidden)?;
    let (id, grant) = guests.enter(&who, &id, ask).await?;
    let limit = if ask == Ask::Stdin {
        MAX_DATA
    } else {
        MAX_ORDER
    };
    let bytes = read_body(body, limit).await?;
    let mut query = words(&query.unwrap_or_default(), ask);
    let what = match ask {
        Ask::Signal => {
            let order: SignalRequest = super::failure::json(Ok(bytes.clone()))?;
            if order.signal != "INT" {
                guests
                    .note(&who, &grant, "refused: a signal other than INT to")
                    .await?;
                return Err(hidden());
            }
            "sent INT to".to_owned()
        }
        Ask::Resize => "resized".to_owned(),
        _ => {
            // Numbers of their own: nobody can use up those of the owner's writers.
            query = query.replacen("writer=", &format!("writer=guest{}%2D", who.uid), 1);
            format!("typed {} bytes into", bytes.len())
        }
    };
    guests.note(&who, &grant, &what).await?;
    let answer = guests.own(id, ask, &query, bytes.into()).await?;
    if ask == Ask::Signal {
        return shown(answer, &grant).await;
    }
    Ok(answer)
}

async fn file(
    State(guests): State<Guests>,
    Extension(who): Extension<Visitor>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let path = QueryPath::from_query(&query.unwrap_or_default()).map_err(|_| hidden())?;
    // `~` would be the owner's home, which is nothing to ask about.
    let path = path
        .resolve(std::path::Path::new(""))
        .map_err(|_| hidden())?;
    let grant = guests.state.shares().grant_file(who.uid, &path).await;
    let grant = grant.ok_or_else(hidden)?;
    who.leash.tie(grant.ended.clone());
    guests.note(&who, &grant, "read").await?;
    let open = move || RegularFile::open_own(&path);
    let opened = guests.calls.run(open).await.map_err(|error| {
        tracing::warn!(%error, "a shared file cannot be opened");
        hidden()
    })?;
    Ok(files::answer(opened, &headers, guests.calls.clone()))
}

impl Guests {
    /// Lets a guest in, or records who was not, if they are a guest of this run at all.
    async fn enter(&self, who: &Visitor, id: &str, ask: Ask) -> Result<(RunId, Grant), Failure> {
        let id: RunId = id.parse().map_err(|_| hidden())?;
        let grant = self.state.shares().grant_run(who.uid, id).await;
        let grant = grant.ok_or_else(hidden)?;
        if !ask.is_in(&grant) {
            let part = ask.part().trim_start_matches('/');
            self.note(who, &grant, &format!("refused: {part} of"))
                .await?;
            return Err(hidden());
        }
        who.leash.tie(grant.ended.clone());
        Ok((id, grant))
    }

    /// Asks the agent's own route.
    async fn own(&self, id: RunId, ask: Ask, query: &str, body: Body) -> Result<Response, Failure> {
        let method = if ask.drives() {
            Method::POST
        } else {
            Method::GET
        };
        let request = Request::builder()
            .method(method)
            .uri(format!("/v1/runs/{id}{}?{query}", ask.part()))
            .body(body)
            .map_err(|error| Failure::bad_request(error.to_string()))?;
        let Ok(answer) = self.own.clone().oneshot(request).await;
        if answer.status() == http::StatusCode::NOT_FOUND {
            return Err(hidden());
        }
        Ok(answer)
    }

    async fn note(&self, who: &Visitor, grant: &Grant, action: &str) -> Result<(), Failure> {
        let entry = entry(who.uid, grant, action);
        Ok(self.state.shares().audit().record(entry).await?)
    }

    /// Shows that a guest is there, until the stay is dropped.
    fn stay(&self, who: &Visitor, run: RunId, grant: &Grant, access: Access) -> Stay {
        let viewer = Viewer {
            user: grant.guest.clone(),
            access,
            since_ms: clock::now_ms(),
        };
        Stay {
            _present: self.state.presence().join(run, viewer),
            state: self.state.clone(),
            leaving: Some(entry(who.uid, grant, "left")),
        }
    }
}

/// A guest who looks at a run; dropping it is leaving.
struct Stay {
    _present: Present,
    state: AppState,
    leaving: Option<AuditEntry>,
}

impl Drop for Stay {
    fn drop(&mut self) {
        if let Some(mut entry) = self.leaving.take() {
            entry.t_ms = clock::now_ms();
            let audit = self.state.shares().audit().clone();
            self.state.tracker().spawn(async move {
                if let Err(error) = audit.record(entry).await {
                    tracing::warn!(%error, "a guest left unrecorded");
                }
            });
        }
    }
}

fn entry(uid: u32, grant: &Grant, action: &str) -> AuditEntry {
    AuditEntry {
        t_ms: clock::now_ms(),
        guest: grant.guest.clone(),
        uid,
        share: grant.id,
        action: action.to_owned(),
        object: grant.title.clone(),
    }
}

async fn read_body(body: Body, limit: usize) -> Result<Bytes, Failure> {
    let late = || {
        Failure(ApiError::new(
            ErrorCode::Unavailable,
            "the body did not come in time",
        ))
    };
    let read = timeout(BODY_LIMIT, to_bytes(body, limit)).await;
    read.map_err(|_| late())?.map_err(|_| {
        let what = "the body is larger than the limit, or was cut";
        Failure(ApiError::new(ErrorCode::TooLarge, what))
    })
}

/// Returns an answer that is a run, without what is not for guests.
async fn shown(answer: Response, grant: &Grant) -> Result<Response, Failure> {
    if !answer.status().is_success() {
        return Ok(answer);
    }
    let body = to_bytes(answer.into_body(), MAX_RUN).await;
    let run = body
        .ok()
        .and_then(|body| serde_json::from_slice::<Run>(&body).ok());
    let run =
        run.ok_or_else(|| Failure(ApiError::new(ErrorCode::Internal, "the run cannot be read")))?;
    Ok(Json(stripped(run, grant)).into_response())
}

/// Returns a run without its environment, its place on the node, and the streams that are not shared.
fn stripped(mut run: Run, grant: &Grant) -> Run {
    run.spec.env.clear();
    run.spec.session = None;
    run.spec.cwd = None;
    run.cwd_after = None;
    run.pid = None;
    if !grant.streams.is_empty() {
        for sizes in [&mut run.sizes, &mut run.durable] {
            for (name, size) in [
                (StreamName::Stdout, &mut sizes.stdout),
                (StreamName::Stderr, &mut sizes.stderr),
                (StreamName::Tty, &mut sizes.tty),
            ] {
                if !grant.streams.contains(&name) {
                    *size = 0;
                }
            }
        }
    }
    run
}

fn shown_frames(body: Body, grant: Grant) -> Body {
    let mut decoder = FrameDecoder::default();
    Body::from_stream(body.into_data_stream().map(move |piece| {
        decoder.push(&piece.map_err(std::io::Error::other)?);
        let mut shown = BytesMut::new();
        while let Some(frame) = decoder.next_frame().map_err(std::io::Error::other)? {
            if let Some(frame) = shown_frame(frame, &grant) {
                frame.encode(&mut shown);
            }
        }
        Ok::<_, std::io::Error>(shown.freeze())
    }))
}

fn shown_frame(frame: Frame, grant: &Grant) -> Option<Frame> {
    let shows = |name: &StreamName| grant.streams.is_empty() || grant.streams.contains(name);
    match frame {
        Frame::Data { stream, .. } | Frame::Gap { stream, .. } if !shows(&stream) => None,
        Frame::State(run) => Some(Frame::State(Box::new(stripped(*run, grant)))),
        Frame::End(run) => Some(Frame::End(Box::new(stripped(*run, grant)))),
        Frame::Data { .. } | Frame::Gap { .. } | Frame::Resize(_) | Frame::Ping => Some(frame),
    }
}

fn kept(headers: &HeaderMap) -> HeaderMap {
    let names = [
        header::CONTENT_TYPE,
        header::X_CONTENT_TYPE_OPTIONS,
        header::CONTENT_SECURITY_POLICY,
    ];
    let kept = names
        .into_iter()
        .filter_map(|name| Some((name.clone(), headers.get(&name)?.clone())));
    kept.collect()
}

const BODY_LIMIT: Duration = Duration::from_secs(10);

const MAX_ORDER: usize = 4 * 1024;

/// A run's spec may be half a megabyte.
const MAX_RUN: usize = 2 << 20;

#[cfg(test)]
mod tests {
    use super::{ask::tests::grant, *};

    #[test]
    fn a_guest_sees_no_environment_and_no_other_stream() {
        let json = serde_json::json!({
            "id": RunId::random(), "spec": {"command": {"shell": "x"}, "env": {"TOKEN": "secret"}, "cwd": "/home/alice/p",
            "session": "nb-1"}, "state": "exited", "createdMs": 0, "host": "h", "pid": 7, "cwdAfter": "/home/alice",
            "sizes": {"stdout": 5, "stderr": 6, "tty": 0}, "durable": {"stdout": 5, "stderr": 6, "tty": 0},
        });
        let run: Run = serde_json::from_value(json).unwrap();
        let part = grant(Access::View, &[StreamName::Stdout]);
        let text = serde_json::to_string(&stripped(run, &part)).unwrap();
        for secret in [
            "secret",
            "TOKEN",
            "alice",
            "nb-1",
            "\"stderr\":6",
            "\"pid\"",
        ] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
        let data = |stream| Frame::Data {
            stream,
            offset: 0,
            bytes: Bytes::from_static(b"x"),
        };
        assert!(shown_frame(data(StreamName::Stdout), &part).is_some());
        assert!(shown_frame(data(StreamName::Stderr), &part).is_none());
        let gap = Frame::Gap {
            stream: StreamName::Stderr,
            offset: 0,
            to: 9,
        };
        assert!(shown_frame(gap, &part).is_none());
    }
}
