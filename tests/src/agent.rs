//! What `/proc` says of a process: memory and wake-ups.

use std::fs;

use anyhow::{Context, Result};

/// Returns the resident memory of a process.
///
/// # Errors
/// It is gone.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    Ok(status_number(&format!("/proc/{pid}/status"), "VmRSS:")? * 1024)
}

/// Returns how often the threads of a process went to sleep by themselves: an idle one's number stands still.
///
/// # Errors
/// It is gone.
pub fn voluntary_switches(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = thread?.path().join("status");
        sum += status_number(&status.to_string_lossy(), "voluntary_ctxt_switches:")?;
    }
    Ok(sum)
}

fn status_number(path: &str, name: &str) -> Result<u64> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    Ok(number
        .with_context(|| format!("no {name} in {path}"))?
        .parse()?)
}
