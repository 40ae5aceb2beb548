//! News of addresses and interfaces.

use std::{io, net::IpAddr, time::Duration};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::{Instant, sleep, sleep_until},
};

use super::{InterfaceError, name_of, netlink, own_addresses};

/// A network manager changes several things at once; they are one piece of news.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// How often the kernel is asked when it does not tell by itself.
const POLL: Duration = Duration::from_secs(2);
const GROUPS: libc::c_int = libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR;

/// Wakes when the addresses or the interfaces of this network namespace have changed.
///
/// Make the watch before reading the addresses for the first time, or a change between the two is missed.
#[derive(Debug)]
pub struct AddressWatch {
    source: Source,
    seen: Option<Snapshot>,
    /// When to look, once the kernel has announced something.
    due: Option<Instant>,
}

/// Who says that it is worth looking.
enum Source {
    Kernel(AsyncFd<Socket>),
    Clock,
}

#[derive(Debug, PartialEq, Eq)]
struct Snapshot {
    addresses: Vec<IpAddr>,
    interfaces: Vec<(u32, String)>,
}

impl AddressWatch {
    /// Subscribes to the kernel's announcements; where that fails the kernel is asked every two seconds instead.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new() -> Self {
        let source = subscribe().map_or(Source::Clock, Source::Kernel);
        Self { source, seen: Snapshot::take().ok(), due: None }
    }

    /// Whether changes are announced by the kernel, not found by asking.
    pub fn is_subscribed(&self) -> bool {
        matches!(self.source, Source::Kernel(_))
    }

    /// Returns once something has changed since the last time (or since the watch was made). Nothing is lost if the
    /// future is dropped before that.
    pub async fn changed(&mut self) {
        loop {
            let due = match self.due {
                Some(due) => due,
                None => {
                    self.announcement().await;
                    *self.due.insert(Instant::now() + DEBOUNCE)
                }
            };
            sleep_until(due).await;
            // Announcements of what the snapshot is about to show need no second look.
            self.drain();
            match Snapshot::take() {
                Ok(now) => {
                    self.due = None;
                    if self.seen.as_ref() != Some(&now) {
                        self.seen = Some(now);
                        return;
                    }
                }
                Err(_) => self.due = Some(Instant::now() + POLL),
            }
        }
    }

    async fn announcement(&self) {
        match &self.source {
            Source::Kernel(socket) => {
                // The readiness stays set until a read finds nothing, which is what draining does.
                if socket.readable().await.is_err() {
                    sleep(POLL).await;
                }
            }
            Source::Clock => sleep(POLL).await,
        }
    }

    /// Throws away what has been announced so far, and gives up the subscription when it is broken.
    fn drain(&mut self) {
        let Source::Kernel(socket) = &self.source else { return };
        if let Err(error) = drain(socket)
            // The kernel had more to say than the socket holds: what was lost is in the snapshot.
            && error.raw_os_error() != Some(libc::ENOBUFS)
        {
            self.source = Source::Clock;
        }
    }
}

impl Default for AddressWatch {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Kernel(_) => "Kernel",
            Self::Clock => "Clock",
        })
    }
}

impl Snapshot {
    fn take() -> Result<Self, InterfaceError> {
        let failed = |source| InterfaceError::Netlink { action: "list the interfaces".into(), source };
        let links = netlink::links().map_err(failed)?;
        let mut interfaces: Vec<_> =
            links.iter().map(|link| (link.header.index, name_of(link).unwrap_or_default().to_owned())).collect();
        interfaces.sort_unstable();
        Ok(Self { addresses: own_addresses()?, interfaces })
    }
}

fn subscribe() -> io::Result<AsyncFd<Socket>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.set_non_blocking(true)?;
    socket.bind(&SocketAddr::new(0, GROUPS as u32))?;
    // SAFETY: the socket is the only owner of its descriptor and keeps it until it is dropped.
    Ok(unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?)
}

/// Reads until nothing is left. Few announcements fit at once, so this ends soon.
fn drain(socket: &AsyncFd<Socket>) -> io::Result<()> {
    let mut announcement = Vec::with_capacity(1);
    loop {
        announcement.clear();
        let read = socket.try_io(Interest::READABLE, |socket| socket.recv(&mut announcement, 0));
        match read {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_a_subscription_changes_are_found_by_asking() {
        let mut watch = AddressWatch { source: Source::Clock, seen: None, due: None };
        let start = Instant::now();
        tokio::time::timeout(2 * POLL, watch.changed()).await.unwrap();
        assert!(start.elapsed() >= POLL);
        assert!(watch.seen.is_some());
    }
}
