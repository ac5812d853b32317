//! What this node is: kernel, disks, limits, batch systems. For `hpcclient doctor`.
//!
//! Called by `http::node`. Everything is asked at the same time and each answer has a deadline, so a
//! disk or a batch system that hangs costs its own line and not the others'.
//! Not here: what is good or bad about it (the command line's `doctor`).

mod disks;
pub mod processes;
mod programs;

use std::fs;

use hpcclient_protocol::{
    ByteString,
    node::{NodeFacts, NodePlace, Purpose},
};

use crate::{http::AppState, place};

/// Finds out what there is to know.
pub async fn examine(state: &AppState) -> NodeFacts {
    let variables = state.runs().login_environment().await;
    let ((places, quota), programs, processes) = tokio::join!(
        async {
            let places = places(state).await;
            let home = places.first().and_then(|place| place.disk.as_ref());
            let quota = match home {
                Some(disk) => programs::quota(disk, state.user(), &variables).await,
                None => None,
            };
            (places, quota)
        },
        programs::ask_all(&variables),
        crate::tasks::blocking(processes::count),
    );
    let uname = rustix::system::uname();
    let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    NodeFacts {
        kernel: format!("{} {}", text(uname.sysname()), text(uname.release())),
        arch: text(uname.machine()),
        glibc: programs.glibc,
        uptime_s: uptime(),
        places,
        quota,
        max_processes: rustix::process::getrlimit(rustix::process::Resource::Nproc).current,
        processes: processes.unwrap_or(0),
        ends_at_logout: programs.ends_at_logout,
        schedulers: programs.schedulers,
    }
}

async fn places(state: &AppState) -> Vec<NodePlace> {
    let agent = fs::read_link("/proc/self/exe").unwrap_or_default();
    let look = async |purpose, path: &std::path::Path| {
        let bytes = std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()).to_vec();
        NodePlace {
            purpose,
            path: ByteString::from(bytes),
            disk: disks::look(path).await,
        }
    };
    let (home, agent, runs, tmp) = tokio::join!(
        look(Purpose::Home, state.home()),
        look(Purpose::Agent, agent.parent().unwrap_or(&agent)),
        look(Purpose::Runs, state.runs().store().root()),
        look(Purpose::Tmp, place::RUN_DIR_PARENT.as_ref()),
    );
    vec![home, agent, runs, tmp]
}

fn uptime() -> Option<u64> {
    let text = fs::read_to_string("/proc/uptime").ok()?;
    text.split('.').next()?.parse().ok()
}
