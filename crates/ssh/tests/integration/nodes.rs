//! The agent of another login node, by way of the one that the login landed on. The nodes are addresses of the loopback
//! with one port, and share a home, as login nodes of a cluster do.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use hpcclient_ssh::{Connection, NoPrompts, Route, SshError};

use crate::agent::{Daemon, agent_binary, node, status};
use crate::server::{Server, until};

const OTHER: &str = "127.0.0.2";

/// Logs in on the first node, where an agent runs then.
async fn landed(server: &Server, known: &str) -> (Connection, Daemon) {
    let destination = server.destination();
    std::fs::write(server.path("known_hosts"), known).unwrap();
    let connection = crate::open(&destination, Arc::new(NoPrompts))
        .await
        .unwrap();
    let line = connection
        .ensure_agent(&agent_binary(), &node(server), &NoPrompts)
        .await
        .unwrap();
    (connection, Daemon::new(line))
}

#[tokio::test]
async fn another_node_is_reached_by_a_forwarded_connection_that_is_kept() {
    let first = Server::start();
    let other = Server::beside(&first, OTHER, "");
    let known = format!("{}{}", first.known_line(), other.known_line());
    let (connection, daemon) = landed(&first, &known).await;
    for _ in 0..2 {
        let reached = connection.open_node_stream(OTHER, &daemon.line).await;
        let reached = reached.unwrap();
        assert_eq!(reached.route, Route::Streamlocal);
        assert_eq!(reached.agent, daemon.line);
        assert!(status(reached.stream).await.starts_with("HTTP/1.1 200"));
    }
    until("the login is in the log", || other.logins() > 0).await;
    assert_eq!(other.logins(), 1);

    // When that session is lost, there is a new one.
    other.kill_sessions();
    until("the session is gone", || other.is_idle()).await;
    let again = connection.open_node_stream(OTHER, &daemon.line).await;
    assert!(
        status(again.unwrap().stream)
            .await
            .starts_with("HTTP/1.1 200")
    );
    until("the second login is in the log", || other.logins() == 2).await;

    connection.close().await;
    until("both nodes are left", || first.is_idle() && other.is_idle()).await;
}

#[tokio::test]
async fn a_node_with_the_key_of_the_clusters_name_is_known() {
    let first = Server::start();
    let shared = format!(
        "HostKey {}\nDisableForwarding yes",
        first.path("host").display()
    );
    let other = Server::beside(&first, OTHER, &shared);
    let (connection, daemon) = landed(&first, &first.known_line()).await;
    let reached = connection.open_node_stream(OTHER, &daemon.line).await;
    let reached = reached.unwrap();
    assert_eq!(reached.route, Route::Exec);
    assert!(status(reached.stream).await.starts_with("HTTP/1.1 200"));
    drop((connection, daemon));
    until("the node is left", || other.is_idle()).await;
}

#[tokio::test]
async fn a_node_whose_key_is_not_known_is_not_talked_to() {
    let first = Server::start();
    let other = Server::beside(&first, OTHER, "");
    // Also if a person had agreed to any key.
    let wrong = other.known_line().replace(
        std::fs::read_to_string(other.path("host.pub"))
            .unwrap()
            .trim(),
        std::fs::read_to_string(first.path("id.pub"))
            .unwrap()
            .trim(),
    );
    for known in [first.known_line(), format!("{}{wrong}", first.known_line())] {
        let (connection, daemon) = landed(&first, &known).await;
        let refused = connection
            .open_node_stream(OTHER, &daemon.line)
            .await
            .unwrap_err();
        let SshError::Hop { node, reason } = &refused else {
            panic!("{refused}");
        };
        assert_eq!(node, OTHER);
        assert!(
            reason.contains("through a forwarded connection: the host key of"),
            "{reason}"
        );
        assert!(reason.contains("by ssh on the node: "), "{reason}");
        assert_eq!(other.logins(), 0);
    }
}

#[tokio::test]
async fn a_node_is_reached_by_ssh_on_the_first_where_nothing_is_forwarded() {
    // A site's configuration of its own: which keys, which port.
    let folder = tempfile::tempdir().unwrap();
    let bin = folder.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    let path = std::env::var("PATH").unwrap();
    let first = Server::with(&format!(
        "DisableForwarding yes\nSetEnv PATH={}:{path}",
        bin.display()
    ));
    let other = Server::beside(&first, OTHER, "");
    std::fs::write(folder.path().join("known"), other.known_line()).unwrap();
    let config = format!(
        "Port {}\nIdentityFile {}\nUserKnownHostsFile {}\nIdentityAgent none\n",
        other.port,
        first.path("id").display(),
        folder.path().join("known").display()
    );
    std::fs::write(folder.path().join("config"), config).unwrap();
    let ssh = format!(
        "#!/bin/sh\nexec /usr/bin/ssh -F {} \"$@\"\n",
        folder.path().join("config").display()
    );
    std::fs::write(bin.join("ssh"), ssh).unwrap();
    std::fs::set_permissions(bin.join("ssh"), PermissionsExt::from_mode(0o755)).unwrap();

    let (connection, daemon) = landed(&first, &first.known_line()).await;
    let reached = connection.open_node_stream(OTHER, &daemon.line).await;
    let reached = reached.unwrap();
    assert_eq!(reached.route, Route::Exec);
    assert_eq!(reached.agent.exec, daemon.line.exec);
    assert!(status(reached.stream).await.starts_with("HTTP/1.1 200"));
    until("the login is in the log", || other.logins() == 1).await;
    connection.close().await;
    until("both nodes are left", || first.is_idle() && other.is_idle()).await;
}

#[tokio::test]
async fn a_node_that_cannot_be_reached_says_why_for_each_way() {
    let first = Server::start();
    let (connection, daemon) = landed(&first, &first.known_line()).await;
    for node in ["-oProxyCommand=touch", "a;b", ""] {
        let refused = connection.open_node_stream(node, &daemon.line).await;
        let refused = refused.unwrap_err();
        assert!(
            matches!(&refused, SshError::Hop { reason, .. } if reason.contains("not the name")),
            "{refused}"
        );
    }
    let refused = connection.open_node_stream("127.0.0.3", &daemon.line).await;
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.contains("through a forwarded connection: "),
        "{refused}"
    );
    assert!(refused.contains("by ssh on the node: "), "{refused}");

    // The loss of the login itself is no news about the node.
    first.kill_sessions();
    let refused = connection.open_node_stream("127.0.0.3", &daemon.line).await;
    let refused = refused.unwrap_err();
    assert!(matches!(refused, SshError::Closed { .. }), "{refused}");
}
