//! `hpcagent serve`: the daemon. A Unix socket, HTTP on each connection, and a clean end.
//!
//! Started by `connect::ensure` or by hand. One thread runs everything; a few more wait for disks.
//! Invariants: one agent per node (the lock in the run directory); only processes of this user are
//! listened to; no timer below [`WATCH_EVERY`] while nothing happens; a stop takes at most
//! [`STOP_LIMIT`] and never ends a run.
//! Not here: what requests do (`http`), what outlives the agent (`shim`).

pub(crate) mod connection;

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net::UnixListener as StdListener,
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use axum::Router;
use hpcclient_protocol::status::AgentHello;
use rustix::process::DumpableBehavior;
use tokio::{
    net::UnixListener,
    signal::unix::{SignalKind, signal},
    sync::Semaphore,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    connect,
    environment::{self, Environment},
    hello,
    http::{self, AppState},
    log,
    place::{Lock, Place},
    runs::Runs,
    shares,
    store::Store,
    tasks::Tasks,
};

/// Serves until a signal, `POST /v1/stop`, or half a day without anything to do. As a daemon it
/// leaves its terminal, logs to a file and prints its hello; it returns at once when another has
/// the lock.
///
/// # Errors
/// It cannot start. In the foreground it is an error that another agent serves.
pub fn serve(is_daemon: bool) -> Result<()> {
    // No other process of this user may read its memory or get a core of it. RLIMIT_CORE stays as it
    // is, since the user's commands inherit it.
    let _old_kernel = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let place = Place::resolve()?;
    if is_daemon {
        // Fails only for a leader of a group, which then has no terminal to leave.
        let _leader = rustix::process::setsid();
        log::to_file(&place.log())
            .with_context(|| format!("cannot write {}", place.log().display()))?;
    } else {
        log::to_stderr();
    }
    let Some(lock) = place.lock()? else {
        if is_daemon {
            return Ok(());
        }
        bail!("another agent serves on {}", place.socket().display());
    };
    let hello = hello::own(&place.socket()).context("cannot read the agent's own binary")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(MAX_BLOCKING)
        .thread_keep_alive(Duration::from_secs(2))
        .thread_stack_size(512 * 1024)
        .build()
        .context("cannot start the runtime")?;
    let served = runtime.block_on(run(place, lock, hello, is_daemon));
    // A disk that hangs may hold a thread for ever; the exit does not wait for it.
    runtime.shutdown_background();
    served
}

async fn run(place: Place, lock: Lock, hello: AgentHello, is_daemon: bool) -> Result<()> {
    let (tracker, stopping) = (Tasks::default(), CancellationToken::new());
    let path = place.runs();
    let opened = crate::tasks::blocking(move || Store::open(path)).await;
    let store = opened.context("the store could not be opened")??;
    let environment = Environment::start(&tracker, &stopping);
    let runs = Runs::new(
        store,
        place.clone(),
        environment,
        tracker.clone(),
        stopping.clone(),
    );
    let socket = Socket::bind(&place.socket())?;
    let user = environment::login_name().await;
    let state = AppState::new(hello, user, place, runs, tracker, stopping);
    stop_on_signals(&state)?;
    // What is shared is not deleted, so it is known before the store is looked at.
    shares::start(&state).await;
    state.runs().adopt().await;
    tracing::info!(
        pid = state.hello().pid,
        version = state.hello().version,
        "serving"
    );
    if is_daemon {
        announce(state.hello())?;
    }
    let mut server = Server {
        router: http::router(state.clone()),
        state,
        socket,
        lock,
        connections: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
        busy_at: Instant::now(),
    };
    server.accept_until_stopped().await;
    server.finish().await;
    Ok(())
}

/// Prints the hello, and lets go of stdout so that the reader sees its end.
fn announce(hello: &AgentHello) -> Result<()> {
    // The reader may be gone; the agent is there for the next one.
    let _gone = connect::print_hello(hello);
    let null = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null");
    let null = null.context("cannot open /dev/null")?;
    rustix::stdio::dup2_stdout(&null).context("cannot close stdout")
}

fn stop_on_signals(state: &AppState) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen to SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen to SIGINT")?;
    let listening = state.clone();
    state.tracker().spawn(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
            () = listening.stopping().cancelled() => return,
        };
        tracing::info!(signal = name, "stopping; runs go on");
        listening.stop(false);
    });
    Ok(())
}

struct Server {
    state: AppState,
    router: Router,
    socket: Socket,
    lock: Lock,
    connections: Arc<Semaphore>,
    busy_at: Instant,
}

impl Server {
    async fn accept_until_stopped(&mut self) {
        let mut watch = interval(WATCH_EVERY);
        watch.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stopping = self.state.stopping().clone();
        loop {
            let accepted = tokio::select! {
                // More connections than that wait in the kernel until one ends.
                accepted = async {
                    let place = Arc::clone(&self.connections).acquire_owned().await;
                    (self.socket.listener.accept().await, place)
                } => accepted,
                _ = watch.tick() => {
                    self.look_after_itself();
                    continue;
                }
                () = stopping.cancelled() => return,
            };
            match accepted {
                (Ok((stream, _)), Ok(place)) => {
                    self.busy_at = Instant::now();
                    let talk = connection::talk(stream, self.state.clone(), self.router.clone());
                    self.state.tracker().spawn(async move {
                        talk.await;
                        drop(place);
                    });
                }
                (Err(error), _) => {
                    // Mostly too many open files: accepting again at once would spin.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                (Ok(_), Err(_)) => return,
            }
        }
    }

    /// Makes the socket again when someone tidied it away, gives way to another agent, and ends after
    /// a long time without work.
    fn look_after_itself(&mut self) {
        let place_lost = !self.lock.holds();
        if place_lost || !self.socket.is_there() {
            match self.take_place_again() {
                Ok(true) => tracing::warn!("the socket was removed and is there again"),
                Ok(false) => {
                    tracing::warn!("another agent serves this node: stopping, runs go on");
                    self.state.stop(false);
                }
                Err(error) => {
                    tracing::error!(error = %format!("{error:#}"), "cannot make the socket again");
                }
            }
        }
        self.state.runs().look_after_queue();
        let counts = self.state.runs().counts();
        // The accept that waited has given its place back: this is called between two of them.
        let open = MAX_CONNECTIONS.saturating_sub(self.connections.available_permits());
        let is_busy =
            counts.running + counts.queued > 0 || open > 0 || self.state.open_viewers() > 0;
        if is_busy {
            self.busy_at = Instant::now();
        } else if self.busy_at.elapsed() >= IDLE_LIMIT {
            tracing::info!("nothing to do for a long time: ending idle sessions and stopping");
            let state = self.state.clone();
            self.state.tracker().spawn(async move {
                state.runs().end_all(STOP_LIMIT).await;
                state.stop(true);
            });
        }
    }

    /// Returns `false` when another agent has the lock.
    fn take_place_again(&mut self) -> Result<bool> {
        let path = PathBuf::from(&self.state.hello().socket);
        if !self.lock.holds() {
            match self.state.place().lock()? {
                Some(lock) => self.lock = lock,
                None => return Ok(false),
            }
        }
        self.socket = Socket::bind(&path)?;
        Ok(true)
    }

    /// Lets what is under way end for a moment.
    async fn finish(self) {
        let Self {
            state,
            socket,
            lock,
            ..
        } = self;
        socket.remove();
        state.tracker().close();
        if timeout(STOP_LIMIT, state.tracker().wait()).await.is_err() {
            tracing::warn!(left = state.tracker().len(), "tasks did not stop in time");
        }
        if state.leaves_nothing()
            && let Err(error) = state.place().remove_run_dir()
        {
            tracing::warn!(%error, "cannot remove the run directory");
        }
        tracing::info!("stopped");
        // Held until here: the next agent starts when this one has left.
        drop(lock);
    }
}

/// The listening socket and the file it is reached by.
struct Socket {
    listener: UnixListener,
    path: PathBuf,
    inode: (u64, u64),
}

impl Socket {
    /// Listens with mode 0600 from the first moment: bound under another name, then renamed.
    fn bind(path: &Path) -> Result<Self> {
        let draft = path.with_extension(format!("{}", std::process::id()));
        let _left_over = fs::remove_file(&draft);
        let bind = || -> io::Result<Self> {
            let listener = StdListener::bind(&draft)?;
            fs::set_permissions(&draft, fs::Permissions::from_mode(0o600))?;
            fs::rename(&draft, path)?;
            listener.set_nonblocking(true)?;
            let meta = fs::symlink_metadata(path)?;
            let listener = UnixListener::from_std(listener)?;
            Ok(Self {
                listener,
                path: path.to_path_buf(),
                inode: (meta.dev(), meta.ino()),
            })
        };
        bind().with_context(|| format!("cannot listen on {}", path.display()))
    }

    fn is_there(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|meta| {
            meta.file_type().is_socket() && (meta.dev(), meta.ino()) == self.inode
        })
    }

    fn remove(self) {
        if self.is_there() {
            let _gone = fs::remove_file(&self.path);
        }
    }
}

/// Disks that hang hold one each; with the runtime's own thread it stays below the usual limits.
const MAX_BLOCKING: usize = 6;

const MAX_CONNECTIONS: usize = 128;

/// The only timer of an idle agent.
const WATCH_EVERY: Duration = Duration::from_secs(30);

const IDLE_LIMIT: Duration = Duration::from_secs(12 * 60 * 60);

const STOP_LIMIT: Duration = Duration::from_millis(1500);

const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
