//! What a user reads when it does not work: what failed, where, what to do next; and nothing was lost or sent.

use std::{fs, net::TcpListener};

use anyhow::Result;
use hpcclient_tests::{Output, Site};

/// Every failure without a connection: exit code 255 as `ssh` has it, `error:` first, the given words, no panic.
fn assert_clear(output: &Output, words: &[&str]) {
    let text = output.error_text();
    assert_eq!(output.code, 255, "{text}");
    assert!(text.starts_with("error: "), "{text}");
    assert!(output.stdout.is_empty(), "{}", output.text());
    for word in words {
        let found = text.to_lowercase().contains(&word.to_lowercase());
        assert!(found, "{word:?} is not in: {text}");
    }
    assert!(
        !text.contains("panicked") && !text.contains("RUST_BACKTRACE"),
        "{text}"
    );
}

#[test]
fn an_unknown_host_is_named() -> Result<()> {
    let site = Site::new()?;
    let output = site.hpcclient(&["run", "-c", "nobody@no-such-host.invalid", "--", "true"])?;
    assert_clear(&output, &["no-such-host.invalid", "hint:"]);
    Ok(())
}

#[test]
fn a_port_where_nobody_listens_is_named() -> Result<()> {
    let site = Site::new()?;
    let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
    site.configure(port, "")?;
    assert_clear(&site.bash("true")?, &[&port.to_string(), "refused"]);
    Ok(())
}

#[test]
fn a_refused_login_says_so_and_is_tried_once() -> Result<()> {
    let site = Site::new()?;
    fs::write(site.sshd().file("authorized_keys"), "")?;
    assert_clear(&site.bash("true")?, &["refused", "hint:"]);
    assert_eq!(site.sshd().logins(), 0);
    let connections = site
        .sshd()
        .log()
        .matches("Connection from 127.0.0.1")
        .count();
    // One is the harness asking whether the server listens.
    assert!(connections <= 2, "{connections} connections");
    Ok(())
}

#[test]
fn a_host_that_nobody_has_vouched_for_is_not_trusted_silently() -> Result<()> {
    let site = Site::new()?;
    fs::write(site.sshd().file("known_hosts"), "")?;
    assert_clear(&site.bash("true")?, &["SHA256:"]);
    assert_eq!(site.sshd().logins(), 0);
    let known = fs::read_to_string(site.sshd().file("known_hosts"))?;
    assert_eq!(known, "", "a host was trusted without an answer");
    Ok(())
}

#[test]
fn a_changed_host_key_is_refused_and_nothing_is_sent() -> Result<()> {
    let mut site = Site::new()?;
    site.bash("true")?.success()?;
    site.hpcclient(&["stop"])?.success()?;
    let (sshd, env) = site.sshd_mut();
    sshd.change_host_key(env)?;
    let logins = site.sshd().logins();
    let output = site.bash("touch ~/was-here")?;
    assert_clear(&output, &["changed", "known_hosts"]);
    assert_eq!(
        site.sshd().logins(),
        logins,
        "a login was sent to a stranger"
    );
    assert!(!site.env().path("node-home/was-here").exists());
    Ok(())
}

#[test]
fn an_agent_of_another_protocol_is_named_with_what_to_do() -> Result<()> {
    let site = Site::new()?;
    let strange = env!("CARGO_BIN_EXE_strange-agent");
    let mut command = site.env().hpcclient(&["run", "--", "true"])?;
    command.env("HPCCLIENT_AGENT", strange);
    let output = site.env().run(&mut command)?;
    assert_clear(&output, &["99", "hint:"]);
    Ok(())
}

#[test]
fn a_missing_agent_binary_is_named() -> Result<()> {
    let site = Site::new()?;
    let mut command = site.env().hpcclient(&["run", "--", "true"])?;
    command.env("HPCCLIENT_AGENT", "/nowhere/hpcagent");
    let output = site.env().run(&mut command)?;
    assert_clear(&output, &["/nowhere/hpcagent"]);
    Ok(())
}

#[test]
fn a_broken_configuration_is_named_with_its_line() -> Result<()> {
    let site = Site::new()?;
    site.env()
        .write("home/.config/hpcclient/config.toml", "default = \n")?;
    let output = site.bash("true")?;
    assert_ne!(output.code, 0);
    let text = output.error_text();
    assert!(
        text.starts_with("error: ") && text.contains("config.toml"),
        "{text}"
    );
    Ok(())
}

#[test]
fn the_words_of_a_wrong_command_line_help() -> Result<()> {
    let site = Site::new()?;
    let output = site.hpcclient(&["rnu"])?;
    assert_eq!(output.code, 2);
    assert!(
        output.error_text().contains("run"),
        "{}",
        output.error_text()
    );
    let help = site.hpcclient(&["--help"])?.success()?;
    for verb in [
        "connect",
        "run",
        "attach",
        "runs",
        "open",
        "doctor",
        "stop",
        "status",
        "disconnect",
        "demo",
    ] {
        assert!(help.text().contains(verb), "{verb} is not in the help");
    }
    Ok(())
}
