//! What a warm call costs on the wire, counted: no SSH channel, one round trip.

use std::{process::Stdio, time::Duration};

use anyhow::Result;
use hpcclient_tests::{Python, Site, user_name, wait_for};

const PREPARE: &str = "from hpcclient import *\nhpcrpc.ls()";

#[test]
fn a_hundred_warm_calls_open_no_channel() -> Result<()> {
    let site = Site::new()?;
    let mut calls = Python::start(&site, PREPARE, "hpcrpc.ls('-la')")?;
    let before = (site.sshd().channels_opened(), site.sshd().logins());
    assert!(before.0 > 0, "the log does not show channels");
    for _ in 0..100 {
        calls.step()?;
    }
    assert_eq!(
        (site.sshd().channels_opened(), site.sshd().logins()),
        before
    );
    Ok(())
}

#[test]
fn a_warm_call_takes_one_round_trip_where_ssh_takes_two() -> Result<()> {
    const CALLS: u32 = 20;
    let site = Site::behind(Duration::from_millis(25))?;
    let mut calls = Python::start(&site, PREPARE, "hpcrpc.ls('-la')")?;
    let mut total = 0;
    for _ in 0..CALLS {
        site.proxy()?.reset();
        calls.step()?;
        total += site.proxy()?.round_trips();
    }
    assert!(
        total >= CALLS,
        "{total} round trips of {CALLS} calls cannot be"
    );
    // At most 1.2 on average.
    assert!(
        total * 10 <= CALLS * 12,
        "{CALLS} calls took {total} round trips"
    );

    let ssh = |args: &[&str]| -> Result<std::process::Command> {
        let mut command = site.env().command("ssh");
        command
            .args([
                "-F",
                "none",
                "-o",
                "BatchMode=yes",
                "-o",
                "ControlPath=control",
            ])
            .arg("-o")
            .arg(format!(
                "UserKnownHostsFile={}",
                site.sshd().file("known_hosts").display()
            ))
            .args(["-p", &site.proxy()?.port().to_string(), "-i"])
            .arg(site.sshd().file("user_key"))
            .args(args)
            .arg(format!("{}@127.0.0.1", user_name()?));
        command.stdin(Stdio::null());
        Ok(command)
    };
    let mut master = ssh(&["-M", "-N"])?;
    let _master = hpcclient_tests::Child::start(&mut master, &site.env().logs(), "ssh-master")?;
    wait_for("the ssh master", Duration::from_secs(20), || {
        Ok(Some(
            site.env().run(&mut ssh(&["-O", "check"])?)?.success()?,
        ))
    })?;
    site.proxy()?.reset();
    site.env().run(ssh(&[])?.args(["ls", "-la"]))?.success()?;
    let theirs = site.proxy()?.round_trips();
    assert!(theirs >= 2, "ssh took {theirs}: is the counter right?");
    Ok(())
}
