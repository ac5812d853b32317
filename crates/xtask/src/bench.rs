//! `cargo xtask bench`: our calls and those of others, in one run, in turn.

use anyhow::Result;

use crate::{
    build, install,
    run::{cargo, command, run},
};

/// What each needs a login node of its own for: calls; streams and consoles; keys in a flood.
const PROGRAMS: &[&[&str]] = &[
    &[".venv/bin/python", "tests/bench/bench.py"],
    &[".venv/bin/python", "tests/bench/streams.py"],
    // Before Node 22 a program has to ask for its WebSocket.
    &["node", "--experimental-websocket", "tests/bench/flood.mjs"],
];

/// Runs the programs of `tests/bench`.
pub(crate) fn bench() -> Result<()> {
    install::debian(&[
        ("/usr/sbin/sshd", "openssh-server"),
        ("/usr/bin/ssh", "openssh-client"),
        ("/usr/bin/tmux", "tmux"),
        ("/usr/bin/chromium", "chromium"),
    ])?;
    install::python(&["demo", "bench"])?;
    build::web()?;
    let programs = build::programs(true)?;
    // Fifty viewers of one terminal, on an agent of their own and without a network between.
    let viewers = [
        "run",
        "--profile",
        "ci",
        "--quiet",
        "--locked",
        "-p",
        "hpcagent",
        "--example",
        "streams",
    ];
    run(&mut cargo(&viewers))?;
    build::wheel(&programs)?;
    for program in PROGRAMS {
        let mut bench = command(&programs.testbed, program);
        bench
            .env("HPCCLIENT_AGENT", &programs.agent)
            .env("HPCCLIENT_BIN", &programs.client);
        run(&mut bench)?;
    }
    Ok(())
}
