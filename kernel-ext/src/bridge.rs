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
mod machine;
pub mod node;
mod page;
pub mod place;
mod prompt;
mod proxy;
mod registry;
mod renew;
mod server;
pub mod ssh;
pub mod ssh_agents;
mod unpack;
mod websocket;

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use hpcclient_protocol::{ApiError, ErrorCode, VERSION, bridge::BridgeAddress};
use tokio::{sync::Semaphore, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    activity::{Activity, SleepWatch, TICK},
    cluster::nodes::Nodes,
    control::Control,
    door::Door,
    login_page::LoginPage,
    machine::{Network, Ticks},
    node::Dial,
    place::{Lock, Place},
    registry::Registry,
    server::Shared,
    ssh_agents::SshAgents,
};

pub(crate) use self::cluster::now_ms;
#[cfg(test)]
pub(crate) use self::cluster::unconnected;

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
    ssh_agents: Arc<SshAgents>,
    stop: CancellationToken,
) -> Result<(), ApiError> {
    let (port, sockets) = server::listen_for_site()?;
    let (login_port, login_sockets) = server::listen_for_site()?;
    let shared = Shared {
        tasks: TaskTracker::new(),
        cancel: stop,
        activity: Arc::new(Activity::new(Instant::now())),
        connections: Arc::new(Semaphore::new(server::connections())),
    };
    let nodes = Nodes::open(place.file("nodes.json")).await;
    let door = Arc::new(Door::new(login_port));
    let registry = Arc::new(Registry::new(
        dial,
        nodes,
        Arc::clone(&door),
        shared.clone(),
    ));
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
        ssh_agents,
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

    watch_over(&registry, &shared).await.map_err(|error| {
        ApiError::new(ErrorCode::Internal, "cannot keep time").caused_by(&error)
    })?;

    place.forget_address();
    shared.cancel.cancel();
    shared.tasks.close();
    if timeout(DRAIN, shared.tasks.wait()).await.is_err() {
        tracing::warn!(left = shared.tasks.len(), "tasks did not stop in time");
    }
    tracing::info!("bridge stopped");
    Ok(())
}

/// Returns when the bridge is to end; looks after sleep, the network and idleness until then.
async fn watch_over(registry: &Registry, shared: &Shared) -> std::io::Result<()> {
    let mut sleep = SleepWatch::new(Instant::now(), SystemTime::now());
    let ticks = Ticks::new(TICK)?;
    let mut network = Network::watch();
    loop {
        let changed = async {
            match &network {
                Ok(network) => network.changed().await,
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shared.cancel.cancelled() => return Ok(()),
            ticked = ticks.tick() => ticked?,
            changed = changed => {
                tracing::info!("the network has changed");
                registry.network_changed();
                if let Err(error) = changed {
                    tracing::warn!(%error, "changes of the network are not seen any more");
                    network = Err(error);
                }
            }
        }
        let now = Instant::now();
        if sleep.has_slept(now, SystemTime::now()) {
            tracing::info!("the machine has slept");
            registry.woke();
        }
        if registry.is_in_use() {
            shared.activity.touch(now);
        } else if shared.activity.is_idle(now) {
            tracing::info!("nobody needs the bridge");
            return Ok(());
        }
    }
}
