//! A login by Kerberos, with a key distribution centre of the test's own: what only the `ssh` program can do.

use std::{
    fs,
    io::Write,
    net::{TcpListener, TcpStream, UdpSocket},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use hpcclient_tests::{Child, Env, Site, user_name, wait_for};

const START: Duration = Duration::from_secs(20);

/// A realm of one user and one host; it ends with the test.
struct Realm {
    _kdc: Child,
}

impl Realm {
    fn start(env: &Env) -> Result<Self> {
        fs::create_dir(env.path("krb"))?;
        let (user, at) = (user_name()?, env.path("krb").display().to_string());
        let port = free_port()?;
        env.write(
            "krb/krb5.conf",
            &format!(
                "[libdefaults]\ndefault_realm = HPC.TEST\ndns_lookup_kdc = false\ndns_lookup_realm = false\n\
                 dns_canonicalize_hostname = false\nrdns = false\ndefault_ccache_name = FILE:{at}/cache\n\
                 default_keytab_name = FILE:{at}/keytab\n[realms]\nHPC.TEST = {{\nkdc = 127.0.0.1:{port}\n}}\n\
                 [domain_realm]\nlocalhost = HPC.TEST\n"
            ),
        )?;
        env.write(
            "krb/kdc.conf",
            &format!(
                "[kdcdefaults]\nkdc_listen = 127.0.0.1:{port}\nkdc_tcp_listen = 127.0.0.1:{port}\n[realms]\n\
                 HPC.TEST = {{\ndatabase_name = {at}/database\nkey_stash_file = {at}/stash\nacl_file = {at}/acl\n}}\n"
            ),
        )?;
        let run = |program: &str, args: &[&str]| -> Result<()> {
            let mut command = with_realm(env, env.command(program));
            env.run(command.args(args))
                .context("install the Debian packages krb5-kdc and krb5-admin-server")?
                .success()?;
            Ok(())
        };
        run("/usr/sbin/kdb5_util", &["create", "-s", "-P", "master"])?;
        for query in [
            format!("addprinc -pw alice {user}"),
            "addprinc -randkey host/localhost".to_owned(),
            format!("ktadd -k {at}/keytab host/localhost"),
        ] {
            run("/usr/sbin/kadmin.local", &["-q", &query])?;
        }
        let mut kdc = with_realm(env, env.command("/usr/sbin/krb5kdc"));
        let kdc = Child::start(kdc.arg("-n"), &env.logs(), "kdc")?;
        wait_for("the KDC", START, || {
            Ok(TcpStream::connect(("127.0.0.1", port)).ok())
        })?;
        let mut kinit = with_realm(env, env.command("kinit"));
        kinit.arg(&user).stdin(Stdio::piped());
        let mut kinit = Child::start(&mut kinit, &env.logs(), "kinit")?;
        let mut stdin = kinit.take_stdin().context("no pipe")?;
        stdin.write_all(b"alice\n")?;
        drop(stdin);
        kinit.finish(START)?.success()?;
        Ok(Self { _kdc: kdc })
    }
}

fn with_realm(env: &Env, mut command: Command) -> Command {
    command
        .env("KRB5_CONFIG", env.path("krb/krb5.conf"))
        .env("KRB5_KDC_PROFILE", env.path("krb/kdc.conf"));
    command
}

/// Finds a port that is free for TCP and UDP.
fn free_port() -> Result<u16> {
    wait_for("a free port", START, || {
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        Ok(UdpSocket::bind(("127.0.0.1", port)).ok().map(|_| port))
    })
}

/// Starts a server beside the site's that takes tickets only, and returns its port.
fn start_sshd(site: &Site) -> Result<(Child, u16)> {
    let port = free_port()?;
    let theirs = fs::read_to_string(site.sshd().file("config"))?;
    let ours = format!(
        "Port {port}\nPubkeyAuthentication no\nGSSAPIAuthentication yes\nGSSAPIStrictAcceptorCheck no\n"
    );
    let same = |line: &&str| !line.starts_with("Port ") && !line.starts_with("PidFile ");
    let theirs: Vec<&str> = theirs.lines().filter(same).collect();
    let config = site.env().write(
        "krb/sshd_config",
        &format!("{ours}PidFile none\n{}\n", theirs.join("\n")),
    )?;
    let mut sshd = with_realm(site.env(), site.env().command("/usr/sbin/sshd"));
    sshd.args(["-D", "-f"]).arg(config).arg("-E");
    sshd.arg(site.env().path("krb/log"));
    let sshd = Child::start(&mut sshd, &site.env().logs(), "sshd-kerberos")?;
    wait_for("sshd", START, || {
        Ok(TcpStream::connect(("127.0.0.1", port)).ok())
    })?;
    Ok((sshd, port))
}

#[test]
fn a_ticket_is_enough() -> Result<()> {
    let site = Site::new()?;
    let env = site.env();
    let _realm = Realm::start(env)?;
    let (_sshd, port) = start_sshd(&site)?;
    let key = fs::read_to_string(site.sshd().file("host_key.pub"))?;
    let known = env.write("krb/known_hosts", &format!("[localhost]:{port} {key}"))?;
    let ssh = env.write("krb/ssh_config", "GSSAPIAuthentication yes\n")?;
    let user = user_name()?;
    let configure = |transport: &str| {
        env.write(
            "home/.config/hpcclient/config.toml",
            &format!(
                "default = \"test\"\n[clusters.test]\nhost = \"localhost\"\nport = {port}\nuser = \"{user}\"\n\
                 known_hosts = \"{}\"\nssh_config = \"{}\"\ntransport = \"{transport}\"\n",
                known.display(),
                ssh.display()
            ),
        )
    };
    configure("openssh")?;
    // The first command starts the bridge, whose environment is what `ssh` gets.
    let mut command = with_realm(env, env.hpcclient(&["run", "--", "echo", "by ticket"])?);
    let output = env.run(&mut command)?.success()?;
    assert_eq!(output.text(), "by ticket\n");
    // A live ticket is also why `auto` takes the `ssh` program.
    configure("auto")?;
    site.hpcclient(&["disconnect"])?.success()?;
    let output = site.hpcclient(&["run", "--", "echo", "by choice"])?;
    assert_eq!(output.success()?.text(), "by choice\n");
    let log = fs::read_to_string(env.path("krb/log"))?;
    assert_eq!(log.matches("Accepted gssapi-with-mic").count(), 2, "{log}");
    Ok(())
}
