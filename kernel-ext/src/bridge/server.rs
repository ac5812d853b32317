//! Accepts connections on loopback and lets only checked requests through to a site.
//!
//! Started by `bridge` for the control API and the login page, and by `page` for each cluster's page.
//! Invariants: every request passes the guard before the site sees it; Nagle's algorithm is off;
//! when the bridge stops, no new request is taken and open ones get a moment to end; all listeners
//! together keep a bounded number of connections.

use std::{
    convert::Infallible,
    future::Future,
    io::{self, Write as _},
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use axum::http::{HeaderValue, Request, header};
use futures_util::future::{Either, select};
use hpcclient_protocol::{ApiError, ErrorCode};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    activity::Activity,
    answer::{Answer, refusal},
    guard::Guard,
};

/// How long a connection may take between requests or to send a request's head.
const HEAD: Duration = Duration::from_secs(300);

/// The largest request head in bytes.
const HEAD_LIMIT: usize = 64 << 10;

/// How long open requests may go on when the bridge stops.
const GRACE: Duration = Duration::from_secs(1);

/// How long to rest when the system has no descriptor for a new connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How many connections all listeners together keep at most. A page holds a handful, a command two,
/// each viewer of a live socket one.
const MOST_CONNECTIONS: usize = 1280;

/// How many files the bridge asks the system for.
const FILES: u64 = 2048;

/// What one connection more gets.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\n\
content-type: application/json\r\ncontent-length: 70\r\n\r\n\
{\"code\":\"unavailable\",\"message\":\"the bridge has too many connections\"}";

/// How often another port is tried for a page.
const PORT_TRIES: usize = 16;

/// Returns how many connections all listeners together may keep: four fifths of the files that this
/// process may open, which is raised as far as the system allows.
pub(crate) fn connections() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let hard = limit.maximum.unwrap_or(FILES);
    let wanted = limit.current.map(|soft| soft.max(hard.min(FILES)));
    let raised = Rlimit {
        current: wanted,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
    let files = getrlimit(Resource::Nofile).current.unwrap_or(FILES);
    usize::try_from(files / 5 * 4).map_or(MOST_CONNECTIONS, |files| files.min(MOST_CONNECTIONS))
}

/// What answers the requests of one listener.
pub(crate) trait Site: Send + Sync + 'static {
    /// Answers a request that passed the guard.
    fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Answer, ApiError>> + Send;
}

/// What every listener of a bridge shares.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) tasks: TaskTracker,
    pub(crate) cancel: CancellationToken,
    pub(crate) activity: Arc<Activity>,
    /// One permit for each connection that may be open.
    pub(crate) connections: Arc<Semaphore>,
}

/// Listens on a free port of loopback; the second socket is the same port of `::1`.
///
/// A browser tries `::1` first for `localhost`. Were it free, another user could take it there.
fn listen() -> io::Result<(u16, Vec<TcpListener>)> {
    let mut tries = 0;
    loop {
        let v4 = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = v4.local_addr()?.port();
        tries += 1;
        let sockets = match std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, port)) {
            Ok(v6) => vec![v4, v6],
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries < PORT_TRIES => {
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            // This machine has no IPv6, so nobody can listen there.
            Err(_) => vec![v4],
        };
        let asynchronous = sockets.into_iter().map(|socket| {
            socket.set_nonblocking(true)?;
            TcpListener::from_std(socket)
        });
        return Ok((port, asynchronous.collect::<io::Result<_>>()?));
    }
}

/// Listens like [`listen`], with words for whoever asked for it.
pub(crate) fn listen_for_site() -> Result<(u16, Vec<TcpListener>), ApiError> {
    listen().map_err(|error| {
        ApiError::new(ErrorCode::Internal, "cannot listen on loopback").caused_by(&error)
    })
}

/// Serves a site on these sockets until the bridge stops.
pub(crate) fn serve<S: Site>(sockets: Vec<TcpListener>, port: u16, site: &Arc<S>, shared: &Shared) {
    let guard = Arc::new(Guard::new(port));
    for socket in sockets {
        let (site, guard) = (Arc::clone(site), Arc::clone(&guard));
        let shared_here = shared.clone();
        shared.tasks.spawn(async move {
            while let Some(stream) = next(&socket, &shared_here.cancel).await {
                let Ok(permit) = Arc::clone(&shared_here.connections).try_acquire_owned() else {
                    tracing::warn!(port, "too many connections");
                    refuse(stream);
                    continue;
                };
                let (site, guard) = (Arc::clone(&site), Arc::clone(&guard));
                let shared = shared_here.clone();
                shared_here.tasks.spawn(async move {
                    converse(stream, site, guard, shared).await;
                    drop(permit);
                });
            }
        });
    }
}

async fn next(socket: &TcpListener, cancel: &CancellationToken) -> Option<TcpStream> {
    let accepted = async {
        loop {
            match socket.accept().await {
                Ok((stream, _)) => return stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    cancel.run_until_cancelled(accepted).await
}

/// Tells a client that there is no room. It does not wait: a new socket's buffer takes these few
/// bytes at once.
fn refuse(stream: TcpStream) {
    if let Err(error) = stream
        .into_std()
        .and_then(|mut socket| socket.write(FULL).map(drop))
    {
        tracing::debug!(%error, "the client left at once");
    }
}

async fn converse<S: Site>(stream: TcpStream, site: Arc<S>, guard: Arc<Guard>, shared: Shared) {
    let _open = shared.activity.enter();
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "the client left at once");
        return;
    }
    let service = service_fn(move |request: Request<Incoming>| {
        let (site, guard) = (Arc::clone(&site), Arc::clone(&guard));
        async move {
            let (parts, body) = request.into_parts();
            let answer = match guard.check(&parts) {
                Ok(()) => site.answer(Request::from_parts(parts, body)).await,
                Err(error) => Err(error),
            };
            Ok::<_, Infallible>(finish(answer))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_LIMIT)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let stop = std::pin::pin!(shared.cancel.cancelled());
    let result = match select(std::pin::pin!(connection), stop).await {
        Either::Left((result, _)) => result,
        Either::Right(((), mut connection)) => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(GRACE, connection).await {
                Ok(result) => result,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended early");
    }
}

fn finish(answer: Result<Answer, ApiError>) -> Answer {
    let mut answer = answer.unwrap_or_else(|error| {
        if error.code == ErrorCode::Internal {
            tracing::error!(message = error.message, causes = ?error.causes, "request failed");
        }
        refusal(&error)
    });
    answer.headers_mut().insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    answer
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use hpcclient_protocol::ApiError;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    struct Greets;

    impl Site for Greets {
        async fn answer(self: Arc<Self>, _request: Request<Incoming>) -> Result<Answer, ApiError> {
            Ok(Answer::new("hello".into()))
        }
    }

    /// Sends a request on an open connection and returns what has arrived up to `end`.
    async fn exchange(stream: &mut TcpStream, port: u16, end: &str) -> String {
        let request = format!("GET / HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n");
        // The refused one may be closed before it has asked.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = String::new();
        while !answer.ends_with(end) {
            let mut piece = vec![0; 1024];
            match stream.read(&mut piece).await {
                Ok(count) if count > 0 => {
                    answer.push_str(&String::from_utf8_lossy(&piece[..count]));
                }
                _ => break,
            }
        }
        answer
    }

    #[tokio::test]
    async fn one_connection_too_many_is_refused_until_another_ends() {
        let shared = Shared {
            tasks: TaskTracker::new(),
            cancel: CancellationToken::new(),
            activity: Arc::new(Activity::new(Instant::now())),
            connections: Arc::new(Semaphore::new(2)),
        };
        let (port, sockets) = listen().unwrap();
        serve(sockets, port, &Arc::new(Greets), &shared);
        let open = async || TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (mut one, mut two) = (open().await, open().await);
        for stream in [&mut one, &mut two] {
            let answer = exchange(stream, port, "hello").await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
        let refused = exchange(&mut open().await, port, "}").await;
        assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
        let (head, body) = refused.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())));
        let error: ApiError = serde_json::from_str(body).unwrap();
        assert_eq!(error.code, ErrorCode::Unavailable);
        assert!(exchange(&mut one, port, "hello").await.contains("200"));

        drop(two);
        let again = async {
            while !exchange(&mut open().await, port, "hello")
                .await
                .contains("200")
            {}
        };
        tokio::time::timeout(Duration::from_secs(20), again)
            .await
            .unwrap();
        shared.cancel.cancel();
        shared.tasks.close();
        shared.tasks.wait().await;
    }
}
