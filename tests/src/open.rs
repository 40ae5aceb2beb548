//! Connections that are open: as the kernel tells, as the gate counts them, and as the controller shows them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ratelimit_user::api::SourceView;
use ratelimit_user::config::Network;
use ratelimit_user::plane::{Pins, open_in_force, open_watch};
use serde_json::Value;

use crate::controller::Controller;
use crate::gateway::eventually;
use crate::netns::Namespace;

/// Longer than the controller takes to look again at what it cannot see come and go.
const SOON: Duration = Duration::from_secs(10);
/// More sources than any test has.
const ALL: usize = 1 << 20;

/// A port that somebody listens on, and how connections to it are counted.
#[derive(Debug, Clone, Copy)]
pub struct Listened {
    pub port: u16,
    pub service: &'static str,
    /// Bits of an IPv6 address that are one source; of IPv4 all are.
    pub v6_source: u8,
}

/// The built-in services that tests connect to.
pub const LISTENED: [Listened; 4] = [
    Listened { port: 25, service: "smtp", v6_source: 128 },
    Listened { port: 143, service: "imap", v6_source: 64 },
    Listened { port: 587, service: "submission", v6_source: 64 },
    Listened { port: 110, service: "pop3", v6_source: 64 },
];

/// How many, by service and source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Open(BTreeMap<(String, Network), u64>);

impl Open {
    /// What the kernel tells in /proc of the sockets of a namespace: from the completed handshake to the end of the socket,
    /// and nothing of what is left of it then.
    pub fn in_namespace(namespace: &Namespace, listened: &[Listened]) -> Result<Self> {
        let mut open = Self::default();
        for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
            for line in namespace.read_proc(table)?.lines().skip(1) {
                let row = Row::read(line).with_context(|| format!("{table} says {line:?}"))?;
                let on_port = listened.iter().find(|listened| listened.port == row.local.port());
                if let Some(listened) = on_port.filter(|_| row.is_connection()) {
                    open.add(listened.service, source(row.remote.ip(), listened.v6_source)?, 1);
                }
            }
        }
        Ok(open)
    }

    /// What the gate has counted, controller or not.
    pub fn counted(pins: &Path) -> Result<Self> {
        let pins = Pins::at(pins);
        let set = open_in_force(&pins)?.active_set()?;
        let mut open = Self::default();
        for (key, count) in open_watch(&pins)?.all_connections()? {
            let id = key.service().context("a place that no service has")?;
            let (service, source) = (set.service_at(id), key.source());
            let (high, low) = service.masks(source).0.words();
            let bits = (high.count_ones() + low.count_ones()) as u8;
            let bits = if source.is_v4() { bits - 96 } else { bits };
            let network = Network::truncated(source.to_ip(), bits).context("no network")?;
            open.add(service.name(), network, count);
        }
        Ok(open)
    }

    /// What the controller shows.
    pub fn shown(controller: &Controller) -> Result<Self> {
        let shown = controller.ask("GET", &format!("/v1/sources?by=connections&most={ALL}"), &Value::Null)?;
        let shown: Vec<SourceView> = serde_json::from_value(shown)?;
        let mut open = Self::default();
        for view in shown {
            open.add(&view.service, view.source, view.connections);
        }
        Ok(open)
    }

    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    pub fn of(&self, service: &str, source: &str) -> Result<u64> {
        let network = source.parse().ok().with_context(|| format!("{source} is no network"))?;
        Ok(self.0.get(&(service.to_owned(), network)).copied().unwrap_or(0))
    }

    /// The most that one source has.
    pub fn most(&self) -> u64 {
        self.0.values().max().copied().unwrap_or(0)
    }

    fn add(&mut self, service: &str, source: Network, count: u64) {
        *self.0.entry((service.to_owned(), source)).or_default() += count;
    }
}

/// Waits until so many connections are open, and the gate has counted each where it belongs.
pub fn agree(namespace: &Namespace, controller: &Controller, expected: usize) -> Result<()> {
    let mut seen = (Open::default(), Open::default());
    let agreed = eventually("the gate counts what is open", SOON, || {
        seen = (Open::in_namespace(namespace, &LISTENED)?, Open::counted(&controller.pins())?);
        Ok(seen.0.total() == expected as u64 && seen.0 == seen.1)
    });
    agreed.map(drop).with_context(|| format!("{expected} are open; {}", differences(&seen.0, &seen.1)))
}

/// The same, and the controller shows them all.
pub fn agree_and_show(namespace: &Namespace, controller: &Controller, expected: usize) -> Result<()> {
    agree(namespace, controller, expected)?;
    let mut seen = (Open::default(), Open::default());
    let agreed = eventually("the controller shows what is open", SOON, || {
        seen = (Open::in_namespace(namespace, &LISTENED)?, Open::shown(controller)?);
        Ok(seen.0 == seen.1)
    });
    agreed.with_context(|| differences(&seen.0, &seen.1))?;
    let status = controller.status()?;
    let of_services: u64 = status.services.iter().map(|service| service.pressure.connections).sum();
    let all = [of_services, status.proof.connections];
    ensure!(all == [expected as u64; 2], "{expected} are open, status says {all:?}");
    Ok(())
}

/// What the kernel tells and somebody else says otherwise.
fn differences(kernel: &Open, said: &Open) -> String {
    let mut text = format!("the kernel tells of {}, we of {}:", kernel.total(), said.total());
    let keys = kernel.0.keys().chain(said.0.keys().filter(|key| !kernel.0.contains_key(key)));
    let of = |open: &Open, key| open.0.get(key).copied().unwrap_or(0);
    for key in keys.filter(|key| of(kernel, key) != of(said, key)).take(20) {
        text.push_str(&format!("\n  {} {}: {}, not {}", key.0, key.1, of(kernel, key), of(said, key)));
    }
    text
}

fn source(address: IpAddr, v6_source: u8) -> Result<Network> {
    let bits = if address.is_ipv4() { 32 } else { v6_source };
    Network::truncated(address, bits).with_context(|| format!("{address}/{bits} is no network"))
}

/// A line of /proc/net/tcp or tcp6.
#[derive(Debug)]
struct Row {
    local: SocketAddr,
    remote: SocketAddr,
    state: u8,
    timer: u8,
}

/// `TCP_ESTABLISHED`, `TCP_FIN_WAIT1`, `TCP_FIN_WAIT2`, `TCP_CLOSE_WAIT`, `TCP_LAST_ACK`, `TCP_CLOSING`.
const CONNECTED: [u8; 6] = [1, 4, 5, 8, 9, 11];
/// The timer of what is left of a socket: in TIME_WAIT, and in FIN_WAIT2 when its program has closed it.
const LEFT: u8 = 3;

impl Row {
    fn read(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        Some(Self {
            local: endpoint(words.get(1)?)?,
            remote: endpoint(words.get(2)?)?,
            state: u8::from_str_radix(words.get(3)?, 16).ok()?,
            timer: u8::from_str_radix(words.get(5)?.get(..2)?, 16).ok()?,
        })
    }

    fn is_connection(&self) -> bool {
        CONNECTED.contains(&self.state) && self.timer != LEFT
    }
}

/// Words of 32 bits in the machine's order, and the port.
fn endpoint(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let word = |at: usize| Some(u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16).ok()?.to_ne_bytes());
    let address = match address.len() {
        8 => IpAddr::from(Ipv4Addr::from(word(0)?)),
        32 => {
            let words: Vec<[u8; 4]> = (0..4).map(word).collect::<Option<_>>()?;
            let octets: [u8; 16] = words.concat().try_into().ok()?;
            IpAddr::from(Ipv6Addr::from(octets)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(address, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_writes_is_read() {
        let row =
            Row::read("0: 010200C0:0019 0101010A:9C40 01 00000000:00000000 00:00000000 00000000 0 0 42 1").unwrap();
        assert_eq!((row.local, row.remote), ("192.0.2.1:25".parse().unwrap(), "10.1.1.1:40000".parse().unwrap()));
        assert!(row.is_connection());
        let left =
            Row::read("0: 010200C0:0019 0101010A:9C40 05 00000000:00000000 03:00000F00 00000000 0 0 0 3").unwrap();
        assert!(!left.is_connection());
        let mapped = "0000000000000000FFFF00000101010A:9C40";
        assert_eq!(endpoint(mapped), Some("10.1.1.1:40000".parse().unwrap()));
    }
}
