//! `hpcclient demo`: a login node of our own, a program beside it, and nothing left behind.

use std::{fs, time::Duration};

use anyhow::Result;
use hpcclient_tests::{Env, processes_under, wait_for};
use rustix::process::Signal;

fn demo(env: &Env, line: &str) -> Result<std::process::Command> {
    env.hpcclient(&["demo", "--", "bash", "-c", line])
}

fn nothing_left(env: &Env) -> Result<()> {
    wait_for("the end of every process", Duration::from_secs(10), || {
        let left = processes_under(env.root());
        let names = left.iter().map(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).replace('\0', " ")
        });
        let names: Vec<String> = names.collect();
        if names.is_empty() {
            Ok(Some(()))
        } else {
            anyhow::bail!("{names:?}")
        }
    })
}

#[test]
fn the_program_finds_the_demo_cluster_and_everything_ends_with_it() -> Result<()> {
    let env = Env::new()?;
    let line = "\"$HPCCLIENT_BIN\" run -- echo on the demo node; exit 4";
    let output = env.run(&mut demo(&env, line)?)?;
    assert_eq!(output.code, 4, "{}", output.error_text());
    assert!(
        output.text().contains("on the demo node\n"),
        "{}",
        output.text()
    );
    nothing_left(&env)
}

#[test]
fn an_interrupt_ends_everything() -> Result<()> {
    let env = Env::new()?;
    let line = "\"$HPCCLIENT_BIN\" run -- true; echo up; while :; do sleep 0.05; done";
    let mut command = demo(&env, line)?;
    let running = hpcclient_tests::Child::start(&mut command, &env.logs(), "demo")?;
    wait_for("the program", Duration::from_secs(60), || {
        let out = String::from_utf8_lossy(&running.stdout()).into_owned();
        Ok(out.contains("up\n").then_some(()))
    })?;
    running.signal(Signal::INT);
    running.finish(Duration::from_secs(20))?;
    nothing_left(&env)
}
