//! `hpcagent`: takes the arguments apart and starts what they name.
//!
//! Not here: everything else (`lib.rs`).

use std::{
    env,
    ffi::OsString,
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use anyhow::Context;
use hpcagent::{connect, hello, log, serve, sh, shim};
use hpcclient_protocol::{PROTOCOL_VERSION, VERSION};

fn main() -> ExitCode {
    log::end_on_panic();
    let mut args: Vec<OsString> = env::args_os().skip(1).collect();
    let command = if args.is_empty() {
        OsString::new()
    } else {
        args.remove(0)
    };
    let rest: Vec<&str> = args.iter().filter_map(|arg| arg.to_str()).collect();
    let done = match (command.to_str().unwrap_or_default(), rest.as_slice()) {
        ("shim", _) => return shim::main(args),
        ("sh", _) => return sh::main(args),
        ("serve", []) => serve::serve(false),
        ("serve", ["--detach"]) => connect::detach(),
        ("serve", [argument]) if *argument == connect::DAEMON_ARGUMENT => serve::serve(true),
        ("connect", []) => connect::connect(),
        ("version" | "--version" | "-V", []) => print(&format!(
            "hpcagent {VERSION} (protocol {PROTOCOL_VERSION})\n"
        )),
        ("version", ["--json"]) => version_json(),
        ("help" | "--help" | "-h", []) => print(USAGE),
        _ => {
            let _closed = io::stderr().write_all(USAGE.as_bytes());
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _closed = io::stderr().write_all(report(&error).as_bytes());
            ExitCode::FAILURE
        }
    }
}

fn version_json() -> anyhow::Result<()> {
    // No socket: this process does not serve.
    let hello = hello::own(Path::new("")).context("cannot read the agent's own binary")?;
    print(&(serde_json::to_string(&hello).context("cannot encode the version")? + "\n"))
}

fn print(text: &str) -> anyhow::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever closed the pipe has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done.context("cannot write to stdout"),
    }
}

fn report(error: &anyhow::Error) -> String {
    error
        .chain()
        .skip(1)
        .fold(format!("error: {error}\n"), |text, cause| {
            text + &format!("  caused by: {cause}\n")
        })
}

const USAGE: &str = "\
usage: hpcagent serve [--detach]   serve on this node's socket; --detach starts a daemon, once
       hpcagent connect            the same, then stdin and stdout are the socket
       hpcagent sh                 a command line to the running agent
       hpcagent version [--json]
";
