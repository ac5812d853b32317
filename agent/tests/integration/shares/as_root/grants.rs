//! Who gets what through the share socket.

use std::path::Path;

use hpcclient_protocol::{
    RunId, ShareId, StreamName,
    live::Access,
    share::{Share, SharedObject},
};

use http::StatusCode;

use super::super::visit::{
    BOB, CAROL, Follower, ask, cat, door, get, has_door, revoke, share, spec,
};
use crate::node::{Node, wait_until, with_tasks};

/// Every question to a run, on the share socket and on the agent's own.
fn questions(run: RunId) -> Vec<String> {
    let mut all = vec![
        format!("GET /v1/runs/{run}"),
        format!("GET /v1/runs/{run}/stream?follow=false"),
        format!("GET /v1/runs/{run}/stdout"),
        format!("GET /v1/runs/{run}/stderr"),
        format!("POST /v1/runs/{run}/stdin?writer=w&seq=1 typed"),
        format!("POST /v1/runs/{run}/signal {{\"signal\":\"TERM\"}}"),
    ];
    for part in [
        "kill", "resize", "signal", "stdin", "stream", "stdout", "viewers", "export", "x",
    ] {
        all.extend(
            ["PUT", "DELETE", "PATCH", "OPTIONS"]
                .map(|verb| format!("{verb} /v1/runs/{run}/{part} {{}}")),
        );
    }
    all.extend([
        format!("POST /v1/runs/{run}/kill"),
        format!("GET /v1/runs/{run}/export?as=raw"),
        format!("GET /v1/runs/{run}/viewers"),
        format!("GET /v1/runs/{run}/../{run}/stdout"),
        format!("GET /v1/runs/{run}%2Fstdout"),
        format!("PUT /v1/runs/{run} {{\"command\":{{\"shell\":\"id\"}}}}"),
        format!("DELETE /v1/runs/{run}"),
        "GET /v1/runs".to_owned(),
        "GET /v1/status".to_owned(),
        "GET /v1/files?path=/".to_owned(),
        "GET /v1/file?path=/etc/passwd".to_owned(),
        "GET /v1/events".to_owned(),
        "GET /v1/audit".to_owned(),
        "GET /v1/live".to_owned(),
        "POST /v1/stop {\"endRuns\":true}".to_owned(),
        format!("PUT /v1/shares/{} {{}}", ShareId::random()),
        "GET /".to_owned(),
    ]);
    all
}

/// Returns which of the questions were answered with something else than the one 404.
fn answered(uid: u32, socket: &Path, questions: &[String]) -> Vec<String> {
    let answers = ask(uid, socket, questions);
    let hidden = r#"{"code":"notFound","message":"nothing of this name is shared with you"}"#;
    let open = answers
        .iter()
        .zip(questions)
        .filter(|((status, body), question)| {
            let is_hidden = status == "404" && body == hidden;
            assert!(is_hidden || status == "200", "{question}: {status} {body}");
            !is_hidden
        });
    open.map(|(_, question)| question.clone()).collect()
}

#[test]
fn two_shares_of_a_stream_each_show_both_until_one_is_taken_back() {
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        let run = RunId::random();
        client.put(run, &cat()).await;
        let mut shares = vec![];
        for stream in [StreamName::Stdout, StreamName::Stderr] {
            let mut one = spec(run, &[BOB.0], Access::View);
            let streams = vec![stream];
            one.object = SharedObject::Run { run, streams };
            shares.push(share(&client, &one).await);
        }
        let door = door(&node).await;
        let stored = format!("/v1/runs/{run}/stream?follow=false");
        wait_until("both streams", || {
            let text = get(BOB.1, &door, &stored).1;
            text.contains("begun") && text.contains("~problem")
        });
        let path = format!("/v1/runs/{run}/search?pattern=e");
        let (_, found) = get(BOB.1, &door, &path);
        assert!(
            found.contains("begun") && found.contains("problem"),
            "{found}"
        );
        // Who follows is seen, sees the others, and is cut when one of the two ends.
        let viewers = format!("/v1/runs/{run}/viewers");
        assert_eq!(get(BOB.1, &door, &viewers).0, "404", "bob is not there");
        let follow = format!("GET /v1/runs/{run}/stream HTTP/1.1\r\nhost: a\r\n\r\n");
        let mut bob = Follower::start(BOB.1, &door, &follow);
        bob.until("problem");
        let (status, seen) = get(BOB.1, &door, &viewers);
        assert!(status == "200" && seen.contains(BOB.0), "{status} {seen}");
        assert_eq!(get(CAROL.1, &door, &viewers).0, "404");
        assert_eq!(revoke(&client, shares[1].id).await, StatusCode::NO_CONTENT);
        bob.until("END");
        let (_, text) = get(BOB.1, &door, &stored);
        assert!(
            text.contains("begun") && !text.contains("~problem"),
            "{text}"
        );
    });
}

#[test]
fn every_user_gets_what_was_shared_with_them_and_nothing_else() {
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        let (viewed, driven, part, other) = (
            RunId::random(),
            RunId::random(),
            RunId::random(),
            RunId::random(),
        );
        for run in [viewed, driven, part, other] {
            client.put(run, &cat()).await;
        }
        assert!(!has_door(&node), "nothing is shared yet");
        share(&client, &spec(viewed, &[BOB.0], Access::View)).await;
        share(&client, &spec(driven, &[BOB.0], Access::Drive)).await;
        let mut stdout = spec(part, &[BOB.0], Access::View);
        stdout.object = SharedObject::Run {
            run: part,
            streams: vec![StreamName::Stdout],
        };
        share(&client, &stdout).await;
        let door = door(&node).await;
        for run in [viewed, driven, part] {
            let all = questions(run);
            assert_eq!(answered(CAROL.1, &door, &all), [""; 0], "carol is no guest");
            assert_eq!(answered(65534, &door, &all), [""; 0]);
            assert_eq!(
                answered(0, &door, &all),
                [""; 0],
                "root comes in by the other door"
            );
        }
        assert_eq!(
            answered(BOB.1, &door, &questions(other)),
            [""; 0],
            "not shared"
        );
        assert_eq!(
            answered(BOB.1, &door, &questions(RunId::random())),
            [""; 0],
            "guessed"
        );
        let all = questions(viewed);
        assert_eq!(answered(BOB.1, &door, &all), all[..4]);
        let all = questions(driven);
        assert_eq!(answered(BOB.1, &door, &all), all[..5]);
        let all = questions(part);
        assert_eq!(answered(BOB.1, &door, &all), all[..3]);
        // What they got is what it should be.
        wait_until("the guest's line is in", || {
            get(BOB.1, &door, &format!("/v1/runs/{driven}/stdout"))
                .1
                .contains("typed")
        });
        let (_, stream) = get(
            BOB.1,
            &door,
            &format!("/v1/runs/{part}/stream?follow=false"),
        );
        assert!(
            stream.contains("begun") && !stream.contains("~problem"),
            "{stream}"
        );
        for path in [
            format!("/v1/runs/{viewed}"),
            format!("/v1/runs/{viewed}/stream?follow=false"),
        ] {
            let (_, text) = get(BOB.1, &door, &path);
            assert!(
                text.contains("exec cat") && !text.contains("s3cret") && !text.contains("TOKEN"),
                "{text}"
            );
        }
        let listed = |uid| get(uid, &door, "/v1/shares").1;
        assert_eq!(listed(CAROL.1), "[]");
        assert_eq!(listed(0), "[]");
        let shares: Vec<Share> = serde_json::from_str(&listed(BOB.1)).unwrap();
        assert_eq!(shares.len(), 3);
        // INT is for those who drive.
        let int = |run| format!("POST /v1/runs/{run}/signal {{\"signal\":\"INT\"}}");
        let answers = ask(BOB.1, &door, &[int(viewed), int(part), int(driven)]);
        let statuses: Vec<_> = answers.iter().map(|(status, _)| status.as_str()).collect();
        assert_eq!(statuses, ["404", "404", "200"]);
        assert_eq!(
            client
                .follow(driven, 0)
                .await
                .end
                .unwrap()
                .signal
                .as_deref(),
            Some("INT")
        );
        assert!(!client.get(viewed).await.state.is_final());
    });
}
