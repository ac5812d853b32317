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

#[test]
fn a_run_has_a_directory_an_environment_a_priority_and_is_left_running() -> Result<()> {
    let site = Site::new()?;
    let line = "echo $(pwd) $A $B $(nice); until [ -e ~/go ]; do sleep 0.05; done; echo end";
    let options = [
        "--cwd", "/tmp", "--env", "A=a b", "-e", "B=c=d", "--nice", "7",
    ];
    let command = ["--detach", "--", "bash", "-c", line];
    let args = [&["run"], options.as_slice(), command.as_slice()].concat();
    let output = site.hpcclient(&args)?.success()?;
    let id = output.text().trim().to_owned();
    assert_eq!(site.newest_run()?.id.to_string(), id);
    fs::write(site.env().path("node-home/go"), "")?;
    let output = site.hpcclient(&["attach", &id])?.success()?;
    assert_eq!(output.text(), "/tmp a b c=d 7\nend\n");
    Ok(())
}

#[test]
fn a_time_limit_ends_it_while_nobody_is_connected() -> Result<()> {
    let site = Site::new()?;
    let args = ["run", "--detach", "--timeout", "1s", "--", "sleep", "1000"];
    let id = site.hpcclient(&args)?.success()?.text().trim().to_owned();
    site.hpcclient(&["disconnect"])?.success()?;
    let output = site.hpcclient(&["attach", &id])?;
    assert_eq!(output.code, 128 + 9, "{}", output.error_text());
    Ok(())
}

#[test]
fn signals_and_kill_reach_a_run_that_was_left() -> Result<()> {
    let site = Site::new()?;
    let line = "trap 'echo usr1' USR1; echo up; while :; do sleep 0.05; done";
    let args = ["run", "--detach", "--", "bash", "-c", line];
    let id = site.hpcclient(&args)?.success()?.text().trim().to_owned();
    let run = site.start("left", &["attach", &id])?;
    let shows = |text: &'static [u8]| {
        wait_for("its output", Duration::from_secs(30), || {
            Ok((run.stdout() == text).then_some(()))
        })
    };
    shows(b"up\n")?;
    site.hpcclient(&["signal", &id, "SIGUSR1"])?.success()?;
    shows(b"up\nusr1\n")?;
    site.hpcclient(&["kill", &id])?.success()?;
    assert_eq!(run.finish(Duration::from_secs(20))?.code, 128 + 9);
    Ok(())
}

#[test]
fn marks_and_lists() -> Result<()> {
    let site = Site::new()?;
    site.bash("echo first")?.success()?;
    let id = site.newest_run()?.id.to_string();
    let args = ["run", "--name", "second try", "--", "echo", "second"];
    assert_eq!(site.hpcclient(&args)?.success()?.text(), "second\n");
    site.hpcclient(&["rename", &id, "the first"])?.success()?;
    site.hpcclient(&["pin", "the first"])?.success()?;
    let listed = site.hpcclient(&["runs", "--text", "FIRST"])?.success()?;
    assert_eq!(listed.text().lines().count(), 1, "{}", listed.text());
    assert!(listed.text().contains("* the first: "), "{}", listed.text());
    let listed = site.hpcclient(&["runs", "--live"])?.success()?;
    assert_eq!(listed.text(), "");
    let listed = site.hpcclient(&["runs", "--state", "exited"])?.success()?;
    assert!(listed.text().contains("second try: "), "{}", listed.text());
    site.hpcclient(&["rm", "second try"])?.success()?;
    let listed = site.hpcclient(&["runs"])?.success()?;
    assert!(!listed.text().contains("second"), "{}", listed.text());
    Ok(())
}

#[test]
fn parts_of_the_stored_output() -> Result<()> {
    let site = Site::new()?;
    let line = "seq 1 1000; printf 'an \\033[31merror\\033[0m\\n' >&2; seq 1001 2000";
    site.bash(line)?.success()?;
    let id = site.newest_run()?.id.to_string();
    let tail = site.hpcclient(&["attach", &id, "--tail", "2"])?.success()?;
    assert_eq!(tail.text(), "1999\n2000\n");
    let since = site
        .hpcclient(&["attach", &id, "--since", "1h"])?
        .success()?;
    assert_eq!(since.text().lines().count(), 2000);
    let found = site
        .hpcclient(&["search", &id, "^19{2}[0-9]$"])?
        .success()?;
    assert_eq!(found.text().lines().count(), 10, "{}", found.text());
    let found = site
        .hpcclient(&["search", "-F", "-i", &id, "ERROR"])?
        .success()?;
    assert!(found.text().starts_with("stderr:1:an "), "{}", found.text());
    assert!(!found.text().contains('\x1b'), "{}", found.text());
    assert_eq!(site.hpcclient(&["search", &id, "nothing"])?.code, 1);
    let text = site
        .hpcclient(&["export", &id, "--as", "text"])?
        .success()?;
    assert!(text.text().contains("an error\n") && text.text().contains("1999\n2000\n"));
    let file = site.env().path("out.raw");
    let name = file.display().to_string();
    let args = ["export", &id, "--stream", "stderr", "-o", &name];
    site.hpcclient(&args)?.success()?;
    assert_eq!(fs::read(&file)?, b"an \x1b[31merror\x1b[0m\n");
    Ok(())
}
