//! Nodes of a few lines: their agents speak HTTP/2 over pipes in memory.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    net::IpAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::body::{Body, Bytes};
use bytes::BytesMut;
use futures_util::{StreamExt as _, future::BoxFuture};
use hpcclient::bridge::node::{AgentEnd, Dial, Dialled, NoLogin, Node, Way};
use hpcclient_protocol::{
    ApiError, ErrorCode, Frame, PROTOCOL_VERSION, StreamName, VERSION,
    bridge::{Certificate, Login as LoginFacts, Route, Transport},
    status::AgentHello,
};
use hpcclient_ssh::{Prompt, Prompter, Question};
use http::{Method, Request, Response, StatusCode};
use hyper::{body::Incoming, ext::Protocol, server::conn::http2, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::AsyncWriteExt as _,
    sync::{Notify, watch},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Where every login leads.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) dials: AtomicU64,
    /// What the next logins fail with.
    pub(crate) refuse: Mutex<Option<ErrorCode>>,
    /// Whether the network is there.
    pub(crate) is_up: Mutex<bool>,
    /// What a login asks for, if it does; the answer is `secret`.
    pub(crate) asks: Mutex<Option<&'static str>>,
    /// The answers that were given.
    pub(crate) answers: Mutex<Vec<String>>,
    /// The release that the next agents claim to be, the last one for all that follow.
    pub(crate) versions: Mutex<Vec<&'static str>>,
    /// The addresses that the logins were told to try first.
    pub(crate) near: Mutex<Vec<Option<IpAddr>>>,
    /// The node that the next logins lead to.
    pub(crate) lands_on: Mutex<&'static str>,
    /// When the certificate of the next logins ends.
    pub(crate) certificate_ends: Mutex<Option<u64>>,
    pub(crate) world: Arc<World>,
    live: Mutex<Option<Arc<Login>>>,
    over: CancellationToken,
}

/// What all nodes share.
#[derive(Debug)]
pub(crate) struct World {
    /// The builds of the next agents, the last one for all that follow; ours is `00`.
    pub(crate) builds: Mutex<Vec<&'static str>>,
    /// Lets `/v1/cut` fail.
    pub(crate) go: Notify,
    /// The nodes that cannot be reached from another one.
    pub(crate) unreachable: Mutex<HashSet<&'static str>>,
    /// The nodes that died: whoever wants to reach one waits.
    dead: Mutex<HashSet<&'static str>>,
    /// How often each node was reached from another one.
    pub(crate) hops: Mutex<HashMap<String, u64>>,
    /// The agents that were reached from another node, by that node.
    hopped_to: Mutex<HashMap<String, CancellationToken>>,
    /// The boots of the nodes.
    pub(crate) boot: Mutex<&'static str>,
    /// Whether the nodes answer when they are asked if they are there.
    pub(crate) answers_probes: Mutex<bool>,
    tasks: TaskTracker,
}

impl Site {
    pub(crate) fn new(tasks: TaskTracker) -> Self {
        Self {
            dials: AtomicU64::new(0),
            refuse: Mutex::default(),
            is_up: Mutex::new(true),
            asks: Mutex::default(),
            answers: Mutex::default(),
            versions: Mutex::new(vec![VERSION]),
            near: Mutex::default(),
            lands_on: Mutex::new("login01"),
            certificate_ends: Mutex::default(),
            world: Arc::new(World {
                builds: Mutex::new(vec!["00"]),
                go: Notify::new(),
                unreachable: Mutex::default(),
                dead: Mutex::default(),
                hops: Mutex::default(),
                hopped_to: Mutex::default(),
                boot: Mutex::new("boot-1"),
                answers_probes: Mutex::new(true),
                tasks,
            }),
            live: Mutex::default(),
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

    /// Ends a node that was reached from another one, and lets it answer nobody.
    pub(crate) fn kill_node(&self, host: &'static str) {
        self.world.dead.lock().unwrap().insert(host);
        if let Some(agent) = self.world.hopped_to.lock().unwrap().get(host) {
            agent.cancel();
        }
    }

    pub(crate) fn end(&self) {
        self.over.cancel();
    }

    /// How often a node was reached from another one.
    pub(crate) fn hops_to(&self, host: &str) -> u64 {
        let hops = self.world.hops.lock().unwrap();
        hops.get(host).copied().unwrap_or_default()
    }

    pub(crate) fn dials(&self) -> u64 {
        self.dials.load(Ordering::SeqCst)
    }
}

impl Dial for Site {
    fn dial<'a>(
        &'a self,
        cluster: &'a str,
        way: Way,
        prompter: Arc<dyn Prompter>,
    ) -> BoxFuture<'a, Result<Dialled, NoLogin>> {
        Box::pin(async move {
            self.dials.fetch_add(1, Ordering::SeqCst);
            self.near.lock().unwrap().push(way.near);
            if !*self.is_up.lock().unwrap() {
                let error = ApiError::new(ErrorCode::ConnectFailed, "cannot reach login port 22");
                return Err(NoLogin::unreached(error));
            }
            let refuse = *self.refuse.lock().unwrap();
            if let Some(code) = refuse {
                return Err(NoLogin::reached(ApiError::new(code, "refused by the test")));
            }
            let asks = *self.asks.lock().unwrap();
            if let Some(text) = asks {
                let prompt = Prompt {
                    kind: Question::Text,
                    text: text.to_owned(),
                    echo: false,
                };
                let answer = prompter.ask(prompt).await;
                self.answers.lock().unwrap().extend(answer.clone());
                if answer.as_deref() != Some("secret") {
                    let error = ApiError::new(ErrorCode::AuthFailed, "wrong password");
                    return Err(NoLogin::reached(error));
                }
            }
            let (closed, _) = watch::channel(None);
            let login = Arc::new(Login {
                host: *self.lands_on.lock().unwrap(),
                closed,
                channels: AtomicU64::new(0),
                agent: Mutex::default(),
                versions: Mutex::new(std::mem::take(&mut *self.versions.lock().unwrap())),
                certificate_ends: *self.certificate_ends.lock().unwrap(),
                world: Arc::clone(&self.world),
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
    host: &'static str,
    closed: watch::Sender<Option<String>>,
    channels: AtomicU64,
    agent: Mutex<CancellationToken>,
    versions: Mutex<Vec<&'static str>>,
    certificate_ends: Option<u64>,
    world: Arc<World>,
    over: CancellationToken,
}

impl Login {
    fn end(&self, reason: &str) {
        self.closed.send_replace(Some(reason.to_owned()));
        self.over.cancel();
    }

    fn start_agent(&self, host: &str) -> Result<(AgentEnd, CancellationToken), ApiError> {
        if self.over.is_cancelled() {
            return Err(ApiError::new(ErrorCode::ConnectFailed, "the login is over"));
        }
        self.channels.fetch_add(1, Ordering::SeqCst);
        let version = next_of(&self.versions);
        let build = next_of(&self.world.builds);
        let (near, far) = tokio::io::duplex(64 << 10);
        let agent = self.over.child_token();
        let world = Arc::clone(&self.world);
        self.world
            .tasks
            .spawn(serve_agent(far, agent.clone(), host.to_owned(), world));
        let hello = AgentHello {
            version: version.to_owned(),
            protocol: PROTOCOL_VERSION,
            build: build.to_owned(),
            socket: "/run/agent.sock".to_owned(),
            host: host.to_owned(),
            pid: 1,
            boot_id: Some((*self.world.boot.lock().unwrap()).to_owned()),
        };
        let end = AgentEnd {
            hello,
            our_build: "00".to_owned(),
            stream: Box::new(near),
            route: Route::Streamlocal,
        };
        Ok((end, agent))
    }
}

impl Node for Login {
    fn reach_agent<'a>(
        &'a self,
        _prompter: &'a dyn Prompter,
    ) -> BoxFuture<'a, Result<AgentEnd, ApiError>> {
        Box::pin(async move {
            let (end, agent) = self.start_agent(self.host)?;
            *self.agent.lock().unwrap() = agent;
            Ok(end)
        })
    }

    fn reach_node<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<AgentEnd, ApiError>> {
        Box::pin(async move {
            let count = |hops: &mut HashMap<_, u64>| *hops.entry(host.to_owned()).or_default() += 1;
            count(&mut self.world.hops.lock().unwrap());
            let is_dead = self.world.dead.lock().unwrap().contains(host);
            if is_dead {
                std::future::pending::<()>().await;
            }
            if self.world.unreachable.lock().unwrap().contains(host) {
                let message = format!("{host} cannot be reached from the node of this login");
                return Err(ApiError::new(ErrorCode::ConnectFailed, message));
            }
            let (end, agent) = self.start_agent(host)?;
            let mut hopped_to = self.world.hopped_to.lock().unwrap();
            hopped_to.insert(host.to_owned(), agent);
            Ok(end)
        })
    }

    fn login(&self) -> LoginFacts {
        LoginFacts {
            transport: Transport::Russh,
            offered: vec![],
            used: vec!["publickey (certificate ~/.ssh/id-cert.pub)".to_owned()],
            certificate: self.certificate_ends.map(|end| Certificate {
                key_id: "me".to_owned(),
                source: "~/.ssh/id-cert.pub".to_owned(),
                valid_until_ms: Some(end),
            }),
            host_key: None,
            server: None,
            hops: vec![],
        }
    }

    fn address(&self) -> Option<IpAddr> {
        address_of(self.host)
    }

    fn closed(&self) -> watch::Receiver<Option<String>> {
        self.closed.subscribe()
    }

    fn is_alive(&self) -> BoxFuture<'_, bool> {
        let answers = *self.world.answers_probes.lock().unwrap();
        Box::pin(std::future::ready(answers && !self.over.is_cancelled()))
    }

    fn channels_opened(&self) -> u64 {
        self.channels.load(Ordering::SeqCst)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.end("closed");
        Box::pin(std::future::ready(()))
    }
}

/// The address of `login01` is 192.0.2.1, and so on.
pub(crate) fn address_of(host: &str) -> Option<IpAddr> {
    let number = host.strip_prefix("login")?.parse().ok()?;
    Some(IpAddr::from([192, 0, 2, number]))
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

async fn serve_agent(
    stream: tokio::io::DuplexStream,
    over: CancellationToken,
    host: String,
    world: Arc<World>,
) {
    let tasks = TaskTracker::new();
    let (stop, helpers) = (over.clone(), tasks.clone());
    let service = service_fn(move |request| {
        let (stop, tasks, world) = (stop.clone(), helpers.clone(), Arc::clone(&world));
        let host = host.clone();
        async move { Ok::<_, Infallible>(answer(request, stop, &tasks, &host, world).await) }
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
    host: &str,
    world: Arc<World>,
) -> Response<Body> {
    if let Some(there) = elsewhere(request.uri().path(), host) {
        let error = ApiError::new(ErrorCode::OtherNode, "the run lives on another node");
        let mut refusal = Response::new(Body::from(
            serde_json::to_vec(&error.on_node(there)).unwrap(),
        ));
        *refusal.status_mut() = StatusCode::CONFLICT;
        return refusal;
    }
    if request.method() == Method::CONNECT {
        assert_eq!(
            request.extensions().get::<Protocol>().unwrap().as_ref(),
            b"websocket"
        );
        let upgrade = hyper::upgrade::on(&mut request);
        let greeting = if request.uri().path().starts_with("/v1/runs/") {
            host.to_owned()
        } else {
            String::new()
        };
        tasks.spawn(stop.run_until_cancelled_owned(async move {
            let upgraded = TokioIo::new(upgrade.await.unwrap());
            let (mut from, mut to) = tokio::io::split(upgraded);
            to.write_all(greeting.as_bytes()).await.unwrap();
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
        path if path.ends_with("/request") || path.ends_with("/stored") => {
            let mut lines = vec![format!("{} {}", request.method(), request.uri())];
            lines.push(format!("node {host}"));
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
                let world = Arc::clone(&world);
                async move {
                    if sent == 0 {
                        return Some((Ok(Bytes::from("part")), 1));
                    }
                    world.go.notified().await;
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

/// Returns the node that a run lives on, if it is another one: the run `login02-…` lives on `login02`.
/// What is stored lies in the home that all share.
fn elsewhere(path: &str, host: &str) -> Option<String> {
    if path.ends_with("/stored") {
        return None;
    }
    let run = path.strip_prefix("/v1/runs/")?.split('/').next()?;
    let there = run.split_once('-')?.0;
    (there.starts_with("login") && there != host).then(|| there.to_owned())
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
