//! Several viewers of one run: what each may do, whose size the terminal has, and who is told.

use hpcclient_protocol::{
    ErrorCode, Frame, RunId, RunSpec,
    event::Event,
    live::{Access, AgentMessage, Viewer as Told, ViewerMessage},
    run::TerminalSize,
};
use http::{Method, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    node::{Client, Node, argv, with_tasks},
    viewer::{Heard, Viewer, over_http1, over_http2},
};

fn console(words: &[&str]) -> RunSpec {
    RunSpec {
        pty: Some(TerminalSize { cols: 80, rows: 24 }),
        ..argv(words)
    }
}

/// Reads until the terminal has shown a text; returns the sizes that came before it.
async fn shown<S: AsyncRead + AsyncWrite + Unpin>(viewer: &mut Viewer<S>, text: &str) -> Vec<u16> {
    let (mut bytes, mut sizes) = (Vec::new(), vec![]);
    while !String::from_utf8_lossy(&bytes).contains(text) {
        match viewer.hear().await {
            Heard::Frame(_, Frame::Data { bytes: more, .. }) => bytes.extend_from_slice(&more),
            Heard::Frame(_, Frame::Resize(size)) => sizes.push(size.cols),
            Heard::Said(AgentMessage::Error { error, .. }) => panic!("{error:?}"),
            _ => {}
        }
    }
    sizes
}

async fn refused<S: AsyncRead + AsyncWrite + Unpin>(viewer: &mut Viewer<S>) -> ErrorCode {
    loop {
        if let Heard::Said(AgentMessage::Error { channel, error }) = viewer.hear().await {
            assert_eq!(channel, None, "the channel stays open");
            return error.code;
        }
    }
}

async fn viewers(client: &Client, id: RunId) -> Vec<Told> {
    let path = format!("/v1/runs/{id}/viewers");
    let (status, body) = client.ask(Method::GET, &path, "").await;
    assert_eq!(status, StatusCode::OK);
    serde_json::from_slice(&body).unwrap()
}

#[test]
fn who_only_views_types_nothing_and_sets_no_size() {
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        let id = RunId::random();
        client.put(id, &console(&["sh"])).await;
        let (mut reader, mut driver) = (over_http1(&node).await, over_http1(&node).await);
        reader.open_as(1, id, u32::MAX, Access::View).await;
        driver.open(1, id, u32::MAX).await;
        reader.stdin(1, 1, b"echo stolen keys\n").await;
        assert_eq!(refused(&mut reader).await, ErrorCode::Forbidden);
        reader.resize(1, 33).await;
        assert_eq!(refused(&mut reader).await, ErrorCode::Forbidden);
        driver.stdin(1, 1, b"stty size; exit\n").await;
        let (mut seen, mut sizes) = (Vec::new(), vec![]);
        loop {
            match reader.hear().await {
                Heard::Frame(_, Frame::Data { bytes, .. }) => seen.extend_from_slice(&bytes),
                Heard::Frame(_, Frame::Resize(size)) => sizes.push(size.cols),
                Heard::Frame(_, Frame::End(_)) => break,
                _ => {}
            }
        }
        let seen = String::from_utf8_lossy(&seen).into_owned();
        assert!(seen.contains("24 80") && !seen.contains("stolen"), "{seen}");
        assert!(sizes.iter().all(|cols| *cols == 80), "{sizes:?}");
    });
}

#[test]
fn a_terminal_has_the_size_of_who_typed_last() {
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        let id = RunId::random();
        client.put(id, &console(&["sh"])).await;
        let (mut one, mut two) = (over_http1(&node).await, over_http1(&node).await);
        one.open(1, id, u32::MAX).await;
        one.resize(1, 91).await;
        one.stdin(1, 1, b"stty size\n").await;
        assert_eq!(
            shown(&mut one, "24 91").await,
            [80, 91],
            "the first driver's"
        );

        two.open(1, id, u32::MAX).await;
        two.resize(1, 120).await;
        let heard = two.pong(1).await;
        let mut sizes: Vec<u16> = vec![];
        sizes.extend(heard.iter().filter_map(|heard| match heard {
            Heard::Frame(_, Frame::Resize(size)) => Some(size.cols),
            _ => None,
        }));
        one.stdin(1, 2, b"stty size; echo s''ame\n").await;
        assert_eq!(
            shown(&mut one, "same").await,
            Vec::<u16>::new(),
            "it waits until they type"
        );
        two.stdin(1, 1, b"stty size; echo o''ther\n").await;
        assert_eq!(
            shown(&mut one, "other").await,
            [120],
            "who types has theirs"
        );
        // Each viewer hears of every size, in the order of the bytes.
        sizes.extend(shown(&mut two, "other").await);
        assert_eq!(sizes, [80, 91, 120]);

        drop(two);
        let back = async {
            loop {
                if let Heard::Frame(_, Frame::Resize(size)) = one.hear().await {
                    return size.cols;
                }
            }
        };
        assert_eq!(back.await, 91, "who is left has theirs again");
        let size = r#"{"cols":100,"rows":24}"#;
        let resize = format!("/v1/runs/{id}/resize");
        client.ask(Method::POST, &resize, size).await;
        one.stdin(1, 3, b"echo l''ast\n").await;
        assert_eq!(
            shown(&mut one, "last").await,
            [100, 91],
            "an order holds until then"
        );
    });
}

#[test]
fn who_looks_is_told_and_a_cut_connection_looks_no_more() {
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        let id = RunId::random();
        client.put(id, &console(&["cat"])).await;
        assert_eq!(viewers(&client, id).await, []);
        let path = format!("/v1/runs/{}/viewers", RunId::random());
        assert_eq!(
            client.ask(Method::GET, &path, "").await.0,
            StatusCode::NOT_FOUND
        );

        let mut watcher = over_http1(&node).await;
        watcher.say(&ViewerMessage::Events).await;
        watcher.pong(1).await;
        let mut guest = over_http1(&node).await;
        guest.open_as(1, id, 0, Access::View).await;
        let told = until(&mut watcher, id, 1).await.0;
        assert_eq!(
            (told[0].user.as_str(), told[0].access),
            ("tester", Access::View)
        );
        assert_eq!(viewers(&client, id).await, told);
        drop(guest);
        until(&mut watcher, id, 0).await;

        // A storm is few events, and the last one has all.
        let mut crowd = over_http2(&client).await;
        for channel in 0..50 {
            crowd.open(channel, id, 0).await;
        }
        let (told, events) = until(&mut watcher, id, 50).await;
        assert!(events <= 25, "{events} events of 50 viewers");
        assert!(told.iter().all(|viewer| viewer.access == Access::Drive));
        crowd.say(&ViewerMessage::Close { channel: 0 }).await;
        until(&mut watcher, id, 49).await;
        drop(crowd);
        until(&mut watcher, id, 0).await;
    });
}

/// Reads events until a run has so many viewers; returns them and how many events it took.
async fn until<S: AsyncRead + AsyncWrite + Unpin>(
    watcher: &mut Viewer<S>,
    id: RunId,
    count: usize,
) -> (Vec<Told>, usize) {
    let mut events = 0;
    loop {
        if let Heard::Said(AgentMessage::Event {
            event: Event::Presence { run, viewers, .. },
        }) = watcher.hear().await
        {
            assert_eq!(run, id);
            events += 1;
            if viewers.len() == count {
                return (viewers, events);
            }
        }
    }
}

#[test]
fn a_stream_over_http_is_a_viewer_where_it_says_so_and_leaves_with_its_end() {
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        let id = RunId::random();
        client.put(id, &console(&["cat"])).await;
        let path = |query: &str| format!("/v1/runs/{id}/stream?{query}");
        let unseen = client.open(Method::GET, &path("tty=0"), "").await;
        let seen = client.open(Method::GET, &path("access=view"), "").await;
        let told = viewers(&client, id).await;
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0].access, Access::View);
        drop((seen, unseen));
        while !viewers(&client, id).await.is_empty() {
            tokio::task::yield_now().await;
        }
    });
}
