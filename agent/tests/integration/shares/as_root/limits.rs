//! What cannot be shared, and what a stranger cannot do.

use hpcclient_protocol::{
    RunId, ShareId, StreamName,
    live::Access,
    share::{ShareSpec, SharedObject},
};
use http::StatusCode;

use super::super::visit::{
    BOB, CAROL, Follower, ask, cat, door, get, has_door, share, spec, try_share,
};
use crate::node::{Node, shell, with_tasks};

#[test]
fn what_cannot_be_shared_is_refused_and_says_why() {
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        let run = RunId::random();
        client.put(run, &shell("true")).await;
        client.follow(run, 0).await;
        let good = spec(run, &[BOB.0], Access::View);
        let refused = async |change: &dyn Fn(&mut ShareSpec)| {
            let mut spec = good.clone();
            change(&mut spec);
            let (status, body) = try_share(&client, ShareId::random(), &spec).await;
            (status.as_u16(), body)
        };
        let day = 86_400_000;
        let now = hpcagent::clock::now_ms();
        for (status, word, change) in [
            (
                404,
                "no user `nobody-here`",
                &(|s: &mut ShareSpec| s.guests = vec!["nobody-here".into()])
                    as &dyn Fn(&mut ShareSpec),
            ),
            (404, "no user `1`", &|s| s.guests = vec!["1".into()]),
            (400, "1 to 32 guests", &|s| s.guests.clear()),
            (400, "already yours", &|s| s.guests = vec!["root".into()]),
            (400, "before it begins", &|s| s.expires_ms = Some(now - 1)),
            (400, "within 7 days", &|s| {
                s.access = Access::Drive;
                s.expires_ms = Some(now + 8 * day);
            }),
            (400, "no stream `tty`", &|s| {
                s.object = SharedObject::Run {
                    run,
                    streams: vec![StreamName::Tty],
                }
            }),
            (400, "can only be viewed", &|s| {
                s.access = Access::Drive;
                s.object = SharedObject::Run {
                    run,
                    streams: vec![StreamName::Stdout],
                };
            }),
            (404, "does not exist", &|s| {
                s.object = SharedObject::Run {
                    run: RunId::random(),
                    streams: vec![],
                }
            }),
            (404, "cannot read", &|s| {
                s.object = SharedObject::File {
                    path: "/nothing/here".into(),
                }
            }),
            (409, "directory", &|s| {
                s.object = SharedObject::File {
                    path: "/etc".into(),
                }
            }),
            (409, "not a regular file", &|s| {
                s.object = SharedObject::File {
                    path: "/dev/null".into(),
                }
            }),
            (400, "can only be viewed", &|s| {
                s.access = Access::Drive;
                s.object = SharedObject::File {
                    path: "/etc/passwd".into(),
                };
            }),
        ] {
            let (got, body) = refused(change).await;
            assert!(got == status && body.contains(word), "{word}: {got} {body}");
        }
        assert!(!has_door(&node));
        // A retry shares once; another spec under the same id is a conflict.
        let id = ShareId::random();
        assert_eq!(try_share(&client, id, &good).await.0, StatusCode::CREATED);
        assert_eq!(try_share(&client, id, &good).await.0, StatusCode::OK);
        let mut other = good.clone();
        other.access = Access::Drive;
        assert_eq!(try_share(&client, id, &other).await.0, StatusCode::CONFLICT);
        // Whoever lets others type does so for a time.
        let shared = share(&client, &other).await;
        assert!(shared.spec.expires_ms.unwrap() <= hpcagent::clock::now_ms() + 7 * day);
    });
}

#[test]
fn one_who_only_holds_connections_is_cut_and_holds_up_nobody() {
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        let run = RunId::random();
        client.put(run, &cat()).await;
        share(&client, &spec(run, &[BOB.0], Access::View)).await;
        let door = door(&node).await;
        // More than a stranger may have, and none of them says what it wants.
        let slow: Vec<_> = (0..8)
            .map(|_| Follower::start(CAROL.1, &door, "GET /v1/shares HTTP/1.1\r\nhost:"))
            .collect();
        assert_eq!(get(BOB.1, &door, &format!("/v1/runs/{run}")).0, "200");
        for mut follower in slow {
            follower.until("END");
        }
        let long = format!("/v1/shares?{}", "x".repeat(100_000));
        assert_ne!(get(BOB.1, &door, &long).0, "200");
        let large = format!("POST /v1/runs/{run}/resize {}", "x".repeat(100_000));
        assert_ne!(ask(BOB.1, &door, &[large])[0].0, "200");
        assert_eq!(get(BOB.1, &door, &format!("/v1/runs/{run}")).0, "200");
    });
}
