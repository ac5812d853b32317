//! The guest's side: finds the agents of other users on this node, and asks them.
//!
//! Called by `http::shares` (the list), `http::shared` (requests) and `http::live` (channels).
//! Invariants: a socket counts only in a real directory of the user whose number is in its name, and
//! only when the kernel says that this user listens on it; an owner is named by the node's own list of
//! users, never by what their agent says; an agent that hangs costs the list [`LIST_LIMIT`], and what
//! it may send is bounded.

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use hpcclient_protocol::{ApiError, ErrorCode, share::Share};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::{
    net::UnixStream,
    sync::Semaphore,
    time::{Instant, timeout, timeout_at},
};

use super::door::{SOCKET, uid_in};
use crate::{http::AppState, place::RUN_DIR_PARENT};

/// One request to another user's agent.
#[derive(Clone, Debug)]
pub struct Question {
    /// `GET` or `POST`.
    pub method: Method,
    /// Path and query on the share socket.
    pub target: String,
    /// A `Range` header to pass on.
    pub range: Option<http::HeaderValue>,
    /// The body.
    pub body: Bytes,
    /// How long the head of the answer may take.
    pub limit: Duration,
}

impl Question {
    /// A `GET`.
    #[must_use]
    pub fn get(target: String) -> Self {
        Self {
            method: Method::GET,
            target,
            range: None,
            body: Bytes::new(),
            limit: ANSWER_LIMIT,
        }
    }
}

/// Returns what other users of this node share with this one, newest first.
pub async fn shares_of_others(state: &AppState) -> Vec<Share> {
    let own = rustix::process::getuid().as_raw();
    let doors = doors(None).await.into_iter().filter(|door| door.uid != own);
    // For all of them together, so that many who send much take no more memory than one.
    let room = &Semaphore::new(ALL_BYTES);
    let asked = stream::iter(doors).map(|door| async move {
        timeout(LIST_LIMIT, list(state, &door, room))
            .await
            .unwrap_or_default()
    });
    let mut answers = std::pin::pin!(asked.buffer_unordered(AT_ONCE));
    let until = Instant::now() + ALL_LIMIT;
    let mut shares = Vec::new();
    // What came in time counts.
    while let Ok(Some(theirs)) = timeout_at(until, answers.next()).await {
        shares.extend(theirs);
    }
    shares.sort_by_key(|share| std::cmp::Reverse(share.created_ms));
    shares
}

/// Asks an owner's agent. Of several agents of one user the one that shares it answers.
///
/// # Errors
/// `NotFound` when there is no such user, or nothing of theirs is shared here; the owner's own refusal;
/// `Unavailable` when their agent is away or does not answer. Each names the owner.
pub async fn ask(
    state: &AppState,
    owner: &str,
    question: &Question,
) -> Result<Response<Incoming>, ApiError> {
    let host = state.place().host();
    let Some(user) = state.shares().names().user(owner).await else {
        let what = format!("there is no user `{owner}` on this node ({host})");
        return Err(ApiError::new(ErrorCode::NotFound, what));
    };
    let hint =
        format!("`hpcclient shares` lists what others share with you; ask {owner} to share it");
    let nothing = |what: String| ApiError::new(ErrorCode::NotFound, what).hint(hint.clone());
    let doors = doors(Some(user.uid)).await;
    if doors.is_empty() {
        let what = format!("{owner} shares nothing on this node ({host})");
        let elsewhere = "what is shared on another login node is seen from there";
        return Err(nothing(what).on_node(host).hint(elsewhere));
    }
    let mut is_there = false;
    for door in doors {
        match send(state, &door, question).await {
            // Another agent of this user may share it.
            Ok(answer) if answer.status() == StatusCode::NOT_FOUND => is_there = true,
            Ok(answer) if answer.status().is_success() => return Ok(answer),
            Ok(answer) => return Err(said(owner, answer).await),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                let what = format!("{owner}'s agent on this node ({host}) does not answer");
                return Err(ApiError::new(ErrorCode::Unavailable, what).hint("try again later"));
            }
            // Its agent was stopped or killed.
            Err(error) => tracing::debug!(%error, owner, "nobody is behind a share socket"),
        }
    }
    Err(if is_there {
        nothing(format!(
            "{owner} does not share this with you, or not any more"
        ))
    } else {
        let what = format!("{owner}'s agent is not running on this node ({host})");
        let hint = format!("ask {owner} to connect to {host}");
        ApiError::new(ErrorCode::Unavailable, what)
            .on_node(host)
            .hint(hint)
    })
}

/// A share socket and whose it is.
struct Found {
    uid: u32,
    path: PathBuf,
}

async fn doors(uid: Option<u32>) -> Vec<Found> {
    let look = move || look_for_doors(Path::new(RUN_DIR_PARENT), uid);
    let found = timeout(LIST_LIMIT, crate::tasks::blocking(look)).await;
    found.ok().and_then(Result::ok).unwrap_or_default()
}

fn look_for_doors(parent: &Path, wanted: Option<u32>) -> Vec<Found> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let mut of_user = HashMap::<u32, usize>::new();
    let doors = entries.filter_map(|entry| {
        let uid = uid_in(entry.file_name().to_str()?)?;
        if wanted.is_some_and(|wanted| wanted != uid) {
            return None;
        }
        let about = fs::symlink_metadata(entry.path()).ok()?;
        let is_theirs = about.is_dir() && about.uid() == uid;
        if !is_theirs {
            return None;
        }
        let number = of_user.entry(uid).or_default();
        *number += 1;
        let path = entry.path().join(SOCKET);
        (*number <= MAX_OF_USER).then_some(Found { uid, path })
    });
    doors.take(MAX_DOORS).collect()
}

async fn list(state: &AppState, door: &Found, room: &Semaphore) -> Vec<Share> {
    let question = Question::get("/v1/shares".to_owned());
    let Ok(answer) = send(state, door, &question).await else {
        return vec![];
    };
    let (mut body, mut bytes) = (answer.into_body(), Vec::new());
    while let Some(frame) = body.frame().await {
        let Some(piece) = frame.ok().and_then(|frame| frame.into_data().ok()) else {
            return vec![];
        };
        let size = u32::try_from(piece.len()).unwrap_or(u32::MAX);
        let Ok(taken) = room.try_acquire_many(size) else {
            return vec![];
        };
        taken.forget();
        if bytes.len() + piece.len() > LIST_BYTES {
            return vec![];
        }
        bytes.extend_from_slice(&piece);
    }
    let shares = serde_json::from_slice::<Vec<Share>>(&bytes).ok();
    let (Some(shares), Some(owner)) = (shares, state.shares().names().of(door.uid).await) else {
        return vec![];
    };
    let named = shares.into_iter().map(|share| Share {
        owner: owner.name.clone(),
        ..share
    });
    named.take(MAX_OF_ONE).collect()
}

async fn send(
    state: &AppState,
    door: &Found,
    question: &Question,
) -> io::Result<Response<Incoming>> {
    let late = || io::Error::from(io::ErrorKind::TimedOut);
    let connected = timeout(CONNECT_LIMIT, UnixStream::connect(&door.path)).await;
    let stream = connected.map_err(|_| late())??;
    if stream.peer_cred()?.uid() != door.uid {
        return Err(io::Error::other("another user listens there"));
    }
    let shaken = hyper::client::conn::http1::Builder::new()
        .max_buf_size(BUFFER)
        .handshake(TokioIo::new(stream))
        .await;
    let (mut sender, connection) = shaken.map_err(io::Error::other)?;
    let stopping = state.stopping().clone();
    // It ends with the body, or when nobody wants the body any more.
    state.tracker().spawn(async move {
        let _cut = stopping.run_until_cancelled(connection).await;
    });
    let mut request = Request::builder()
        .method(question.method.clone())
        .uri(&question.target)
        .header(http::header::HOST, "agent");
    if let Some(range) = &question.range {
        request = request.header(http::header::RANGE, range);
    }
    let request = request
        .body(Full::new(question.body.clone()))
        .map_err(io::Error::other)?;
    let answer = timeout(question.limit, sender.send_request(request)).await;
    answer.map_err(|_| late())?.map_err(io::Error::other)
}

/// Returns what an owner's agent said in place of an answer.
async fn said(owner: &str, answer: Response<Incoming>) -> ApiError {
    let status = answer.status();
    let body = timeout(
        LIST_LIMIT,
        Limited::new(answer.into_body(), ERROR_BYTES).collect(),
    )
    .await;
    let body = body.ok().and_then(Result::ok);
    let error = body.and_then(|body| serde_json::from_slice::<ApiError>(&body.to_bytes()).ok());
    let Some(error) = error else {
        let what = format!("{owner}'s agent answered with {status}");
        return ApiError::new(ErrorCode::Unavailable, what);
    };
    let code = match error.code {
        ErrorCode::BadRequest
        | ErrorCode::Forbidden
        | ErrorCode::Conflict
        | ErrorCode::TooLarge
        | ErrorCode::BadOffset
        | ErrorCode::NoSpace => error.code,
        // What an own agent says of itself, nobody else can say of theirs.
        _ => ErrorCode::Unavailable,
    };
    let what = format!("{owner}'s agent says: {}", harmless(&error.message));
    ApiError::new(code, what)
}

/// Returns a stranger's words as one line of bounded length in which nothing is hidden.
fn harmless(text: &str) -> String {
    let mut line = String::new();
    for c in text.chars().take(MAX_SAID) {
        let turns = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
        if c.is_control() || turns {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

/// How long one owner may hold up the list.
const LIST_LIMIT: Duration = Duration::from_secs(1);

const ALL_LIMIT: Duration = Duration::from_secs(4);

const CONNECT_LIMIT: Duration = Duration::from_secs(1);

const ANSWER_LIMIT: Duration = Duration::from_secs(15);

const AT_ONCE: usize = 32;

const MAX_DOORS: usize = 256;

const MAX_OF_ONE: usize = 256;

const LIST_BYTES: usize = 1 << 20;

const ALL_BYTES: usize = 8 << 20;

/// An agent each, and no more than that of those who make directories.
const MAX_OF_USER: usize = 4;

/// In characters.
const MAX_SAID: usize = 500;

const ERROR_BYTES: usize = 64 * 1024;

const BUFFER: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::{super::door::PREFIX, *};

    #[test]
    fn only_a_directory_of_the_user_in_its_name_counts() {
        for (name, uid) in [
            ("hpcclient-share-1001", Some(1001)),
            ("hpcclient-share-1001.3", Some(1001)),
            ("hpcclient-share-", None),
            ("hpcclient-share-1001.", None),
            ("hpcclient-share-+1", None),
            ("hpcclient-share-1.2.3", None),
            ("hpcclient-share-99999999999", None),
            ("hpcc-1001", None),
        ] {
            assert_eq!(uid_in(name), uid, "{name}");
        }
        let parent = tempfile::tempdir().unwrap();
        let uid = rustix::process::getuid().as_raw();
        let at = |name: String| parent.path().join(name);
        fs::create_dir(at(format!("{PREFIX}{uid}"))).unwrap();
        fs::create_dir(at(format!("{PREFIX}{uid}.1"))).unwrap();
        fs::create_dir(at(format!("{PREFIX}{}", uid + 1))).unwrap();
        symlink("/", at(format!("{PREFIX}0.7"))).unwrap();
        fs::write(at(format!("{PREFIX}{uid}.2")), "").unwrap();
        assert_eq!(look_for_doors(parent.path(), None).len(), 2);
        assert_eq!(look_for_doors(parent.path(), Some(uid)).len(), 2);
        assert!(look_for_doors(parent.path(), Some(uid + 1)).is_empty());
        if rustix::process::getuid().is_root() {
            chown(at(format!("{PREFIX}{uid}.1")), Some(65534), None).unwrap();
            assert_eq!(look_for_doors(parent.path(), None).len(), 1);
        }
    }

    #[test]
    fn one_user_has_a_few_doors_however_many_they_make() {
        let parent = tempfile::tempdir().unwrap();
        let uid = rustix::process::getuid().as_raw();
        for number in 0..50 {
            fs::create_dir(parent.path().join(format!("{PREFIX}{uid}.{number}"))).unwrap();
        }
        assert_eq!(look_for_doors(parent.path(), None).len(), MAX_OF_USER);
    }

    #[test]
    fn a_strangers_words_are_one_line_with_nothing_hidden() {
        assert_eq!(
            harmless("no\n\x1b[2J\u{202e}x"),
            "no\\n\\u{1b}[2J\\u{202e}x"
        );
        assert_eq!(harmless(&"é".repeat(9000)).chars().count(), MAX_SAID);
    }
}
