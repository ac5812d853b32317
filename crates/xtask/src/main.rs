//! The project's own tasks, run as `cargo xtask TASK`.
//!
//! Standard library and anyhow only, so that it builds in seconds. Every task installs what it misses: into `.venv`,
//! `node_modules` and `target/tools`, and Debian packages where it runs as root (elsewhere it names them).

mod bench;
mod build;
mod demo;
mod dist;
mod generate;
mod install;
mod run;
mod test;

use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "usage: cargo xtask TASK

  demo [--headless]  builds everything and opens JupyterLab on examples/quickstart.ipynb, on a cluster of its own;
                     --headless runs the notebook without a browser and prints each cell's output
  test [--fast]      runs every check and every test; --fast leaves out what takes minutes
  bench              times our calls beside ssh, paramiko and asyncssh
  dist               builds the portable agent and the wheel into dist/
  gen                rewrites what is generated and checked in: docs/openapi.json and the web UI's types";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match task(&args) {
        Ok(code) => code,
        Err(error) => {
            run::say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn task(args: &[&str]) -> Result<ExitCode> {
    match args {
        ["demo"] => demo::open()?,
        ["demo", "--headless"] => return demo::headless(),
        ["test"] => return test::all(),
        ["test", "--fast"] => return test::fast(),
        ["bench"] => bench::bench()?,
        ["dist"] => dist::dist()?,
        ["gen"] => generate::generate()?,
        ["help" | "--help" | "-h"] => run::say(USAGE),
        _ => bail!("no such task: {}\n{USAGE}", args.join(" ")),
    }
    Ok(ExitCode::SUCCESS)
}
