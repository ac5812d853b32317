//! What `ssh` runs in this crate's tests to ask a question, in the place of the `hpcclient` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    hpcclient_ssh::askpass::run(std::env::args_os())
}
