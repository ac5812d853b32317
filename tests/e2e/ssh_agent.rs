//! The ssh-agent of the session that connects, though the bridge was started in another one.

use anyhow::Result;
use hpcclient_tests::{Child, Site, user_name, wait_for};

#[test]
fn the_agent_of_the_new_session_serves_the_login() -> Result<()> {
    let site = Site::new()?;
    let env = site.env();
    let socket = env.path("agent");
    for transport in ["russh", "openssh"] {
        let text = format!(
            "default = \"test\"\n[clusters.test]\nhost = \"127.0.0.1\"\nport = {}\nuser = \"{}\"\n\
             known_hosts = \"{}\"\ntransport = \"{transport}\"\n",
            site.sshd().port(),
            user_name()?,
            site.sshd().file("known_hosts").display(),
        );
        env.write("home/.config/hpcclient/config.toml", &text)?;
        // The bridge starts here, without an ssh-agent.
        let refused = site.hpcclient(&["connect"])?;
        assert_eq!(refused.code, 255, "{transport}: {}", refused.error_text());

        let mut command = env.command("ssh-agent");
        let agent = Child::start(
            command.arg("-D").arg("-a").arg(&socket),
            &env.logs(),
            "agent",
        )?;
        wait_for("the ssh-agent", std::time::Duration::from_secs(10), || {
            Ok(socket.exists().then_some(()))
        })?;
        let with_agent = |mut command: std::process::Command| {
            command.env("SSH_AUTH_SOCK", &socket);
            env.run(&mut command)?.success()
        };
        let mut add = env.command("ssh-add");
        add.arg(site.sshd().file("user_key"));
        with_agent(add)?;
        with_agent(env.hpcclient(&["connect"])?)?;
        assert_eq!(site.bash("echo on")?.success()?.text(), "on\n");

        site.hpcclient(&["disconnect"])?.success()?;
        drop(agent);
        std::fs::remove_file(&socket).or_else(|error| {
            let is_gone = error.kind() == std::io::ErrorKind::NotFound;
            is_gone.then_some(()).ok_or(error)
        })?;
    }
    Ok(())
}
