//! Starts a login node, runs a program that can use it, and ends both: `testbed PROGRAM ARGUMENT…`.
//!
//! Called by `cargo xtask` for the benchmark and for the Python tests. The program's environment is the one of a user
//! of the site; `HPCCLIENT_CLUSTER` is the node, `TESTBED` has the rest as JSON. The cluster `slow` is the same node
//! behind a network of 25 ms each way.

use std::{fs, process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use hpcclient_tests::{CLUSTER, DelayProxy, Site, user_name};
use serde_json::json;

const DELAY: Duration = Duration::from_millis(25);

fn main() -> Result<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    let program = args.next().context("usage: testbed PROGRAM ARGUMENT…")?;
    let mut site = Site::new()?;
    site.hide_logs();
    let port = site.sshd().port();
    let proxy = DelayProxy::start(port, DELAY)?;
    let known_hosts = site.sshd().file("known_hosts");
    let known = fs::read_to_string(&known_hosts)?;
    let (direct, slow) = (format!(":{port} "), format!(":{} ", proxy.port()));
    fs::write(
        &known_hosts,
        format!("{known}{}", known.replace(&direct, &slow)),
    )?;
    add_slow_cluster(&site, proxy.port())?;

    let place = json!({
        "slowCluster": "slow",
        "host": "127.0.0.1",
        "port": port,
        "slowPort": proxy.port(),
        "user": user_name()?,
        "key": site.sshd().file("user_key"),
        "knownHosts": known_hosts,
    });
    let status = site
        .env()
        .command(program)
        .args(args)
        .current_dir(std::env::current_dir()?)
        .env("HPCCLIENT_CLUSTER", CLUSTER)
        .env("TESTBED", place.to_string())
        .status()?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(1)))
}

fn add_slow_cluster(site: &Site, slow_port: u16) -> Result<()> {
    let file = site.env().path("home/.config/hpcclient/config.toml");
    let text = fs::read_to_string(&file)?;
    let (_, section) = text.split_once("[clusters.").context("no cluster")?;
    let port = format!("port = {}\n", site.sshd().port());
    let section =
        section
            .replacen(CLUSTER, "slow", 1)
            .replacen(&port, &format!("port = {slow_port}\n"), 1);
    Ok(fs::write(&file, format!("{text}\n[clusters.{section}"))?)
}
