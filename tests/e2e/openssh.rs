//! The `ssh` program as transport: everything that works through the built-in client works through one `ssh`, and one
//! login is all that it takes.

use std::{fs, io::Write, path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context, Result};
use hpcclient_tests::{
    Address, CLUSTER, Child, Output, Request, Site, check_numbered_lines, wait_for,
};

const TRANSPORT: &str = "transport = \"openssh\"";

/// A site whose sshd allows one session and nothing else, and whose shell talks.
fn narrow_site() -> Result<Site> {
    let site = Site::with_sshd(&["MaxSessions 1", "DisableForwarding yes"])?;
    let noise = "echo Welcome to the machine; echo quota exceeded >&2; printf 'no end of line'\n";
    fs::write(site.env().path("node-home/.bashrc"), noise)?;
    site.configure(site.sshd().port(), TRANSPORT)?;
    Ok(site)
}

/// Runs a line by a shell that reads no profile.
fn sh(site: &Site, line: &str) -> Result<Output> {
    site.hpcclient(&["run", "--", "sh", "-c", line])
}

/// The `ssh` processes of the site's user.
fn ssh_processes(site: &Site) -> Vec<u32> {
    let is_ssh = |pid: &u32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.trim() == "ssh"
    };
    site.processes().into_iter().filter(is_ssh).collect()
}

/// Runs `hpcclient connect` with the answers of a person.
fn connect_with(site: &Site, answers: &str) -> Result<Output> {
    let mut command = site.env().hpcclient(&["connect", CLUSTER])?;
    command.stdin(Stdio::piped());
    let mut child = Child::start(&mut command, &site.env().logs(), "connect")?;
    let mut stdin = child.take_stdin().context("no pipe")?;
    // One that asks nothing may have ended already.
    let _ = stdin.write_all(answers.as_bytes());
    drop(stdin);
    child.finish(Duration::from_secs(60))
}

#[test]
fn runs_files_and_consoles_share_one_login_and_one_session() -> Result<()> {
    let site = narrow_site()?;
    let output = sh(&site, "echo out; echo err >&2; exit 3")?;
    assert_eq!((output.code, output.text().as_str()), (3, "out\n"));
    assert!(
        output.error_text().contains("err"),
        "{}",
        output.error_text()
    );

    fs::write(
        site.env().path("node-home/file"),
        "\n@hpcclient ready\n@hpcclient 0=0\n",
    )?;
    let home = site.env().path("node-home").display().to_string();
    let read = site.ask(
        "GET",
        &format!("/c/{CLUSTER}/v1/file?path={home}/file"),
        None,
    )?;
    assert_eq!(
        String::from_utf8_lossy(&read.body),
        "\n@hpcclient ready\n@hpcclient 0=0\n"
    );

    let (port, token, _) = site.bridge()?;
    let live = Request::new("GET", &format!("/c/{CLUSTER}/v1/live"))
        .header("origin", &format!("http://127.0.0.1:{port}"))
        .websocket(&format!("hpcclient.v1, bearer.{token}"))
        .send(&Address::Port(port))?;
    assert_eq!(live.status, 101);

    let status = site.ask("GET", "/v1/bridge", None)?.json()?.to_string();
    assert!(status.contains("\"route\":\"exec\""), "{status}");
    assert_eq!(
        (site.sshd().logins(), site.sshd().channels_opened()),
        (1, 1)
    );
    assert_eq!(ssh_processes(&site).len(), 1);
    site.hpcclient(&["disconnect", CLUSTER])?.success()?;
    wait_for("the end of ssh", Duration::from_secs(5), || {
        Ok(ssh_processes(&site).is_empty().then_some(()))
    })
}

#[test]
fn bytes_of_any_kind_go_both_ways() -> Result<()> {
    let site = narrow_site()?;
    let word = |n: u32| n.wrapping_mul(2_654_435_761).to_be_bytes();
    let bytes: Vec<u8> = (0..1_000_000).flat_map(word).collect();
    let mut command = site.env().hpcclient(&["run", "--", "cat"])?;
    command.stdin(Stdio::piped());
    let mut child = Child::start(&mut command, &site.env().logs(), "cat")?;
    let mut stdin = child.take_stdin().context("no pipe")?;
    stdin.write_all(&bytes)?;
    drop(stdin);
    let output = child.finish(Duration::from_secs(60))?.success()?;
    assert!(
        output.stdout == bytes,
        "{} bytes came back",
        output.stdout.len()
    );
    Ok(())
}

#[test]
fn a_killed_agent_comes_back_without_another_login() -> Result<()> {
    assert_eq!(cut(Site::kill_agent)?.sshd().logins(), 1);
    Ok(())
}

#[test]
fn a_killed_connection_is_made_again() -> Result<()> {
    let site = cut(|site| site.sshd().kill_connections())?;
    assert_eq!(site.sshd().logins(), 2);
    wait_for("the end of the first ssh", Duration::from_secs(5), || {
        Ok((ssh_processes(&site).len() == 1).then_some(()))
    })?;
    Ok(())
}

/// A command writes while something is killed; every line is seen once.
fn cut(kill: impl Fn(&Site) -> Result<()>) -> Result<Site> {
    const LINES: u32 = 300_000;
    let site = narrow_site()?;
    site.connect()?;
    let line =
        "for i in $(seq 0 299); do seq $((i * 1000 + 1)) $((i * 1000 + 1000)); sleep 0.005; done";
    let run = site.start("cut", &["run", "--", "sh", "-c", line])?;
    wait_for("the middle", Duration::from_secs(30), || {
        Ok((run.stdout().len() > 100_000).then_some(()))
    })?;
    kill(&site)?;
    let output = run.finish(Duration::from_secs(90))?.success()?;
    check_numbered_lines(&output.stdout, LINES)?;
    Ok(site)
}

#[test]
fn its_questions_reach_the_person_who_connects_and_nobody_else() -> Result<()> {
    let site = narrow_site()?;
    let key = site.sshd().file("user_key");
    let mut lock = site.env().command("ssh-keygen");
    lock.args(["-q", "-p", "-N", "open sesame", "-f"]).arg(&key);
    site.env().run(&mut lock)?.success()?;
    fs::write(site.sshd().file("known_hosts"), "")?;

    let nobody = sh(&site, "true")?;
    assert_eq!(nobody.code, 255);
    assert!(
        nobody.error_text().contains("SHA256:"),
        "{}",
        nobody.error_text()
    );
    let declined = connect_with(&site, "no\n")?;
    assert!(
        declined.error_text().contains("not known"),
        "{}",
        declined.error_text()
    );
    assert_eq!(site.sshd().logins(), 0);

    let connected = connect_with(&site, "yes\nwrong\nopen sesame\n")?.success()?;
    let asked = connected.error_text();
    assert!(
        asked.contains("authenticity") && asked.contains("passphrase"),
        "{asked}"
    );
    assert!(!asked.contains("sesame"), "{asked}");
    assert_eq!(sh(&site, "echo in")?.success()?.text(), "in\n");
    assert_eq!(site.sshd().logins(), 1);

    let state = site.env().path("home/state");
    let left: Vec<PathBuf> = fs::read_dir(&state)?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    assert!(left.iter().all(|path| !path.is_dir()), "{left:?}");
    let log = fs::read_to_string(state.join("bridge.log"))?;
    assert!(!log.contains("sesame"), "an answer is in the log");
    // Nobody is asked when the connection is lost: the next command says what to do.
    site.sshd().kill_connections()?;
    let lost = wait_for("the loss", Duration::from_secs(20), || {
        let output = sh(&site, "true")?;
        Ok((output.code != 0).then_some(output))
    })?;
    assert!(
        lost.error_text().contains("hpcclient connect"),
        "{}",
        lost.error_text()
    );
    Ok(())
}

#[test]
fn a_changed_host_key_is_refused() -> Result<()> {
    let mut site = narrow_site()?;
    let (sshd, env) = site.sshd_mut();
    sshd.change_host_key(env)?;
    let output = connect_with(&site, "yes\n")?;
    let text = output.error_text();
    assert!(
        output.code == 255 && text.contains("has changed") && text.contains("line 1"),
        "{text}"
    );
    assert_eq!(site.sshd().logins(), 0);
    Ok(())
}
