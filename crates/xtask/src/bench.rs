//! `cargo xtask bench`: our calls and those of others, in one run, in turn.

use anyhow::Result;

use crate::{
    build, install,
    run::{command, run},
};

/// Runs `tests/bench/bench.py` on a login node of its own.
pub(crate) fn bench() -> Result<()> {
    install::debian(&[
        ("/usr/sbin/sshd", "openssh-server"),
        ("/usr/bin/ssh", "openssh-client"),
    ])?;
    install::python(&["demo", "bench"])?;
    build::web()?;
    let programs = build::programs(true)?;
    build::wheel(&programs)?;
    let mut bench = command(
        &programs.testbed,
        &[".venv/bin/python", "tests/bench/bench.py"],
    );
    bench
        .env("HPCCLIENT_AGENT", &programs.agent)
        .env("HPCCLIENT_BIN", &programs.client);
    run(&mut bench)
}
