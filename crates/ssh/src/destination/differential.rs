//! Holds [`super::config_file`] against the installed `ssh -G`: whatever is honoured, both have to read alike.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::address::Address;
use super::assemble::assemble;
use super::local::Local;
use super::settings::Settings;
use super::{Destination, DestinationOptions, config_file, openssh};

/// Configurations that people have, and the destinations to ask about. `DIR` stands for a folder with the files of
/// [`INCLUDED`].
const CASES: &[(&str, &[&str])] = &[
    ("", &["login", "alice@login:2222", "UPPER.Example", "::1"]),
    (
        "# The first value counts.\nHost login\n  Port 2200\nHost *\n  Port 22\n  User alice\nHost login\n  Port 1\n",
        &["login", "bob@login", "other:7"],
    ),
    (
        "Host login* !login9 !*.old\n  User alice\nHost LOGIN1\n  Port 9\nHost login?\n  Port 8\n",
        &["login1", "login9", "login.old", "login", "LOGIN1"],
    ),
    (
        "Host c\n  HostName %h.Cluster.Example\n  HostKeyAlias cluster\nHost v6\n  HostName 0:0::1\n\
         Host p\n  HostName 100%%\n",
        &["c", "v6"],
    ),
    (
        "user=Alice\nPort = 2222\nIdentityFile=\"/keys/with space\"\nIdentityFile '/single/quoted'\n\
         IdentityFile /back\\ slash # comment\nidentityFILE /keys/with\\\"quote\nIdentityFile /a#b\n\
         IdentityFile \"/keys/with space\"\nIdentitiesOnly yes\n",
        &["login"],
    ),
    (
        "Host a\n  IdentityFile ~/.ssh/%r@%h:%p\n  CertificateFile ~/.ssh/%n-%u-%i-cert.pub\n  User %notatoken\n\
         Host b\n  IdentityFile ${HOME}/keys/%k\n  IdentityFile %d/.ssh/%L.%l\n  IdentityFile /%C\n\
         CertificateFile none\n",
        &["alice@a", "b", "bob@b:7"],
    ),
    (
        "Host a\n  IdentityFile none\n  UserKnownHostsFile none\n  IdentityAgent none\n\
         Host b\n  UserKnownHostsFile ~/.ssh/known/%k \"/with space/%h%%\" ~/x\n  IdentityAgent ~/agents/%r\n\
         GlobalKnownHostsFile /one /two\n  HashKnownHosts yes\nHost c\n  IdentityAgent SSH_AUTH_SOCK\n\
         UserKnownHostsFile ~/.ssh/known_hosts\n  UpdateHostKeys yes\nHost d\n  UserKnownHostsFile /d\n\
         Host e\n  VerifyHostKeyDNS yes\n  UpdateHostKeys ask\n",
        &["a", "b", "c", "d", "e"],
    ),
    (
        "Host a\n  StrictHostKeyChecking yes\n  ConnectTimeout 1m\n  ServerAliveInterval 2m5\n\
         Host b\n  StrictHostKeyChecking accept-new\n  ConnectTimeout none\n\
         Host c\n  StrictHostKeyChecking no\n  ServerAliveInterval 0\nHost d\n  StrictHostKeyChecking ask\n",
        &["a", "b", "c", "d"],
    ),
    (
        "Host a\n  PreferredAuthentications keyboard-interactive,publickey\n\
         Host b\n  PasswordAuthentication no\n  PubkeyAuthentication no\n\
         Host c\n  KbdInteractiveAuthentication no\n  GSSAPIAuthentication yes\n\
         Host d\n  ChallengeResponseAuthentication no\n",
        &["a", "b", "c", "d"],
    ),
    (
        "Host cluster\n  ProxyJump gate,bob@second:2222,ssh://third:33 # c\nHost gate\n  ProxyJump none\n\
         Host either\n  ProxyCommand nc %h %p\n  ProxyJump gate\nHost or\n  ProxyJump gate\n  ProxyCommand nc %h %p\n\
         Host neither\n  ProxyCommand none\n  ProxyJump gate\nHost token\n  ProxyJump gate-%h\n\
         Host *\n  ProxyJump gate\n",
        &[
            "cluster", "gate", "either", "or", "neither", "token", "other",
        ],
    ),
    (
        // As `step ssh config` writes it.
        "Match exec \"test %h != gate.example -a -n '%r%p%n%u%d%i%L%l'\"\n  User alice\n\
         UserKnownHostsFile \"/home/alice/.step/ssh/known_hosts\"\n\
         ProxyCommand \"/usr/bin/step\" \"ssh\" \"proxycommand\" \"%r\" \"%h\" \"%p\" # kept\n\
         CertificateFile ~/.step/ssh/%r-cert.pub\nMatch all\n  Port 2222\n",
        &["login.example", "gate.example"],
    ),
    (
        "Host login\n  HostName login.cluster.example\n  User alice\n\
         Match host *.cluster.example user alice exec true\n  IdentityFile /keys/cluster\n\
         Match originalhost login,x !exec \"false\"\n  CertificateFile /certs/one\n\
         Match !host login.cluster.example\n  Port 1\nMatch host=LOGIN.* !user bob\n  Port 2\n\
         Match user root,b*,!bill\n  ServerAliveInterval 7\n",
        &["login", "bob@login", "bill@login", "x"],
    ),
    (
        "Host login\n  HostName login.cluster.example\nMatch final host login.cluster.example\n  User final\n\
         Host *.cluster.example\n  Port 2222\nMatch !final host *\n  ConnectTimeout 9\n\
         Match canonical all\n  HostKeyAlias again\nHost login\n  IdentityFile /once\n",
        &["login", "other", "bob@login"],
    ),
    (
        "Include DIR/conf.d/*\nHost a\n  Include DIR/for-a DIR/gone\nHost b\n  User outer\nInclude DIR/nested\n",
        &["a", "b", "c"],
    ),
    (
        "Match all\n  Include DIR/ends-in-a-block\nPort 44\nHost zzz\n  Include DIR/ends-in-a-block\nUser nobody\n",
        &["a", "zzz"],
    ),
    (
        "Host *\n  PKCS11Provider /lib/p.so\n  KnownHostsCommand /bin/keys %H\n  ProxyUseFdpass no\n\
         BindAddress 10.0.0.1\n  AddressFamily inet6\n  ForwardAgent yes\n  LocalForward 8888 localhost:8888\n\
         LocalForward 9999 localhost:9999\n  RemoteCommand tmux attach # kept\n  RevokedHostKeys /revoked\n\
         Ciphers aes128-ctr\n  KexAlgorithms +diffie-hellman-group14-sha1\n  ControlMaster auto\n  SetEnv A=b\n\
         ServerAliveCountMax 5\n",
        &["a"],
    ),
    (
        "Host *\n  AddressFamily any\n  ForwardAgent no\n  ControlMaster no\n  RemoteCommand none\n  BatchMode no\n\
         PKCS11Provider none\n  KnownHostsCommand none\n  ServerAliveCountMax 3\n  SendEnv LANG LC_*\n",
        &["a"],
    ),
];

const INCLUDED: &[(&str, &str)] = &[
    ("conf.d/10", "Host a\n  User ten\n  IdentityFile /ten\n"),
    (
        "conf.d/20",
        "Host *\n  User twenty\n  IdentityFile /twenty\n",
    ),
    ("for-a", "Port 99\nHost b\n  Port 98\n"),
    ("nested", "Include DIR/for-nested\nHost c\n  Port 50\n"),
    ("for-nested", "Match host c\n  HostKeyAlias nested\n"),
    ("ends-in-a-block", "Port 55\nHost nothing\n  Port 56\n"),
];

struct Both {
    by_ssh: (Settings, Destination),
    by_parser: (Settings, Destination),
}

/// What `ssh` takes for the home, whatever `HOME` says.
fn home_of_passwd() -> PathBuf {
    let uid = rustix::process::getuid().as_raw().to_string();
    let mut getent = std::process::Command::new("getent");
    let output = getent.args(["passwd", &uid]).output().unwrap();
    let line = String::from_utf8(output.stdout).unwrap();
    line.split(':').nth(5).unwrap().into()
}

async fn read(config: &Path, asked: &str) -> Both {
    let asked = Address::parse(asked).unwrap();
    let local = Local {
        home: home_of_passwd(),
        ..Local::here().await
    };
    let options = DestinationOptions::default();
    let by_ssh = openssh::settings(&asked, Some(config)).await.unwrap();
    let by_parser = config_file::settings(&asked, Some(config), &local).await;
    let made = |settings: Settings| {
        let (mut made, jump) = assemble(&options, &asked, &settings, &local).unwrap();
        // What `ssh` prints of a list is not how it was written.
        made.host_alias = jump
            .iter()
            .flat_map(|list| list.split(','))
            .map(|hop| format!("{:?} ", Address::parse(hop).unwrap()))
            .collect();
        // Kinds of keys that newer versions do not know any more, and the built-in client never did.
        made.identity_files
            .retain(|file| !file.ends_with(".ssh/id_dsa") && !file.ends_with(".ssh/id_xmss"));
        (settings, made)
    };
    Both {
        by_ssh: made(by_ssh.expect("the tests need an installed ssh")),
        by_parser: made(by_parser.unwrap()),
    }
}

/// The keywords that the notes are about; their values `ssh` prints in its own way.
fn noted(settings: &Settings) -> BTreeSet<&str> {
    let notes = settings.unused.iter().map(|unused| unused.note.as_str());
    let unused = notes.filter_map(|note| note.split(' ').next());
    unused.chain(settings.algorithms.iter().copied()).collect()
}

#[tokio::test]
async fn the_parser_and_ssh_read_alike() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().display().to_string();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text.replace("DIR", &dir)).unwrap();
        path
    };
    for (name, text) in INCLUDED {
        write(name, text);
    }
    let mut compared = 0;
    for (text, destinations) in CASES {
        let config = write("config", text);
        for asked in *destinations {
            let Both { by_ssh, by_parser } = read(&config, asked).await;
            assert_eq!(by_parser.1, by_ssh.1, "{asked} by\n{text}");
            assert_eq!(noted(&by_parser.0), noted(&by_ssh.0), "{asked} by\n{text}");
            assert_eq!(
                by_parser.0.needs_openssh.len(),
                by_ssh.0.needs_openssh.len()
            );
            assert_eq!(by_parser.0.remarks, [""; 0], "{asked} by\n{text}");
            compared += 1;
        }
    }
    assert!(compared > 45, "{compared}");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 30,
        // The same files at each run: this looks for differences when the parser changes, not at night in CI.
        rng_seed: RngSeed::Fixed(22),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_order_of_blocks_and_values_is_read_alike(
        lines in proptest::collection::vec(
            prop_oneof![
                "(Host |host=|HOST  )(!?(a|b|a\\?|\\*|A|\\*b\\*)( |  )){1,3}",
                "Match (!?(host|originalhost|user|localuser)[ =](!b,)?(a|b|al\\*|\\*|root|x\\.a)(,bob)? ){1,2}",
                "Match !?(all|final|canonical)",
                "Match (final )?!?exec (true|\"test %[hnr] = (a|b|alice)\")",
                "(Port |port=|PORT = )[1-9][0-9]{0,3}( #c)?",
                "User (alice|bob|\"al\"ice)",
                "HostName (x\\.%h|b|Big)",
                "IdentityFile (/[ab]|\"/[ab] c\"|~/%r|'/%h'|/a\\\\ b)",
                "CertificateFile /c/%[nhrpuidLlkC]",
                "ProxyJump (none|x|y@z:3,w)( #c)?",
                "ProxyCommand (none|nc %h  \"%p\" # %r)",
                "(UserKnownHostsFile|GlobalKnownHostsFile) (/k/%h|none|/a /b)",
                "(HostKeyAlias (k1|k2)|UpdateHostKeys (yes|no))",
                "StrictHostKeyChecking (yes|no|ask|accept-new)",
                "(ConnectTimeout|ServerAliveInterval) [1-9](m[1-9])?",
                "(PreferredAuthentications (publickey|password,publickey)|PasswordAuthentication (yes|no))",
            ],
            0..14,
        ),
        asked in "(bob@)?(a|b|A|x\\.a)(:7)?",
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = lines.join("\n");
        std::fs::write(file.path(), &text).unwrap();
        let Both { by_ssh, by_parser } = runtime.block_on(read(file.path(), &asked));
        prop_assert_eq!(by_parser.1, by_ssh.1, "{} by\n{}", asked, text);
    }
}

/// The table would agree on nothing if both read nothing: what some of it comes to.
#[tokio::test]
async fn the_table_is_about_something() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config");
    std::fs::write(&config, CASES[10].0).unwrap();
    let found = read(&config, "login.example").await.by_parser.1;
    assert_eq!((found.user.as_str(), found.port), ("alice", 2222));
    assert_eq!(
        found.proxy_command.as_deref(),
        Some(
            "\"/usr/bin/step\" \"ssh\" \"proxycommand\" \"alice\" \"login.example\" \"2222\" # kept"
        )
    );
    assert!(found.certificate_files[0].ends_with(".step/ssh/alice-cert.pub"));
    let found = read(&config, "gate.example").await.by_parser.1;
    assert_eq!((found.proxy_command, found.port), (None, 2222));
}
