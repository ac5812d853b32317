//! Fifty deaths of the bridge while five clients follow and one types.

use std::{
    fs,
    io::Write,
    process::Stdio,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context, Result};
use hpcclient_tests::{CLUSTER, Child, Site, check_numbered_lines, pause, wait_for};

const KILLS: u32 = 50;

/// Writes 200 numbers twenty times a second without starting a process, until it is told to end.
const COUNTING: &str = "echo start >> ~/starts; exec 9<> <(:); n=0; until [ -e ~/go ]; do out=; \
                        for ((i = 0; i < 200; i++)); do out+=$((++n))$'\\n'; done; printf %s \"$out\"; \
                        read -rt 0.05 -u 9; done; echo $n >> ~/last";

#[test]
fn fifty_kills_of_the_bridge_lose_nothing_and_run_nothing_twice() -> Result<()> {
    let site = Site::new()?;
    site.connect()?;
    let counting = site.start("counting", &["run", "--", "bash", "-c", COUNTING])?;
    let id = wait_for("the run", Duration::from_secs(20), || {
        Ok(Some(site.newest_run()?.id.to_string()))
    })?;
    let mut viewers = vec![counting];
    for number in 0..4 {
        viewers.push(site.start(&format!("viewer-{number}"), &["attach", &id])?);
    }
    let mut cat = site.env().hpcclient(&["run", "--", "cat"])?;
    let mut cat = Child::start(cat.stdin(Stdio::piped()), &site.env().logs(), "cat")?;
    let mut stdin = cat.take_stdin().context("no stdin")?;
    let is_over = AtomicBool::new(false);
    let typed = std::thread::scope(|scope| -> Result<u32> {
        let typist = scope.spawn(|| -> Result<u32> {
            let mut number = 0;
            while !is_over.load(Ordering::SeqCst) {
                number += 1;
                stdin.write_all(format!("{number}\n").as_bytes())?;
                pause(Duration::from_millis(2));
            }
            drop(stdin);
            Ok(number)
        });
        let killed = kill_again_and_again(&site, &viewers);
        is_over.store(true, Ordering::SeqCst);
        let typed = typist.join().ok().context("the typist panicked")?;
        killed?;
        typed
    })?;
    site.env().write("node-home/go", "")?;
    let last = wait_for("the command's end", Duration::from_secs(30), || {
        let text = fs::read_to_string(site.env().path("node-home/last"))?;
        Ok(text.trim().parse::<u32>().ok())
    })?;
    for viewer in viewers {
        let output = viewer.finish(Duration::from_secs(60))?.success()?;
        check_numbered_lines(&output.stdout, last)?;
    }
    let echo = cat.finish(Duration::from_secs(60))?.success()?;
    check_numbered_lines(&echo.stdout, typed).context("what was typed")?;
    let starts = fs::read_to_string(site.env().path("node-home/starts"))?;
    assert_eq!(starts, "start\n", "a retry ran the command again");
    Ok(())
}

/// Each time somebody has seen something new: a bridge that dies at once is `loss`'s subject as well.
fn kill_again_and_again(site: &Site, viewers: &[Child]) -> Result<()> {
    for kill in 0..KILLS {
        let seen: usize = viewers.iter().map(|viewer| viewer.stdout().len()).sum();
        site.kill_bridge()?;
        // Every other time the clients have to start it themselves.
        if kill % 2 == 0 {
            site.hpcclient(&["connect", CLUSTER])?.success()?;
        }
        wait_for("more output", Duration::from_secs(60), || {
            let now: usize = viewers.iter().map(|viewer| viewer.stdout().len()).sum();
            Ok((now > seen + 10_000).then_some(()))
        })
        .with_context(|| format!("after kill {kill}"))?;
    }
    Ok(())
}
