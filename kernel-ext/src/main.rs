//! The `hpcclient` binary: reads the command line, runs one command, exits with its code.
//!
//! `ssh` starts it by another name when it has a question for the user.

use std::{env, path::Path, process::ExitCode};

use hpcclient::{commands, report};
use hpcclient_ssh::askpass;

fn main() -> ExitCode {
    let name = env::args_os().next().unwrap_or_default();
    if Path::new(&name).ends_with(askpass::NAME) {
        return askpass::run(env::args_os());
    }
    let line = commands::parse();
    match commands::run(line) {
        Ok(code) => code.into(),
        Err(error) => report::report(&error).into(),
    }
}
