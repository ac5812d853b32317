//! An SSH server reduced to what a hostile one needs: one key exchange, and then whatever bytes it likes.
//!
//! It knows curve25519, ed25519 and AES-GCM, and no strict key exchange.

use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral};
use ring::rand::SystemRandom;
use russh::keys::PrivateKey;
use russh::keys::signature::Signer as _;
use russh::keys::ssh_encoding::Encode as _;
use russh::keys::ssh_key::Signature;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const VERSION: &str = "SSH-2.0-Hostile_1";

/// A session after its key exchange.
pub(crate) struct Bare {
    pub(crate) stream: TcpStream,
    sealing: Direction,
    opening: Direction,
}

struct Direction {
    key: LessSafeKey,
    nonce: [u8; 12],
}

impl Bare {
    /// Exchanges keys; nothing if the client does not go along.
    pub(crate) async fn accept(mut stream: TcpStream, host: &PrivateKey) -> Option<Self> {
        stream
            .write_all(format!("{VERSION}\r\n").as_bytes())
            .await
            .ok()?;
        let mut client = vec![];
        while !client.ends_with(b"\r\n") {
            client.push(stream.read_u8().await.ok()?);
        }
        client.truncate(client.len() - 2);
        let ours = kexinit();
        write_plain(&mut stream, &ours).await?;
        let theirs = read_plain(&mut stream).await?;
        let init = read_plain(&mut stream).await?;
        let their_half = init.get(5..)?;

        let random = SystemRandom::new();
        let private = EphemeralPrivateKey::generate(&X25519, &random).ok()?;
        let our_half = private.compute_public_key().ok()?;
        let peer = UnparsedPublicKey::new(&X25519, their_half);
        let shared = agree_ephemeral(private, &peer, mpint).ok()?;
        let host_blob = host.public_key().to_bytes().ok()?;
        let hash = digest(&[
            &string(&client),
            &string(VERSION.as_bytes()),
            &string(&theirs),
            &string(&ours),
            &string(&host_blob),
            &string(their_half),
            &string(our_half.as_ref()),
            &shared,
        ]);
        let signature: Signature = host.try_sign(&hash).ok()?;
        let reply = [
            vec![31],
            string(&host_blob),
            string(our_half.as_ref()),
            string(&signature.encode_vec().ok()?),
        ];
        write_plain(&mut stream, &reply.concat()).await?;
        write_plain(&mut stream, &[21]).await?;
        read_plain(&mut stream).await?;
        let direction = |nonce: u8, key: u8| {
            let derived = |letter| digest(&[&shared, &hash, &[letter], &hash]);
            let key = UnboundKey::new(&AES_128_GCM, derived(key).get(..16)?).ok()?;
            Some(Direction {
                key: LessSafeKey::new(key),
                nonce: derived(nonce).get(..12)?.try_into().ok()?,
            })
        };
        Some(Self {
            stream,
            sealing: direction(b'B', b'D')?,
            opening: direction(b'A', b'C')?,
        })
    }

    /// Sends one message.
    pub(crate) async fn send(&mut self, payload: &[u8]) -> Option<()> {
        let mut text = padded(payload, 0);
        let length = u32::try_from(text.len()).ok()?.to_be_bytes();
        let nonce = self.sealing.next();
        let aad = Aad::from(length);
        self.sealing
            .key
            .seal_in_place_append_tag(nonce, aad, &mut text)
            .ok()?;
        self.stream.write_all(&length).await.ok()?;
        self.stream.write_all(&text).await.ok()
    }

    /// Reads messages up to the first of a kind.
    pub(crate) async fn wait_for(&mut self, kind: u8) -> Option<Vec<u8>> {
        loop {
            let length = self.stream.read_u32().await.ok()?;
            let mut text = vec![0; length as usize + 16];
            self.stream.read_exact(&mut text).await.ok()?;
            let nonce = self.opening.next();
            let aad = Aad::from(length.to_be_bytes());
            let plain = self.opening.key.open_in_place(nonce, aad, &mut text).ok()?;
            if plain.get(1) == Some(&kind) {
                return Some(plain.to_vec());
            }
        }
    }

    /// Lets the client begin its login.
    pub(crate) async fn begin_login(&mut self) -> Option<()> {
        self.wait_for(5).await?;
        self.send(&[vec![6], string(b"ssh-userauth")].concat())
            .await?;
        self.wait_for(50).await?;
        Some(())
    }
}

impl Direction {
    fn next(&mut self) -> Nonce {
        let nonce = Nonce::assume_unique_for_key(self.nonce);
        let (_, counter) = self.nonce.split_last_chunk_mut::<8>().unwrap();
        *counter = (u64::from_be_bytes(*counter).wrapping_add(1)).to_be_bytes();
        nonce
    }
}

/// A string as the protocol writes it.
pub(crate) fn string(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap();
    [&length.to_be_bytes(), bytes].concat()
}

fn kexinit() -> Vec<u8> {
    let mut message = vec![20];
    message.extend([7; 16]);
    let cipher = "aes128-gcm@openssh.com";
    let mac = "hmac-sha2-256";
    for names in [
        "curve25519-sha256",
        "ssh-ed25519",
        cipher,
        cipher,
        mac,
        mac,
        "none",
        "none",
        "",
        "",
    ] {
        message.extend(string(names.as_bytes()));
    }
    message.extend([0; 5]);
    message
}

fn mpint(bytes: &[u8]) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let mut number = bytes[zeros..].to_vec();
    if number.first().is_some_and(|first| *first >= 128) {
        number.insert(0, 0);
    }
    string(&number)
}

fn digest(parts: &[&[u8]]) -> Vec<u8> {
    let mut hasher = Sha256::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize().to_vec()
}

/// A packet without its length; `extra` bytes count towards the block.
fn padded(payload: &[u8], extra: usize) -> Vec<u8> {
    let mut padding = 16 - (extra + 1 + payload.len()) % 16;
    if padding < 4 {
        padding += 16;
    }
    let mut packet = vec![u8::try_from(padding).unwrap()];
    packet.extend(payload);
    packet.resize(packet.len() + padding, 0);
    packet
}

async fn write_plain(stream: &mut TcpStream, payload: &[u8]) -> Option<()> {
    stream.write_all(&string(&padded(payload, 4))).await.ok()
}

async fn read_plain(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let length = stream.read_u32().await.ok()?;
    let mut packet = vec![0; length as usize];
    stream.read_exact(&mut packet).await.ok()?;
    let padding = usize::from(*packet.first()?);
    Some(packet.get(1..packet.len() - padding)?.to_vec())
}
