//! `cargo xtask dist`: what is shipped. The portable agent goes where the client finds it, inside the wheel.
//!
//! The agent is linked against glibc 2.17, so that it runs on login nodes from RHEL 7 on. A static build is no way
//! out: it crashes in name lookups where the site has NSS modules.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::{
    build, install,
    run::{capture, command, path, say, step, venv},
};

const TARGET: &str = "x86_64-unknown-linux-gnu";
const GLIBC: (u32, u32) = (2, 17);
const MAX_SIZE: u64 = 4_000_000;
/// For the linker. The compiler cannot be told to make no tables: the standard library brings its own, and with them
/// those of everything else.
const NO_UNWINDING: &str = "crates/xtask/src/no-unwinding.ld";

/// Builds the agent and the wheel, and checks both.
pub(crate) fn dist() -> Result<()> {
    install::python(&["demo", "dist"])?;
    install::debian(&[("/usr/bin/objdump", "binutils")])?;
    agent()?;
    if !path("webui/dist-login/login.html").exists() {
        bail!("webui/dist-login is empty: a client without its login page is not shipped");
    }
    let out = path("dist");
    drop(fs::remove_dir_all(&out));
    let wheel = step("building the wheel", || {
        build::build_wheel(
            &out,
            &[
                "--profile",
                "dist",
                "--target",
                TARGET,
                "--zig",
                "--compatibility",
                "manylinux2014",
            ],
        )
    })?;
    let size = fs::metadata(&wheel)?.len();
    say(&format!("{} ({size} bytes)", wheel.display()));
    Ok(())
}

/// Builds the agent and puts it into the package.
pub(crate) fn agent() -> Result<()> {
    build::web()?;
    if !path("webui/dist/index.html").exists() {
        bail!("webui/dist is empty: an agent without its web UI is not shipped");
    }
    step("building the portable agent", || {
        let zigbuild = [
            "rustc",
            "--quiet",
            "--locked",
            "--profile",
            "agent",
            "-p",
            "hpcagent",
            "--bin",
            "hpcagent",
        ];
        let mut cargo = venv("cargo-zigbuild", &zigbuild)?;
        let (major, minor) = GLIBC;
        cargo
            .arg("--target")
            .arg(format!("{TARGET}.{major}.{minor}"));
        let script = path(NO_UNWINDING);
        cargo
            .args(["--", "-C"])
            .arg(format!("link-arg=-Wl,-T,{}", script.display()));
        capture(&mut cargo).map(drop)
    })?;
    let built = path(&format!("target/{TARGET}/agent/hpcagent"));
    let size = fs::metadata(&built)?.len();
    if size > MAX_SIZE {
        bail!("the agent has {size} bytes, over {MAX_SIZE}");
    }
    let symbols = capture(command("objdump", &["-T"]).arg(&built))?;
    let newest = newest_glibc(&symbols).context("no glibc symbols: is it dynamically linked?")?;
    if newest > GLIBC {
        bail!("the agent needs glibc {}.{}", newest.0, newest.1);
    }
    let place = path("kernel-ext/hpcclient.data/data/share/hpcclient/agent/x86_64-linux");
    fs::create_dir_all(&place)?;
    fs::copy(&built, place.join("hpcagent"))?;
    say(&format!(
        "  the agent: {size} bytes, needs glibc {}.{}",
        newest.0, newest.1
    ));
    Ok(())
}

fn newest_glibc(symbols: &str) -> Option<(u32, u32)> {
    let versions = symbols.split("GLIBC_").skip(1).filter_map(|rest| {
        let version: String = rest
            .chars()
            .take_while(|c| c.is_ascii_digit() || *c == '.')
            .collect();
        let mut numbers = version.split('.').map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    });
    versions.max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_symbol_version_is_found() {
        let symbols = "(GLIBC_2.2.5) free\n(GLIBC_2.17) clock_gettime\n(GLIBC_2.9)  x";
        assert_eq!(newest_glibc(symbols), Some((2, 17)));
        assert_eq!(newest_glibc("nothing"), None);
    }
}
