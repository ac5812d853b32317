//! What another user of the node may ask on the share socket, and nothing else.
//!
//! Served by `shares::keeper`, one connection a request. A request is taken apart into an [`Ask`] and a
//! run's id; what is asked of the agent's own router is built from those and a list of known query
//! words, so nothing of a guest's text can name another route.
//! Invariants: who asks is the kernel's word; whatever is not there, not theirs, over, or not allowed is
//! one and the same 404; what a guest does is recorded before it is done; guests together do one thing at a time
//! that reads much, and hold the owner's own places for no more than that.
//! Not here: what is left out of the answers (`shown`), who is inside (`stay`), the guest's own agent
//! (`http::shared`).

mod ask;
mod shown;
mod stay;

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Json, Router,
    body::{Body, Bytes, to_bytes},
    extract::{Path, RawQuery, State},
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::StreamExt as _;
use hpcclient_protocol::{
    ApiError, ErrorCode, RunId, StreamName,
    live::Access,
    run::{SignalRequest, TerminalSize},
    share::Share,
};
use http::{HeaderMap, Method, Request, StatusCode};
use tokio::{sync::Semaphore, time::timeout};
use tower::ServiceExt as _;

use self::{
    ask::{Ask, of_shown, words},
    shown::{kept, plain, shown, shown_frames},
    stay::{Inside, entry},
};
use super::{AppState, by::by, failure::Failure, files};
use crate::{
    files::{Calls, QueryPath, RegularFile, query_values},
    runs::RunError,
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
    /// Held by the one request of a guest that reads much.
    heavy: Arc<Semaphore>,
    inside: Inside,
}

/// Returns the routes of the share socket; each request carries its [`Visitor`].
pub fn router(state: AppState) -> Router {
    let own = super::router(state.clone());
    let guests = Guests {
        own,
        calls: Calls::with_room(MAX_CALLS),
        heavy: Arc::new(Semaphore::new(1)),
        inside: Inside::default(),
        state,
    };
    Router::new()
        .route("/v1/shares", get(by(list)))
        .route("/v1/runs/{id}", get(by(look)))
        .route("/v1/runs/{id}/{part}", get(by(view)).post(by(drive)))
        .route("/v1/file", get(by(file)))
        .fallback(by(async || hidden()))
        .method_not_allowed_fallback(by(async || hidden()))
        .with_state(guests)
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
    let (id, grant) = guests.enter(&who, &id, Ask::Info, None).await?;
    guests.note(&who, &grant, "looked at").await?;
    let answer = guests
        .own(id, Ask::Info, String::new(), Body::empty())
        .await?;
    shown(answer, &grant).await
}

async fn view(
    State(guests): State<Guests>,
    Extension(who): Extension<Visitor>,
    Path((id, part)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let ask = Ask::of(&Method::GET, &part).ok_or_else(hidden)?;
    let query = query.unwrap_or_default();
    let word = |name: &str| query_values(&query).find(|(key, _)| key == name.as_bytes());
    let is = |name, text: &str| word(name).is_some_and(|(_, value)| value == text.as_bytes());
    let searched = [StreamName::Stdout, StreamName::Stderr, StreamName::Tty]
        .into_iter()
        .find(|name| ask == Ask::Search && is("stream", name.as_str()));
    let (id, grant) = guests.enter(&who, &id, ask, searched).await?;
    let follows = match ask {
        Ask::Stream => !is("follow", "false"),
        Ask::Raw(_) => is("follow", "true"),
        _ => false,
    };
    if ask == Ask::Viewers {
        // Those who look on see each other; that they look on is recorded.
        if !guests.inside.has(who.uid, id) {
            return Err(hidden());
        }
        return guests.own(id, ask, String::new(), Body::empty()).await;
    }
    let mut asked = words(&query, ask);
    if ask == Ask::Stream {
        asked = of_shown(&asked, &grant);
    }
    if ask == Ask::Search
        && let [name] = grant.streams.as_slice()
    {
        // A part is searched alone, whatever else is asked for; two parts are all that there is.
        let named = query_values(&query).filter(|(key, _)| key == b"stream");
        if named
            .into_iter()
            .any(|(_, value)| value != name.as_str().as_bytes())
        {
            return Err(hidden());
        }
        let rest = asked.split('&').filter(|word| !word.starts_with("stream="));
        let one = format!("stream={}", name.as_str());
        asked = rest.chain([one.as_str()]).collect::<Vec<_>>().join("&");
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
    let stay = follows.then(|| {
        guests
            .inside
            .stay(&guests.state, who.uid, id, &grant, access)
    });
    let answer = guests.own(id, ask, asked, Body::empty()).await?;
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
    let (id, grant) = guests.enter(&who, &id, ask, None).await?;
    let limit = if ask == Ask::Stdin {
        MAX_DATA
    } else {
        MAX_ORDER
    };
    let bytes = read_body(body, limit).await?;
    let mut query = words(&query.unwrap_or_default(), ask);
    match ask {
        Ask::Signal => {
            let order: SignalRequest = super::failure::json(Ok(bytes.clone()))?;
            if order.signal != "INT" {
                let refused = "refused: a signal other than INT to";
                guests.note(&who, &grant, refused).await?;
                return Err(hidden());
            }
            guests.note(&who, &grant, "sent INT to").await?;
        }
        Ask::Resize => {
            let size: TerminalSize = super::failure::json(Ok(bytes))?;
            guests.note(&who, &grant, "resized").await?;
            guests.inside.resize(who.uid, id, size).await?;
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
        _ => {
            // Numbers of their own: nobody can use up those of the owner's writers.
            query = query.replacen("writer=", &format!("writer=guest{}%2D", who.uid), 1);
            let typed = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            guests.note_bytes(&who, &grant, "typed", typed).await?;
            guests.inside.types(who.uid, id);
        }
    }
    let answer = guests.own(id, ask, query, bytes.into()).await?;
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
    let known = grant.inode;
    let open = move || RegularFile::open_shared(&path, known);
    let opened = guests.calls.run(open).await.map_err(|error| {
        tracing::warn!(%error, "a shared file cannot be opened");
        hidden()
    })?;
    Ok(files::answer(opened, &headers, guests.calls.clone()))
}

impl Guests {
    /// Lets a guest in by a share that fits, or records who was not, if they are a guest of this run at all.
    async fn enter(
        &self,
        who: &Visitor,
        id: &str,
        ask: Ask,
        stream: Option<StreamName>,
    ) -> Result<(RunId, Grant), Failure> {
        let id: RunId = id.parse().map_err(|_| hidden())?;
        let grants = self.state.shares().grants_of_run(who.uid, id).await;
        let mut fitting = grants
            .iter()
            .filter(|grant| ask.is_in(grant) && stream.is_none_or(|stream| grant.shows(stream)));
        let Some(mut grant) = fitting.next().cloned() else {
            let grant = grants.first().ok_or_else(hidden)?;
            let part = ask.part().trim_start_matches('/');
            self.note(who, grant, &format!("refused: {part} of"))
                .await?;
            return Err(hidden());
        };
        // The first allows most; where that is a part, others show more.
        fitting.for_each(|other| grant.join(other));
        who.leash.tie(grant.ended.clone());
        Ok((id, grant))
    }

    /// Asks the agent's own route. A failure is told in words of this file's.
    async fn own(
        &self,
        id: RunId,
        ask: Ask,
        query: String,
        body: Body,
    ) -> Result<Response, Failure> {
        let method = if ask.drives() {
            Method::POST
        } else {
            Method::GET
        };
        let request = Request::builder()
            .method(method)
            .uri(format!("/v1/runs/{id}{}?{query}", ask.part()))
            .body(body)
            .map_err(|_| Failure::bad_request("the request cannot be understood"))?;
        let answering = self.own.clone().oneshot(request);
        let Ok(answer) = if ask.reads_much(&query) {
            let place = timeout(HEAVY_LIMIT, Arc::clone(&self.heavy).acquire_owned()).await;
            let Ok(Ok(place)) = place else {
                let what = "others read from this agent just now; try again";
                return Err(Failure(ApiError::new(ErrorCode::Unavailable, what)));
            };
            // A task of its own: who hangs up does not end the reading, so the place is not free either.
            let reading = self.state.tracker().spawn(async move {
                let answer = answering.await;
                drop(place);
                answer
            });
            reading.await.map_err(|_| RunError::Stopping)?
        } else {
            answering.await
        };
        if answer.status().is_success() {
            Ok(answer)
        } else {
            Err(plain(answer).await)
        }
    }

    async fn note(&self, who: &Visitor, grant: &Grant, action: &str) -> Result<(), Failure> {
        let entry = entry(who.uid, grant, action);
        Ok(self.state.shares().audit().record(entry).await?)
    }

    async fn note_bytes(
        &self,
        who: &Visitor,
        grant: &Grant,
        action: &str,
        bytes: u64,
    ) -> Result<(), Failure> {
        let entry = entry(who.uid, grant, action);
        let audit = self.state.shares().audit();
        Ok(audit.record_bytes(entry, bytes).await?)
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

const BODY_LIMIT: Duration = Duration::from_secs(10);

const MAX_ORDER: usize = 4 * 1024;

/// What the owner's own file requests have is four times as much.
const MAX_CALLS: usize = 2;

const HEAVY_LIMIT: Duration = Duration::from_secs(10);
