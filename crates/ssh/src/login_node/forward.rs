//! A forwarded Unix socket: one channel, one connection to a socket of this machine.
//!
//! Called by `connection` for each `direct-streamlocal`. Invariants: bytes are not read on one side
//! before the other took the last ones; either side's end of file is passed on, the other direction
//! goes on.

use std::{path::PathBuf, time::Duration};

use bytes::BytesMut;
use russh::{
    Channel, ChannelMsg, ChannelOpenFailure, ChannelReadHalf, ChannelWriteHalf,
    server::{ChannelOpenHandle, Msg},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
};
use tokio_util::sync::CancellationToken;

/// How long the socket's owner may take to accept.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// One read of the socket, the size of two SSH packets.
const PIECE: usize = 64 * 1024;

/// Connects, answers the request to open the channel, and copies until both directions ended.
pub(super) async fn run(
    channel: Channel<Msg>,
    path: PathBuf,
    reply: ChannelOpenHandle,
    cancel: CancellationToken,
) {
    let connecting = tokio::time::timeout(CONNECT_TIME, UnixStream::connect(&path));
    let Some(Ok(Ok(stream))) = cancel.run_until_cancelled(connecting).await else {
        return reply.reject(ChannelOpenFailure::ConnectFailed).await;
    };
    reply.accept().await;
    let (from_socket, to_socket) = stream.into_split();
    let (from_client, to_client) = channel.split();
    let copy = async {
        tokio::join!(
            client_to_socket(from_client, to_socket),
            socket_to_client(from_socket, &to_client)
        );
        // The client may be gone already.
        drop(to_client.close().await);
    };
    cancel.run_until_cancelled(copy).await;
}

async fn client_to_socket(mut from: ChannelReadHalf, mut to: OwnedWriteHalf) {
    while let Some(message) = from.wait().await {
        let written = match message {
            ChannelMsg::Data { data } => to.write_all(&data).await,
            ChannelMsg::Eof | ChannelMsg::Close => break,
            _ => Ok(()),
        };
        if written.is_err() {
            // The socket's owner reads no more. What the client still sends is dropped here, so
            // that it cannot hold up the other channels.
            while from.wait().await.is_some() {}
        }
    }
    drop(to.shutdown().await);
}

async fn socket_to_client(mut from: OwnedReadHalf, to: &ChannelWriteHalf<Msg>) {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(PIECE);
        match from.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        if to.data_bytes(buffer.split().freeze()).await.is_err() {
            return;
        }
    }
    drop(to.eof().await);
}
