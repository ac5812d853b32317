//! A cluster behind gates: ProxyJump over two real servers with keys of their own, and ProxyCommand.

use std::{fs, time::Duration};

use anyhow::Result;
use hpcclient_tests::{CLUSTER, Setup, Site, Sshd, check_numbered_lines, wait_for};

/// A site whose server is meant to be reached through others.
struct Gates {
    gates: Vec<Sshd>,
    site: Site,
}

impl Gates {
    fn new() -> Result<Self> {
        let site = Site::new()?;
        let key = site.sshd().file("user_key.pub");
        let start = |name: &&str| {
            let setup = Setup::new(&[]).named(name).authorized_keys(key.clone());
            setup.start(site.env())
        };
        let gates = ["gate1", "gate2"]
            .iter()
            .map(start)
            .collect::<Result<Vec<_>>>()?;
        let this = Self { gates, site };
        let known = this
            .servers()
            .map(|sshd| fs::read_to_string(sshd.file("known_hosts")));
        let known = known.collect::<std::io::Result<String>>()?;
        fs::write(this.site.sshd().file("known_hosts"), known)?;
        Ok(this)
    }

    fn servers(&self) -> impl Iterator<Item = &Sshd> {
        self.gates.iter().chain([self.site.sshd()])
    }

    /// Writes an ssh configuration with `gate1`, `gate2` and `cluster`; `way` are lines of the last.
    fn configure(&self, way: &str) -> Result<()> {
        let names = ["gate1", "gate2", "cluster"]
            .into_iter()
            .zip(self.servers());
        let hosts = names.map(|(name, sshd)| {
            let own = if name == "cluster" { way } else { "" };
            format!(
                "Host {name}\n  HostName 127.0.0.1\n  Port {}\n  {own}\n",
                sshd.port()
            )
        });
        let hosts: String = hosts.collect();
        let text = format!(
            "{hosts}Host *\n  User {}\n  IdentityFile {}\n  IdentitiesOnly yes\n  UserKnownHostsFile {}\n  \
             StrictHostKeyChecking yes\n",
            self.site.sshd().user(),
            self.site.sshd().file("user_key").display(),
            self.site.sshd().file("known_hosts").display(),
        );
        let file = self.site.env().write("home/.ssh/config-of-test", &text)?;
        let text = format!(
            "default = \"{CLUSTER}\"\n[clusters.{CLUSTER}]\nhost = \"cluster\"\nssh_config = \"{}\"\n",
            file.display()
        );
        self.site
            .env()
            .write("home/.config/hpcclient/config.toml", &text)?;
        Ok(())
    }

    fn logins(&self) -> Vec<usize> {
        self.servers().map(Sshd::logins).collect()
    }
}

#[test]
fn two_gates_are_passed_with_one_login_each() -> Result<()> {
    let gates = Gates::new()?;
    gates.configure("ProxyJump gate1,gate2")?;
    for number in 0..3 {
        let output = gates.site.bash(&format!("echo {number}; exit 3"))?;
        assert_eq!(
            (output.code, output.text()),
            (3, format!("{number}\n")),
            "{}",
            output.error_text()
        );
    }
    assert_eq!(gates.logins(), [1, 1, 1]);
    let hops = gates
        .site
        .cluster()?
        .login
        .unwrap_or_else(|| panic!("no facts"))
        .hops;
    assert_eq!(hops.len(), 2, "{hops:?}");
    Ok(())
}

#[test]
fn a_gate_that_nobody_has_vouched_for_is_not_passed() -> Result<()> {
    let gates = Gates::new()?;
    gates.configure("ProxyJump gate1,gate2")?;
    let (first, last) = (gates.gates[0].file("known_hosts"), gates.site.sshd());
    let known =
        fs::read_to_string(first)? + &last.known_as(&format!("[127.0.0.1]:{}", last.port()))?;
    fs::write(last.file("known_hosts"), known)?;
    let output = gates.site.bash("true")?;
    let text = output.error_text();
    assert_eq!(output.code, 255, "{text}");
    assert!(
        text.contains(&gates.gates[1].port().to_string()) && text.contains("SHA256:"),
        "{text}"
    );
    assert_eq!(gates.logins(), [1, 0, 0]);
    Ok(())
}

#[test]
fn a_gate_that_ends_a_connection_does_not_end_the_work() -> Result<()> {
    let gates = Gates::new()?;
    gates.configure("ProxyJump gate1,gate2")?;
    let line = "for i in $(seq 1 300); do echo $i; sleep 0.02; done";
    let run = gates
        .site
        .start("cut", &["run", "--", "bash", "-c", line])?;
    for gate in &gates.gates {
        let before = run.stdout().len();
        wait_for("more output", Duration::from_secs(40), || {
            Ok((run.stdout().len() > before + 50).then_some(()))
        })?;
        gate.kill_connections()?;
    }
    let output = run.finish(Duration::from_secs(60))?.success()?;
    check_numbered_lines(&output.stdout, 300)
}

#[test]
fn a_proxy_command_is_the_way_and_ends_with_the_connection() -> Result<()> {
    let gates = Gates::new()?;
    let gate = &gates.gates[0];
    let known = gate.file("known_hosts").display().to_string();
    gates.configure(&format!(
        "ProxyCommand ssh -F none -o BatchMode=yes -o UserKnownHostsFile={known} -i {} -p {} -W %h:%p {}@127.0.0.1",
        gates.site.sshd().file("user_key").display(),
        gate.port(),
        gate.user(),
    ))?;
    let output = gates.site.bash("echo through; exit 3")?;
    assert_eq!(
        (output.code, output.text().as_str()),
        (3, "through\n"),
        "{}",
        output.error_text()
    );
    assert_eq!(gates.logins(), [1, 0, 1]);
    let commands = || {
        let of_ours = |pid: &u32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&known)
        };
        gates.site.processes().into_iter().filter(of_ours).count()
    };
    assert_eq!(commands(), 1);
    gates.site.hpcclient(&["disconnect"])?.success()?;
    wait_for("the end of the command", Duration::from_secs(10), || {
        Ok((commands() == 0).then_some(()))
    })
}
