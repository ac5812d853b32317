//! The bridge: one process a user that owns the connections to clusters and serves loopback.
//!
//! Started by `ensure` when a command or Python needs it.
//! Invariants: it holds the folder's lock from before it listens until it has ended; it ends by
//! itself after an hour without a connection in either direction.
//! Not here: what the agent's API means; requests and answers pass through unread.

mod activity;
pub mod agent_binary;
mod answer;
mod cluster;
mod control;
mod door;
pub mod ensure;
mod guard;
mod login_page;
mod login_ui;
mod logins;
pub mod node;
mod page;
pub mod place;
mod prompt;
mod proxy;
mod registry;
mod server;
pub mod ssh;
mod websocket;

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use hpcclient_protocol::{ApiError, VERSION, bridge::BridgeAddress};
use tokio::{
    sync::Semaphore,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    activity::{Activity, SleepWatch, TICK},
    control::Control,
    door::Door,
    login_page::LoginPage,
    node::Dial,
    place::{Lock, Place},
    registry::Registry,
    server::Shared,
};

/// How long tasks may take to end when the bridge stops.
const DRAIN: Duration = Duration::from_secs(3);

/// Serves until asked to stop, `stop` is cancelled, or nobody has come for an hour.
///
/// # Errors
/// Loopback cannot be listened on, or the address cannot be published.
pub async fn serve(
    place: &Place,
    lock: &Lock,
    dial: Arc<dyn Dial>,
    stop: CancellationToken,
) -> Result<(), ApiError> {
    let (port, sockets) = server::listen_for_site()?;
    let (login_port, login_sockets) = server::listen_for_site()?;
    let shared = Shared {
        tasks: TaskTracker::new(),
        cancel: stop,
        activity: Arc::new(Activity::new(Instant::now())),
        connections: Arc::new(Semaphore::new(server::CONNECTIONS)),
    };
    let door = Arc::new(Door::new(login_port));
    let registry = Arc::new(Registry::new(dial, Arc::clone(&door), shared.clone()));
    let token = guard::new_secret()?;
    let address = BridgeAddress {
        url: format!("http://127.0.0.1:{port}/"),
        token: token.clone(),
        pid: std::process::id(),
        version: VERSION.to_owned(),
    };
    let registry_here = Arc::clone(&registry);
    let site = Arc::new(Control {
        token,
        registry: registry_here,
    });
    server::serve(sockets, port, &site, &shared);
    let registry_here = Arc::clone(&registry);
    let login_page = Arc::new(LoginPage {
        door,
        registry: registry_here,
    });
    server::serve(login_sockets, login_port, &login_page, &shared);
    place.publish(lock, &address)?;
    tracing::info!(port, pid = address.pid, version = VERSION, "bridge started");

    watch_over(&registry, &shared).await;

    place.forget_address();
    shared.cancel.cancel();
    shared.tasks.close();
    if timeout(DRAIN, shared.tasks.wait()).await.is_err() {
        tracing::warn!(left = shared.tasks.len(), "tasks did not stop in time");
    }
    tracing::info!("bridge stopped");
    Ok(())
}

/// Returns when the bridge is to end; looks after sleep and idleness until then.
async fn watch_over(registry: &Registry, shared: &Shared) {
    let mut sleep = SleepWatch::new(Instant::now(), SystemTime::now());
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while shared
        .cancel
        .run_until_cancelled(ticks.tick())
        .await
        .is_some()
    {
        let now = Instant::now();
        if sleep.has_slept(now, SystemTime::now()) {
            tracing::info!("the machine has slept");
            registry.woke();
        }
        if registry.is_in_use() {
            shared.activity.touch(now);
        } else if shared.activity.is_idle(now) {
            tracing::info!("nobody needs the bridge");
            return;
        }
    }
}
