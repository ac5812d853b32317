//! `cargo xtask demo`: everything is built, then `hpcclient demo` takes over with Jupyter as its program.
//!
//! Invariant: the last thing this process does is to become `hpcclient demo`, so Ctrl-C reaches that directly and
//! nothing of ours has to pass it on.

use std::{
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result};

use crate::{
    build, install,
    run::{capture, command, path, root, say, venv},
};

const NOTEBOOK: &str = "examples/quickstart.ipynb";

/// Opens JupyterLab on the quickstart; returns only if that cannot be started.
pub(crate) fn open() -> Result<()> {
    let mut jupyter = vec!["jupyter".to_owned(), "lab".to_owned(), NOTEBOOK.to_owned()];
    if capture(&mut command("id", &["-u"]))?.trim() == "0" {
        jupyter.push("--allow-root".to_owned());
    }
    let mut demo = prepare()?;
    say("· starting JupyterLab; Ctrl-C ends it and everything with it");
    Err(demo.args(jupyter).exec()).context("cannot start hpcclient demo")
}

/// Runs the quickstart and prints each cell with its output.
pub(crate) fn headless() -> Result<ExitCode> {
    let mut demo = prepare()?;
    say(&format!("· running {NOTEBOOK}"));
    let script = include_str!("demo/print_notebook.py");
    demo.args(["python", "-c", script, NOTEBOOK]);
    Err(demo.exec()).context("cannot start hpcclient demo")
}

fn prepare() -> Result<Command> {
    install::python(&["demo"])?;
    build::web()?;
    let programs = build::programs(false)?;
    build::wheel(&programs)?;
    let mut demo = venv("hpcclient", &["demo", "--"])?;
    demo.env("HPCCLIENT_AGENT", &programs.agent)
        .env("HPCCLIENT_BIN", path(".venv/bin/hpcclient"))
        // A user's own settings of Jupyter have no part in the demo.
        .env("JUPYTER_CONFIG_DIR", root().join(".demo/jupyter"));
    Ok(demo)
}
