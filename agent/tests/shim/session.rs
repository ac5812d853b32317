//! A session: many lines, one shell.

use std::time::{Duration, Instant};

use hpcagent::shim::control::{FromShim, ToShim};
use hpcclient_protocol::{ByteString, RunState, StreamName};

use crate::driver::{Kept, argv, fed, poll, shell, text};

#[test]
fn what_a_line_changes_holds_for_the_next_also_after_exit() {
    let mut kept = Kept::session();
    let (record, ..) = kept.run("cd /usr; x='a b'; export Y=1; declare -A m=([k]=v); f() { echo f-$x; }; alias g='echo alias'");
    assert_eq!(record.exit_code, Some(0));
    assert_eq!(record.cwd_after, Some("/usr".into()));
    let (record, out, _) = kept.run("f; exit 3");
    assert_eq!((record.exit_code, out.as_str()), (Some(3), "f-a b\n"));
    let (record, out, err) = kept.run("echo $?; pwd; f; echo $Y ${m[k]}; g");
    assert_eq!(
        (out.as_str(), err.as_str()),
        ("3\n/usr\nf-a b\n1 v\nalias\n", "")
    );
    assert_eq!(record.exit_code, Some(0));
    let (_, before, _) = kept.run("echo $$");
    kept.run("exit 1");
    let (_, after, _) = kept.run("echo $$");
    assert_eq!(before, after);
}

#[test]
fn a_line_may_do_anything_to_its_loop() {
    let mut kept = Kept::session();
    let (_, before, _) = kept.run("x=1; ls /proc/self/fd");
    for (line, code) in [
        ("break", 0),
        ("continue", 0),
        ("break 99", 0),
        ("set -e; false; echo not here", 1),
        ("set +e; false", 1),
        ("set -u; echo $nosuch", 127),
        ("set +u; if", 2),
        ("echo \"open", 2),
        ("nosuch", 127),
        ("shopt -s extglob nullglob; set -f; IFS=x; exit 0", 0),
        ("trap 'echo bye' EXIT", 0),
        ("kill -USR1 $$", 138),
    ] {
        let (record, out, _) = kept.run(line);
        assert_eq!((record.exit_code, out.as_str()), (Some(code), ""), "{line}");
    }
    assert_eq!(kept.run("echo \"$x\"").1, "1\n");
    assert_eq!(kept.run("ls /proc/self/fd").1, before);
    assert!(
        !before.contains("25"),
        "the line sees the loop's descriptors: {before}"
    );
}

#[test]
fn an_interrupt_ends_the_whole_line_at_once_and_not_the_session() {
    let mut kept = Kept::session();
    kept.run("x=kept");
    let dir = kept.give(&shell("echo on; for i in 1 2 3; do sleep 30; done"));
    let run = dir.id();
    kept.line.until(run, |_, sizes| sizes.stdout > 0);
    let start = Instant::now();
    kept.line.send(
        &ToShim::Signal {
            run,
            signal: "INT".into(),
        },
        b"",
    );
    let record = kept.line.until_state(run, RunState::Exited);
    assert_eq!(record.exit_code, Some(130));
    assert!(start.elapsed() < Duration::from_secs(5));
    // Sent before the shell has even started the line, and to a loop without any process.
    let dir = kept.give(&shell("while :; do :; done"));
    let run = dir.id();
    kept.line.send(
        &ToShim::Signal {
            run,
            signal: "INT".into(),
        },
        b"",
    );
    assert_eq!(
        kept.line.until_state(run, RunState::Exited).exit_code,
        Some(130)
    );
    assert_eq!(kept.run("echo $x").1, "kept\n");
}

#[test]
fn kill_ends_the_line_and_spares_the_shell_and_older_processes() {
    let mut kept = Kept::session();
    let (_, old, _) = kept.run("x=kept; sleep 100 >/dev/null 2>&1 & echo $!; sleep 0.1");
    let dir = kept.give(&shell("(trap '' INT TERM; echo on; sleep 100)"));
    let run = dir.id();
    kept.line.until(run, |_, sizes| sizes.stdout > 0);
    kept.line.send(&ToShim::Kill { run }, b"");
    let record = kept.line.until_state(run, RunState::Exited);
    assert_eq!(
        (record.exit_code, record.signal.as_deref()),
        (Some(137), Some("KILL"))
    );
    let (_, out, _) = kept.run(&format!("kill -0 {} && echo $x", old.trim()));
    assert_eq!(out, "kept\n");
    kept.run(&format!("kill {}", old.trim()));
}

#[test]
fn a_line_that_ignores_its_kill_costs_the_shell_but_not_the_session() {
    let mut kept = Kept::session();
    let dir = kept.give(&shell("trap '' INT; echo on; while :; do :; done"));
    let run = dir.id();
    kept.line.until(run, |_, sizes| sizes.stdout > 0);
    kept.line.send(&ToShim::Kill { run }, b"");
    let record = kept.line.until_state(run, RunState::Exited);
    assert_eq!(
        (record.exit_code, record.signal.as_deref()),
        (Some(137), Some("KILL"))
    );
    assert_eq!(kept.run("echo again").1, "again\n");
}

#[test]
fn exec_replaces_the_shell_and_a_fresh_one_follows() {
    let mut kept = Kept::session();
    let (record, out, _) = kept.run("exec sh -c 'echo replaced; exit 6'");
    assert_eq!((record.exit_code, out.as_str()), (Some(6), "replaced\n"));
    assert_eq!(kept.run("echo fresh").1, "fresh\n");
}

#[test]
fn directory_and_environment_of_a_line_last_for_it_only() {
    let mut kept = Kept::session();
    kept.run("cd /usr; A=old");
    let mut spec = shell("pwd; echo $A $B; sh -c 'echo $A'");
    spec.cwd = Some("/etc".into());
    spec.env
        .insert("A".into(), ByteString::from(b"n w'\xff".to_vec()));
    spec.env.insert("B".into(), "new".into());
    for end in ["", "; exit 7"] {
        let mut spec = spec.clone();
        spec.command = shell(&format!("pwd; echo $A $B; sh -c 'echo $A'{end}")).command;
        let dir = kept.give(&spec);
        let record = kept.line.until_state(dir.id(), RunState::Exited);
        assert_eq!(record.cwd_after, Some("/usr".into()));
        assert_eq!(
            text(&dir, StreamName::Stdout),
            "/etc\nn w'\u{fffd} new\nn w'\u{fffd}\n"
        );
        assert_eq!(
            kept.run("pwd; echo $A ${B-unset}; export -p | grep -c ' A='")
                .1,
            "/usr\nold unset\n0\n"
        );
    }
    let mut moved = shell("cd /tmp");
    moved.cwd = Some("/etc".into());
    let dir = kept.give(&moved);
    kept.line.until_state(dir.id(), RunState::Exited);
    assert_eq!(kept.run("pwd").1, "/tmp\n");
    let mut nowhere = shell("echo not here");
    nowhere.cwd = Some("/no/such".into());
    let dir = kept.give(&nowhere);
    assert_eq!(
        kept.line.until_state(dir.id(), RunState::Exited).exit_code,
        Some(126)
    );
    assert!(text(&dir, StreamName::Stderr).contains("/no/such"));
}

#[test]
fn a_line_reads_its_stdin_also_what_was_written_while_it_waited() {
    let mut kept = Kept::session();
    let first = kept.give(&shell("sleep 0.3"));
    let dir = kept.give(&fed(shell("cat; echo end")));
    let run = dir.id();
    let put = |kept: &mut Kept, seq, eof, data: &[u8]| {
        let writer = "w".to_owned();
        kept.line.send(
            &ToShim::Stdin {
                run,
                writer,
                seq,
                eof,
            },
            data,
        );
    };
    put(&mut kept, 1, false, b"one ");
    put(&mut kept, 2, true, b"two ");
    kept.line.until_state(first.id(), RunState::Exited);
    kept.line.until_state(run, RunState::Exited);
    assert_eq!(text(&dir, StreamName::Stdout), "one two end\n");
    assert_eq!(kept.run("cat; echo empty").1, "empty\n");
}

#[test]
fn late_output_goes_to_the_line_that_started_it() {
    let mut kept = Kept::session();
    let dir = kept.give(&shell("(sleep 0.5; echo late) & echo now"));
    let run = dir.id();
    kept.line.until_state(run, RunState::Exited);
    assert_eq!(text(&dir, StreamName::Stdout), "now\n");
    assert_eq!(kept.run("echo other").1, "other\n");
    kept.line.until(run, |_, sizes| sizes.stdout == 9);
    assert_eq!(text(&dir, StreamName::Stdout), "now\nlate\n");
}

#[test]
fn lines_wait_and_can_be_taken_back_and_an_argv_is_a_line_too() {
    let mut kept = Kept::session();
    let first = kept.give(&shell("read -r _ < <(sleep 0.5); echo one"));
    let second = kept.give(&shell("echo never"));
    let third = kept.give(&argv(&[b"printf", b"%s|", b"it's", b"$HOME", b"\xff"]));
    let run = second.id();
    kept.line.send(&ToShim::Kill { run }, b"");
    let record = kept.line.until_state(run, RunState::Exited);
    assert_eq!((record.exit_code, record.started_ms), (Some(137), None));
    kept.line.until_state(third.id(), RunState::Exited);
    assert_eq!(first.load().unwrap().exit_code, Some(0));
    assert_eq!(
        crate::driver::bytes(&third, StreamName::Stdout),
        b"it's|$HOME|\xff|"
    );
}

#[test]
fn the_end_of_a_session_ends_its_line_and_its_shim() {
    let mut kept = Kept::session();
    let dir = kept.give(&shell("echo on; sleep 100"));
    let waiting = kept.give(&shell("echo never"));
    kept.line.until(dir.id(), |_, sizes| sizes.stdout > 0);
    let mut other = kept.connect();
    let Some(FromShim::Hello { live, session, .. }) = other.next() else {
        panic!("no hello");
    };
    assert_eq!(live.len(), 2);
    assert_eq!(session.unwrap().as_str(), "nb-1");
    kept.line.send(&ToShim::End, b"");
    let lost = other.until_state(waiting.id(), RunState::Lost);
    assert!(lost.reason.unwrap().contains("ended"));
    assert_eq!(
        other.until_state(dir.id(), RunState::Exited).exit_code,
        Some(129)
    );
    assert!(kept.gone());
    let left = |name: &str| name.starts_with("s.sock");
    assert!(poll(|| !kept.files().iter().any(|name| left(name))));
    assert_eq!(dir.load().unwrap().state, RunState::Exited);
}

#[test]
fn a_session_that_ends_slowly_leaves_its_name_to_the_next() {
    let mut kept = Kept::session();
    let dir = kept.give(&shell(
        "(trap '' HUP; until [ -e go ]; do sleep 0.01; done) &",
    ));
    kept.line.until_state(dir.id(), RunState::Exited);
    kept.line.send(&ToShim::End, b"");
    assert!(poll(|| !kept.folder.join("s.sock").exists()));
    // The first shim still waits for late output while the second one takes lines.
    let mut next = kept.successor();
    assert_eq!(next.run("echo one").1, "one\n");
    std::fs::write(kept.folder.join("home/go"), "").unwrap();
    assert!(kept.gone());
    assert_eq!(next.run("echo two").1, "two\n");
    next.connect();
}

#[test]
fn on_a_node_without_bash_every_line_is_lost_with_the_reason() {
    let mut kept = Kept::session_without_bash();
    for _ in 0..2 {
        let dir = kept.give(&shell("true"));
        let record = kept.line.until_state(dir.id(), RunState::Lost);
        let reason = record.reason.unwrap();
        assert!(reason.contains("there is no bash on this node"), "{reason}");
        assert_eq!(dir.load().unwrap().state, RunState::Lost);
    }
}

#[test]
fn signals_that_the_shim_was_started_with_ignored_work_in_its_lines() {
    let mut kept = Kept::session_in_background();
    let (_, ignored, _) = kept.run("sed -n 's/^SigIgn:.//p' /proc/self/status");
    let ignored = u64::from_str_radix(ignored.trim(), 16).unwrap();
    let [int, quit, usr1, pipe] = [2, 3, 10, 13].map(|signal| 1 << (signal - 1));
    assert_eq!(ignored & (int | quit | usr1 | pipe), 0, "{ignored:x}");
    let caught = "sh -c 'trap \"echo caught; exit 3\" INT; kill -INT $$; sleep 100'";
    let (record, out, _) = kept.run(caught);
    assert_eq!((record.exit_code, out.as_str()), (Some(3), "caught\n"));
    let dir = kept.give(&shell("echo on; sleep 100"));
    let run = dir.id();
    kept.line.until(run, |_, sizes| sizes.stdout > 0);
    let signal = "INT".into();
    kept.line.send(&ToShim::Signal { run, signal }, b"");
    let record = kept.line.until_state(run, RunState::Exited);
    assert_eq!(record.exit_code, Some(130));
}

#[test]
fn bash_counts_the_lines_of_the_user_only() {
    let mut kept = Kept::session();
    let (_, _, err) = kept.run("nosuch");
    assert!(err.contains("line 1: nosuch"), "{err}");
    let (_, out, err) = kept.run("true\n\nnosuch; echo $LINENO");
    assert!(err.contains("line 3: nosuch"), "{err}");
    assert_eq!(out, "3\n");
}

#[test]
fn long_lines_come_whole_and_streams_are_used_again_only_when_nobody_has_them() {
    let mut kept = Kept::session();
    for size in [10, 400, 500, 520, 5000, 300_000] {
        let word = "x".repeat(size);
        assert_eq!(kept.run(&format!("echo {word}")).1, format!("{word}\n"));
    }
    // Its stderr is let go at once, its stdout is not.
    let late = kept.give(&shell("(exec 2>&-; sleep 0.3; echo late) & echo now"));
    kept.line.until_state(late.id(), RunState::Exited);
    for round in 0..5 {
        let (_, out, err) = kept.run(&format!("echo {round}; echo {round} >&2"));
        assert_eq!((out, err), (format!("{round}\n"), format!("{round}\n")));
    }
    kept.line.until(late.id(), |_, sizes| sizes.stdout == 9);
    for round in 0..5 {
        let (_, out, err) = kept.run(&format!("echo {round}; exec >&-; echo {round} >&2"));
        assert_eq!((out, err), (format!("{round}\n"), format!("{round}\n")));
    }
    assert_eq!(text(&late, StreamName::Stdout), "now\nlate\n");
}

#[test]
fn many_short_lines_all_end_well_and_soon() {
    let mut kept = Kept::session();
    kept.run("true");
    let (start, count) = (Instant::now(), 300);
    for _ in 0..count {
        let dir = kept.give(&shell("true"));
        let record = kept.line.until_state(dir.id(), RunState::Exited);
        assert_eq!(record.exit_code, Some(0));
    }
    println!("a line takes {:?}", start.elapsed() / count);
}

#[test]
fn a_shell_whose_shim_was_killed_goes_too() {
    for line in [None, Some("echo on; until [[ -e go ]]; do :; done; exit 3")] {
        let mut kept = Kept::session();
        let shell_pid = kept.run("echo $$").1.trim().to_owned();
        if let Some(line) = line {
            let dir = kept.give(&shell(line));
            // It has its streams: a shell that just opens them waits for ever for one who reads.
            kept.line.until(dir.id(), |_, sizes| sizes.stdout > 0);
        }
        kept.child.kill().unwrap();
        kept.child.wait().unwrap();
        std::fs::write(kept.folder.join("home/go"), "").unwrap();
        let is_gone = || {
            let status = std::fs::read_to_string(format!("/proc/{shell_pid}/status"));
            !status.is_ok_and(|status| !status.contains("State:\tZ"))
        };
        assert!(poll(is_gone), "the shell outlived its shim, {line:?}");
    }
}

#[test]
fn a_line_that_takes_too_long_is_killed_and_the_session_goes_on() {
    let mut kept = Kept::session();
    let mut spec = shell("sleep 100 & sleep 100");
    spec.timeout_ms = Some(500);
    let dir = kept.give(&spec);
    let record = kept.line.until_state(dir.id(), RunState::Exited);
    assert_eq!(
        (
            record.exit_code,
            record.signal.as_deref(),
            record.reason.as_deref()
        ),
        (
            Some(137),
            Some("KILL"),
            Some("it took longer than 0.5 s and was killed")
        )
    );
    assert_eq!(kept.run("echo on").1, "on\n");
}
