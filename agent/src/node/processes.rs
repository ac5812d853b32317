//! How many more processes this user may have on this node.
//!
//! Called by `runs`, which starts supervisors, and by `node` for `doctor`. It blocks: the count walks
//! `/proc`, but only where a limit is set.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// Returns how many more processes the node lets this user have, or nothing where it does not say.
#[must_use]
pub fn room() -> Option<u64> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nproc).current;
    let of_user = limit.map(|limit| limit.saturating_sub(count()));
    let cgroups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let of_cgroup = cgroup_room(&cgroups, Path::new("/sys/fs/cgroup"));
    of_user.into_iter().chain(of_cgroup).min()
}

/// Returns how many threads of the user there are: these are what the limit counts.
#[must_use]
pub fn count() -> u64 {
    let ours = rustix::process::getuid().as_raw();
    let threads = |entry: fs::DirEntry| {
        let is_process = entry.file_name().to_str()?.parse::<u32>().is_ok();
        if !is_process || entry.metadata().ok()?.uid() != ours {
            return None;
        }
        let status = fs::read_to_string(entry.path().join("status")).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("Threads:"));
        line?.trim().parse::<u64>().ok()
    };
    let Ok(entries) = fs::read_dir("/proc") else {
        return 0;
    };
    entries.flatten().filter_map(threads).sum()
}

/// Returns the least room among this process's control groups and all above them.
fn cgroup_room(cgroups: &str, root: &Path) -> Option<u64> {
    let room = |folder: &Path| {
        let number = |name: &str| -> Option<u64> {
            let text = fs::read_to_string(folder.join(name)).ok()?;
            // `max` is no limit, and no number.
            text.trim().parse().ok()
        };
        Some(number("pids.max")?.saturating_sub(number("pids.current")?))
    };
    let folders = cgroups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let root = match controllers {
            "" => root.to_path_buf(),
            list if list.split(',').any(|name| name == "pids") => root.join("pids"),
            _ => return None,
        };
        let path: PathBuf = Path::new(path.trim_start_matches('/')).to_path_buf();
        Some((root, path))
    });
    folders
        .flat_map(|(root, path)| {
            path.ancestors()
                .map(|part| root.join(part))
                .collect::<Vec<_>>()
        })
        .filter_map(|folder| room(&folder))
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_control_group_counts_old_and_new() {
        let root = tempfile::tempdir().unwrap();
        let set = |folder: &str, max: &str, current: &str| {
            let folder = root.path().join(folder);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("pids.max"), max).unwrap();
            fs::write(folder.join("pids.current"), current).unwrap();
        };
        set("user.slice", "200\n", "90\n");
        set("user.slice/session", "max\n", "5\n");
        let v2 = "0::/user.slice/session\n";
        assert_eq!(cgroup_room(v2, root.path()), Some(110));
        set("pids/batch", "64\n", "70\n");
        let both = "4:cpu,cpuacct:/x\n7:pids:/batch\n0::/user.slice/session\n";
        assert_eq!(cgroup_room(both, root.path()), Some(0));
        assert_eq!(cgroup_room("junk\n", root.path()), None);
    }

    #[test]
    fn this_process_is_counted() {
        assert!(count() >= 1);
    }
}
