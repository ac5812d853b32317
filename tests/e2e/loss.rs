//! The promise: whatever of ours is killed while a command writes a million lines, every line is seen, once.

use std::{fs, time::Duration};

use anyhow::{Context, Result};
use hpcclient_tests::{Site, check_numbered_lines, python, wait_for};

const LINES: u32 = 1_000_000;

/// A second or more of writing, in a thousand portions, so that the kill falls into the middle.
const COMMAND: &str = "echo start >> ~/starts; for i in $(seq 0 999); do \
                       seq $((i * 1000 + 1)) $((i * 1000 + 1000)); sleep 0.003; done";

#[test]
fn a_killed_bridge_loses_nothing() -> Result<()> {
    cut(Site::kill_bridge)
}

#[test]
fn a_killed_agent_loses_nothing() -> Result<()> {
    cut(Site::kill_agent)
}

#[test]
fn a_killed_connection_loses_nothing() -> Result<()> {
    cut(|site| site.sshd().kill_connections())
}

/// The command line and Python each run the command; the thing is killed in the middle of both.
fn cut(kill: impl Fn(&Site) -> Result<()>) -> Result<()> {
    let site = Site::new()?;
    site.connect()?;
    let run = site.start("cut", &["run", "--", "bash", "-c", COMMAND])?;
    let id = wait_for("the run", Duration::from_secs(20), || {
        Ok(Some(site.newest_run()?.id.to_string()))
    })?;
    let program = format!(
        "import sys\nfrom hpcclient import *\nr = hpcrpc.execute({COMMAND:?})\n\
         open('result', 'w').write(r.stdout)\nsys.exit(r.returncode)"
    );
    let from_python = std::thread::scope(|scope| -> Result<_> {
        let thread = scope.spawn(|| python(site.env(), &program));
        let node_home = site.env().path("node-home/starts");
        wait_for("both in the middle", Duration::from_secs(60), || {
            let starts = fs::read_to_string(&node_home).unwrap_or_default();
            Ok((starts.lines().count() == 2 && run.stdout().len() > 500_000).then_some(()))
        })?;
        kill(&site)?;
        thread.join().ok().context("the thread panicked")?
    })?;
    from_python.success().context("Python")?;
    let output = run.finish(Duration::from_secs(120))?;
    let output = output.success().context("the command line")?;

    check_numbered_lines(&output.stdout, LINES).context("the command line's output")?;
    let result = fs::read(site.env().path("home/result"))?;
    check_numbered_lines(&result, LINES).context("Python's result")?;
    let again = site.hpcclient(&["attach", &id])?.success()?;
    check_numbered_lines(&again.stdout, LINES).context("a new attach")?;
    let starts = fs::read_to_string(site.env().path("node-home/starts"))?;
    assert_eq!(starts.lines().count(), 2, "a retry ran a command again");
    Ok(())
}
