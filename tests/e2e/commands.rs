//! `hpcclient run`, `attach`, `runs`: what a command writes arrives byte for byte, and its code is the command's.

use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt, time::Duration};

use anyhow::Result;
use hpcclient_tests::{Site, wait_for};
use rustix::process::Signal;

#[test]
fn both_streams_and_the_exit_code_are_the_commands_own() -> Result<()> {
    let site = Site::new()?;
    let output = site.bash("echo out; echo err >&2; exit 7")?;
    assert_eq!(
        (output.code, output.text(), output.error_text()),
        (7, "out\n".to_owned(), "err\n".to_owned())
    );
    let killed = site.bash("kill -TERM $$")?;
    assert_eq!(killed.code, 128 + 15);
    Ok(())
}

#[test]
fn arguments_reach_the_program_as_they_are() -> Result<()> {
    let site = Site::new()?;
    let output = site.hpcclient(&["run", "--", "printf", "[%s]", "a b;$c", "", "*", "-n", "\n"])?;
    assert_eq!(output.success()?.text(), "[a b;$c][][*][-n][\n]");
    Ok(())
}

#[test]
fn a_command_that_does_not_exist_is_127_and_is_named() -> Result<()> {
    let site = Site::new()?;
    let output = site.hpcclient(&["run", "--", "no-such-command"])?;
    assert_eq!(output.code, 127, "{}", output.error_text());
    let text = output.error_text();
    assert!(
        text.contains("no-such-command: command not found"),
        "{text}"
    );
    Ok(())
}

#[test]
fn binary_output_is_exact() -> Result<()> {
    let site = Site::new()?;
    let output = site
        .bash("head -c 3000000 /dev/urandom | tee ~/copy; tee -a ~/errors < ~/copy >&2")?
        .success()?;
    let copy = fs::read(site.env().path("node-home/copy"))?;
    assert_eq!(copy.len(), 3_000_000);
    assert!(output.stdout == copy, "stdout differs");
    assert!(output.stderr == copy, "stderr differs");
    Ok(())
}

#[test]
fn text_that_is_not_utf8_passes_both_ways() -> Result<()> {
    let site = Site::new()?;
    let mut command = site.env().hpcclient(&["run", "--", "printf", "%s\\n"])?;
    let odd = b"caf\xe9 \xff\xfe";
    command.arg(OsStr::from_bytes(odd));
    let output = site.env().run(&mut command)?.success()?;
    assert_eq!(output.stdout, [odd.as_slice(), b"\n"].concat());
    let listed = site.hpcclient(&["runs"])?.success()?;
    assert!(listed.text().contains("printf"), "{}", listed.text());
    Ok(())
}

#[test]
fn a_hundred_megabytes_arrive_whole() -> Result<()> {
    const SIZE: usize = 100_000_000;
    let site = Site::new()?;
    let args = [
        "run",
        "--",
        "bash",
        "-c",
        "yes 0123456789abcde | head -c 100000000",
    ];
    let mut command = site.env().hpcclient(&args)?;
    let output = site.env().run_for(&mut command, Duration::from_secs(120))?;
    let output = output.success()?;
    assert_eq!(output.stdout.len(), SIZE);
    let line = b"0123456789abcde\n";
    let wrong = output
        .stdout
        .chunks(line.len())
        .position(|chunk| chunk != line);
    assert_eq!(wrong, None);
    Ok(())
}

#[test]
fn attach_shows_every_byte_again_and_the_same_code() -> Result<()> {
    let site = Site::new()?;
    let first = site.bash("seq 1 1000; seq 1 10 >&2; exit 9")?;
    let id = site.newest_run()?.id.to_string();
    let again = site.hpcclient(&["attach", &id])?;
    assert_eq!(again.code, 9);
    assert!(again.stdout == first.stdout && again.stderr == first.stderr);
    assert_eq!(again.text().lines().count(), 1000);
    Ok(())
}

#[test]
fn an_interrupt_reaches_the_remote_command() -> Result<()> {
    let site = Site::new()?;
    let line = "trap 'echo caught; exit 5' INT; echo up; while :; do sleep 0.05; done";
    let run = site.start("interrupted", &["run", "--", "bash", "-c", line])?;
    wait_for("the command", Duration::from_secs(30), || {
        Ok((run.stdout() == b"up\n").then_some(()))
    })?;
    run.signal(Signal::INT);
    let output = run.finish(Duration::from_secs(20))?;
    assert_eq!((output.code, output.text().as_str()), (5, "up\ncaught\n"));
    Ok(())
}

#[test]
fn what_runs_on_the_cluster_outlives_stop() -> Result<()> {
    let site = Site::new()?;
    let line = "echo up; until [ -e ~/go ]; do sleep 0.05; done; echo end";
    let run = site.start("outliving", &["run", "--", "bash", "-c", line])?;
    wait_for("the command", Duration::from_secs(30), || {
        Ok((run.stdout() == b"up\n").then_some(()))
    })?;
    let id = site.newest_run()?.id.to_string();
    drop(run);
    site.hpcclient(&["stop"])?.success()?;
    fs::write(site.env().path("node-home/go"), "")?;
    let output = site.hpcclient(&["attach", &id])?.success()?;
    assert_eq!(output.text(), "up\nend\n");
    Ok(())
}
