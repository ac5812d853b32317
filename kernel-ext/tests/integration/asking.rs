//! Several who wait share one login and its questions; an answer is given once.

use hpcclient_client::ConnectEvents;
use hpcclient_protocol::{
    ErrorCode,
    bridge::{ClusterState, ConnectEvent},
};

use crate::{Running, eventually};

const OTP: &str = "\nOne-time password for me:\nfrom your phone ";

async fn asking() -> Running {
    let running = Running::start().await;
    *running.site.asks.lock().unwrap() = Some(OTP);
    running
}

async fn prompt(events: &mut ConnectEvents) -> String {
    while let Some(event) = events.next().await.unwrap() {
        if let ConnectEvent::Prompt { id, .. } = event {
            return id;
        }
    }
    panic!("no question")
}

/// Reads on to the end and returns the questions on the way, and the end.
async fn rest(mut events: ConnectEvents) -> (usize, ConnectEvent) {
    let mut prompts = 0;
    while let Some(event) = events.next().await.unwrap() {
        match event {
            ConnectEvent::Prompt { .. } => prompts += 1,
            ConnectEvent::Progress { .. } => {}
            end => return (prompts, end),
        }
    }
    panic!("no end")
}

#[tokio::test]
async fn three_who_wait_share_one_login_and_one_question_that_moves_on() {
    let running = asking().await;
    let mut first = running.client.connect("c").await.unwrap();
    let gone = prompt(&mut first).await;
    let mut second = running.client.connect("c").await.unwrap();
    let third = running.client.connect("c").await.unwrap();
    assert_eq!(
        running.status("c").await.waiting.as_deref(),
        Some("an answer to: One-time password for me:")
    );
    drop(first);
    let id = prompt(&mut second).await;
    assert_ne!(id, gone);
    let answer = Some("secret".to_owned());
    running.client.answer(&id, answer).await.unwrap();
    let ((more, end), (asked, other_end)) = tokio::join!(rest(second), rest(third));
    assert!(matches!(end, ConnectEvent::Connected { .. }), "{end:?}");
    assert!(matches!(other_end, ConnectEvent::Connected { .. }));
    assert_eq!((more, asked), (0, 0), "nobody else was asked");
    assert_eq!(running.site.dials(), 1);
    assert_eq!(*running.site.answers.lock().unwrap(), ["secret"]);
    assert_eq!(running.status("c").await.waiting, None);
    running.end().await;
}

#[tokio::test]
async fn a_refused_answer_is_not_sent_again() {
    let running = asking().await;
    let mut first = running.client.connect("c").await.unwrap();
    let id = prompt(&mut first).await;
    let second = running.client.connect("c").await.unwrap();
    let answer = Some("wrong".to_owned());
    running.client.answer(&id, answer).await.unwrap();
    for events in [first, second] {
        let (prompts, end) = rest(events).await;
        assert_eq!(prompts, 0);
        let ConnectEvent::Failed { error } = end else {
            panic!("{end:?}");
        };
        assert_eq!(error.code, ErrorCode::AuthFailed);
    }
    assert_eq!(running.status("c").await.state, ClusterState::Failed);
    assert_eq!(running.site.dials(), 1);
    assert_eq!(*running.site.answers.lock().unwrap(), ["wrong"]);
    running.end().await;
}

#[tokio::test]
async fn a_reconnect_that_needs_a_code_waits_for_somebody_to_come() {
    let running = Running::connected().await;
    *running.site.asks.lock().unwrap() = Some(OTP);
    running.site.cut();
    let failed = running.reaches("c", ClusterState::Failed).await;
    let error = failed.error.unwrap();
    assert!(
        error.message.contains("c needs your code") && error.message.contains("One-time password"),
        "{error}"
    );
    assert!(error.hints[0].contains("`hpcclient connect c`"), "{error}");
    assert_eq!(running.site.dials(), 2);

    let mut events = running.client.connect("c").await.unwrap();
    let id = prompt(&mut events).await;
    eventually(async || (running.site.dials() == 3).then_some(())).await;
    let answer = Some("secret".to_owned());
    running.client.answer(&id, answer).await.unwrap();
    let (_, end) = rest(events).await;
    assert!(matches!(end, ConnectEvent::Connected { .. }), "{end:?}");
    running.end().await;
}
