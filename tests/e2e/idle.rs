//! What the agent costs a login node while nobody uses it.

use std::time::Duration;

use anyhow::Result;
use hpcclient_tests::{Site, pause, resident_bytes, voluntary_switches, wait_for};

const LIMIT: u64 = 12 * 1024 * 1024;

#[test]
fn an_idle_agent_stays_small_and_never_wakes() -> Result<()> {
    let site = Site::new()?;
    for _ in 0..20 {
        site.bash("seq 1 10000")?.success()?;
    }
    let agent = site.agent_pid()?;
    let resident = resident_bytes(agent)?;
    assert!(resident <= LIMIT, "{} kB resident", resident / 1024);
    site.hpcclient(&["stop"])?.success()?;
    // What the end of the connection started may still be going on: wait for two equal readings, a second apart.
    wait_for("the agent to settle", Duration::from_secs(30), || {
        let before = voluntary_switches(agent)?;
        pause(Duration::from_secs(1));
        Ok((voluntary_switches(agent)? == before).then_some(()))
    })?;
    let before = voluntary_switches(agent)?;
    pause(Duration::from_secs(5));
    assert_eq!(
        voluntary_switches(agent)?.saturating_sub(before),
        0,
        "it woke up while idle"
    );
    assert!(resident_bytes(agent)? <= LIMIT);
    Ok(())
}

#[test]
fn a_connected_agent_that_nobody_uses_sleeps_too() -> Result<()> {
    let site = Site::new()?;
    site.bash("true")?.success()?;
    let agent = site.agent_pid()?;
    wait_for("the agent to settle", Duration::from_secs(30), || {
        let before = voluntary_switches(agent)?;
        pause(Duration::from_secs(1));
        Ok((voluntary_switches(agent)? == before).then_some(()))
    })?;
    let before = voluntary_switches(agent)?;
    pause(Duration::from_secs(10));
    // A thread that had nothing to do and ended takes its count away.
    let woken = voluntary_switches(agent)?.saturating_sub(before);
    assert!(woken <= 2, "{woken} wake-ups in 10 s: at most a keep-alive");
    Ok(())
}
