//! Servers that mean harm: each ends in an error, soon, and without taking the memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use hpcclient_ssh::{Destination, NoPrompts, Prompt, Prompter, SshError};
use russh::keys::key::safe_rng;
use russh::keys::{Algorithm, PrivateKey};
use russh::server::{self, Auth, Response};
use russh::{MethodKind, MethodSet, Preferred, cipher, kex};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::bare::{Bare, string};
use crate::played::Stage;

/// How much memory a login may take on the way to its error.
const MOST_KIB: u64 = 32 << 10;

/// Logs in in vain, and checks what that cost.
async fn harmless(destination: &Destination, limit: Duration) -> SshError {
    // The highest mark from here on.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let (before, begun) = (kib("VmRSS:"), Instant::now());
    let refused = crate::open(destination, Arc::new(Says("yes")))
        .await
        .unwrap_err();
    let (took, grown) = (begun.elapsed(), kib("VmHWM:").saturating_sub(before));
    assert!(took < limit, "{refused} after {took:?}");
    assert!(grown < MOST_KIB, "{refused} with {grown} KiB more");
    assert!(refused.to_string().len() < 4_000, "{refused}");
    refused
}

/// A line of what the kernel says of this process.
fn kib(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Says the same to whatever it is asked.
struct Says(&'static str);

impl Prompter for Says {
    fn ask(&self, _prompt: Prompt) -> BoxFuture<'_, Option<String>> {
        Box::pin(std::future::ready(Some(self.0.to_owned())))
    }

    fn progress(&self, message: &str) {
        assert!(message.len() < 10_000);
    }
}

const SOON: Duration = Duration::from_secs(10);
/// What every server gets for the key exchange, and a little more.
const SHAKES_HANDS: Duration = Duration::from_secs(25);

fn host_key() -> PrivateKey {
    PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap()
}

/// A server that is done with SSH before the keys are exchanged.
async fn shouting(
    serve: impl Fn(TcpStream) -> BoxFuture<'static, ()> + Send + 'static,
) -> (Stage, Destination) {
    let public = host_key().public_key().to_openssh().unwrap();
    let stage = Stage::raw(&public, serve).await;
    let destination = stage.destination();
    (stage, destination)
}

/// Writes some bytes once, and others without end.
fn flood(
    first: &'static [u8],
    again: &'static [u8],
) -> impl Fn(TcpStream) -> BoxFuture<'static, ()> {
    move |mut stream| {
        Box::pin(async move {
            let _ = stream.write_all(first).await;
            let chunk = again.repeat((64 << 10) / again.len());
            while stream.write_all(&chunk).await.is_ok() {}
        })
    }
}

#[tokio::test]
async fn what_comes_before_the_identification_has_an_end() {
    for endless in [
        &b"Welcome to the machine\r\n"[..],
        b"x",
        b"\0",
        b"\r",
        b"\n",
        b"SSH-2.0-",
    ] {
        let (_stage, destination) = shouting(flood(b"", endless)).await;
        harmless(&destination, SOON).await;
    }
}

#[tokio::test]
async fn a_packet_of_gigabytes_is_not_waited_for() {
    for length in [
        b"\x80\0\0\0",
        b"\xff\xff\xff\xff",
        b"\0\x10\0\0",
        b"\0\0\0\0",
    ] {
        let first = [b"SSH-2.0-Hostile_1\r\n", &length[..]].concat().leak();
        let (_stage, destination) = shouting(flood(first, b"\0")).await;
        harmless(&destination, SOON).await;
    }
}

#[tokio::test]
async fn a_server_that_sends_a_byte_now_and_then_is_not_waited_for() {
    let (_stage, mut destination) = shouting(|mut stream| {
        Box::pin(async move {
            let mut pause = tokio::time::interval(Duration::from_millis(100));
            for byte in b"SSH-2.0-".iter().chain(std::iter::repeat(&b'a')) {
                pause.tick().await;
                if stream.write_u8(*byte).await.is_err() {
                    break;
                }
            }
        })
    })
    .await;
    destination.connect_timeout = Duration::from_secs(1);
    let refused = harmless(&destination, SHAKES_HANDS).await;
    assert!(matches!(refused, SshError::Timeout { .. }), "{refused}");
}

/// A server that turns hostile when the login has begun.
async fn turning<F>(hostile: impl Fn(Bare) -> F + Send + Sync + 'static) -> (Stage, Destination)
where
    F: Future<Output = Option<()>> + Send + 'static,
{
    let key = Arc::new(host_key());
    let public = key.public_key().to_openssh().unwrap();
    let hostile = Arc::new(hostile);
    let stage = Stage::raw(&public, move |stream| {
        let (key, hostile) = (Arc::clone(&key), Arc::clone(&hostile));
        Box::pin(async move {
            if let Some(mut bare) = Bare::accept(stream, &key).await
                && bare.begin_login().await.is_some()
            {
                hostile(bare).await;
            }
        })
    })
    .await;
    let destination = stage.destination();
    (stage, destination)
}

#[tokio::test]
async fn a_server_that_does_not_stop_greeting_is_left() {
    for size in [10, 200_000] {
        let (_stage, destination) = turning(move |mut bare| async move {
            let banner = [vec![53], string(&vec![b'!'; size]), string(b"")].concat();
            while bare.send(&banner).await.is_some() {}
            None
        })
        .await;
        let refused = harmless(&destination, SOON).await;
        assert!(refused.to_string().contains("greeting"), "{refused}");
    }
}

#[tokio::test]
async fn frames_of_gigabytes_and_nonsense_end_an_encrypted_session() {
    for frame in [
        &b"\x80\0\0\0"[..],
        b"\0\x04\xff\0",
        b"\0\0\0\x10nonsense nonsense nonsense nonsense",
    ] {
        let (_stage, destination) = turning(move |mut bare| async move {
            bare.stream.write_all(frame).await.ok()?;
            while bare.stream.write_all(&[0; 65_536]).await.is_ok() {}
            None
        })
        .await;
        harmless(&destination, SOON).await;
    }
}

#[tokio::test]
async fn a_server_that_talks_and_says_nothing_is_left() {
    let (_stage, destination) = turning(|mut bare| async move {
        let mut pause = tokio::time::interval(Duration::from_millis(50));
        let ignore = [vec![2], string(&[0; 30_000])].concat();
        while bare.send(&ignore).await.is_some() {
            pause.tick().await;
        }
        None
    })
    .await;
    let refused = harmless(&destination, Duration::from_secs(50)).await;
    assert!(matches!(refused, SshError::Timeout { .. }), "{refused}");
}

#[tokio::test]
async fn messages_that_do_not_belong_there_end_the_session() {
    for message in [
        // A success that is none, an unknown message, a list of methods that is longer than its message.
        vec![52, 1, 2, 3],
        vec![255; 1_000],
        [vec![51], string(&b"password,".repeat(20_000)), vec![0, 9]].concat(),
    ] {
        let (_stage, destination) = turning(move |mut bare| {
            let message = message.clone();
            async move {
                while bare.send(&message).await.is_some() {}
                None
            }
        })
        .await;
        harmless(&destination, SOON).await;
    }
}

#[tokio::test]
async fn a_million_questions_in_a_message_without_room_for_them_end_the_session() {
    let (_stage, destination) = turning(|mut bare| async move {
        let method = string(b"keyboard-interactive");
        bare.send(&[vec![51], method, vec![0]].concat()).await?;
        bare.wait_for(50).await?;
        let nothing = string(b"");
        let million = 1_000_000_u32.to_be_bytes();
        let head = [vec![60], nothing.clone(), nothing.clone(), nothing].concat();
        bare.send(&[&head[..], &million].concat()).await?;
        bare.wait_for(0).await?;
        None
    })
    .await;
    harmless(&destination, SOON).await;
}

/// Asks and asks.
#[derive(Clone)]
struct Curious {
    prompts: usize,
}

impl server::Handler for Curious {
    type Error = russh::Error;

    async fn auth_none(&mut self, _user: &str) -> Result<Auth, russh::Error> {
        Ok(Auth::Reject {
            proceed_with_methods: Some(MethodSet::from(&[MethodKind::KeyboardInteractive][..])),
            partial_success: false,
        })
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        _user: &str,
        _submethods: &str,
        _response: Option<Response<'a>>,
    ) -> Result<Auth, russh::Error> {
        Ok(Auth::Partial {
            name: "".into(),
            instructions: "".into(),
            prompts: vec![("?".into(), false); self.prompts].into(),
        })
    }
}

#[tokio::test]
async fn questions_have_an_end() {
    // None, one, more than anybody asks, and as many as fit into the largest packet.
    for prompts in [0, 1, 17, 40_000] {
        let stage = Stage::set(move || Curious { prompts }).await;
        let refused = harmless(&stage.destination(), SOON).await;
        assert!(matches!(refused, SshError::Protocol { .. }), "{refused}");
    }
}

#[tokio::test]
async fn a_cipher_that_can_be_cut_is_refused_without_strict_key_exchange() {
    let without_strict = [kex::CURVE25519];
    for (kex, refused) in [
        (&without_strict[..], true),
        (Preferred::DEFAULT.kex.as_ref(), false),
    ] {
        let config = server::Config {
            keys: vec![host_key()],
            preferred: Preferred {
                kex: kex.to_vec().into(),
                cipher: vec![cipher::CHACHA20_POLY1305].into(),
                ..Preferred::DEFAULT
            },
            auth_rejection_time: Duration::ZERO,
            auth_rejection_time_initial: Some(Duration::ZERO),
            ..server::Config::default()
        };
        let stage = Stage::with(config, || Curious { prompts: 1 }).await;
        let said = crate::open(&stage.destination(), Arc::new(NoPrompts))
            .await
            .unwrap_err();
        assert_eq!(
            said.to_string().contains("strict key exchange"),
            refused,
            "{said}"
        );
    }
}
