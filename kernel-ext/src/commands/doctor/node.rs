//! What is good or bad about the node: system, disks, quota, limits, batch systems.

use hpcclient_protocol::{
    node::{Disk, NodeFacts, NodePlace, Purpose, Quota, Scheduler},
    status::AgentStatus,
};

use super::finding::{Finding, bytes, number, span};

/// The agent refuses new runs below these; `agent/src/store/create.rs` has the same numbers.
const LEAST_BYTES: u64 = 64 << 20;
const LEAST_FILES: u64 = 1000;

/// Below these the end is near.
const FEW_BYTES: u64 = 1 << 30;
const FEW_FILES: u64 = 10_000;

const MOVE: &str = "free some there, or set `node_home` in config.toml to a place with room";

/// Judges what the agent told of its node.
pub(super) fn judge(status: &AgentStatus, facts: &NodeFacts) -> Vec<Finding> {
    let mut findings = system(status, facts);
    findings.extend(facts.places.iter().map(place));
    findings.extend(no_exec(&facts.places));
    findings.extend(facts.quota.as_ref().map(quota));
    findings.push(processes(facts.processes, facts.max_processes));
    if facts.ends_at_logout {
        findings.push(Finding::warn(
            "logout",
            "the node ends your processes with your last session (KillUserProcesses)",
            "`loginctl enable-linger` on the node; else agent and commands end with the connection",
        ));
    }
    findings.extend(schedulers(&facts.schedulers));
    findings
}

fn system(status: &AgentStatus, facts: &NodeFacts) -> Vec<Finding> {
    let hello = &status.hello;
    let mut node = hello.host.clone();
    if let Some(up) = facts.uptime_s {
        node.push_str(&format!(", up {}", span(up)));
    }
    if let Some(boot) = &hello.boot_id {
        node.push_str(&format!(", boot {boot}"));
    }
    let glibc = facts.glibc.as_deref().unwrap_or("of unknown version");
    let system = format!("{}, {}, glibc {glibc}", facts.kernel, facts.arch);
    let agent = format!(
        "{}, process {}, {}; {} running, {} queued, {} sessions",
        hello.version,
        hello.pid,
        bytes(status.resident),
        status.running,
        status.queued,
        status.sessions
    );
    vec![
        Finding::ok("node", node),
        Finding::ok("system", system),
        Finding::ok("agent", agent),
    ]
}

fn place(place: &NodePlace) -> Finding {
    let check = match place.purpose {
        Purpose::Home => "home",
        Purpose::Agent => "agent's place",
        Purpose::Runs => "runs",
        Purpose::Tmp => "sockets",
    };
    let path = place.path.to_lossy();
    let Some(disk) = &place.disk else {
        let detail = format!("{path} does not answer");
        let fix = "its file system hangs: tell the site, or set `node_home` to another place";
        return Finding::fail(check, detail, fix);
    };
    let detail = format!("{path} ({}): {}", disk.kind, room(disk));
    let has_fewer = |least_bytes, least_files| {
        let files = disk.free_files.is_some_and(|files| files < least_files);
        disk.free_bytes < least_bytes || files
    };
    // Nothing large is written to the place of the sockets.
    let is_written = place.purpose != Purpose::Tmp;
    if disk.read_only {
        Finding::fail(check, format!("{detail}, read-only"), MOVE)
    } else if place.purpose == Purpose::Runs && has_fewer(LEAST_BYTES, LEAST_FILES) {
        Finding::fail(check, format!("{detail}: no new run is taken"), MOVE)
    } else if is_written && has_fewer(FEW_BYTES, FEW_FILES) {
        Finding::warn(check, detail, MOVE)
    } else {
        Finding::ok(check, detail)
    }
}

fn room(disk: &Disk) -> String {
    let free = bytes(disk.free_bytes);
    match disk.free_files {
        Some(files) => format!("{free} and {} files free", number(files)),
        None => format!("{free} free"),
    }
}

/// Whether the user's own programs can be run where users keep them.
fn no_exec(places: &[NodePlace]) -> Option<Finding> {
    let is_users = |place: &&NodePlace| matches!(place.purpose, Purpose::Home | Purpose::Tmp);
    let known: Vec<_> = places
        .iter()
        .filter(is_users)
        .filter_map(|place| Some((place.path.to_lossy(), place.disk.as_ref()?.no_exec)))
        .collect();
    let named = |wanted: bool| {
        let paths = known.iter().filter(|(_, no_exec)| *no_exec == wanted);
        let paths: Vec<_> = paths.map(|(path, _)| path.as_str()).collect();
        (!paths.is_empty()).then(|| paths.join(" and "))
    };
    match (named(true), named(false)) {
        (Some(bad), _) => Some(Finding::warn(
            "noexec",
            format!("no program can be run from {bad}"),
            "keep your own programs elsewhere; for the agent's, `node_home` in config.toml",
        )),
        (None, good) => good.map(|good| Finding::ok("noexec", format!("programs run from {good}"))),
    }
}

fn quota(quota: &Quota) -> Finding {
    let mut parts = Vec::new();
    let mut worst = 0;
    let sides = [
        (quota.bytes, quota.max_bytes, bytes as fn(u64) -> String, ""),
        (quota.files, quota.max_files, number, " files"),
    ];
    for (used, max, shown, what) in sides {
        if max > 0 {
            parts.push(format!("{} of {}{what}", shown(used), shown(max)));
            worst = worst.max(u128::from(used) * 100 / u128::from(max));
        }
    }
    let detail = format!("{} used ({worst} %)", parts.join(", "));
    match worst {
        0..90 => Finding::ok("quota", detail),
        90..100 => Finding::warn("quota", detail, MOVE),
        _ => Finding::fail("quota", detail, MOVE),
    }
}

fn processes(used: u64, max: Option<u64>) -> Finding {
    let Some(max) = max else {
        return Finding::ok("processes", format!("{used}, no limit"));
    };
    let detail = format!("{used} of {max}");
    if used.saturating_mul(5) < max.saturating_mul(4) {
        Finding::ok("processes", detail)
    } else {
        let fix = "end some (`ps -u $USER -L`): each run needs at least two";
        Finding::warn("processes", detail, fix)
    }
}

fn schedulers(all: &[Scheduler]) -> Vec<Finding> {
    let answering = all.iter().filter_map(|one| {
        let version = one.version.as_ref()?;
        Some(Finding::ok("scheduler", format!("{} {version}", one.name)))
    });
    let answering: Vec<_> = answering.collect();
    // Beside one that answers, the commands of another are a translation layer or a leftover.
    if !answering.is_empty() {
        return answering;
    }
    if all.is_empty() {
        let none = "none: there is neither `sinfo` nor `qstat` in a login shell";
        return vec![Finding::ok("scheduler", none)];
    }
    let silent = all.iter().map(|one| {
        let why = one.error.as_deref().unwrap_or("no reason");
        let detail = format!("{} is installed and does not answer: {why}", one.name);
        let fix = "jobs cannot be submitted from here now: another login node, or ask the site";
        Finding::warn("scheduler", detail, fix)
    });
    silent.collect()
}

#[cfg(test)]
mod tests {
    use hpcclient_protocol::ByteString;

    use super::{super::finding::State, *};

    fn at(purpose: Purpose, change: impl Fn(&mut Disk)) -> NodePlace {
        let mut disk = Disk {
            kind: "nfs4".to_owned(),
            mount: ByteString::from("/home"),
            free_bytes: 12 << 30,
            free_files: Some(2_000_000),
            no_exec: false,
            read_only: false,
        };
        change(&mut disk);
        NodePlace {
            purpose,
            path: ByteString::from("/home/me"),
            disk: Some(disk),
        }
    }

    #[test]
    fn disks_are_judged() {
        let runs = |change: fn(&mut Disk)| place(&at(Purpose::Runs, change)).state;
        assert_eq!(runs(|_| {}), State::Ok);
        assert_eq!(runs(|disk| disk.free_bytes = 500 << 20), State::Warn);
        assert_eq!(runs(|disk| disk.free_bytes = 1 << 20), State::Fail);
        assert_eq!(runs(|disk| disk.free_files = Some(999)), State::Fail);
        assert_eq!(runs(|disk| disk.free_files = None), State::Ok);
        assert_eq!(runs(|disk| disk.read_only = true), State::Fail);
        let tmp = place(&at(Purpose::Tmp, |disk| disk.free_bytes = 1 << 20));
        assert_eq!(tmp.state, State::Ok);
        let hung = place(&NodePlace {
            disk: None,
            ..at(Purpose::Home, |_| {})
        });
        assert_eq!(
            (hung.state, hung.detail.as_str()),
            (State::Fail, "/home/me does not answer")
        );
        let home = place(&at(Purpose::Home, |_| {}));
        assert_eq!(
            home.detail,
            "/home/me (nfs4): 12 GiB and 2000 thousand files free"
        );
    }

    #[test]
    fn a_home_without_execution_is_told() {
        let home = at(Purpose::Home, |disk| disk.no_exec = true);
        let tmp = at(Purpose::Tmp, |_| {});
        let finding = no_exec(&[home, tmp.clone()]).unwrap();
        assert_eq!(finding.state, State::Warn);
        assert_eq!(no_exec(&[tmp]).unwrap().state, State::Ok);
    }

    #[test]
    fn a_quota_counts_the_fuller_side() {
        let of = |bytes, files| {
            quota(&Quota {
                bytes,
                max_bytes: 1000 << 20,
                files,
                max_files: 100,
            })
        };
        assert_eq!(of(500 << 20, 10).state, State::Ok);
        assert_eq!(of(500 << 20, 95).state, State::Warn);
        assert_eq!(of(1001 << 20, 1).state, State::Fail);
        assert_eq!(
            of(500 << 20, 10).detail,
            "500 MiB of 1000 MiB, 10 of 100 files used (50 %)"
        );
    }

    #[test]
    fn limits_are_warned_about_before_they_are_met() {
        assert_eq!(processes(100, Some(4096)).state, State::Ok);
        assert_eq!(processes(81, Some(100)).state, State::Warn);
        assert_eq!(processes(81, None).detail, "81, no limit");
    }

    #[test]
    fn a_batch_system_is_one_that_answers() {
        let one = |name: &str, version: Option<&str>, error: Option<&str>| Scheduler {
            name: name.to_owned(),
            version: version.map(str::to_owned),
            error: error.map(str::to_owned),
        };
        let slurm = one("Slurm", Some("23.11.4"), None);
        let pbs = one("PBS", None, Some("cannot connect to server"));
        let told = schedulers(&[slurm, pbs.clone()]);
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].detail, "Slurm 23.11.4");
        let told = schedulers(&[pbs]);
        assert_eq!(told[0].state, State::Warn);
        assert!(told[0].detail.contains("cannot connect to server"));
        assert_eq!(schedulers(&[])[0].state, State::Ok);
    }
}
