//! `renew_command`: run when asked for, shown as it goes, ended with the one who asked.

use std::{os::unix::net::UnixListener, path::Path, process::Command};

use crate::eventually;

fn hpcclient(home: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hpcclient"));
    command
        .args(args)
        .env_clear()
        .env("HOME", home)
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HPCCLIENT_CONFIG_DIR", home.join("config"))
        .env("HPCCLIENT_STATE_DIR", home.join("state"))
        .env("HPCCLIENT_AGENT", env!("CARGO_BIN_EXE_hpcclient"))
        .stdin(std::process::Stdio::null());
    command
}

/// A user's home with one cluster at a port where nobody listens; its bridge ends with it.
struct Home(tempfile::TempDir);

impl Home {
    fn new(renew_command: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("config")).unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        let config = format!(
            "[clusters.leo]\nhost = \"127.0.0.1\"\nport = {port}\nuser = \"me\"\n{renew_command}\n"
        );
        std::fs::write(dir.path().join("config/config.toml"), config).unwrap();
        Self(dir)
    }

    async fn run(&self, args: &[&str]) -> (bool, String) {
        let mut command = hpcclient(self.0.path(), args);
        let ended = tokio::task::spawn_blocking(move || command.output().unwrap()).await;
        let ended = ended.unwrap();
        let said = [ended.stdout, ended.stderr].concat();
        (ended.status.success(), String::from_utf8(said).unwrap())
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = hpcclient(self.0.path(), &["stop"]).output();
    }
}

#[tokio::test]
async fn the_command_runs_as_it_is_written_and_a_login_follows() {
    let home =
        Home::new(r#"renew_command = ["printf", "%s|\\n", "go to https://id.example/$HOME"]"#);
    // The account makes no other cluster of it.
    let (is_done, said) = home.run(&["renew", "alice@leo"]).await;
    assert!(
        said.contains("go to https://id.example/$HOME|"),
        "no shell looks at it: {said}"
    );
    // Nobody listens there, so the login that follows fails.
    assert!(
        !is_done && said.contains("cannot reach 127.0.0.1"),
        "{said}"
    );
}

#[tokio::test]
async fn the_ssh_agent_is_the_askers_and_not_the_one_of_who_started_the_bridge() {
    let home = Home::new(r#"renew_command = ["sh", "-c", "echo \"agent: $SSH_AUTH_SOCK|\""]"#);
    let socket = |name: &str| home.0.path().join(name);
    let _agents = ["old", "new"].map(|name| UnixListener::bind(socket(name)).unwrap());
    let says = async |given: &Path| {
        let mut command = hpcclient(home.0.path(), &["renew", "leo"]);
        command.env("SSH_AUTH_SOCK", given);
        let ended = tokio::task::spawn_blocking(move || command.output().unwrap()).await;
        let said = ended.unwrap();
        String::from_utf8([said.stdout, said.stderr].concat()).unwrap()
    };
    // What is not there, and nothing, leave what was.
    for (given, used) in [
        (socket("old"), "old"),
        (socket("new"), "new"),
        (socket("gone"), "new"),
        ("".into(), "new"),
        ("relative".into(), "new"),
    ] {
        let said = says(&given).await;
        let wanted = format!("agent: {}|", socket(used).display());
        assert!(said.contains(&wanted), "{}: {said}", given.display());
    }
}

#[tokio::test]
async fn a_command_that_fails_is_told_with_what_it_said() {
    let home = Home::new(r#"renew_command = ["ls", "--no-such-option"]"#);
    let (is_done, said) = home.run(&["renew", "leo"]).await;
    assert!(!is_done);
    assert!(said.contains("no-such-option"), "{said}");
    assert!(
        said.contains("`ls` did not renew the certificate"),
        "{said}"
    );
    let none = Home::new("");
    let (is_done, said) = none.run(&["renew", "leo"]).await;
    assert!(
        !is_done && said.contains("set `renew_command` of leo"),
        "{said}"
    );
}

#[tokio::test]
async fn the_command_and_what_it_started_end_with_the_one_who_asked() {
    let home = Home::new("");
    let mark = home.0.path().join("pid");
    let line = format!("sleep 1000 & echo $! > {}; wait", mark.display());
    let config = home.0.path().join("config/config.toml");
    let mut text = std::fs::read_to_string(&config).unwrap();
    text.push_str(&format!("renew_command = [\"sh\", \"-c\", \"{line}\"]\n"));
    std::fs::write(&config, text).unwrap();

    let mut asked = hpcclient(home.0.path(), &["renew", "leo"]).spawn().unwrap();
    let pid: u32 =
        eventually(async || std::fs::read_to_string(&mark).ok()?.trim().parse().ok()).await;
    let (is_done, said) = home.run(&["renew", "leo"]).await;
    assert!(!is_done && said.contains("being renewed already"), "{said}");
    asked.kill().unwrap();
    asked.wait().unwrap();
    let process = std::path::PathBuf::from(format!("/proc/{pid}"));
    eventually(async || (!process.exists()).then_some(())).await;
}
