//! `hpcclient doctor` against real servers: all is well, forwarding is off, nobody answers, nobody is known.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt};

use anyhow::{Context, Result};
use hpcclient_tests::{Output, Site};
use serde_json::Value;

/// A line's state, check and text.
fn lines(output: &Output) -> Vec<(String, String, String)> {
    let mut found: Vec<(String, String, String)> = vec![];
    for line in output.text().lines() {
        let cut = |from: usize, to: usize| line.get(from..to.min(line.len())).unwrap_or_default();
        match (cut(0, 6).trim(), found.last_mut()) {
            ("", Some((_, _, text))) => *text = format!("{text} {}", line.trim()),
            (state, _) => {
                let text = cut(22, line.len()).to_owned();
                found.push((state.to_owned(), cut(6, 22).trim().to_owned(), text));
            }
        }
    }
    found
}

fn line(output: &Output, check: &str) -> Result<(String, String)> {
    let found = lines(output).into_iter().find(|(_, name, _)| name == check);
    let (state, _, text) = found.with_context(|| format!("no {check}: {}", output.text()))?;
    Ok((state, text))
}

#[test]
fn everything_is_looked_at_and_fits_a_screen() -> Result<()> {
    let site = Site::new()?;
    let tools = site.env().path("node-home/tools");
    fs::create_dir(&tools)?;
    fs::write(tools.join("sinfo"), "#!/bin/sh\necho 23.11.4\n")?;
    fs::set_permissions(tools.join("sinfo"), fs::Permissions::from_mode(0o755))?;
    let profile = site.env().path("node-home/.profile");
    fs::write(profile, "PATH=$HOME/tools:$PATH\n")?;

    let output = site.hpcclient(&["doctor"])?.success()?;
    let found = lines(&output);
    let checks: Vec<_> = found.iter().map(|(_, check, _)| check.as_str()).collect();
    let expected = [
        "config",
        "ssh config",
        "transport",
        "keys",
        "agent program",
        "bridge",
        "network",
        "host key",
        "way to agent",
        "node",
        "system",
        "agent",
        "home",
        "agent's place",
        "runs",
        "sockets",
        "noexec",
        "processes",
        "scheduler",
        "clock",
        "latency",
        "throughput",
    ];
    for check in expected {
        assert!(checks.contains(&check), "no {check} in\n{}", output.text());
    }
    for (state, check, text) in &found {
        assert_ne!(state, "fail", "{check}: {text}");
        assert_eq!(state == "ok", !text.contains(" fix: "), "{check}: {text}");
    }
    assert!(line(&output, "network")?.1.contains("SSH-2.0-OpenSSH"));
    assert!(line(&output, "host key")?.1.contains("known_hosts line 1"));
    assert!(
        line(&output, "way to agent")?
            .1
            .starts_with("a forwarded Unix socket")
    );
    assert!(line(&output, "system")?.1.contains("glibc "));
    assert_eq!(line(&output, "scheduler")?.1, "Slurm 23.11.4");
    assert!(
        !output.text().contains('\u{1b}'),
        "colours without a terminal"
    );
    for line in output.text().lines() {
        let is_one_word = !line.get(22..).unwrap_or_default().trim().contains(' ');
        assert!(line.chars().count() <= 100 || is_one_word, "{line}");
    }
    Ok(())
}

#[test]
fn a_server_without_forwarding_is_explained() -> Result<()> {
    let site = Site::with_sshd(&["DisableForwarding yes"])?;
    let output = site.hpcclient(&["doctor"])?.success()?;
    let (state, text) = line(&output, "way to agent")?;
    assert_eq!(state, "ok");
    for words in ["hpcagent connect", "DisableForwarding", "no TCP port"] {
        assert!(text.contains(words), "{text}");
    }
    Ok(())
}

#[test]
fn json_has_the_same_findings() -> Result<()> {
    let site = Site::new()?;
    let output = site.hpcclient(&["doctor", "--json"])?.success()?;
    let findings: Vec<Value> = serde_json::from_str(&output.text())?;
    for finding in &findings {
        let finding = finding.as_object().context("not an object")?;
        let mut keys: Vec<_> = finding.keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(keys, ["check", "detail", "fix", "state"]);
        let is_ok = finding.get("state") == Some(&"ok".into());
        assert_eq!(
            is_ok,
            finding.get("fix") == Some(&Value::Null),
            "{finding:?}"
        );
    }
    let has = |check: &str| {
        findings
            .iter()
            .any(|one| one.get("check") == Some(&check.into()))
    };
    assert!(has("throughput") && has("host key"), "{findings:?}");
    Ok(())
}

#[test]
fn a_host_that_does_not_answer_is_told() -> Result<()> {
    let site = Site::new()?;
    let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
    site.configure(port, "")?;
    let output = site.hpcclient(&["doctor"])?;
    assert_eq!(output.code, 1, "{}", output.text());
    let (state, text) = line(&output, "network")?;
    assert_eq!(state, "fail");
    let port = port.to_string();
    for words in [port.as_str(), "refused", "fix: ", "VPN"] {
        assert!(text.contains(words), "{words} is not in {text}");
    }
    let (state, check, _) = lines(&output).pop().context("nothing")?;
    assert_eq!((state.as_str(), check.as_str()), ("fail", "login"));
    Ok(())
}

#[test]
fn a_connection_that_is_there_is_looked_at_though_no_other_can_be_made() -> Result<()> {
    let site = Site::new()?;
    site.connect()?;
    let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
    site.configure(port, "")?;
    let output = site.hpcclient(&["doctor"])?;
    assert_eq!(line(&output, "network")?.0, "fail");
    assert!(line(&output, "throughput").is_ok(), "{}", output.text());
    Ok(())
}

#[test]
fn a_host_key_that_nobody_could_be_asked_about_is_named() -> Result<()> {
    let site = Site::new()?;
    fs::write(site.sshd().file("known_hosts"), "")?;
    let output = site.hpcclient(&["doctor"])?;
    assert_eq!(output.code, 1, "{}", output.text());
    let (state, text) = line(&output, "host key")?;
    assert_eq!(state, "fail");
    assert!(
        text.contains("SHA256:") && text.contains("fix: run `hpcclient connect"),
        "{text}"
    );
    assert_eq!(site.sshd().logins(), 0);
    Ok(())
}

#[test]
fn offline_looks_at_this_machine_only() -> Result<()> {
    let site = Site::new()?;
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    listener.set_nonblocking(true)?;
    site.configure(listener.local_addr()?.port(), "")?;
    let output = site.hpcclient(&["doctor", "--offline"])?.success()?;
    assert_eq!(line(&output, "config")?.0, "ok");
    assert!(line(&output, "network").is_err() && line(&output, "node").is_err());
    assert!(listener.accept().is_err(), "it connected");
    Ok(())
}

#[test]
fn a_broken_configuration_is_shown_with_its_line() -> Result<()> {
    let site = Site::new()?;
    site.env()
        .write("home/.config/hpcclient/config.toml", "default = \n")?;
    let output = site.hpcclient(&["doctor"])?;
    assert_eq!(output.code, 1);
    let (state, text) = line(&output, "config")?;
    assert!(state == "fail" && text.contains("line 1"), "{text}");
    Ok(())
}
