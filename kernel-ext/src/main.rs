//! The `hpcclient` binary: reads the command line, runs one command, exits with its code.

use std::process::ExitCode;

use clap::Parser as _;
use hpcclient::{commands, report};

fn main() -> ExitCode {
    let line = commands::CommandLine::parse();
    match commands::run(line) {
        Ok(code) => code.into(),
        Err(error) => report::report(&error).into(),
    }
}
