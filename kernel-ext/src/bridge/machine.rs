//! What happens to this machine: it wakes up, or its network becomes another one.
//!
//! `bridge` waits here and tells the clusters. Invariants: nothing is polled; whatever the kernel
//! cannot tell is never told, and the keepalive of each connection notices it later.

use std::{io, time::Duration};

/// How long a change of the network is left to settle: one change is many messages.
#[cfg(target_os = "linux")]
const SETTLED: Duration = Duration::from_millis(250);

#[cfg(target_os = "linux")]
pub(crate) use self::linux::{Network, Ticks};
#[cfg(not(target_os = "linux"))]
pub(crate) use self::other::{Network, Ticks};

#[cfg(target_os = "linux")]
mod linux {
    use rustix::{
        io::Errno,
        net::{
            AddressFamily, SocketFlags, SocketType, bind, netlink::SocketAddrNetlink, socket_with,
        },
        time::{
            Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
            timerfd_settime,
        },
    };
    use tokio::net::unix::pipe::Receiver;

    use super::{Duration, SETTLED, io};

    /// Addresses and routes of both families: `RTMGRP_IPV4_IFADDR`, `RTMGRP_IPV4_ROUTE`,
    /// `RTMGRP_IPV6_IFADDR` and `RTMGRP_IPV6_ROUTE` of rtnetlink(7).
    const GROUPS: u32 = 0x10 | 0x40 | 0x100 | 0x400;

    /// A regular tick whose clock goes on while the machine sleeps, so that one comes right after
    /// it woke up.
    #[derive(Debug)]
    pub(crate) struct Ticks(Receiver);

    impl Ticks {
        pub(crate) fn new(period: Duration) -> io::Result<Self> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let timer = timerfd_create(TimerfdClockId::Boottime, flags)?;
            let period = Timespec::try_from(period).map_err(io::Error::other)?;
            let times = Itimerspec {
                it_interval: period,
                it_value: period,
            };
            timerfd_settime(&timer, TimerfdTimerFlags::empty(), &times)?;
            // It is read as a pipe is: nothing, or a few bytes.
            Ok(Self(Receiver::from_owned_fd_unchecked(timer)?))
        }

        /// Waits for the next tick. It is cancel-safe.
        pub(crate) async fn tick(&self) -> io::Result<()> {
            let mut expired = [0_u8; 8];
            loop {
                self.0.readable().await?;
                match self.0.try_read(&mut expired) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    read => return read.map(drop),
                }
            }
        }
    }

    /// The kernel's word when an address or a route comes or goes.
    #[derive(Debug)]
    pub(crate) struct Network(Receiver);

    impl Network {
        pub(crate) fn watch() -> io::Result<Self> {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            // No protocol is the one of routes.
            let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
            bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
            Ok(Self(Receiver::from_owned_fd_unchecked(socket)?))
        }

        /// Waits for a change and for the end of it. It is cancel-safe: a change that was seen only
        /// in part is seen again.
        pub(crate) async fn changed(&self) -> io::Result<()> {
            self.0.readable().await?;
            tokio::time::sleep(SETTLED).await;
            // What the messages say does not matter: each of them means that something changed.
            let mut message = [0_u8; 8 << 10];
            loop {
                match self.0.try_read(&mut message) {
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                    // More messages than fit were lost, which is a change too.
                    Err(error) if error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod other {
    use super::{Duration, io};

    /// A regular tick; after sleep it comes within a period.
    #[derive(Debug)]
    pub(crate) struct Ticks(Duration);

    impl Ticks {
        pub(crate) fn new(period: Duration) -> io::Result<Self> {
            Ok(Self(period))
        }

        pub(crate) async fn tick(&self) -> io::Result<()> {
            tokio::time::sleep(self.0).await;
            Ok(())
        }
    }

    /// Nothing tells of changes here.
    #[derive(Debug)]
    pub(crate) struct Network;

    impl Network {
        pub(crate) fn watch() -> io::Result<Self> {
            Ok(Self)
        }

        pub(crate) async fn changed(&self) -> io::Result<()> {
            std::future::pending().await
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ticks_come_again_and_again() {
        let ticks = Ticks::new(Duration::from_millis(10)).unwrap();
        let start = std::time::Instant::now();
        for _ in 0..3 {
            ticks.tick().await.unwrap();
        }
        assert!(start.elapsed() >= Duration::from_millis(20));
    }
}
