//! What cannot be held against `ssh -G`: files of the home folder, refusals, and what is beyond this reader.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use proptest::prelude::*;

use super::*;

struct Home(tempfile::TempDir);

impl Home {
    fn new(files: &[(&str, &str)]) -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        for (name, text) in files {
            let path = home.0.path().join(".ssh").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        home
    }

    fn local(&self) -> Local {
        Local {
            home: self.0.path().to_owned(),
            user: Some("me".to_owned()),
            uid: rustix::process::getuid().as_raw(),
            hostname: "laptop".to_owned(),
        }
    }

    fn read(&self, host: &str) -> Result<Settings, SshError> {
        read(&Address::parse(host).unwrap(), None, &self.local(), &|_| {
            false
        })
    }
}

#[test]
fn the_users_file_may_include_its_neighbours() {
    let home = Home::new(&[
        ("config", "Include conf.d/* ~/.ssh/more\nUser u\n"),
        ("conf.d/10-one", "Host a\n  Port 7\nHost b\n  Port 8\n"),
        ("more", "HostName %h.example\n"),
    ]);
    let found = home.read("a").unwrap();
    assert_eq!(found.port, Some(7));
    assert_eq!(found.user.as_deref(), Some("u"));
    assert_eq!(found.hostname.as_deref(), Some("a.example"));
    assert_eq!(home.read("b").unwrap().port, Some(8));
}

#[test]
fn a_file_that_others_can_write_to_is_refused() {
    let home = Home::new(&[("config", "Include other\n"), ("other", "Port 7\n")]);
    assert_eq!(home.read("a").unwrap().port, Some(7));
    let other = home.0.path().join(".ssh/other");
    fs::set_permissions(other, fs::Permissions::from_mode(0o666)).unwrap();
    let refused = home.read("a").unwrap_err().to_string();
    assert!(refused.contains(".ssh/other") && refused.contains("others can write"));
}

#[test]
fn a_file_that_includes_itself_is_refused() {
    let home = Home::new(&[("config", "Include config\n")]);
    let refused = home.read("a").unwrap_err().to_string();
    assert!(refused.contains("includes itself"), "{refused}");
}

#[test]
fn what_this_reader_does_not_know_is_said() {
    let home = Home::new(&[(
        "config",
        "Match localnetwork 10.0.0.0/8\n  Port 1\nHost *\n  CanonicalizeHostname yes\n  User \"open\n",
    )]);
    let found = home.read("a").unwrap();
    assert_eq!(found.port, None);
    for said in ["Match localnetwork", "CanonicalizeHostname", "open quote"] {
        let remarks = &found.remarks;
        assert!(remarks.iter().any(|remark| remark.contains(said)), "{said}");
    }
}

#[test]
fn a_configuration_that_was_named_has_to_be_there() {
    let home = Home::new(&[]);
    let asked = Address::parse("a").unwrap();
    let gone = home.0.path().join("gone");
    assert!(read(&asked, Some(&gone), &home.local(), &|_| false).is_err());
    assert!(read(&asked, None, &home.local(), &|_| false).is_ok());
}

proptest! {
    #[test]
    fn no_file_makes_it_panic(
        text in any::<String>(),
        lines in proptest::collection::vec(
            "(Host|Match|Match exec|HostName|Port|ProxyJump|IdentityFile|Include)[ =]?[ -~]{0,30}",
            0..20,
        ),
    ) {
        let asked = Address::parse("alice@host").unwrap();
        let home = Home::new(&[]);
        let local = home.local();
        for text in [text, lines.join("\n")] {
            let mut reader = Reader::new(&asked, &local, &|_| true);
            reader.folder = home.0.path().to_owned();
            let _ = reader.text(&text, DEEPEST);
            reader.start_final_pass();
            let _ = reader.text(&text, DEEPEST);
            let _ = reader.finish();
        }
    }
}
