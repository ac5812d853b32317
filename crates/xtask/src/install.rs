//! Installs what a task misses: Debian packages, the virtual environment, npm packages, cargo-deny.
//!
//! Invariants: nothing outside the repository is changed but Debian packages, and these only as root; what is there is
//! left alone, so that a second call takes no time.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::run::{capture, cargo, command, path, run, say, step, venv};

/// The release of cargo-deny that `deny.toml` is written for.
const CARGO_DENY: &str = "0.20.2";

/// Installs the Debian packages whose files are missing, as root, else names them.
pub(crate) fn debian(wanted: &[(&str, &str)]) -> Result<()> {
    let missing = wanted.iter().filter(|(file, _)| !Path::new(file).exists());
    let mut packages: Vec<&str> = missing.map(|(_, package)| *package).collect();
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    let names = packages.join(" ");
    let is_root = capture(&mut command("id", &["-u"]))?.trim() == "0";
    if !is_root || !Path::new("/usr/bin/apt-get").exists() {
        bail!("missing: install the Debian packages {names} (or what your system calls them)");
    }
    step(&format!("installing the Debian packages {names}"), || {
        let apt = |args: &[&str]| {
            let mut command = command("apt-get", args);
            command.env("DEBIAN_FRONTEND", "noninteractive");
            command
        };
        capture(&mut apt(&["update", "-q"]))?;
        let install = ["install", "-qy", "--no-install-recommends"];
        capture(&mut apt(&[&install, packages.as_slice()].concat()))
    })?;
    Ok(())
}

/// Makes the virtual environment if there is none, and installs these files of `requirements/` into it.
pub(crate) fn python(requirements: &[&str]) -> Result<()> {
    if venv("python", &["-c", "import pip"])
        .and_then(|mut c| capture(&mut c))
        .is_err()
    {
        step("making the virtual environment .venv", make_venv)?;
    }
    for name in requirements {
        let file = path(&format!("crates/xtask/requirements/{name}.txt"));
        when_changed(&format!("venv-{name}"), &path(".venv"), &[&file], || {
            step(&format!("installing Python packages ({name})"), || {
                let mut pip = venv("python", &["-m", "pip", "install", "--quiet"])?;
                pip.arg("--disable-pip-version-check").arg("-r").arg(&file);
                capture(&mut pip).map(drop)
            })
        })?;
    }
    Ok(())
}

fn make_venv() -> Result<()> {
    let python = ["python3", "/usr/bin/python3"].into_iter().find(|python| {
        let check = "import sys; sys.exit(sys.version_info < (3, 9))";
        let status = command(python, &["-c", check])
            .stderr(Stdio::null())
            .status();
        status.is_ok_and(|status| status.success())
    });
    let python = python.context("Python 3.9 or newer is needed; python3 on PATH is not")?;
    let has_pip = capture(&mut command(python, &["-c", "import ensurepip, venv"])).is_ok();
    if !has_pip {
        // Debian splits this off; the file is what the package brings.
        let version = "import sys; print('%d.%d' % sys.version_info[:2])";
        let version = capture(&mut command(python, &["-c", version]))?;
        let file = format!("/usr/lib/python{}/ensurepip/__init__.py", version.trim());
        debian(&[(&file, "python3-venv")])?;
    }
    capture(command(python, &["-m", "venv", "--clear"]).arg(path(".venv"))).map(drop)
}

/// Installs the npm packages of a folder when its lock file changed.
pub(crate) fn npm(folder: &str) -> Result<()> {
    let modules = path(folder).join("node_modules");
    let lock = path(folder).join("package-lock.json");
    when_changed(&format!("npm-{folder}"), &modules, &[&lock], || {
        step(&format!("installing the npm packages of {folder}"), || {
            let mut npm = command("npm", &["ci", "--no-audit", "--no-fund"]);
            capture(npm.current_dir(path(folder)))
                .context("Node 20.19 or newer and npm are needed (Debian: nodejs npm)")
                .map(drop)
        })
    })
}

/// Returns cargo-deny, built once into `target/tools` unless it is installed.
pub(crate) fn cargo_deny() -> Result<Command> {
    if capture(&mut command("cargo-deny", &["--version"])).is_ok() {
        return Ok(command("cargo-deny", &[]));
    }
    let tools = path("target/tools");
    let binary = tools.join("bin/cargo-deny");
    if !binary.exists() {
        step("building cargo-deny, once", || {
            let args = [
                "install",
                "cargo-deny",
                // It runs for a second: a build without optimisation is done in half the time.
                "--debug",
                "--locked",
                "--quiet",
                "--version",
                CARGO_DENY,
            ];
            capture(cargo(&args).arg("--root").arg(&tools)).map(drop)
        })?;
    }
    Ok(command(binary, &[]))
}

/// Does something when one of the files changed since it was last done, or when its result is gone.
pub(crate) fn when_changed(
    name: &str,
    result: &Path,
    sources: &[&Path],
    action: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let mut hasher = DefaultHasher::new();
    for source in sources {
        fingerprint(source, &mut hasher)
            .with_context(|| format!("cannot read {}", source.display()))?;
    }
    let now = hasher.finish().to_string();
    let stamp = path("target/xtask").join(format!("{}.stamp", name.replace('/', "-")));
    let before = fs::read_to_string(&stamp).unwrap_or_default();
    if before == now && result.exists() {
        return Ok(());
    }
    drop(fs::remove_file(&stamp));
    action()?;
    fs::create_dir_all(path("target/xtask"))?;
    fs::write(&stamp, now).map_err(|error| {
        say(&format!("warning: {}: {error}", stamp.display()));
        error.into()
    })
}

/// Names and contents of a file, or of a folder's files; what is generated there is left out.
fn fingerprint(source: &Path, hasher: &mut DefaultHasher) -> Result<()> {
    if !source.is_dir() {
        source.hash(hasher);
        fs::read(source)?.hash(hasher);
        return Ok(());
    }
    let mut entries = fs::read_dir(source)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        let generated = [
            "node_modules",
            "dist",
            "dist-login",
            "__pycache__",
            "target",
        ];
        if !generated.iter().any(|skip| name == *skip) {
            fingerprint(&entry.path(), hasher)?;
        }
    }
    Ok(())
}

/// Runs `npm run SCRIPT` in a folder.
pub(crate) fn npm_run(folder: &str, script: &str) -> Result<()> {
    run(command("npm", &["run", "--silent", script]).current_dir(path(folder)))
}
