//! A network that comes and goes: how soon a loss is seen, and how soon the work goes on.

use std::time::{Duration, Instant};

use anyhow::Result;
use hpcclient_protocol::bridge::ClusterState;
use hpcclient_tests::{Child, Site, check_numbered_lines, wait_for};

/// The latest that a dead peer is noticed.
const NOTICED: Duration = Duration::from_secs(50);

/// The latest that the work goes on once the network is back.
const RESUMED: Duration = Duration::from_secs(5);

/// A command that writes a numbered line now and then, until it is told to end.
const TICKING: &str = "n=0; until [ -e ~/go ]; do n=$((n + 1)); echo $n; sleep 0.1; done";

fn start_ticking(site: &Site) -> Result<Child> {
    site.connect()?;
    let run = site.start("ticking", &["run", "--", "bash", "-c", TICKING])?;
    wait_for("the command", Duration::from_secs(30), || {
        Ok((run.stdout().len() > 4).then_some(()))
    })?;
    Ok(run)
}

/// Waits until the state is another one and returns how long that took.
fn time_until_lost(site: &Site) -> Result<Duration> {
    let start = Instant::now();
    wait_for("the loss to be seen", NOTICED * 2, || {
        Ok((site.cluster()?.state != ClusterState::Connected).then_some(()))
    })?;
    Ok(start.elapsed())
}

/// Waits until the command's output grows and returns how long that took.
fn time_until_it_goes_on(run: &Child) -> Result<Duration> {
    let (start, before) = (Instant::now(), run.stdout().len());
    wait_for("more output", NOTICED, || {
        Ok((run.stdout().len() > before).then_some(()))
    })?;
    Ok(start.elapsed())
}

/// Ends the command: every line came once.
fn finish(site: &Site, run: Child) -> Result<()> {
    site.env().write("node-home/go", "")?;
    let output = run.finish(Duration::from_secs(60))?.success()?;
    let lines = u32::try_from(output.text().lines().count())?;
    check_numbered_lines(&output.stdout, lines)
}

#[test]
fn a_dead_link_is_noticed_and_the_work_goes_on_when_it_is_back() -> Result<()> {
    let (site, network) = Site::behind_faults()?;
    let run = start_ticking(&site)?;
    let connections = network.accepted();
    network.go_dark();
    let noticed = time_until_lost(&site)?;
    assert!(noticed <= NOTICED, "noticed after {noticed:?}");
    wait_for("an attempt that gets no answer", NOTICED, || {
        Ok((network.accepted() > connections).then_some(()))
    })?;
    network.come_back();
    let resumed = time_until_it_goes_on(&run)?;
    assert!(resumed <= RESUMED, "resumed after {resumed:?}");
    finish(&site, run)
}

#[test]
fn a_cut_link_goes_on_at_once() -> Result<()> {
    let (site, network) = Site::behind_faults()?;
    let run = start_ticking(&site)?;
    network.reset_connections();
    let resumed = time_until_it_goes_on(&run)?;
    assert!(resumed <= RESUMED, "resumed after {resumed:?}");
    finish(&site, run)
}

#[test]
fn a_server_that_is_away_for_a_while_is_waited_for() -> Result<()> {
    let (site, network) = Site::behind_faults()?;
    let run = start_ticking(&site)?;
    network.refuse(true);
    let connections = network.accepted();
    network.reset_connections();
    wait_for("two attempts", Duration::from_secs(20), || {
        Ok((network.accepted() >= connections + 2).then_some(()))
    })?;
    assert_eq!(site.cluster()?.state, ClusterState::Reconnecting);
    network.refuse(false);
    let resumed = time_until_it_goes_on(&run)?;
    assert!(resumed <= RESUMED, "resumed after {resumed:?}");
    assert_eq!(site.sshd().logins(), 2);
    finish(&site, run)
}

mod as_root {
    use std::process::Command;

    use super::*;

    /// An address that this machine has for a while.
    struct Address(String);

    impl Address {
        fn add() -> Result<Self> {
            let this = Self(format!(
                "10.254.{}.{}/32",
                std::process::id() / 250 % 250,
                1 + std::process::id() % 250
            ));
            this.ip("add").map(|()| this)
        }

        fn ip(&self, verb: &str) -> Result<()> {
            let output = Command::new("ip")
                .args(["address", verb, &self.0, "dev", "lo"])
                .output()?;
            let said = String::from_utf8_lossy(&output.stderr);
            anyhow::ensure!(output.status.success(), "ip address {verb}: {said}");
            Ok(())
        }
    }

    impl Drop for Address {
        fn drop(&mut self) {
            drop(self.ip("del"));
        }
    }

    /// As when a notebook computer changes from cable to radio: the old flow is gone, and nobody says so.
    #[test]
    fn a_change_of_address_makes_the_bridge_look_at_once() -> Result<()> {
        const SEEN: Duration = Duration::from_secs(6);
        let (site, network) = Site::behind_faults()?;
        let run = start_ticking(&site)?;
        network.forget_connections();
        let _address = Address::add()?;
        let noticed = time_until_lost(&site)?;
        assert!(noticed <= SEEN, "noticed after {noticed:?}");
        let resumed = time_until_it_goes_on(&run)?;
        assert!(resumed <= RESUMED, "resumed after {resumed:?}");
        assert_eq!(site.sshd().logins(), 2);
        finish(&site, run)
    }
}
