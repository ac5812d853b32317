//! A node of a few lines: its agent speaks HTTP/2 over a pipe in memory.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::body::{Body, Bytes};
use bytes::BytesMut;
use futures_util::{StreamExt as _, future::BoxFuture};
use hpcclient::bridge::node::{AgentEnd, Dial, Dialled, Node};
use hpcclient_protocol::{
    ApiError, ErrorCode, Frame, PROTOCOL_VERSION, StreamName, VERSION, bridge::Route,
    status::AgentHello,
};
use hpcclient_ssh::{Prompt, Prompter, Question};
use http::{Method, Request, Response, StatusCode};
use hyper::{body::Incoming, ext::Protocol, server::conn::http2, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::sync::{Notify, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Where every login leads.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) dials: AtomicU64,
    /// What the next logins fail with.
    pub(crate) refuse: Mutex<Option<ErrorCode>>,
    /// Whether a login asks for the password `secret`.
    pub(crate) asks: Mutex<bool>,
    /// The release that the next agents claim to be, the last one for all that follow.
    pub(crate) versions: Mutex<Vec<&'static str>>,
    /// The builds of the next agents, the last one for all that follow; ours is `00`.
    pub(crate) builds: Arc<Mutex<Vec<&'static str>>>,
    /// Lets `/v1/cut` fail.
    pub(crate) go: Arc<Notify>,
    live: Mutex<Option<Arc<Login>>>,
    tasks: TaskTracker,
    over: CancellationToken,
}

impl Site {
    pub(crate) fn new(tasks: TaskTracker) -> Self {
        Self {
            dials: AtomicU64::new(0),
            refuse: Mutex::default(),
            asks: Mutex::default(),
            versions: Mutex::new(vec![VERSION]),
            builds: Arc::new(Mutex::new(vec!["00"])),
            go: Arc::default(),
            live: Mutex::default(),
            tasks,
            over: CancellationToken::new(),
        }
    }

    /// Ends the login as a lost network does.
    pub(crate) fn cut(&self) {
        if let Some(login) = self.live.lock().unwrap().take() {
            login.end("the network is gone");
        }
    }

    /// Ends the agent alone; the login lives.
    pub(crate) fn kill_agent(&self) {
        if let Some(login) = &*self.live.lock().unwrap() {
            login.agent.lock().unwrap().cancel();
        }
    }

    pub(crate) fn end(&self) {
        self.over.cancel();
    }

    pub(crate) fn dials(&self) -> u64 {
        self.dials.load(Ordering::SeqCst)
    }
}

impl Dial for Site {
    fn dial<'a>(
        &'a self,
        cluster: &'a str,
        _near: Option<std::net::IpAddr>,
        prompter: Arc<dyn Prompter>,
    ) -> BoxFuture<'a, Result<Dialled, ApiError>> {
        Box::pin(async move {
            self.dials.fetch_add(1, Ordering::SeqCst);
            let refuse = *self.refuse.lock().unwrap();
            if let Some(code) = refuse {
                return Err(ApiError::new(code, "refused by the test"));
            }
            let asks = *self.asks.lock().unwrap();
            if asks {
                let prompt = Prompt {
                    kind: Question::Password,
                    text: "Password: ".to_owned(),
                    echo: false,
                };
                if prompter.ask(prompt).await.as_deref() != Some("secret") {
                    return Err(ApiError::new(ErrorCode::AuthFailed, "wrong password"));
                }
            }
            let (closed, _) = watch::channel(None);
            let login = Arc::new(Login {
                closed,
                channels: AtomicU64::new(0),
                agent: Mutex::default(),
                versions: Mutex::new(std::mem::take(&mut *self.versions.lock().unwrap())),
                builds: Arc::clone(&self.builds),
                go: Arc::clone(&self.go),
                tasks: self.tasks.clone(),
                over: self.over.child_token(),
            });
            *self.versions.lock().unwrap() = vec![VERSION];
            *self.live.lock().unwrap() = Some(Arc::clone(&login));
            let destination = format!("me@{cluster}:22");
            Ok(Dialled {
                destination,
                node: login,
            })
        })
    }
}

/// One login.
#[derive(Debug)]
struct Login {
    closed: watch::Sender<Option<String>>,
    channels: AtomicU64,
    agent: Mutex<CancellationToken>,
    versions: Mutex<Vec<&'static str>>,
    builds: Arc<Mutex<Vec<&'static str>>>,
    go: Arc<Notify>,
    tasks: TaskTracker,
    over: CancellationToken,
}

impl Login {
    fn end(&self, reason: &str) {
        self.closed.send_replace(Some(reason.to_owned()));
        self.over.cancel();
    }
}

impl Node for Login {
    fn reach_agent<'a>(
        &'a self,
        _prompter: &'a dyn Prompter,
    ) -> BoxFuture<'a, Result<AgentEnd, ApiError>> {
        Box::pin(async move {
            if self.over.is_cancelled() {
                return Err(ApiError::new(ErrorCode::ConnectFailed, "the login is over"));
            }
            self.channels.fetch_add(1, Ordering::SeqCst);
            let version = next_of(&self.versions);
            let build = next_of(&self.builds);
            let (near, far) = tokio::io::duplex(64 << 10);
            let agent = self.over.child_token();
            *self.agent.lock().unwrap() = agent.clone();
            self.tasks
                .spawn(serve_agent(far, agent, Arc::clone(&self.go)));
            let hello = AgentHello {
                version: version.to_owned(),
                protocol: PROTOCOL_VERSION,
                build: build.to_owned(),
                socket: "/run/agent.sock".to_owned(),
                host: "login01".to_owned(),
                pid: 1,
                boot_id: None,
            };
            Ok(AgentEnd {
                hello,
                our_build: "00".to_owned(),
                stream: Box::new(near),
                route: Route::Streamlocal,
            })
        })
    }

    fn reach_node<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<AgentEnd, ApiError>> {
        let message = format!("{host} cannot be reached");
        let error = ApiError::new(ErrorCode::ConnectFailed, message);
        Box::pin(std::future::ready(Err(error)))
    }

    fn login(&self) -> hpcclient_protocol::bridge::Login {
        hpcclient_protocol::bridge::Login {
            transport: hpcclient_protocol::bridge::Transport::Russh,
            offered: vec![],
            used: vec![],
            certificate: None,
            host_key: None,
            server: None,
            hops: vec![],
        }
    }

    fn address(&self) -> Option<std::net::IpAddr> {
        None
    }

    fn closed(&self) -> watch::Receiver<Option<String>> {
        self.closed.subscribe()
    }

    fn is_alive(&self) -> BoxFuture<'_, bool> {
        Box::pin(std::future::ready(!self.over.is_cancelled()))
    }

    fn channels_opened(&self) -> u64 {
        self.channels.load(Ordering::SeqCst)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.end("closed");
        Box::pin(std::future::ready(()))
    }
}

fn next_of(list: &Mutex<Vec<&'static str>>) -> &'static str {
    let mut list = list.lock().unwrap();
    if list.len() > 1 {
        list.remove(0)
    } else {
        list[0]
    }
}

#[derive(Clone)]
struct OnTracker(TaskTracker);

impl<F> hyper::rt::Executor<F> for OnTracker
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

async fn serve_agent(stream: tokio::io::DuplexStream, over: CancellationToken, go: Arc<Notify>) {
    let tasks = TaskTracker::new();
    let (stop, helpers) = (over.clone(), tasks.clone());
    let service = service_fn(move |request| {
        let (stop, tasks, go) = (stop.clone(), helpers.clone(), Arc::clone(&go));
        async move { Ok::<_, Infallible>(answer(request, stop, &tasks, go).await) }
    });
    let serving = http2::Builder::new(OnTracker(tasks.clone()))
        .enable_connect_protocol()
        .serve_connection(TokioIo::new(stream), service);
    // Either way the pipe is dropped, as when a process ends.
    let _ = over.run_until_cancelled(serving).await;
}

async fn answer(
    mut request: Request<Incoming>,
    stop: CancellationToken,
    tasks: &TaskTracker,
    go: Arc<Notify>,
) -> Response<Body> {
    if request.method() == Method::CONNECT {
        assert_eq!(
            request.extensions().get::<Protocol>().unwrap().as_ref(),
            b"websocket"
        );
        let upgrade = hyper::upgrade::on(&mut request);
        tasks.spawn(stop.run_until_cancelled_owned(async move {
            let upgraded = TokioIo::new(upgrade.await.unwrap());
            let (mut from, mut to) = tokio::io::split(upgraded);
            // The bytes come back; what they mean is not the bridge's business.
            let _ = tokio::io::copy(&mut from, &mut to).await;
        }));
        return Response::new(Body::empty());
    }
    match request.uri().path() {
        "/v1/status" => Response::new(Body::from("{}")),
        "/v1/stop" => {
            stop.cancel();
            let mut gone = Response::new(Body::empty());
            *gone.status_mut() = StatusCode::NO_CONTENT;
            gone
        }
        "/v1/request" => {
            let mut lines = vec![format!("{} {}", request.method(), request.uri())];
            for (name, value) in request.headers() {
                lines.push(format!("{name}: {}", value.to_str().unwrap()));
            }
            let body = axum::body::to_bytes(Body::new(request.into_body()), 1 << 20).await;
            lines.push(String::from_utf8(body.unwrap().to_vec()).unwrap());
            let mut answer = Response::new(Body::from(lines.join("\n")));
            answer
                .headers_mut()
                .insert("set-cookie", "evil=1".parse().unwrap());
            answer
        }
        "/v1/cut" => {
            let pieces = futures_util::stream::unfold(0, move |sent| {
                let go = Arc::clone(&go);
                async move {
                    if sent == 0 {
                        return Some((Ok(Bytes::from("part")), 1));
                    }
                    go.notified().await;
                    Some((Err(std::io::Error::other("cut")), 2))
                }
            });
            Response::new(Body::from_stream(pieces))
        }
        "/v1/endless" => {
            let piece = Bytes::from(vec![b'x'; 32 << 10]);
            let pieces = futures_util::stream::repeat(piece).map(Ok::<_, Infallible>);
            Response::new(Body::from_stream(pieces))
        }
        run if run.ends_with("/stream") => Response::new(flood()),
        "/" => Response::new(Body::from("the page")),
        _ => {
            let mut missing = Response::new(Body::from("{}"));
            *missing.status_mut() = StatusCode::NOT_FOUND;
            missing
        }
    }
}

/// The frames of a run that writes without end.
fn flood() -> Body {
    let bytes = Bytes::from(vec![b'x'; 32 << 10]);
    let pieces = futures_util::stream::unfold(0, move |offset| {
        let mut piece = BytesMut::new();
        let frame = Frame::Data {
            stream: StreamName::Stdout,
            offset,
            bytes: bytes.clone(),
        };
        frame.encode(&mut piece);
        let next = offset + bytes.len() as u64;
        std::future::ready(Some((Ok::<_, Infallible>(piece.freeze()), next)))
    });
    Body::from_stream(pieces)
}
