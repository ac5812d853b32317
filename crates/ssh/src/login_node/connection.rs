//! One client's connection: who it is, which channels it may open, and its end.
//!
//! Called by the login node's accept loop. Invariants: a client that has not logged in after
//! `LOGIN_TIME` is cut; each channel's task ends when the client closes the channel, when the
//! connection ends or when the node stops, whichever is first.

use std::{collections::HashMap, ffi::OsString, net::Shutdown, sync::Arc, time::Duration};

use russh::{
    Channel, ChannelId, Pty,
    keys::ssh_key::public::KeyData,
    server::{
        self, Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey,
    },
};
use tokio::net::TcpStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{exec, forward};

/// How long a client may take to log in.
const LOGIN_TIME: Duration = Duration::from_secs(30);
/// How many channels one connection may have at a time.
const MAX_CHANNELS: usize = 128;

/// Who may log in, and what their commands see.
#[derive(Debug)]
pub(super) struct Login {
    pub(super) user: String,
    pub(super) key: KeyData,
    pub(super) env: Vec<(OsString, OsString)>,
}

/// Serves a client until it leaves or `cancel` fires.
pub(super) async fn serve(
    stream: TcpStream,
    config: Arc<server::Config>,
    login: Arc<Login>,
    cancel: CancellationToken,
    tasks: TaskTracker,
) {
    let Ok((stream, socket)) = with_second_handle(stream) else {
        return;
    };
    let _end_channels = cancel.clone().drop_guard();
    let logged_in = CancellationToken::new();
    let client = Client {
        login,
        cancel: cancel.clone(),
        tasks,
        logged_in: logged_in.clone(),
        waiting: HashMap::new(),
        running: HashMap::new(),
    };
    let started = tokio::time::timeout(LOGIN_TIME, server::run_stream(config, stream, client));
    let Some(Ok(Ok(mut session))) = cancel.run_until_cancelled(started).await else {
        // A port scan, a client of another protocol, or the end of the node.
        return;
    };
    let too_slow = async {
        tokio::time::sleep(LOGIN_TIME).await;
        if logged_in.is_cancelled() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        ended = &mut session => return log_end(ended),
        () = cancel.cancelled() => {}
        () = too_slow => {}
    }
    // The session task is russh's own. It ends when its socket does; waiting for it keeps `stop`
    // honest.
    cancel.cancel();
    drop(socket.shutdown(Shutdown::Both));
    log_end(session.await);
}

/// Returns the stream and a second handle to its socket, which can cut it from outside.
fn with_second_handle(stream: TcpStream) -> std::io::Result<(TcpStream, std::net::TcpStream)> {
    stream.set_nodelay(true)?;
    let stream = stream.into_std()?;
    let second = stream.try_clone()?;
    Ok((TcpStream::from_std(stream)?, second))
}

fn log_end(ended: Result<(), russh::Error>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "connection to the login node ended");
    }
}

/// russh's callbacks for one connection.
struct Client {
    login: Arc<Login>,
    cancel: CancellationToken,
    tasks: TaskTracker,
    logged_in: CancellationToken,
    /// Session channels that have not been told what to run.
    waiting: HashMap<ChannelId, Channel<Msg>>,
    /// Channels with a task, and what ends it.
    running: HashMap<ChannelId, CancellationToken>,
}

impl Client {
    fn judge(&self, user: &str, key: &KeyData) -> Auth {
        if user == self.login.user && *key == self.login.key {
            Auth::Accept
        } else {
            Auth::reject()
        }
    }

    fn has_room(&mut self) -> bool {
        // russh does not tell about a channel that was closed from this side, so tasks that ended
        // are found by their token.
        self.running.retain(|_, token| !token.is_cancelled());
        self.waiting.len() + self.running.len() < MAX_CHANNELS
    }

    fn token_for(&mut self, channel: ChannelId) -> CancellationToken {
        let token = self.cancel.child_token();
        self.running.insert(channel, token.clone());
        token
    }

    fn spawn(&self, token: CancellationToken, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(async move {
            work.await;
            token.cancel();
        });
    }
}

impl Handler for Client {
    type Error = russh::Error;

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(self.judge(user, offer.public_key.key_data()))
    }

    async fn auth_publickey(
        &mut self,
        user: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(self.judge(user, key.public_key.key_data()))
    }

    async fn auth_succeeded(&mut self, _session: &mut Session) -> Result<(), Self::Error> {
        self.logged_in.cancel();
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        if self.has_room() {
            self.waiting.insert(channel.id(), channel);
            reply.accept().await;
        }
        // Otherwise the dropped handle refuses.
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        socket_path: &str,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        if self.has_room() {
            let token = self.token_for(channel.id());
            let path = socket_path.into();
            let work = forward::run(channel, path, reply, token.clone());
            self.spawn(token, work);
        }
        Ok(())
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let Some(opened) = self.waiting.remove(&channel) else {
            return session.channel_failure(channel);
        };
        let token = self.token_for(channel);
        let login = Arc::clone(&self.login);
        let work = exec::run(
            opened,
            session.handle(),
            command.to_vec(),
            login,
            token.clone(),
        );
        self.spawn(token, work);
        session.channel_success(channel)
    }

    async fn channel_close(
        &mut self,
        channel: ChannelId,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.waiting.remove(&channel);
        if let Some(token) = self.running.remove(&channel) {
            token.cancel();
        }
        Ok(())
    }

    // What follows is refused aloud, because a client that asked for an answer waits for it.

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        _term: &str,
        _columns: u32,
        _rows: u32,
        _width: u32,
        _height: u32,
        _modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(channel)
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        _name: &str,
        _value: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(channel)
    }

    async fn shell_request(
        &mut self,
        channel: ChannelId,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(channel)
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        _name: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(channel)
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _single: bool,
        _protocol: &str,
        _cookie: &str,
        _screen: u32,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(channel)
    }
}
