//! One-time passwords, against a real sshd whose PAM asks for them (libpam-oath).
//!
//! sshd takes the name it is started by as its PAM service. So each test starts it by a name of its own, which has a
//! file of its own in `/etc/pam.d`, and as a user of its own; all of it is taken away in the end. That takes root.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use hpcclient_ssh::{Destination, Prompt, Prompter, Question, SshError};

use crate::person::Person;
use crate::server::{SSHD, Server, children, kill, until};

const SECRET: &str = "00112233445566778899aabbccddeeff00112233";
const PASSWORD: &str = "s3cret words";

/// A server that asks for codes, and a user who has an account and a code generator.
struct Site {
    server: Option<Server>,
    program: PathBuf,
    service: PathBuf,
    user: String,
    _folder: tempfile::TempDir,
}

impl Site {
    /// Starts a server with lines in its configuration and in front of the code in its PAM service.
    fn start(lines: &str, pam: &str) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "PAM services are root's to make: run these tests as root"
        );
        let folder = tempfile::tempdir().unwrap();
        let name = format!("hpcotp{}", std::process::id());
        let program = Path::new("/usr/sbin").join(format!("sshd-{name}"));
        let service = Path::new("/etc/pam.d").join(format!("sshd-{name}"));
        let users = folder.path().join("users.oath");
        let mut site = Self {
            server: None,
            program,
            service,
            user: name,
            _folder: folder,
        };
        site.add_user();
        std::fs::write(&users, format!("HOTP/T30/6 {} - {SECRET}\n", site.user)).unwrap();
        std::fs::set_permissions(&users, PermissionsExt::from_mode(0o600)).unwrap();
        let stack = format!(
            "{pam}auth required pam_oath.so usersfile={} window=30 digits=6\n\
             account required pam_permit.so\nsession required pam_permit.so\n",
            users.display()
        );
        std::fs::write(&site.service, stack).unwrap();
        symlink(SSHD, &site.program).unwrap();
        let lines = format!("UsePAM yes\nKbdInteractiveAuthentication yes\n{lines}");
        site.server = Some(Server::of(&site.program, &lines));
        site
    }

    fn add_user(&self) {
        let modules = [
            "/usr/lib/x86_64-linux-gnu",
            "/usr/lib/aarch64-linux-gnu",
            "/lib64",
        ];
        let installed = |folder: &&str| Path::new(folder).join("security/pam_oath.so").exists();
        assert!(
            modules.iter().any(installed),
            "the tests need the package libpam-oath"
        );
        let add = || {
            Command::new("useradd")
                .args(["-M", "-d", "/", "-s", "/bin/sh", &self.user])
                .status()
                .expect("the tests need useradd of the package passwd")
        };
        // Tests run side by side, and one at a time may change the list of users.
        let mut tries = 0;
        while !add().success() {
            tries += 1;
            assert!(tries < 50, "useradd {} fails", self.user);
            std::thread::sleep(Duration::from_millis(100));
        }
        let mut chpasswd = Command::new("chpasswd")
            .stdin(Stdio::piped())
            .spawn()
            .expect("the tests need chpasswd of the package passwd");
        let line = format!("{}:{PASSWORD}\n", self.user);
        std::io::Write::write_all(&mut chpasswd.stdin.take().unwrap(), line.as_bytes()).unwrap();
        assert!(chpasswd.wait().unwrap().success());
    }

    fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    /// A destination without a key.
    fn destination(&self) -> Destination {
        Destination {
            user: self.user.clone(),
            identity_files: vec![],
            ..self.server().destination()
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.server = None;
        let _ = std::fs::remove_file(&self.program);
        let _ = std::fs::remove_file(&self.service);
        for _ in 0..50 {
            let removed = Command::new("userdel").arg(&self.user).output();
            if removed.is_ok_and(|done| matches!(done.status.code(), Some(0 | 6))) {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// What the user's generator shows after so many more half minutes.
fn code(steps: u32) -> String {
    let shown = Command::new("oathtool")
        .args(["--totp", "-N", &format!("now + {} seconds", steps * 30)])
        .arg(SECRET)
        .output()
        .expect("the tests need the package oathtool");
    assert!(shown.status.success());
    String::from_utf8(shown.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_code_alone_logs_in() {
    let site = Site::start("", "");
    let person = Person::with(&[&code(0)]);
    let connection = crate::open(&site.destination(), Arc::clone(&person) as Arc<_>)
        .await
        .unwrap();
    let facts = connection.facts();
    assert_eq!(facts.offered, ["publickey", "keyboard-interactive"]);
    assert_eq!(facts.used, ["keyboard-interactive"]);
    let asked = person.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].kind, Question::Text);
    assert!(asked[0].text.contains("One-time password"), "{asked:?}");
}

#[tokio::test]
async fn a_password_and_a_code_are_two_rounds_of_questions() {
    let site = Site::start("", "auth required pam_unix.so\n");
    let person = Person::with(&[PASSWORD, &code(0)]);
    crate::open(&site.destination(), Arc::clone(&person) as Arc<_>)
        .await
        .unwrap();
    let kinds: Vec<_> = person.asked().into_iter().map(|it| it.kind).collect();
    assert_eq!(kinds, [Question::Password, Question::Text]);
}

#[tokio::test]
async fn a_key_and_then_a_code() {
    let site = Site::start(
        "AuthenticationMethods publickey,keyboard-interactive:pam",
        "",
    );
    let person = Person::with(&[&code(0)]);
    let key = site.server().path("id");
    let destination = Destination {
        identity_files: vec![key.clone()],
        ..site.destination()
    };
    let connection = crate::open(&destination, Arc::clone(&person) as Arc<_>)
        .await
        .unwrap();
    let facts = connection.facts();
    assert_eq!(facts.offered, ["publickey"]);
    assert_eq!(
        facts.used,
        [
            format!("publickey (key {})", key.display()),
            "keyboard-interactive".to_owned()
        ]
    );
    assert_eq!(person.asked().len(), 1);
}

#[tokio::test]
async fn a_wrong_code_is_refused_and_the_next_one_is_right() {
    let site = Site::start("", "");
    let person = Person::with(&["000000", &code(0)]);
    crate::open(&site.destination(), Arc::clone(&person) as Arc<_>)
        .await
        .unwrap();
    let asked = person.asked();
    assert_eq!(asked.len(), 2);
    assert!(asked[1].text.starts_with("That was refused."), "{asked:?}");
}

#[tokio::test]
async fn a_code_serves_once_and_a_login_that_ends_in_refusals_says_why() {
    let site = Site::start("MaxAuthTries 3", "");
    let destination = site.destination();
    let (first, second) = (code(0), code(1));
    crate::open(&destination, Person::with(&[&first]) as Arc<_>)
        .await
        .unwrap();
    let person = Person::with(&[&first, &second]);
    crate::open(&destination, Arc::clone(&person) as Arc<_>)
        .await
        .unwrap();
    assert_eq!(person.asked().len(), 2);

    // The server hangs up over the third, and that is no failure of the network.
    let person = Person::with(&[&first, &second, "000000", "111111"]);
    let refused = crate::open(&destination, Arc::clone(&person) as Arc<_>)
        .await
        .unwrap_err();
    assert!(matches!(refused, SshError::AuthFailed { .. }), "{refused}");
    assert!(
        refused
            .to_string()
            .contains("Too many authentication failures"),
        "{refused}"
    );
    assert_eq!(person.asked().len(), 3);
}

#[tokio::test]
async fn a_code_typed_for_a_session_that_ended_is_not_sent_in_the_next_one() {
    let site = Site::start("", "auth required pam_unix.so\n");
    let late = Arc::new(Late {
        sshd: site.server().process_id(),
        asked: AtomicUsize::new(0),
        answers: Mutex::new(vec![
            PASSWORD.to_owned(),
            code(0),
            PASSWORD.to_owned(),
            code(1),
        ]),
    });
    crate::open(&site.destination(), Arc::clone(&late) as Arc<_>)
        .await
        .unwrap();
    assert_eq!(late.asked.load(Ordering::Relaxed), 4);
    let log = site
        .server()
        .log_with("Accepted keyboard-interactive")
        .await;
    assert!(!log.contains("Authentication failure"), "{log}");
    // The first code was never used up.
    let person = Person::with(&[PASSWORD, &code(2)]);
    crate::open(&site.destination(), person as Arc<_>)
        .await
        .unwrap();
}

/// Types everything in order, and the second answer only when the server has hung up.
struct Late {
    sshd: u32,
    asked: AtomicUsize,
    answers: Mutex<Vec<String>>,
}

impl Prompter for Late {
    fn ask(&self, _prompt: Prompt) -> BoxFuture<'_, Option<String>> {
        let nth = self.asked.fetch_add(1, Ordering::Relaxed);
        let answer = self.answers.lock().unwrap().get(nth).cloned();
        Box::pin(async move {
            if nth == 1 {
                children(self.sshd).into_iter().for_each(kill);
                until("the session has ended", || children(self.sshd).is_empty()).await;
            }
            answer
        })
    }

    fn progress(&self, _message: &str) {}
}
