//! Tells cargo that the client changes when the built login page does.
//!
//! A debug build reads the page when it is asked for, so it need not be built again.

use std::{env, io, io::Write as _};

fn main() -> io::Result<()> {
    let mut out = io::stdout();
    writeln!(out, "cargo::rerun-if-changed=build.rs")?;
    if env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        writeln!(out, "cargo::rerun-if-changed=../webui/dist-login")?;
    }
    Ok(())
}
