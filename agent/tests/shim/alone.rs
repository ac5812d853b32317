//! A command that stands alone.

use std::process::Command;

use hpcagent::{
    shim::control::{FromShim, ToShim},
    store::{RunRecord, Store},
};
use hpcclient_protocol::{RunId, RunState, StreamName};

use crate::driver::{Kept, Line, argv, bytes, fed, poll, shell, text};

#[test]
fn arguments_arrive_byte_for_byte() {
    let odd: &[&[u8]] = &[
        b"printf",
        b"<%s>",
        b"a b",
        b"it's \"$HOME\"",
        b"\xff\xfe\n",
        b"",
        b"--",
        b"*",
    ];
    let (mut kept, dir) = Kept::alone(&argv(odd));
    let record = kept.line.until_state(dir.id(), RunState::Exited);
    assert_eq!(record.exit_code, Some(0));
    assert_eq!(
        bytes(&dir, StreamName::Stdout),
        b"<a b><it's \"$HOME\"><\xff\xfe\n><><--><*>"
    );
    assert!(kept.gone());
    assert!(!kept.folder.join("s.sock").exists());
    let run = dir.load().unwrap();
    assert_eq!(
        (run.state, run.sizes.stdout, run.host.as_str()),
        (RunState::Exited, 33, "node")
    );
}

#[test]
fn stdout_and_stderr_are_apart_and_in_order() {
    let line = "echo one; sleep 0.1; echo two >&2; sleep 0.1; echo three; exit 3";
    let (mut kept, dir) = Kept::alone(&shell(line));
    let record = kept.line.until_state(dir.id(), RunState::Exited);
    assert_eq!(record.exit_code, Some(3));
    let mut reader = dir
        .reader(hpcclient_protocol::run::StreamSizes::default())
        .unwrap();
    let mut seen = vec![];
    while let Some(frame) = reader.next(100).unwrap() {
        if let hpcclient_protocol::Frame::Data { stream, bytes, .. } = frame {
            seen.push((stream, bytes));
        }
    }
    let wanted = [
        (StreamName::Stdout, "one\n".into()),
        (StreamName::Stderr, "two\n".into()),
        (StreamName::Stdout, "three\n".into()),
    ];
    assert_eq!(seen, wanted);
}

#[test]
fn what_cannot_be_started_ends_like_in_a_shell() {
    let mut no_cwd = argv(&[b"true"]);
    no_cwd.cwd = Some("/no/such/place".into());
    let cases = [
        (
            argv(&[b"nosuch"]),
            127,
            "hpcagent: nosuch: command not found\n",
        ),
        (
            argv(&[b"/etc/passwd"]),
            126,
            "hpcagent: /etc/passwd: permission denied\n",
        ),
        (
            no_cwd,
            126,
            "hpcagent: /no/such/place: cannot start here: no such directory\n",
        ),
    ];
    for (spec, code, message) in cases {
        let (mut kept, dir) = Kept::alone(&spec);
        let record = kept.line.until_state(dir.id(), RunState::Exited);
        assert_eq!(record.exit_code, Some(code));
        assert_eq!(text(&dir, StreamName::Stderr), message);
        assert!(kept.gone());
    }
}

#[test]
fn a_signal_reaches_the_process_group_and_is_told() {
    let (mut kept, dir) = Kept::alone(&shell("sleep 100 & sleep 100; true"));
    let record = kept.line.until_state(dir.id(), RunState::Running);
    // Who finds the record after the shim was killed can tell whether this very process lives.
    let started = record.pid.and_then(hpcagent::shim::start_of);
    assert!(started.is_some());
    assert_eq!(record.pid_start, started);
    let run = dir.id();
    kept.line.send(
        &ToShim::Signal {
            run,
            signal: "TERM".into(),
        },
        b"",
    );
    let record = kept.line.until_state(run, RunState::Exited);
    assert_eq!(
        (record.exit_code, record.signal.as_deref()),
        (Some(143), Some("TERM"))
    );
    assert!(kept.gone());
}

#[test]
fn kill_reaches_what_hid_in_another_session() {
    let line = "(setsid sh -c 'trap \"\" TERM; echo $$; exec sleep 100' &) ; sleep 100";
    let (mut kept, dir) = Kept::alone(&shell(line));
    let run = dir.id();
    kept.line.until(run, |_, sizes| sizes.stdout > 0);
    let hidden: u32 = text(&dir, StreamName::Stdout).trim().parse().unwrap();
    kept.line.send(&ToShim::Kill { run }, b"");
    let record = kept.line.until_state(run, RunState::Exited);
    assert_eq!(
        (record.exit_code, record.signal.as_deref()),
        (Some(137), Some("KILL"))
    );
    assert!(poll(
        || !std::path::Path::new(&format!("/proc/{hidden}")).exists()
    ));
    assert!(kept.gone());
}

#[test]
fn stdin_is_taken_once_by_number_and_ends() {
    let (mut kept, dir) = Kept::alone(&fed(shell("cat; sleep 0.5")));
    let run = dir.id();
    kept.line.until_state(run, RunState::Running);
    let mut put = |writer: &str, seq, eof, data: &[u8]| {
        let writer = writer.to_owned();
        kept.line.send(
            &ToShim::Stdin {
                run,
                writer,
                seq,
                eof,
            },
            data,
        );
        loop {
            if let Some(FromShim::StdinAck { seq, error, .. }) = kept.line.next() {
                return (seq, error.is_none());
            }
        }
    };
    assert_eq!(put("a", 1, false, b"one "), (1, true));
    assert_eq!(put("a", 1, false, b"again "), (1, true));
    assert_eq!(put("b", 1, false, b"two "), (1, true));
    assert_eq!(put("a", 3, true, b"three"), (3, true));
    assert_eq!(put("a", 2, false, b"late"), (3, true));
    assert_eq!(put("a", 4, false, b"too late"), (4, false));
    assert!(kept.gone());
    assert_eq!(dir.load().unwrap().exit_code, Some(0));
    assert_eq!(text(&dir, StreamName::Stdout), "one two three");
}

#[test]
fn a_background_process_does_not_hold_the_run_and_its_output_still_comes() {
    let line = "(read -r _ < go; echo late) & echo done";
    let (mut kept, dir) = {
        let mut spec = shell(line);
        let folder = tempfile::tempdir().unwrap().keep();
        assert!(
            std::process::Command::new("mkfifo")
                .arg(folder.join("go"))
                .status()
                .unwrap()
                .success()
        );
        spec.cwd = Some(folder.to_str().unwrap().into());
        Kept::alone(&spec)
    };
    let run = dir.id();
    let record = kept.line.until_state(run, RunState::Exited);
    assert_eq!(record.exit_code, Some(0));
    // The agent may go meanwhile; another one finds the shim at its socket.
    let mut later = kept.connect();
    assert!(
        matches!(later.next(), Some(FromShim::Hello { version: 1, live, .. }) if live.is_empty())
    );
    let cwd = dir.spec().unwrap().cwd.unwrap().to_lossy();
    std::fs::write(format!("{cwd}/go"), "\n").unwrap();
    later.until(run, |_, sizes| sizes.stdout == 10);
    assert_eq!(text(&dir, StreamName::Stdout), "done\nlate\n");
    assert!(kept.gone());
    std::fs::remove_dir_all(cwd).unwrap();
}

#[test]
fn a_hundred_megabytes_are_stored_as_they_are_in_little_memory() {
    let size: u64 = 100_000_000;
    let line =
        format!("yes 'some line of text 0123456789' | head -c {size} | tee >(sha256sum >&2)");
    let (mut kept, dir) = Kept::alone(&shell(&line));
    let run: RunId = dir.id();
    kept.line.until(run, |_, sizes| sizes.stdout > size / 2);
    let status = std::fs::read_to_string(format!("/proc/{}/status", kept.child.id())).unwrap();
    let resident: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .map(|rest| rest.trim().trim_end_matches(" kB").parse().unwrap())
        .unwrap();
    assert!(resident < 32_000, "the shim takes {resident} kB");
    assert!(kept.gone());
    let run = dir.load().unwrap();
    assert_eq!(
        (run.state, run.exit_code, run.sizes.stdout),
        (RunState::Exited, Some(0), size)
    );
    let wanted = text(&dir, StreamName::Stderr);
    let mut hash = std::process::Command::new("sh")
        .args(["-c", "cat out-*.raw | sha256sum"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8(std::mem::take(&mut hash.stdout)).unwrap(),
        wanted
    );
}

#[test]
fn a_run_that_takes_too_long_is_killed_with_all_it_started_and_nobody_connected() {
    let line = "(setsid sh -c 'echo $$; exec sleep 100' &) ; sleep 100";
    let mut spec = shell(line);
    spec.timeout_ms = Some(1500);
    let (mut kept, dir) = Kept::alone(&spec);
    kept.line.until_state(dir.id(), RunState::Running);
    // The agent is gone.
    kept.line = Line::new(std::os::unix::net::UnixStream::pair().unwrap().0);
    assert!(kept.gone());
    let run = dir.load().unwrap();
    assert_eq!(
        (
            run.state,
            run.exit_code,
            run.signal.as_deref(),
            run.reason.as_deref()
        ),
        (
            RunState::Exited,
            Some(137),
            Some("KILL"),
            Some("it took longer than 1.5 s and was killed")
        )
    );
    let hidden = text(&dir, StreamName::Stdout);
    assert!(poll(|| !std::path::Path::new(&format!(
        "/proc/{}",
        hidden.trim()
    ))
    .exists()));
}

#[test]
fn a_command_gives_way_from_its_first_moment_and_its_shim_does_not() {
    let mut spec = shell("nice; (nice)");
    spec.nice = Some(7);
    let mut console = argv(&[b"nice"]);
    console.nice = Some(3);
    console.pty = Some(hpcclient_protocol::run::TerminalSize { cols: 80, rows: 24 });
    let ours = nice_of(std::process::id());
    for (spec, stream, lines) in [(spec, StreamName::Stdout, 2), (console, StreamName::Tty, 1)] {
        let by = i64::from(spec.nice.unwrap());
        let (mut kept, dir) = Kept::alone(&spec);
        assert_eq!(nice_of(kept.child.id()), ours);
        kept.line.until_state(dir.id(), RunState::Exited);
        let said = text(&dir, stream).replace('\r', "");
        assert_eq!(said, format!("{}\n", ours + by).repeat(lines));
    }
}

fn nice_of(pid: u32) -> i64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    fields.split(' ').nth(16).unwrap().parse().unwrap()
}

#[test]
fn a_kill_reaches_two_hundred_children_that_fork_on() {
    // Each forks again and again, some in sessions of their own; a failed test leaves nothing for long.
    let line = r#"
        export MARK=$$
        forks='for n in 1 2 3 4 5 6 7 8 9; do sleep 3; done'
        for n in $(seq 100); do sh -c "$forks" & setsid sh -c "$forks" & done
        echo "$MARK"; wait"#;
    let (mut kept, dir) = Kept::alone(&shell(line));
    let run = dir.id();
    kept.line.until(run, |_, sizes| sizes.stdout > 0);
    let mark = format!("MARK={}", text(&dir, StreamName::Stdout).trim());
    assert!(poll(|| marked(&mark) >= 200));
    kept.line.send(&ToShim::Kill { run }, b"");
    let record = kept.line.until_state(run, RunState::Exited);
    assert_eq!(record.signal.as_deref(), Some("KILL"));
    assert!(poll(|| marked(&mark) == 0));
    assert!(kept.gone());
}

/// Returns how many processes have this in their environment.
fn marked(mark: &str) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|process| std::fs::read(process.path().join("environ")).ok())
        .filter(|environ| {
            environ
                .split(|byte| *byte == 0)
                .any(|entry| entry == mark.as_bytes())
        })
        .count()
}

#[test]
fn a_shim_without_descriptors_lets_nobody_in_and_rests() {
    use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
    let (mut kept, dir) = Kept::alone(&shell("read -r _ < go; echo gone; sleep 1000"));
    let go = kept.folder.join("home/go");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&go)
            .status()
            .unwrap()
            .success()
    );
    let run = dir.id();
    kept.line.until_state(run, RunState::Running);
    let shim = kept.child.id();
    // Segments are opened as output comes: room for one, none for a peer.
    std::fs::write(&go, "\n").unwrap();
    kept.line.until(run, |_, sizes| sizes.stdout > 0);
    let pid = Pid::from_raw(shim.cast_signed());
    let open = std::fs::read_dir(format!("/proc/{shim}/fd"))
        .unwrap()
        .count() as u64;
    let before = getrlimit(Resource::Nofile);
    let limit = Rlimit {
        current: Some(open),
        ..before
    };
    prlimit(pid, Resource::Nofile, limit).unwrap();
    let mut others: Vec<Line> = (0..3).map(|_| kept.connect()).collect();
    let used = cpu_ticks(shim);
    // The disk is asked a second after the output.
    kept.line
        .until_durable(run, |_, _, durable| durable.stdout > 0);
    let used = cpu_ticks(shim) - used;
    assert!(used < 30, "the shim took {used} ticks of the processor");
    prlimit(pid, Resource::Nofile, before).unwrap();
    for other in &mut others {
        assert!(matches!(other.next(), Some(FromShim::Hello { .. })));
    }
    kept.line.send(&ToShim::Kill { run }, b"");
    kept.line.until_state(run, RunState::Exited);
    assert!(kept.gone());
}

fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let fields: Vec<&str> = fields.split(' ').collect();
    [11, 12]
        .iter()
        .map(|at| fields[*at].parse::<u64>().unwrap())
        .sum()
}

#[test]
fn a_run_that_was_called_lost_does_not_start_after_all() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("runs")).unwrap();
    let mark = folder.path().join("ran");
    let spec = shell(&format!("touch {}", mark.display()));
    let dir = store.create(RunId::random(), &spec, 1, "node").unwrap();
    let lost = RunRecord::new(RunState::Lost);
    dir.write_record(&lost).unwrap();
    let ended = Command::new(env!("CARGO_BIN_EXE_hpcagent"))
        .args(["shim", "run"])
        .arg(dir.path())
        .arg(folder.path().join("s.sock"))
        .output()
        .unwrap();
    assert!(!ended.status.success());
    assert_eq!(dir.record().unwrap(), lost);
    assert!(!mark.exists());
}
