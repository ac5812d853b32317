//! The bridge as its clients see it, with an agent of a few lines in the place of a node.
//!
//! The listeners, the guard, the proxy and the cluster's actor are the real ones; `node` stands for
//! SSH and the agent at the `Dial` boundary. The whole way over SSH is tested in the workspace's
//! `tests` package.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the lints' exception for tests does not reach helpers beside them"
)]

mod asking;
mod cluster;
mod interrupt;
mod login_page;
mod node;
mod nodes;
mod page;
mod proxy;
mod raw;
mod reconnect;
mod renew;

use std::{path::PathBuf, sync::Arc, time::Duration};

use hpcclient::bridge::{place::Place, serve};
use hpcclient_client::Bridge;
use hpcclient_protocol::bridge::{BridgeAddress, ClusterState, ClusterStatus};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use node::Site;

/// The longest wait for anything.
const SOON: Duration = Duration::from_secs(20);

/// A running bridge whose clusters are all one site.
struct Running {
    address: BridgeAddress,
    client: Bridge,
    site: Arc<Site>,
    stop: CancellationToken,
    tasks: TaskTracker,
    dir: tempfile::TempDir,
}

impl Running {
    async fn start() -> Self {
        let tasks = TaskTracker::new();
        let site = Arc::new(Site::new(tasks.clone()));
        Self::start_at(tempfile::tempdir().unwrap(), site, tasks).await
    }

    /// Starts a bridge in a folder that another one may have left.
    async fn start_at(dir: tempfile::TempDir, site: Arc<Site>, tasks: TaskTracker) -> Self {
        let place = Place::at(PathBuf::from(dir.path()).join("bridge")).unwrap();
        let stop = CancellationToken::new();
        let (place_there, dial, token) = (place.clone(), Arc::clone(&site), stop.clone());
        tasks.spawn(async move {
            let lock = place_there.lock().unwrap().unwrap();
            let agents = Arc::default();
            serve(&place_there, &lock, dial, agents, token)
                .await
                .unwrap();
        });
        let address = eventually(async || place.running().unwrap()).await;
        let client = Bridge::new(&address).unwrap();
        Self {
            address,
            client,
            site,
            stop,
            tasks,
            dir,
        }
    }

    /// Ends the bridge and starts another one in its folder, at the same site.
    async fn restarted(self) -> Self {
        self.stop.cancel();
        let place = Place::at(PathBuf::from(self.dir.path()).join("bridge")).unwrap();
        eventually(async || (!place.is_taken().unwrap()).then_some(())).await;
        Self::start_at(self.dir, self.site, self.tasks).await
    }

    /// Starts a bridge and connects the cluster `c`.
    async fn connected() -> Self {
        let running = Self::start().await;
        running.connect("c").await.unwrap();
        running
    }

    async fn connect(&self, cluster: &str) -> Result<ClusterStatus, hpcclient_protocol::ApiError> {
        use hpcclient_protocol::bridge::ConnectEvent;
        let mut events = self.client.connect(cluster).await.unwrap();
        while let Some(event) = events.next().await.unwrap() {
            match event {
                ConnectEvent::Connected { cluster } => return Ok(*cluster),
                ConnectEvent::Failed { error } => return Err(error),
                ConnectEvent::Progress { .. } | ConnectEvent::Prompt { .. } => {}
            }
        }
        panic!("the events ended without a result")
    }

    async fn status(&self, cluster: &str) -> ClusterStatus {
        let status = self.client.status().await.unwrap();
        status
            .clusters
            .into_iter()
            .find(|status| status.name == cluster)
            .unwrap()
    }

    async fn reaches(&self, cluster: &str, state: ClusterState) -> ClusterStatus {
        eventually(async || {
            let status = self.status(cluster).await;
            (status.state == state).then_some(status)
        })
        .await
    }

    /// Sends a request at the control listener and returns the answer.
    async fn exchange(&self, request: &str, headers: &[(&str, &str)]) -> String {
        let host = format!("127.0.0.1:{}", self.port());
        let token = format!("Bearer {}", self.address.token);
        let origin = format!("http://{host}");
        let mut all = vec![
            ("Host", host.as_str()),
            ("Authorization", token.as_str()),
            ("Origin", origin.as_str()),
        ];
        all.extend_from_slice(headers);
        raw::exchange(self.port(), request, &all).await
    }

    fn port(&self) -> u16 {
        port_of(&self.address.url)
    }

    async fn end(self) {
        self.stop.cancel();
        self.site.end();
        self.tasks.close();
        tokio::time::timeout(SOON, self.tasks.wait())
            .await
            .expect("the bridge did not stop");
    }
}

/// Asks until there is an answer.
async fn eventually<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asked = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, asked)
        .await
        .expect("it did not happen")
}

fn port_of(url: &str) -> u16 {
    let rest = url.rsplit(':').next().unwrap();
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}
