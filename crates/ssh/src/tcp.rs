//! The TCP connection to the server: all addresses of a name, the first that answers wins.
//!
//! An address that the caller prefers has a head start, if the name has it: behind one name there may be many nodes.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::net::TcpStream;

use crate::{Destination, SshError};

/// How long an address has for itself before the next one is tried beside it.
const HEAD_START: Duration = Duration::from_millis(300);
/// How long the name service may take, unless the destination has less time.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(15);
/// How long sent data may stay without acknowledgement. Keepalives alone do not notice a link that died in an upload.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: u32 = 20_000;
/// More addresses than this are not tried.
const MOST_ADDRESSES: usize = 16;

/// Connects to the host itself, whatever way leads there, and sets the socket up for an interactive protocol.
///
/// # Errors
///
/// [`SshError::Connect`] if no address takes the connection.
pub async fn connect(destination: &Destination) -> Result<TcpStream, SshError> {
    let refused = |source| SshError::Connect {
        host: destination.hostname.clone(),
        port: destination.port,
        source,
    };
    let lookup = tokio::net::lookup_host((destination.hostname.as_str(), destination.port));
    let addresses = look_up(lookup, destination.connect_timeout)
        .await
        .map_err(refused)?;
    let addresses = in_order(addresses, destination.preferred_address);
    let stream = race(addresses, destination.connect_timeout)
        .await
        .map_err(refused)?;
    stream.set_nodelay(true).map_err(refused)?;
    #[cfg(target_os = "linux")]
    rustix::net::sockopt::set_tcp_user_timeout(&stream, UNACKNOWLEDGED)
        .map_err(|error| refused(error.into()))?;
    Ok(stream)
}

async fn look_up<T>(lookup: impl Future<Output = io::Result<T>>, limit: Duration) -> io::Result<T> {
    tokio::time::timeout(LOOKUP_DEADLINE.min(limit), lookup)
        .await
        .unwrap_or_else(|_| Err(timed_out("the name service did not answer")))
}

/// The addresses to try, the preferred one first.
fn in_order(found: impl Iterator<Item = SocketAddr>, preferred: Option<IpAddr>) -> Vec<SocketAddr> {
    let mut addresses: Vec<SocketAddr> = found.collect();
    addresses.sort_by_key(|address| Some(address.ip()) != preferred);
    addresses.truncate(MOST_ADDRESSES);
    addresses
}

async fn race(addresses: Vec<SocketAddr>, limit: Duration) -> io::Result<TcpStream> {
    let mut waiting = addresses.into_iter();
    let mut running = FuturesUnordered::new();
    let mut last_error = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        if let Some(address) = waiting.next() {
            running.push(async move {
                tokio::time::timeout(limit, TcpStream::connect(address))
                    .await
                    .unwrap_or_else(|_| Err(timed_out(&format!("{address} did not answer"))))
            });
        } else if running.is_empty() {
            return Err(last_error);
        }
        tokio::select! {
            Some(outcome) = running.next() => match outcome {
                Ok(stream) => return Ok(stream),
                Err(error) => last_error = error,
            },
            () = tokio::time::sleep(HEAD_START), if waiting.len() > 0 => {}
        }
    }
}

fn timed_out(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preferred_address_goes_first_if_the_name_has_it() {
        let address = |last: u8| SocketAddr::from(([10, 0, 0, last], 22));
        let all = || (1..=20).map(address);
        let plain = in_order(all(), None);
        assert_eq!(plain.len(), MOST_ADDRESSES);
        assert_eq!(plain.first(), Some(&address(1)));
        let preferred = in_order(all(), Some(address(20).ip()));
        assert_eq!(preferred.get(..2), Some(&[address(20), address(1)][..]));
        assert_eq!(in_order(all(), Some(IpAddr::from([10, 0, 9, 9]))), plain);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_name_service_takes_no_longer_than_the_destination_has() {
        for (limit, waited) in [(4, 4), (60, 15)] {
            let began = tokio::time::Instant::now();
            let lookup = std::future::pending::<io::Result<()>>();
            let late = look_up(lookup, Duration::from_secs(limit)).await;
            assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut);
            assert_eq!(began.elapsed().as_secs(), waited);
        }
    }

    #[tokio::test]
    async fn an_address_that_refuses_does_not_stand_in_the_way_of_the_next() {
        let open = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closed = {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            listener.local_addr().unwrap()
        };
        let addresses = vec![closed, open.local_addr().unwrap()];
        let stream = race(addresses, Duration::from_secs(5)).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), open.local_addr().unwrap());
        assert!(race(vec![closed], Duration::from_secs(5)).await.is_err());
        assert!(race(vec![], Duration::from_secs(5)).await.is_err());
    }
}
