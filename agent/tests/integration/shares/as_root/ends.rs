//! How a share ends, and what is left of it.

use std::{fs, os::unix::fs::PermissionsExt};

use hpcclient_protocol::{
    RunId, ShareId,
    live::{Access, Viewer},
    share::{AuditList, ShareList},
};
use http::{Method, StatusCode};
use serde_json::json;

use super::super::visit::{
    BOB, CAROL, Follower, cat, door, has_door, read, revoke, share, spec, try_share,
};
use crate::node::{Node, wait_until, with_tasks};

#[test]
fn a_share_that_was_taken_back_or_is_over_cuts_who_is_looking() {
    with_tasks(async {
        let mut node = Node::start();
        let client = node.client().await;
        let run = RunId::random();
        client.put(run, &cat()).await;
        let view = spec(run, &[BOB.0, CAROL.0], Access::View);
        let shared = share(&client, &view).await;
        let follow = format!("GET /v1/runs/{run}/stream HTTP/1.1\r\nhost: a\r\n\r\n");
        let socket = door(&node).await;
        let mut bob = Follower::start(BOB.1, &socket, &follow);
        bob.until("begun");
        let viewers = client
            .ask(Method::GET, &format!("/v1/runs/{run}/viewers"), "")
            .await;
        if viewers.0 == StatusCode::OK {
            let viewers: Vec<Viewer> = serde_json::from_slice(&viewers.1).unwrap();
            assert_eq!(viewers[0].user, BOB.0);
        }
        assert_eq!(revoke(&client, shared.id).await, StatusCode::NO_CONTENT);
        bob.until("END");
        assert_eq!(revoke(&client, shared.id).await, StatusCode::NOT_FOUND);
        wait_until("the door is shut", || !has_door(&node));
        assert!(!socket.exists() && !socket.parent().unwrap().exists());

        // It outlives the agent, also one that is killed, and ends all the same.
        let shared = share(&client, &view).await;
        drop(client);
        node.kill_agent();
        node.detach();
        let client = node.client().await;
        let list: ShareList = read(&client, "/v1/shares").await;
        assert_eq!(list.by_me, std::slice::from_ref(&shared));
        let socket = door(&node).await;
        let mut bob = Follower::start(BOB.1, &socket, &follow);
        bob.until("begun");
        assert_eq!(revoke(&client, shared.id).await, StatusCode::NO_CONTENT);
        bob.until("END");
        drop(client);
        node.kill_agent();
        node.detach();
        let client = node.client().await;
        assert_eq!(read::<ShareList>(&client, "/v1/shares").await.by_me, []);
        assert!(!has_door(&node));

        // It ends by itself, and whoever is looking is cut.
        let mut short = view.clone();
        short.expires_ms = Some(hpcagent::clock::now_ms() + 3000);
        share(&client, &short).await;
        let socket = door(&node).await;
        let mut bob = Follower::start(BOB.1, &socket, &follow);
        bob.until("begun");
        bob.until("END");
        wait_until("the door is shut", || !has_door(&node));
        assert_eq!(read::<ShareList>(&client, "/v1/shares").await.by_me, []);

        let audit: AuditList = read(&client, "/v1/audit?limit=1000").await;
        let actions: Vec<_> = audit
            .entries
            .iter()
            .map(|entry| entry.action.as_str())
            .collect();
        assert_eq!(
            actions.iter().filter(|action| **action == "opened").count(),
            3,
            "{actions:?}"
        );
        assert!(
            audit
                .entries
                .iter()
                .all(|entry| entry.guest == BOB.0 && entry.uid == BOB.1)
        );
        let file = node
            .state()
            .join("node")
            .join(hpcagent::place::host_name())
            .join(format!("audit.{}.ndjson", BOB.1));
        assert_eq!(
            fs::metadata(file).unwrap().permissions().mode() & 0o777,
            0o600
        );
    });
}

#[test]
fn where_the_site_forbids_it_nothing_is_shared() {
    with_tasks(async {
        let root = tempfile::tempdir().unwrap();
        let policy = root.path().join("policy.toml");
        fs::write(&policy, "sharing = true\n").unwrap();
        let node = Node::start_under(root.path());
        let client = node.client().await;
        let run = RunId::random();
        client.put(run, &cat()).await;
        let view = spec(run, &[BOB.0], Access::View);
        let shared = share(&client, &view).await;
        // What was shared before the site said no is not shared after the next look, or start.
        for text in ["sharing = false\n", "sharing = maybe\n"] {
            fs::write(&policy, text).unwrap();
            let (status, body) = try_share(&client, ShareId::random(), &view).await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{body}");
            assert!(body.contains("policy.toml"), "{body}");
            let list: ShareList = read(&client, "/v1/shares").await;
            assert!(list.off.unwrap().contains("policy.toml"));
        }
        wait_until("the door is shut", || !has_door(&node));
        fs::write(&policy, json!("not toml").to_string()).unwrap();
        assert_eq!(revoke(&client, shared.id).await, StatusCode::NO_CONTENT);
    });
}
