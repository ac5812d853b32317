//! `cargo xtask test`: every check and every test, one stage after the other; a failure does not stop the next stage.

use std::{process::ExitCode, time::Instant};

use anyhow::{Result, bail};

use crate::{
    build, dist, install,
    install::npm_run,
    run::{capture, cargo, command, path, run, say, venv},
};

const DEBIAN: &[(&str, &str)] = &[
    ("/usr/sbin/sshd", "openssh-server"),
    ("/usr/bin/ssh", "openssh-client"),
    ("/usr/sbin/krb5kdc", "krb5-kdc"),
    ("/usr/sbin/kadmin.local", "krb5-admin-server"),
    ("/usr/bin/kinit", "krb5-user"),
    ("/usr/bin/tcsh", "tcsh"),
    ("/usr/bin/fish", "fish"),
    ("/usr/bin/chromium", "chromium"),
    ("/usr/share/fonts/truetype/dejavu", "fonts-dejavu-core"),
    ("/usr/bin/objdump", "binutils"),
    ("/usr/bin/oathtool", "oathtool"),
    ("/usr/bin/ip", "iproute2"),
    ("/usr/share/doc/libpam-oath/copyright", "libpam-oath"),
];

/// What the tests of the agent itself need.
const NODE: &[(&str, &str)] = &[
    ("/usr/bin/strace", "strace"),
    ("/usr/bin/faketime", "faketime"),
];

/// Tests that mount file systems or become another user.
const AS_ROOT: &str = "as_root";

type Stage = (&'static str, fn() -> Result<()>);

/// What needs no build of the whole: for each commit.
const FAST: &[Stage] = &[
    ("format", format),
    ("web", web),
    ("clippy", clippy),
    ("unit", unit),
    ("python", python),
];

const SLOW: &[Stage] = &[
    ("licences", licences),
    ("dist", dist::agent),
    ("end to end", end_to_end),
    ("demo", demo),
];

/// Runs everything.
pub(crate) fn all() -> Result<ExitCode> {
    install::debian(&[DEBIAN, NODE].concat())?;
    install::python(&["demo", "test", "dist"])?;
    install::npm("tests/browser")?;
    Ok(run_stages(&[FAST, SLOW].concat()))
}

/// Runs what takes no minutes.
pub(crate) fn fast() -> Result<ExitCode> {
    install::debian(NODE)?;
    install::python(&["demo", "test"])?;
    Ok(run_stages(FAST))
}

fn run_stages(stages: &[Stage]) -> ExitCode {
    let mut failures = vec![];
    for (name, stage) in stages {
        say(&format!("=== {name}"));
        let start = Instant::now();
        let result = stage();
        let seconds = start.elapsed().as_secs();
        match result {
            Ok(()) => say(&format!("=== {name}: passed in {seconds} s")),
            Err(error) => {
                say(&format!("{error:#}\n=== {name}: FAILED in {seconds} s"));
                failures.push((name, error));
            }
        }
    }
    say("");
    for (name, error) in &failures {
        let text = format!("{error:#}");
        say(&format!(
            "FAILED {name}: {}",
            text.lines().next().unwrap_or_default()
        ));
    }
    let passed = stages.len() - failures.len();
    say(&format!("{passed} passed, {} failed", failures.len()));
    if failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn format() -> Result<()> {
    run(&mut cargo(&["fmt", "--all", "--check"]))
}

/// First of all that compiles: the agent has the built web UI inside.
fn web() -> Result<()> {
    install::npm("webui")?;
    for script in ["format:check", "check", "test"] {
        npm_run("webui", script)?;
    }
    build::web()
}

fn clippy() -> Result<()> {
    run(&mut cargo(&[
        "clippy",
        "--quiet",
        "--locked",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))
}

fn has_nextest() -> bool {
    capture(&mut cargo(&["nextest", "--version"])).is_ok()
}

/// Unit and integration tests. Those of the login bring the agent to a node: one build serves them all.
fn unit() -> Result<()> {
    run(&mut cargo(&[
        "build", "--quiet", "--locked", "-p", "hpcagent",
    ]))?;
    let agent = path("target/debug/hpcagent");
    let test = |args: &[&str]| run(cargo(args).env("HPCCLIENT_AGENT", &agent));
    let is_root = is_root()?;
    if has_nextest() {
        let all = ["nextest", "run", "--locked", "--workspace"];
        let others = format!("not test({AS_ROOT})");
        let only = if is_root { vec![] } else { vec!["-E", &others] };
        return test(&[&all[..], &only].concat());
    }
    let quiet = ["test", "--quiet", "--locked"];
    let all = [
        "--workspace",
        "--exclude",
        "hpcclient-tests",
        "--lib",
        "--bins",
        "--tests",
    ];
    let only: &[&str] = if is_root {
        &[]
    } else {
        &["--", "--skip", AS_ROOT]
    };
    test(&[&quiet[..], &all, only].concat())?;
    let tidy = ["-p", "hpcclient-tests", "--lib", "--test", "tidy"];
    test(&[&quiet[..], &tidy].concat())
}

fn is_root() -> Result<bool> {
    Ok(capture(&mut command("id", &["-u"]))?.trim() == "0")
}

/// Without what needs a cluster; the end-to-end stage runs all of it.
fn python() -> Result<()> {
    let sources = ["kernel-ext/python", "tests", "crates/xtask/src/demo"];
    run(venv("ruff", &["check"])?.args(sources))?;
    let format = ["format", "--check", "--config", "kernel-ext/pyproject.toml"];
    run(venv("ruff", &format)?.args(sources))?;
    run(venv("mypy", &[])?.current_dir(path("kernel-ext")))?;
    run(&mut venv(
        "python",
        &[
            "-m",
            "pytest",
            "-q",
            "tests/notebook",
            "--ignore",
            "tests/notebook/test_quickstart.py",
        ],
    )?)
}

fn licences() -> Result<()> {
    run(install::cargo_deny()?.args(["check", "bans", "licenses", "sources"]))
}

fn end_to_end() -> Result<()> {
    build::web()?;
    let programs = build::programs(true)?;
    build::wheel(&programs)?;
    let is_root = is_root()?;
    if !is_root {
        say("not run, because they need root: the tests in modules named `as_root`");
    }
    let mut test = if has_nextest() {
        let mut test = cargo(&[
            "nextest",
            "run",
            "--locked",
            "-p",
            "hpcclient-tests",
            "--profile",
            "e2e",
        ]);
        if !is_root {
            test.args(["-E", &format!("binary(e2e) and not test({AS_ROOT})")]);
        }
        test
    } else {
        let mut test = cargo(&[
            "test",
            "--locked",
            "-p",
            "hpcclient-tests",
            "--test",
            "e2e",
            "--",
            "--test-threads",
            "2",
        ]);
        if !is_root {
            test.args(["--skip", AS_ROOT]);
        }
        test
    };
    let rust = run(test
        .env("HPCCLIENT_BIN", &programs.client)
        .env("HPCCLIENT_AGENT", &programs.agent));
    let mut notebooks = command(
        &programs.testbed,
        &[".venv/bin/python", "-m", "pytest", "-q", "tests/notebook"],
    );
    notebooks
        .env("HPCCLIENT_BIN", &programs.client)
        .env("HPCCLIENT_AGENT", &programs.agent);
    let notebooks = run(&mut notebooks);
    rust.and(notebooks)
}

/// What the README promises first, with the words that must be in it.
fn demo() -> Result<()> {
    let this = std::env::current_exe()?;
    let text = capture(&mut command(this, &["demo", "--headless"]))?;
    for line in ["| out 1", "! err 1", "('hello\\n', 3)", "| /tmp", "a b;$c"] {
        if !text.contains(line) {
            bail!("{line:?} is not in the notebook's output:\n{text}");
        }
    }
    Ok(())
}
