//! A real sshd in a folder of its own, and keys for it.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hpcclient_ssh::{Destination, StrictHostKeyChecking};

pub(crate) const SSHD: &str = "/usr/sbin/sshd";

/// A running server. Ends when dropped.
pub(crate) struct Server {
    folder: tempfile::TempDir,
    process: Child,
    pub(crate) address: &'static str,
    pub(crate) port: u16,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with("")
    }

    /// Starts a server with more lines in its configuration; the first of a keyword counts.
    pub(crate) fn with(lines: &str) -> Self {
        Self::of(Path::new(SSHD), lines)
    }

    /// Starts sshd by another of its names.
    pub(crate) fn of(program: &Path, lines: &str) -> Self {
        let folder = new_folder();
        // Between finding a free port and binding it, somebody else may take it.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
                .port();
            if let Some(process) = launch(program, folder.path(), lines, "127.0.0.1", port) {
                return Self {
                    folder,
                    process,
                    address: "127.0.0.1",
                    port,
                };
            }
        }
        panic!(
            "sshd does not start: {}",
            std::fs::read_to_string(folder.path().join("log")).unwrap()
        );
    }

    /// Starts another node of a cluster: the same port at another address of the loopback, and the same keys get in.
    pub(crate) fn beside(first: &Self, address: &'static str, lines: &str) -> Self {
        let folder = new_folder();
        std::fs::copy(first.path("authorized"), folder.path().join("authorized")).unwrap();
        let process = launch(Path::new(SSHD), folder.path(), lines, address, first.port);
        Self {
            process: process.expect("the port is free at that address"),
            folder,
            address,
            port: first.port,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The server's key as a line of known_hosts.
    pub(crate) fn known_line(&self) -> String {
        let key = std::fs::read_to_string(self.path("host.pub")).unwrap();
        format!("[{}]:{} {key}", self.address, self.port)
    }

    /// A destination with the right key, for which the server is known.
    pub(crate) fn destination(&self) -> Destination {
        std::fs::write(self.path("known_hosts"), self.known_line()).unwrap();
        Destination {
            host_alias: "test".to_owned(),
            hostname: self.address.to_owned(),
            user: user(),
            port: self.port,
            identity_files: vec![self.path("id")],
            identities_only: false,
            identity_agent: None,
            known_hosts: vec![self.path("known_hosts")],
            host_key_alias: None,
            strict_host_key_checking: StrictHostKeyChecking::Ask,
            connect_timeout: Duration::from_secs(10),
            server_alive_interval: Duration::from_secs(15),
            jumps: vec![],
            proxy_command: None,
            certificate_files: vec![],
            preferred_authentications: vec![],
            gssapi: false,
            hash_known_hosts: false,
            update_host_keys: false,
            preferred_address: None,
            only_openssh: None,
            options: hpcclient_ssh::DestinationOptions::default(),
            notes: vec![],
        }
    }

    /// What the server wrote, once it has written something.
    pub(crate) async fn log_with(&self, words: &str) -> String {
        let log = || std::fs::read_to_string(self.path("log")).unwrap_or_default();
        until(words, || log().contains(words)).await;
        log()
    }

    pub(crate) fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// Lets another key in.
    pub(crate) fn authorize(&self, public: &Path) {
        let key = std::fs::read(public).unwrap();
        std::fs::write(self.path("authorized"), key).unwrap();
    }

    /// How many logins the server has accepted. Its log may be a moment late.
    pub(crate) fn logins(&self) -> usize {
        let log = std::fs::read_to_string(self.path("log")).unwrap_or_default();
        log.matches("Accepted publickey").count()
    }

    /// Whether nobody is connected any more.
    pub(crate) fn is_idle(&self) -> bool {
        children(self.process.id()).is_empty()
    }

    /// Stops what serves the present connections, as a node without memory might: the kernel still answers.
    pub(crate) fn freeze_sessions(&self) {
        for session in children(self.process.id()) {
            let pid = rustix::process::Pid::from_raw(session.try_into().unwrap()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
        }
    }

    /// Kills what serves the present connections, as an administrator would.
    pub(crate) fn kill_sessions(&self) {
        children(self.process.id()).into_iter().for_each(kill);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill_sessions();
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A folder with the server's keys and one that may log in.
fn new_folder() -> tempfile::TempDir {
    let folder = tempfile::Builder::new()
        .prefix("sshd")
        .tempdir_in("/tmp")
        .unwrap();
    keygen(&folder.path().join("host"), "ed25519", "");
    keygen(&folder.path().join("id"), "ed25519", "");
    let public = std::fs::read(folder.path().join("id.pub")).unwrap();
    std::fs::write(folder.path().join("authorized"), public).unwrap();
    if rustix::process::geteuid().is_root() {
        // Where sshd confines its unprivileged half.
        std::fs::create_dir_all("/run/sshd").unwrap();
    }
    folder
}

fn launch(program: &Path, folder: &Path, lines: &str, address: &str, port: u16) -> Option<Child> {
    let at = folder.display();
    let config = format!(
        "{lines}\nListenAddress {address}\nPort {port}\nPidFile none\nHostKey {at}/host\n\
         AuthorizedKeysFile {at}/authorized\nStrictModes no\nUsePAM no\nUseDNS no\n\
         PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n\
         MaxStartups 200\nMaxSessions 100\nPrintMotd no\nLogLevel VERBOSE\n"
    );
    std::fs::write(folder.join("config"), config).unwrap();
    let mut process = Command::new(program)
        .args(["-D", "-e", "-f"])
        .arg(folder.join("config"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the tests need OpenSSH's sshd");
    let log = folder.join("log");
    let (told, listening) = std::sync::mpsc::channel();
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
    std::thread::spawn(move || {
        let mut kept = String::new();
        while let Some(Ok(line)) = lines.next() {
            if line.contains("Server listening on") {
                let _ = told.send(());
            }
            kept.push_str(&line);
            kept.push('\n');
            let _ = std::fs::write(&log, &kept);
        }
    });
    if listening.recv_timeout(Duration::from_secs(20)).is_ok() {
        return Some(process);
    }
    let _ = process.kill();
    let _ = process.wait();
    None
}

/// Makes a key pair at `path` and `path.pub`.
/// Makes a key that the library understands: one in 256 ECDSA keys has a number that is too short for it, and what
/// becomes of those is tested by itself.
pub(crate) fn keygen(path: &Path, kind: &str, passphrase: &str) {
    loop {
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", kind, "-N", passphrase, "-C", "test", "-f"])
            .arg(path)
            .status()
            .expect("the tests need OpenSSH's ssh-keygen");
        assert!(made.success());
        if kind != "ecdsa" || russh::keys::load_secret_key(path, Some(passphrase)).is_ok() {
            return;
        }
        std::fs::remove_file(path).unwrap();
    }
}

/// The name of the user who runs the tests.
pub(crate) fn user() -> String {
    let said = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(said.stdout).unwrap().trim().to_owned()
}

pub(crate) fn kill(process: u32) {
    let pid = rustix::process::Pid::from_raw(process.try_into().unwrap()).unwrap();
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

/// The processes that descend from another.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    let listed = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
    let direct: Vec<u32> = listed
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect();
    let deeper: Vec<u32> = direct.iter().flat_map(|pid| children(*pid)).collect();
    [direct, deeper].concat()
}

/// Polls until a condition holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
