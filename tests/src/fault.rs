//! A bad network in user space: a TCP proxy that resets at a byte, swallows, holds, refuses, and chooses the server.
//!
//! Called by the tests of losses. It stands for what lies between a user and a site: a link that dies, a firewall that
//! forgets a flow, a balancer in front of several login nodes.
//! Invariants: bytes pass in order and unchanged until a fault; a reset is a real RST, after exactly as many bytes as
//! were asked for; a fault is seen by a connection within [`STEP`].
//! Not here: delay and the count of round trips (`proxy`).

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::Result;

use crate::wait::pause;

/// How often a connection looks whether it has a fault.
const STEP: Duration = Duration::from_millis(5);

const PASS: u8 = 0;
const SWALLOW: u8 = 1;
const END: u8 = 2;

/// After how many bytes of each direction a connection is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From the client.
    pub to_server: u64,
    /// From the server.
    pub to_client: u64,
}

const NO_LIMITS: Limits = Limits {
    to_server: u64::MAX,
    to_client: u64::MAX,
};

type Plan = Box<dyn FnMut() -> Option<Limits> + Send>;

/// A proxy; its connections end with it.
#[derive(Debug)]
pub struct FaultProxy {
    port: u16,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    backends: Vec<SocketAddr>,
    chosen: usize,
    is_held: bool,
    refuses: bool,
    is_over: bool,
    plan: Plan,
    lines: Vec<Arc<Line>>,
    accepted: usize,
    cuts: usize,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("accepted", &self.accepted)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Line {
    client: TcpStream,
    server: TcpStream,
    mode: AtomicU8,
}

impl FaultProxy {
    /// Starts a proxy on a free port of 127.0.0.1 that leads to the first of these servers.
    /// Without one it closes what comes.
    ///
    /// # Errors
    /// No port is free.
    pub fn start(backends: &[SocketAddr]) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Mutex::new(Shared {
            backends: backends.to_vec(),
            chosen: 0,
            is_held: false,
            refuses: false,
            is_over: false,
            plan: Box::new(|| None),
            lines: vec![],
            accepted: 0,
            cuts: 0,
        }));
        let ours = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if lock(&ours).is_over {
                    return;
                }
                // A server that is away is the client's to notice: its connection is closed.
                drop(serve(client, &ours));
            }
        });
        Ok(Self { port, shared })
    }

    /// Returns its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Has these servers behind it from now on.
    pub fn stand_before(&self, backends: &[SocketAddr]) {
        lock(&self.shared).backends = backends.to_vec();
    }

    /// Leads new connections to another server, as a balancer does at its own discretion.
    pub fn lead_to(&self, backend: usize) {
        lock(&self.shared).chosen = backend;
    }

    /// The link dies: what is open carries nothing any more and never will, new connections wait for the link.
    pub fn go_dark(&self) {
        let mut shared = lock(&self.shared);
        shared.is_held = true;
        set_all(&shared, SWALLOW);
    }

    /// The link is back: connections that waited go on.
    pub fn come_back(&self) {
        lock(&self.shared).is_held = false;
    }

    /// A firewall forgets all flows: what is open carries nothing any more, new connections work.
    pub fn forget_connections(&self) {
        set_all(&lock(&self.shared), SWALLOW);
    }

    /// Resets new connections at once, or serves them again.
    pub fn refuse(&self, refuses: bool) {
        lock(&self.shared).refuses = refuses;
    }

    /// Resets everything that is open.
    pub fn reset_connections(&self) {
        set_all(&lock(&self.shared), END);
    }

    /// Asks for the limits of each new connection; `None` is no limit.
    pub fn cut_by(&self, plan: impl FnMut() -> Option<Limits> + Send + 'static) {
        lock(&self.shared).plan = Box::new(plan);
    }

    /// Returns how many connections were reset at their limit.
    #[must_use]
    pub fn cuts(&self) -> usize {
        lock(&self.shared).cuts
    }

    /// Returns how many connections came so far.
    #[must_use]
    pub fn accepted(&self) -> usize {
        lock(&self.shared).accepted
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        lock(&self.shared).is_over = true;
        self.reset_connections();
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

fn set_all(shared: &Shared, mode: u8) {
    for line in &shared.lines {
        line.mode.fetch_max(mode, Ordering::SeqCst);
    }
}

fn serve(client: TcpStream, shared: &Arc<Mutex<Shared>>) -> Result<()> {
    let mut state = lock(shared);
    state.accepted += 1;
    if state.refuses {
        return reset_when_closed(&client);
    }
    let limits = (state.plan)().unwrap_or(NO_LIMITS);
    let backend = state.backends.get(state.chosen).copied();
    let backend = backend.ok_or_else(|| anyhow::anyhow!("no such server"))?;
    let server = TcpStream::connect(backend)?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(STEP))?;
        stream.set_write_timeout(Some(STEP))?;
    }
    let line = Arc::new(Line {
        client,
        server,
        mode: AtomicU8::new(PASS),
    });
    state
        .lines
        .retain(|line| line.mode.load(Ordering::SeqCst) != END);
    state.lines.push(Arc::clone(&line));
    drop(state);
    for to_server in [true, false] {
        let (line, shared) = (Arc::clone(&line), Arc::clone(shared));
        let limit = if to_server {
            limits.to_server
        } else {
            limits.to_client
        };
        thread::spawn(move || {
            pump(&line, to_server, limit, &shared);
            line.mode.store(END, Ordering::SeqCst);
            lock(&shared)
                .lines
                .retain(|other| !Arc::ptr_eq(other, &line));
        });
    }
    Ok(())
}

/// Moves bytes one way until either end closes or a fault ends the connection.
fn pump(line: &Line, to_server: bool, limit: u64, shared: &Mutex<Shared>) {
    let (mut from, mut to) = if to_server {
        (&line.client, &line.server)
    } else {
        (&line.server, &line.client)
    };
    let mut left = limit;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match line.mode.load(Ordering::SeqCst) {
            END => return end_both(line),
            PASS if lock(shared).is_held => {
                pause(STEP);
                continue;
            }
            _ => {}
        }
        let count = match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => count,
            Err(error) if is_early(&error) => continue,
            Err(_) => return end_both(line),
        };
        if line.mode.load(Ordering::SeqCst) != PASS {
            continue;
        }
        let allowed = usize::try_from(left).unwrap_or(usize::MAX).min(count);
        if !give(&mut to, buffer.get(..allowed).unwrap_or_default(), line) {
            return end_both(line);
        }
        left -= allowed as u64;
        if left == 0 {
            lock(shared).cuts += 1;
            return end_both(line);
        }
    }
}

/// Writes everything unless a fault comes first.
fn give(to: &mut &TcpStream, mut bytes: &[u8], line: &Line) -> bool {
    while !bytes.is_empty() && line.mode.load(Ordering::SeqCst) != END {
        match to.write(bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if is_early(&error) => {}
            Err(_) => return false,
        }
    }
    bytes.is_empty()
}

fn is_early(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}

fn end_both(line: &Line) {
    line.mode.store(END, Ordering::SeqCst);
    for stream in [&line.client, &line.server] {
        drop(reset_when_closed(stream));
    }
}

/// A socket that lingers for no time says RST when its last owner closes it.
fn reset_when_closed(stream: &TcpStream) -> Result<()> {
    rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO))?;
    Ok(())
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait_for;

    const SOON: Duration = Duration::from_secs(5);

    /// Says its name to everybody, then answers with what it gets.
    fn server(name: u8) -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                thread::spawn(move || {
                    let mut echo = stream.try_clone().unwrap();
                    if stream.write_all(&[name]).is_ok() {
                        drop(std::io::copy(&mut echo, &mut stream));
                    }
                });
            }
        });
        address
    }

    fn connect(proxy: &FaultProxy) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", proxy.port())).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        stream
    }

    fn name_of(stream: &mut TcpStream) -> Option<u8> {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok().map(|()| byte[0])
    }

    #[test]
    fn a_reset_comes_after_exactly_as_many_bytes() {
        let proxy = FaultProxy::start(&[server(b'a')]).unwrap();
        let mut plan = vec![(1000, u64::MAX), (u64::MAX, 300)].into_iter();
        proxy.cut_by(move || {
            let (to_server, to_client) = plan.next()?;
            Some(Limits {
                to_server,
                to_client,
            })
        });
        for expected in [1001, 300] {
            let mut stream = connect(&proxy);
            stream.set_read_timeout(Some(SOON)).unwrap();
            stream.write_all(&[b'x'; 5000]).unwrap();
            let mut got = vec![];
            let error = stream.read_to_end(&mut got).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            assert!(got.len() <= expected, "{} bytes", got.len());
        }
        assert_eq!((proxy.cuts(), proxy.accepted()), (2, 2));
        let mut stream = connect(&proxy);
        assert_eq!(name_of(&mut stream), Some(b'a'), "no limit any more");
    }

    #[test]
    fn a_dark_link_carries_nothing_and_comes_back_for_new_connections() {
        let proxy = FaultProxy::start(&[server(b'a')]).unwrap();
        let mut old = connect(&proxy);
        assert_eq!(name_of(&mut old), Some(b'a'));
        proxy.go_dark();
        old.write_all(b"x").unwrap();
        let mut new = connect(&proxy);
        assert_eq!((name_of(&mut old), name_of(&mut new)), (None, None));
        proxy.come_back();
        new.set_read_timeout(Some(SOON)).unwrap();
        assert_eq!(name_of(&mut new), Some(b'a'));
        old.write_all(b"y").unwrap();
        assert_eq!(name_of(&mut old), None, "a lost flow stays lost");
    }

    #[test]
    fn a_balancer_chooses_and_a_refusal_is_a_reset() {
        let proxy = FaultProxy::start(&[server(b'a'), server(b'b')]).unwrap();
        proxy.lead_to(1);
        let mut stream = connect(&proxy);
        assert_eq!(name_of(&mut stream), Some(b'b'));
        proxy.reset_connections();
        wait_for("the reset", SOON, || {
            let ended = stream.read(&mut [0]);
            let reset = ended.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset);
            Ok(reset.then_some(()))
        })
        .unwrap();
        proxy.refuse(true);
        assert_eq!(name_of(&mut connect(&proxy)), None);
        proxy.refuse(false);
        assert_eq!(name_of(&mut connect(&proxy)), Some(b'b'));
    }
}
