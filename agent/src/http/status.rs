//! `GET /v1/status`: who the agent is and what it has to do.

use axum::{Json, Router, extract::State, routing};
use hpcclient_protocol::{ByteString, status::AgentStatus};

use super::{AppState, by::by};

/// Returns the routes of this file.
pub(super) fn router() -> Router<AppState> {
    Router::new().route("/v1/status", routing::get(by(status)))
}

/// What `docs/openapi.json` says of this file.
#[cfg(test)]
#[derive(utoipa::OpenApi)]
#[openapi(paths(status))]
pub(super) struct Described;

/// The agent's state.
#[cfg_attr(test, utoipa::path(get, path = "/v1/status", operation_id = "getStatus", responses((status = 200, body = AgentStatus))))]
async fn status(State(state): State<AppState>) -> Json<AgentStatus> {
    let counts = state.runs().counts();
    let (used, limit) = state.runs().supervisors();
    let (store_bytes, store_limit) = state.runs().usage();
    let root = state.runs().store().root().to_path_buf();
    // The store may be on a shared disk that hangs; then the agent still answers.
    let asked = crate::tasks::blocking(move || {
        rustix::fs::statvfs(&root).map_or(0, |disk| disk.f_bavail.saturating_mul(disk.f_frsize))
    });
    let free_bytes = match tokio::time::timeout(DISK_LIMIT, asked).await {
        Ok(Ok(free)) => free,
        _ => 0,
    };
    let home = std::os::unix::ffi::OsStrExt::as_bytes(state.home().as_os_str()).to_vec();
    Json(AgentStatus {
        hello: state.hello().clone(),
        user: state.user().to_owned(),
        home: ByteString::from(home),
        started_ms: state.started_ms(),
        now_ms: crate::clock::now_ms(),
        queued: counts.queued,
        running: counts.running,
        sessions: counts.sessions,
        resident: resident(),
        free_bytes,
        store_bytes,
        store_limit,
        supervisors: u32::try_from(used).unwrap_or(u32::MAX),
        max_supervisors: u32::try_from(limit).unwrap_or(u32::MAX),
    })
}

/// Returns this process's resident memory in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}

const DISK_LIMIT: std::time::Duration = std::time::Duration::from_secs(1);
