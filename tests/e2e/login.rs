//! Logging in: one login for all, an agent that is already there, a noisy profile.
//!
//! Not here: what a site forbids (`policies`), one-time passwords (`otp`), gates (`jumps`).

use std::{fs, os::unix::fs::PermissionsExt};

use anyhow::Result;
use hpcclient_protocol::bridge::Route;
use hpcclient_tests::Site;

#[test]
fn every_command_shares_one_login() -> Result<()> {
    let site = Site::new()?;
    for _ in 0..5 {
        site.bash("true")?.success()?;
    }
    assert_eq!(site.sshd().logins(), 1);
    assert_eq!(site.cluster()?.route, Some(Route::Streamlocal));
    Ok(())
}

#[test]
fn the_agent_is_installed_once_and_private() -> Result<()> {
    let site = Site::new()?;
    site.bash("true")?.success()?;
    let installed = |site: &Site| -> Result<Vec<(std::path::PathBuf, u32, std::time::SystemTime)>> {
        let mut found = vec![];
        for folder in fs::read_dir(site.env().path("node/bin"))? {
            let path = folder?.path().join("hpcagent");
            let about = fs::metadata(&path)?;
            found.push((path, about.permissions().mode() & 0o777, about.modified()?));
        }
        Ok(found)
    };
    let first = installed(&site)?;
    assert_eq!(first.len(), 1, "{first:?}");
    assert!(first.iter().all(|(_, mode, _)| *mode == 0o500), "{first:?}");
    site.hpcclient(&["stop"])?.success()?;
    site.bash("true")?.success()?;
    assert_eq!(installed(&site)?, first, "it was uploaded again");
    Ok(())
}

#[test]
fn a_noisy_login_does_not_disturb() -> Result<()> {
    let site = Site::new()?;
    let noise = "echo Welcome to the machine; echo quota exceeded >&2\n";
    for file in [".bashrc", ".bash_profile", ".profile"] {
        fs::write(site.env().path("node-home").join(file), noise)?;
    }
    let output = site.hpcclient(&["run", "--", "echo", "quiet"])?.success()?;
    assert_eq!(output.text(), "quiet\n");
    Ok(())
}

/// The next release meets the running agent of the last one: it works, and the history is there.
#[test]
fn another_build_of_the_agent_finds_the_runs_of_the_last() -> Result<()> {
    let site = Site::new()?;
    site.bash("echo from the first")?.success()?;
    let run = site.newest_run()?.id.to_string();
    site.hpcclient(&["stop"])?.success()?;

    let mut command = site.env().hpcclient(&["attach", &run])?;
    let newer = site.env().copy_agent("newer-hpcagent", "another build")?;
    command.env("HPCCLIENT_AGENT", &newer);
    let output = site.env().run(&mut command)?.success()?;
    assert_eq!(output.text(), "from the first\n");
    command = site
        .env()
        .hpcclient(&["run", "--", "echo", "from the second"])?;
    command.env("HPCCLIENT_AGENT", &newer);
    let output = site.env().run(&mut command)?.success()?;
    assert_eq!(output.text(), "from the second\n");
    Ok(())
}

mod as_root {
    use std::time::Duration;

    use hpcclient_tests::Child;

    use super::*;

    #[test]
    fn a_password_is_asked_for_until_it_is_right_and_shown_nowhere() -> Result<()> {
        const PASSWORD: &str = "correct horse/battery";
        let site = Site::for_account("bash", &["PasswordAuthentication yes"])?;
        site.account()?.set_password(PASSWORD)?;
        fs::write(site.sshd().file("authorized_keys"), "")?;
        let answers = site
            .env()
            .write("answers", &format!("wrong\n{PASSWORD}\n"))?;
        let mut command = site.env().hpcclient(&["connect"])?;
        command.stdin(fs::File::open(answers)?);
        let connect = Child::start(&mut command, &site.env().logs(), "connect")?;
        let output = connect.finish(Duration::from_secs(60))?.success()?;
        let asked = output.error_text();
        assert_eq!(asked.matches("Password for").count(), 2, "{asked}");
        assert!(!asked.contains(PASSWORD) && !output.text().contains(PASSWORD));
        assert_eq!(site.bash("echo in")?.success()?.text(), "in\n");
        assert_eq!(site.sshd().logins(), 1);
        Ok(())
    }
}
