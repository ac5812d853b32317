//! Rules of the repository that no linter knows: file headers, file sizes, who may depend on whom.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use hpcclient_tests::repository;
use serde_json::Value;

const MAX_LINES: usize = 500;
const MAX_HEADER: usize = 25;

/// Which of our packages a package may use; `hpcclient-tests` may use all.
const MAY_DEPEND: &[(&str, &[&str])] = &[
    ("hpcclient-protocol", &[]),
    ("hpcclient-client", &["hpcclient-protocol"]),
    ("hpcclient-ssh", &["hpcclient-protocol"]),
    ("hpcagent", &["hpcclient-protocol"]),
    (
        "hpcclient",
        &["hpcclient-client", "hpcclient-protocol", "hpcclient-ssh"],
    ),
    ("xtask", &[]),
];

/// Every file of ours with one of these extensions, with its content.
fn sources(extensions: &[&str]) -> Result<Vec<(PathBuf, String)>> {
    let mut folders = vec![repository()];
    let mut found = vec![];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let skipped = [
                "target",
                "node_modules",
                "dist",
                "dist-login",
                "artifacts",
                "hpcclient.data",
            ];
            if path.is_dir() {
                let hidden = name.starts_with('.') && name != ".ci" && name != ".config";
                if !hidden && !skipped.contains(&name.as_str()) {
                    folders.push(path);
                }
                continue;
            }
            let extension = path
                .extension()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if extensions.contains(&extension.as_str()) {
                let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
                found.push((path, text));
            }
        }
    }
    found.sort();
    Ok(found)
}

fn short(path: &Path) -> String {
    path.strip_prefix(repository())
        .unwrap_or(path)
        .display()
        .to_string()
}

fn assert_none(broken: &[String]) {
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn every_rust_file_says_what_it_is_in_a_short_header() -> Result<()> {
    let mut broken = vec![];
    for (path, text) in sources(&["rs"])? {
        let header = text
            .lines()
            .take_while(|line| line.starts_with("//!"))
            .count();
        if !(1..=MAX_HEADER).contains(&header) {
            broken.push(format!(
                "{}: a header of {header} lines, not 1 to {MAX_HEADER}",
                short(&path)
            ));
        }
    }
    assert_none(&broken);
    Ok(())
}

#[test]
fn no_file_is_longer_than_one_can_read() -> Result<()> {
    let mut broken = vec![];
    for (path, text) in sources(&["rs", "ts", "svelte", "py", "mjs"])? {
        let tests = text.find("\n#[cfg(test)]\nmod tests").unwrap_or(text.len());
        let lines = text.get(..tests).unwrap_or(&text).lines().count();
        if lines > MAX_LINES && !short(&path).contains(".gen.") {
            broken.push(format!("{}: {lines} lines, over {MAX_LINES}", short(&path)));
        }
    }
    assert_none(&broken);
    Ok(())
}

#[test]
fn what_is_left_to_do_has_an_issue_and_no_path_is_of_one_machine() -> Result<()> {
    // Put together here so that this file does not find itself.
    let todo = ["TO", "DO"].concat();
    // Where this checkout and its user are; in CI that is where such a path came from.
    let here = [
        repository().display().to_string(),
        std::env::var("HOME").unwrap_or_default(),
    ];
    let is_of_here = |line: &str| {
        let long = here.iter().filter(|path| path.len() > 1);
        let mut at = long.flat_map(|path| [format!("{path}/"), format!("\"{path}\"")]);
        at.any(|path| line.contains(&path))
    };
    let mut broken = vec![];
    for (path, text) in sources(&[
        "rs", "ts", "svelte", "py", "mjs", "md", "toml", "json", "ipynb",
    ])? {
        for (number, line) in text.lines().enumerate() {
            let at = format!("{}:{}", short(&path), number + 1);
            let after = line.split_once(&todo).map(|(_, rest)| rest);
            if after.is_some_and(|rest| !rest.starts_with("(#")) {
                broken.push(format!("{at}: a {todo} without (#issue)"));
            }
            if is_of_here(line) {
                broken.push(format!("{at}: a path of one machine"));
            }
        }
    }
    assert_none(&broken);
    Ok(())
}

#[test]
fn modules_have_names_of_things() -> Result<()> {
    let mut broken = vec![];
    for (path, _) in sources(&["rs", "py", "ts"])? {
        let stem = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let stem = stem.trim_start_matches('_');
        if [
            "mod", "util", "utils", "common", "helpers", "helper", "manager", "misc",
        ]
        .contains(&stem)
        {
            broken.push(short(&path));
        }
    }
    assert_none(&broken);
    Ok(())
}

fn packages() -> Result<Vec<Value>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
            "--offline",
        ])
        .current_dir(repository())
        .output()?;
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata.get("packages").and_then(Value::as_array);
    Ok(packages.context("no packages")?.clone())
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

#[test]
fn packages_depend_in_one_direction() -> Result<()> {
    let rules: BTreeMap<_, _> = MAY_DEPEND.iter().copied().collect();
    let packages = packages()?;
    let ours: Vec<&str> = packages
        .iter()
        .map(|package| text(package, "name"))
        .collect();
    let mut broken = vec![];
    for package in &packages {
        let name = text(package, "name");
        let Some(allowed) = rules.get(name) else {
            if name != "hpcclient-tests" {
                broken.push(format!("{name} has no rule here"));
            }
            continue;
        };
        let dependencies = package.get("dependencies").and_then(Value::as_array);
        for dependency in dependencies.into_iter().flatten() {
            let other = text(dependency, "name");
            if ours.contains(&other) && !allowed.contains(&other) {
                broken.push(format!("{name} must not depend on {other}"));
            }
        }
    }
    assert_none(&broken);
    Ok(())
}

#[test]
fn versions_live_in_the_workspace_manifest_only() -> Result<()> {
    let mut broken = vec![];
    for package in packages()? {
        let manifest = PathBuf::from(text(&package, "manifest_path"));
        let mut in_dependencies = false;
        for line in fs::read_to_string(&manifest)?.lines() {
            if line.starts_with('[') {
                in_dependencies = line.contains("dependencies");
            } else if in_dependencies && line.contains('=') && !line.contains("workspace = true") {
                broken.push(format!("{}: {line}", short(&manifest)));
            }
        }
    }
    assert_none(&broken);
    Ok(())
}
