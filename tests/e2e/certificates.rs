//! Certificates that end: shown while they are good, named when they have ended, renewed on request.

use std::path::Path;

use anyhow::Result;
use hpcclient_tests::{Env, Setup, Site, run_spec, user_name};

/// Signs the user's key, good for such a time as `ssh-keygen -V` reads it.
fn sign(env: &Env, validity: &str) -> Result<()> {
    let mut command = env.command("ssh-keygen");
    command.args(["-q", "-s"]).arg(env.path("ca"));
    command.args(["-I", "alice@site", "-n", &user_name()?, "-V", validity]);
    env.run(command.arg(env.path("id.pub")))?.success()?;
    Ok(())
}

fn key(env: &Env, path: &Path) -> Result<()> {
    let mut command = env.command("ssh-keygen");
    command.args(["-q", "-t", "ed25519", "-N", "", "-f"]);
    env.run(command.arg(path))?.success()?;
    Ok(())
}

#[test]
fn a_certificate_is_shown_and_renewed_when_it_has_ended() -> Result<()> {
    let env = Env::new()?;
    for name in ["ca", "id"] {
        key(&env, &env.path(name))?;
    }
    let trusts = format!("TrustedUserCAKeys {}", env.path("ca.pub").display());
    let setup = Setup::new(&[&trusts, "AuthorizedKeysFile none"]);
    let site = Site::of(env, None, &setup)?;
    let env = site.env();
    sign(env, "-1m:+190m")?;
    let at = |name: &str| env.path(name).display().to_string();
    let renew = format!(
        "renew_command = [\"ssh-keygen\", \"-q\", \"-s\", \"{}\", \"-I\", \"alice@site\", \"-n\", \"{}\", \"-V\", \
         \"+8h\", \"{}\"]",
        at("ca"),
        user_name()?,
        at("id.pub"),
    );
    let config = format!(
        "default = \"test\"\n[clusters.test]\nhost = \"127.0.0.1\"\nport = {}\nuser = \"{}\"\n\
         identity_file = \"{}\"\nknown_hosts = \"{}\"\n{renew}\n",
        site.sshd().port(),
        user_name()?,
        at("id"),
        site.sshd().file("known_hosts").display(),
    );
    env.write("home/.config/hpcclient/config.toml", &config)?;

    let connected = site.hpcclient(&["connect"])?.success()?.text();
    assert!(
        connected.contains("certificate valid 3 h 9 m")
            || connected.contains("certificate valid 3 h 10 m"),
        "{connected}"
    );
    let status = site.hpcclient(&["status"])?.success()?.text();
    assert!(status.contains("certificate valid 3 h"), "{status}");
    let page = site.hpcclient(&["open", "--print"])?.success()?.text();
    let page = page
        .split_whitespace()
        .find(|word| word.starts_with("http://"));
    let page = page.unwrap_or_default();
    run_spec(env, "certificate.spec.mjs", &[("PAGE", page)])?;

    // The connection outlives its certificate; the next login does not.
    sign(env, "-5h:-3h")?;
    assert_eq!(site.bash("echo on")?.success()?.text(), "on\n");
    site.hpcclient(&["disconnect"])?.success()?;
    let refused = site.hpcclient(&["connect"])?;
    let said = refused.error_text();
    assert_eq!(refused.code, 255, "{said}");
    assert!(said.contains("ended 3 h ago"), "{said}");
    assert!(said.contains("hpcclient renew test"), "{said}");

    site.hpcclient(&["renew"])?.success()?;
    site.connect()?;
    let status = site.hpcclient(&["status"])?.success()?.text();
    assert!(status.contains("certificate valid 7 h 59 m"), "{status}");
    Ok(())
}
