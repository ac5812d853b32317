//! Tells cargo that the agent changes when the built web UI does.
//!
//! A debug build reads the files when they are asked for, so it need not be built again.

use std::{env, io, io::Write as _};

fn main() -> io::Result<()> {
    let mut out = io::stdout();
    writeln!(out, "cargo::rerun-if-changed=build.rs")?;
    if env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        writeln!(out, "cargo::rerun-if-changed=../webui/dist")?;
    }
    Ok(())
}
