//! Builds the parts in the order in which one needs the other: web UI, agent, client, Python package.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};

use crate::{
    install::{npm, npm_run, when_changed},
    run::{capture, cargo, path, run, step, venv},
};

/// The built programs.
pub(crate) struct Programs {
    /// `hpcclient`.
    pub(crate) client: PathBuf,
    /// `hpcagent`, for this machine.
    pub(crate) agent: PathBuf,
    /// `testbed`, of the tests.
    pub(crate) testbed: PathBuf,
}

/// Builds the web UI, the agent's and the login page, unless nothing of it changed.
pub(crate) fn web() -> Result<()> {
    npm("webui")?;
    let sources = [path("webui"), path("docs/openapi.json")];
    let sources: Vec<_> = sources
        .iter()
        .filter(|path| path.exists())
        .map(PathBuf::as_path)
        .collect();
    // The login page is built last.
    let result = path("webui/dist-login/login.html");
    when_changed("webui", &result, &sources, || {
        step("building the web UI", || npm_run("webui", "build"))
    })
}

/// Builds agent and client, and with `tests` the testbed, in the profile that is quick to compile.
pub(crate) fn programs(tests: bool) -> Result<Programs> {
    step("building the agent and the client", || {
        let args = [
            "build",
            "--profile",
            "ci",
            "--quiet",
            "--locked",
            "-p",
            "hpcagent",
            "-p",
            "hpcclient",
            "--bins",
        ];
        let more: &[&str] = if tests {
            &["-p", "hpcclient-tests"]
        } else {
            &[]
        };
        run(&mut cargo(&[&args, more].concat()))
    })?;
    let built = path("target/ci");
    Ok(Programs {
        client: built.join("hpcclient"),
        agent: built.join("hpcagent"),
        testbed: built.join("testbed"),
    })
}

/// Installs the Python package with its binary into the virtual environment unless nothing of it changed.
pub(crate) fn wheel(programs: &Programs) -> Result<()> {
    let sources = [
        path("kernel-ext/python"),
        path("kernel-ext/pyproject.toml"),
        programs.client.clone(),
    ];
    let sources: Vec<_> = sources.iter().map(PathBuf::as_path).collect();
    when_changed("wheel", &path(".venv/bin/hpcclient"), &sources, || {
        step("installing the Python package", || {
            let out = path("target/xtask/wheel");
            drop(fs::remove_dir_all(&out));
            let wheel = build_wheel(&out, &["--profile", "ci"])?;
            let mut pip = venv(
                "python",
                &[
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "--force-reinstall",
                    "--no-deps",
                ],
            )?;
            pip.arg("--disable-pip-version-check").arg(wheel);
            capture(&mut pip).map(drop)
        })
    })
}

/// Builds the wheel into a folder and returns its path.
pub(crate) fn build_wheel(out: &PathBuf, options: &[&str]) -> Result<PathBuf> {
    // Maturin wants the folder even where there is no portable agent to put into it.
    fs::create_dir_all(path("kernel-ext/hpcclient.data/data"))?;
    let mut maturin = venv(
        "maturin",
        &[
            "build",
            "--locked",
            "--manifest-path",
            "kernel-ext/Cargo.toml",
        ],
    )?;
    capture(maturin.args(options).arg("--out").arg(out))?;
    let entries = fs::read_dir(out)?.flatten().map(|entry| entry.path());
    let mut wheels: Vec<PathBuf> = entries
        .filter(|path| path.extension().is_some_and(|e| e == "whl"))
        .collect();
    wheels.sort();
    wheels.pop().context("maturin made no wheel")
}
