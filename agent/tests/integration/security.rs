//! Another user of the node reaches nothing.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use crate::node::Node;

/// Connects, asks and prints what comes back, with what every Debian has.
const PEER: &str = r#"use IO::Socket::UNIX; $SIG{PIPE} = "IGNORE"; my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or do { print "refused: $!"; exit 0 };
print $s "GET /v1/status HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"; $s->flush; local $/; my $a = <$s>; print "got: ", length($a // ""), "\n";"#;

#[test]
fn another_uid_gets_not_a_byte() {
    let node = Node::start();
    let socket = node.hello.socket.clone();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&node.run_dir()), 0o700);
    assert_eq!(mode(socket.as_ref()), 0o600);
    let own = Command::new("perl")
        .args(["-e", PEER, &socket])
        .output()
        .unwrap();
    let own = String::from_utf8_lossy(&own.stdout).into_owned();
    assert!(
        own.starts_with("got: ") && own.trim() != "got: 0",
        "the peer itself works: {own}"
    );
    if !rustix::process::getuid().is_root() {
        return;
    }
    let other = || {
        let output = Command::new("setpriv")
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
            .args(["perl", "-e", PEER, &socket])
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(other().starts_with("refused: "), "{}", other());
    // Also when the directory's mode did not hold, such as on a file system that ignores modes.
    fs::set_permissions(node.run_dir(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(other().trim(), "got: 0");
    fs::set_permissions(node.run_dir(), fs::Permissions::from_mode(0o700)).unwrap();
}
