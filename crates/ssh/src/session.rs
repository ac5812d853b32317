//! One SSH session up to the end of the key exchange: the transport, the server's key, and what the server tells.
//!
//! Invariants: the key is judged before anything but algorithms was said; a person is never asked inside a session,
//! because the server's patience would run out while they read; whoever holds the `closed` receiver learns of the end.
//!
//! Not here: the way to the server (`builtin::way`), asking about unknown keys (`builtin::first_contact`) and logging
//! in (`login`).

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use russh::client::{self, DisconnectReason, Handle};
use russh::keys::{HashAlg, PublicKey, PublicKeyOrCertificate};
use russh::{Names, SshId};
use tokio::sync::{oneshot, watch};

use crate::known_hosts::{KnownHost, Verdict};
use crate::prompt::visible;
use crate::reached::{Reached, Upstream, blame};
use crate::watched::Watched;
use crate::{Destination, Prompter, SshError, algorithms};

/// How much longer than an address may take to answer the key exchange may take: many servers look up names first.
const HANDSHAKE_FACTOR: u32 = 2;
/// What every server gets for it, however impatient the configuration is about addresses.
const SHORTEST_HANDSHAKE: Duration = Duration::from_secs(20);
/// After this silence at the latest the server is asked whether it is there.
const LONGEST_SILENCE: Duration = Duration::from_secs(15);
/// How many unanswered questions are borne; with one more interval, a dead server is noticed after 45 s.
const UNANSWERED_KEEPALIVES: usize = 2;
/// What the server may send on a channel before it has to wait.
const WINDOW: u32 = 4 << 20;
/// The largest packet; larger ones cost less.
const PACKET: u32 = 65_535;
/// The silence after which a session ends in which nobody is logged in yet. It also limits how long one batch of an
/// upload may take, so that it must not be short.
const INACTIVITY: Duration = Duration::from_secs(300);
/// More greetings than this are no greeting.
const MOST_BANNERS: usize = 32;

/// A session whose server has proved to be the known one; nobody is logged in yet.
pub(crate) struct Session {
    pub(crate) handle: Handle<Client>,
    pub(crate) closed: watch::Receiver<Option<String>>,
    pub(crate) learnt: Arc<Learnt>,
    /// Keys that the server claims to have and that known_hosts may learn. Comes after the login, or never.
    pub(crate) announced: oneshot::Receiver<Vec<PublicKey>>,
}

/// What the key exchange told of the server.
#[derive(Debug, Default)]
pub(crate) struct Learnt {
    /// Its key, as `ssh-ed25519 SHA256:…`.
    pub(crate) host_key: OnceLock<String>,
    /// What it calls itself.
    pub(crate) server: OnceLock<String>,
}

/// The key that a server showed, if it is not a known one.
pub(crate) type ShownKey = Arc<Mutex<Option<PublicKey>>>;

impl Session {
    /// Exchanges keys over a fresh stream. A key that the person just `accepted` counts as known.
    ///
    /// On [`SshError::HostKeyUnknown`] the key itself is in `shown`.
    pub(crate) async fn start(
        reached: Reached,
        destination: &Destination,
        known: KnownHost,
        accepted: Option<&PublicKey>,
        shown: &ShownKey,
        prompter: &Arc<dyn Prompter>,
    ) -> Result<Self, SshError> {
        let alive = destination.server_alive_interval.min(LONGEST_SILENCE);
        let limit = alive.saturating_mul(u32::try_from(UNANSWERED_KEEPALIVES + 1).unwrap_or(3));
        let stream = Watched::new(reached.stream, reached.carrier, limit);
        let config = client::Config {
            client_id: SshId::Standard(
                concat!("SSH-2.0-hpcclient_", env!("CARGO_PKG_VERSION")).into(),
            ),
            window_size: WINDOW,
            maximum_packet_size: PACKET,
            preferred: algorithms::preferred(&known),
            keepalive_interval: Some(alive),
            keepalive_max: UNANSWERED_KEEPALIVES,
            inactivity_timeout: Some(INACTIVITY),
            nodelay: true,
            ..client::Config::default()
        };
        let (closed_sender, closed) = watch::channel(None);
        let (announce, announced) = oneshot::channel();
        let learnt = Arc::<Learnt>::default();
        let client = Client {
            host: destination.host_key_name(),
            known,
            accepted: accepted.cloned(),
            shown: Arc::clone(shown),
            closed: closed_sender,
            upstream: reached.upstream,
            prompter: Arc::clone(prompter),
            learnt: Arc::clone(&learnt),
            announce: destination.update_host_keys.then_some(announce),
            banners: 0,
        };
        let handshake = client::connect_stream(Arc::new(config), stream, client);
        let limit = destination.connect_timeout.saturating_mul(HANDSHAKE_FACTOR);
        let limit = limit.max(SHORTEST_HANDSHAKE);
        let handle =
            tokio::time::timeout(limit, handshake)
                .await
                .map_err(|_| SshError::Timeout {
                    step: "the key exchange",
                    after: limit,
                })??;
        Ok(Self {
            handle,
            closed,
            learnt,
            announced,
        })
    }
}

/// What the SSH library calls back. Lives as long as the session's task.
pub(crate) struct Client {
    host: String,
    known: KnownHost,
    accepted: Option<PublicKey>,
    shown: ShownKey,
    closed: watch::Sender<Option<String>>,
    upstream: Vec<Upstream>,
    prompter: Arc<dyn Prompter>,
    learnt: Arc<Learnt>,
    /// Where further keys of the server go, if known_hosts may learn any.
    announce: Option<oneshot::Sender<Vec<PublicKey>>>,
    banners: usize,
}

impl Client {
    fn judge(&self, shown: &PublicKeyOrCertificate) -> Result<(), SshError> {
        let host = self.host.clone();
        let key = shown.public_key();
        let key_type = key.algorithm().to_string();
        let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
        match self.known.judge(shown) {
            Verdict::Known => Ok(()),
            Verdict::New
                if self
                    .accepted
                    .as_ref()
                    .is_some_and(|ok| ok.key_data() == key.key_data()) =>
            {
                Ok(())
            }
            Verdict::New => {
                *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(key);
                Err(SshError::HostKeyUnknown {
                    host,
                    key_type,
                    fingerprint,
                })
            }
            Verdict::Changed { place, known_type } => Err(SshError::HostKeyChanged {
                host,
                key_type,
                fingerprint,
                file: place.file,
                line: place.line,
                known_type: visible(&known_type).into(),
            }),
            Verdict::Revoked(place) => Err(SshError::HostKeyRevoked {
                host,
                file: place.file,
                line: place.line,
            }),
            Verdict::BadCertificate(reason) => Err(SshError::HostCertificate { host, reason }),
        }
    }

    fn tell(&self, reason: String) {
        self.closed.send_if_modified(|told| {
            let first = told.is_none();
            if first {
                *told = Some(blame(&self.upstream, reason));
            }
            first
        });
    }
}

impl client::Handler for Client {
    type Error = SshError;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, SshError> {
        self.judge(shown)?;
        if !self.known.may_learn_from(shown) {
            self.announce = None;
        }
        let key = shown.public_key();
        let described = format!("{} {}", key.algorithm(), key.fingerprint(HashAlg::Sha256));
        let _ = self.learnt.host_key.set(described);
        Ok(true)
    }

    async fn kex_done(
        &mut self,
        _shared_secret: Option<&[u8]>,
        names: &Names,
        session: &mut client::Session,
    ) -> Result<(), SshError> {
        let server = String::from_utf8_lossy(session.remote_sshid());
        let _ = self.learnt.server.set(visible(&server));
        algorithms::refuse_truncatable(names)
    }

    async fn auth_banner(
        &mut self,
        banner: &str,
        _session: &mut client::Session,
    ) -> Result<(), SshError> {
        self.banners += 1;
        if self.banners > MOST_BANNERS {
            return Err(SshError::Protocol {
                reason: "the server does not stop greeting".to_owned(),
            });
        }
        self.prompter.progress(visible(banner).trim());
        Ok(())
    }

    async fn openssh_ext_host_keys_announced(
        &mut self,
        keys: Vec<PublicKey>,
        _session: &mut client::Session,
    ) -> Result<(), SshError> {
        if let Some(announce) = self.announce.take() {
            let _ = announce.send(self.known.unlisted(keys));
        }
        Ok(())
    }

    async fn disconnected(&mut self, reason: DisconnectReason<SshError>) -> Result<(), SshError> {
        match reason {
            DisconnectReason::ReceivedDisconnect(said) => {
                self.tell(format!("the server said: {}", visible(&said.message)));
                Ok(())
            }
            DisconnectReason::Error(error) => {
                self.tell(match &error {
                    SshError::Closed { reason } => reason.clone(),
                    other => other.to_string(),
                });
                Err(error)
            }
        }
    }
}

/// The session's task may end without calling `disconnected`, for example when the socket cannot be shut down.
impl Drop for Client {
    fn drop(&mut self) {
        self.tell("the connection was lost".to_owned());
    }
}
