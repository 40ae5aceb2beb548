//! What the gateway tests share: a gateway and everything outside it, connection attempts as raw frames, and what became of
//! them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ipnet::IpNet;
use ratelimit_common::Reason;

use crate::clients::Client;
use crate::controller::{Controller, Options};
use crate::flood::{Flood, Pattern};
use crate::netns::{End, Namespace, veth};
use crate::packet::SynPacket;
use crate::raw::RawSender;
use crate::segment::Link;
use crate::template::Syn;

mod answers;
mod counters;
mod list_file;
mod listener;

pub use answers::{Answer, Answers, Heard};
pub use counters::{Counters, Moved, Place, Row, dropped, passed};
pub use list_file::ListFile;
pub use listener::Listener;

/// The gateway's interface, and the one that everybody else is behind.
pub const LAN: &str = "lan0";
pub const OUT: &str = "out0";
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const OUTSIDE_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const OUTSIDE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
/// Every address of these is the outside's own: sockets can be bound to them.
const OUTSIDE_NETWORKS: [&str; 2] = ["10.0.0.0/8", "2001:db8:1::/48"];

/// A hardware address that nobody has.
const NOBODY: &str = "02:00:00:00:00:99";

/// How long counters may take to show what was sent, on a busy machine.
const SETTLE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);
/// Longer than a tick of the kernel's clock, whatever its HZ: the one attempt that the limiter allows beyond a burst comes a
/// tick later.
pub const TICK: Duration = Duration::from_millis(11);
/// Attempts beyond a burst.
const OVER: u64 = 3;

/// A gateway, and an outside that may send from any address.
#[derive(Debug)]
pub struct Wire {
    pub gateway: Namespace,
    pub outside: Namespace,
    sender: RawSender,
    gateway_mac: [u8; 6],
    outside_mac: [u8; 6],
    next_port: AtomicU16,
}

impl Wire {
    pub fn new(mtu: u32) -> Result<Self> {
        let (gateway, outside) = (Namespace::new("gateway")?, Namespace::new("outside")?);
        for network in OUTSIDE_NETWORKS {
            outside.own_network(network)?;
        }
        let [gateway_mac, outside_mac] = connect(&gateway, &outside, mtu)?;
        let sender = RawSender::new(outside.path(), OUT)?;
        Ok(Self { gateway, outside, sender, gateway_mac, outside_mac, next_port: AtomicU16::new(FIRST_PORT) })
    }

    /// Deletes the gateway's interface, as a driver that is unloaded does.
    pub fn cut(&self) -> Result<()> {
        self.gateway.ip(&format!("link delete dev {LAN}"))
    }

    /// Makes the interface anew, under its old name.
    pub fn mend(&mut self, mtu: u32) -> Result<()> {
        [self.gateway_mac, self.outside_mac] = connect(&self.gateway, &self.outside, mtu)?;
        self.sender = RawSender::new(self.outside.path(), OUT)?;
        Ok(())
    }

    /// A connection attempt to the gateway, from a port that was not used of late.
    pub fn syn(&self, source: IpAddr, port: u16) -> Syn {
        self.syn_to(source, gateway_for(source), port)
    }

    /// The same to any address behind the gateway's interface.
    pub fn syn_to(&self, source: IpAddr, destination: IpAddr, port: u16) -> Syn {
        let from = self.next_port.fetch_add(1, Ordering::Relaxed).max(FIRST_PORT);
        Syn::new(source, destination, port)
            .macs(self.outside_mac, self.gateway_mac)
            .connection(from, u32::from(from) << 16 | 1)
    }

    /// Where a client made by hand is: beside the outside's kernel, on its interface. Whatever the gateway is asked from
    /// there it answers there, whoever asks; addresses of 203.0.113.0/24 and 2001:db8:2::/48 belong to no kernel.
    pub fn link(&self) -> Link {
        Link {
            namespace: self.outside.path(),
            interface: OUT.to_owned(),
            mac: self.outside_mac,
            next_hop: self.gateway_mac,
        }
    }

    /// A packet as a frame between these two.
    pub fn frame(&self, packet: &SynPacket) -> Vec<u8> {
        let mut frame = packet.build();
        for (octet, wanted) in frame.iter_mut().zip(self.gateway_mac.iter().chain(&self.outside_mac)) {
            *octet = *wanted;
        }
        frame
    }

    pub fn send(&self, frame: &[u8]) -> Result<()> {
        self.sender.send(frame)
    }

    /// So many connection attempts of one source, as fast as they can be sent.
    pub fn attempt(&self, source: IpAddr, port: u16, count: u32) -> Result<()> {
        (0..count).try_for_each(|_| self.send(&self.syn(source, port).build()?))
    }

    /// SYNs to a port, made in the kernel.
    pub fn flood(&self, port: u16, pattern: Pattern, family: IpAddr) -> Result<Flood> {
        let template = self.syn(family, port).build()?;
        Ok(Flood::new(self.outside.path(), OUT).template(template).sources(pattern))
    }

    /// Has nothing arrive at anybody until [`Self::speak`]: each side believes the other at a hardware address that nobody
    /// has. The gate sees the frames all the same.
    pub fn silence(&self) -> Result<()> {
        introduce(&self.gateway, &self.outside, [NOBODY, NOBODY])
    }

    pub fn speak(&self) -> Result<()> {
        introduce(&self.gateway, &self.outside, [&self.gateway.mac(LAN)?, &self.outside.mac(OUT)?])
    }

    /// Frames that came in at the gateway's interface: those its XDP program saw, whatever it did with them.
    pub fn frames_received(&self) -> Result<u64> {
        frames_received(&self.gateway, LAN)
    }
}

const FIRST_PORT: u16 = 1024;

/// Joins the two, and returns the hardware addresses of both ends.
fn connect(gateway: &Namespace, outside: &Namespace, mtu: u32) -> Result<[[u8; 6]; 2]> {
    veth(
        End { namespace: gateway, interface: LAN, addresses: &["192.0.2.1/24", "2001:db8::1/64"] },
        End { namespace: outside, interface: OUT, addresses: &["192.0.2.2/24", "2001:db8::2/64"] },
        mtu,
    )?;
    gateway.route("default", OUTSIDE_V4.into())?;
    gateway.route("default", OUTSIDE_V6.into())?;
    let (gateway_mac, outside_mac) = (gateway.mac(LAN)?, outside.mac(OUT)?);
    introduce(gateway, outside, [&gateway_mac, &outside_mac])?;
    Ok([octets(&gateway_mac)?, octets(&outside_mac)?])
}

/// Nobody has to be asked for, so nothing but what a test sends crosses the wire.
fn introduce(gateway: &Namespace, outside: &Namespace, [gateway_mac, outside_mac]: [&str; 2]) -> Result<()> {
    for neighbour in [OUTSIDE_V4.into(), OUTSIDE_V6.into()] {
        gateway.neighbour(neighbour, outside_mac, LAN)?;
    }
    for neighbour in [GATEWAY_V4.into(), GATEWAY_V6.into()] {
        outside.neighbour(neighbour, gateway_mac, OUT)?;
    }
    Ok(())
}

/// Frames that came in at an interface.
pub fn frames_received(namespace: &Namespace, interface: &str) -> Result<u64> {
    let table = namespace.read_proc("/proc/net/dev")?;
    let row = table.lines().find_map(|line| line.trim().strip_prefix(interface)?.strip_prefix(':'));
    let packets = row.and_then(|row| row.split_whitespace().nth(1));
    Ok(packets.with_context(|| format!("no counters of {interface} in {table}"))?.parse()?)
}

/// The gateway's address that a source speaks to.
pub fn gateway_for(source: IpAddr) -> IpAddr {
    if source.is_ipv4() { GATEWAY_V4.into() } else { GATEWAY_V6.into() }
}

/// A client of the outside.
pub fn client(source: IpAddr, port: u16, timeout: Duration) -> Client {
    Client { source: Some(source), server: SocketAddr::new(gateway_for(source), port), timeout }
}

/// A hardware address as `ip` shows it.
pub fn octets(mac: &str) -> Result<[u8; 6]> {
    let octets: Vec<u8> = mac.split(':').map(|octet| u8::from_str_radix(octet, 16)).collect::<Result<_, _>>()?;
    octets.try_into().ok().with_context(|| format!("not a hardware address: {mac}"))
}

/// A wire with a running controller.
#[derive(Debug)]
pub struct Site {
    // Dropped first: it works inside the wire's namespaces.
    pub controller: Controller,
    pub wire: Wire,
}

impl Site {
    /// With a configuration file; interfaces that it does not name are the gateway's only one.
    pub fn configured(config: &str) -> Result<Self> {
        Self::start(
            1500,
            &Options { config: Some(config.to_owned()), interfaces: vec![LAN.to_owned()], ..Options::default() },
        )
    }

    /// With the built-in defaults, enforced.
    pub fn enforcing() -> Result<Self> {
        Self::start(1500, &Options::enforce([LAN]))
    }

    /// The same by the count of SYNs alone.
    pub fn counting_syns() -> Result<Self> {
        Self::start(1500, &Options::counting_syns([LAN]))
    }

    pub fn start(mtu: u32, options: &Options) -> Result<Self> {
        let wire = Wire::new(mtu)?;
        Ok(Self { controller: Controller::start(&wire.gateway, options)?, wire })
    }

    pub fn counters(&self) -> Result<Counters> {
        Counters::read(&self.controller.pins())
    }

    /// The counters and the frames received, of one moment.
    pub fn snapshot(&self) -> Result<(Counters, u64)> {
        let deadline = Instant::now() + SETTLE;
        loop {
            let frames = self.wire.frames_received()?;
            let counters = self.counters()?;
            if self.wire.frames_received()? == frames {
                return Ok((counters, frames));
            }
            ensure!(Instant::now() < deadline, "frames keep coming in");
            thread::sleep(POLL);
        }
    }

    /// What moved once so many frames for services have been judged, packets of open connections aside; all there is when
    /// the counters stand still below that.
    pub fn settled(&self, before: &Counters, frames: u64) -> Result<Moved> {
        let deadline = Instant::now() + SETTLE;
        loop {
            let moved = self.counters()?.since(before);
            if moved.total() >= frames || Instant::now() >= deadline {
                return Ok(moved);
            }
            thread::sleep(POLL);
        }
    }

    /// Asserts that exactly these counters moved, by exactly so much.
    pub fn expect(&self, before: &Counters, rows: &[Row]) -> Result<()> {
        let frames = rows.iter().map(|row| row.tally.passed + row.tally.dropped).sum();
        let moved = self.settled(before, frames)?;
        let expected = Moved::expected(rows);
        ensure!(moved == expected, "expected\n{expected}but counted\n{moved}{}", self.controller.log());
        Ok(())
    }

    /// Why the next SYN of a source leaves the gate as it does, and whether it passes.
    pub fn next(&self, source: IpAddr, port: u16) -> Result<(Reason, bool)> {
        let before = self.counters()?;
        self.wire.attempt(source, port, 1)?;
        let moved = self.settled(&before, 1)?;
        let reason = moved.only_reason().with_context(|| format!("one SYN of {source} moved\n{moved}"))?;
        Ok((reason, moved.total_passed() == 1))
    }

    /// Has a source use up a limit, with a tick of the kernel's clock between its attempts, and asserts that a burst of them
    /// passed, or one more: the limiter allows one more a tick later.
    pub fn exhaust(&self, source: IpAddr, port: u16, burst: u64) -> Result<()> {
        let before = self.counters()?;
        let attempts = burst + OVER;
        for _ in 0..attempts {
            self.wire.attempt(source, port, 1)?;
            thread::sleep(TICK);
        }
        let moved = self.settled(&before, attempts)?;
        let over = moved.of(Reason::SourceLimit);
        let is_burst = (burst..=burst + 1).contains(&moved.of(Reason::Admitted));
        ensure!(is_burst && moved.total() == attempts && over > 0, "{attempts} attempts of {source} moved\n{moved}");
        Ok(())
    }

    /// A command that must succeed; returns what it printed.
    pub fn run(&self, words: &str) -> Result<String> {
        let args: Vec<&str> = words.split_whitespace().collect();
        let finished = self.controller.cli(&args)?;
        ensure!(finished.status.success(), "`ratelimit {words}`: {finished:?}");
        Ok(finished.stdout)
    }

    /// A command that must end with this code; returns what it said on standard error.
    pub fn refused(&self, words: &str, code: i32) -> Result<String> {
        let args: Vec<&str> = words.split_whitespace().collect();
        let finished = self.controller.cli(&args)?;
        ensure!(finished.status.code() == Some(code), "`ratelimit {words}` did not end with {code}: {finished:?}");
        Ok(finished.stderr)
    }
}

/// Waits until something holds.
pub fn eventually(what: &str, timeout: Duration, mut holds: impl FnMut() -> Result<bool>) -> Result<Duration> {
    let start = Instant::now();
    loop {
        if holds()? {
            return Ok(start.elapsed());
        }
        if start.elapsed() >= timeout {
            bail!("not within {timeout:?}: {what}");
        }
        thread::sleep(POLL);
    }
}

/// Does something so often, evenly spaced; late ones follow at once.
pub fn paced(count: u64, per_second: f64, mut act: impl FnMut(u64) -> Result<()>) -> Result<()> {
    let start = Instant::now();
    for number in 0..count {
        let due = Duration::from_secs_f64(number as f64 / per_second);
        let early = due.saturating_sub(start.elapsed());
        // Shorter sleeps than the scheduler's would only fall behind.
        if early > Duration::from_millis(1) {
            thread::sleep(early);
        }
        act(number)?;
    }
    Ok(())
}

/// An address, for literals. Panics if it is none.
pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|_| panic!("{text} is no address"))
}

/// A network, for literals. Panics if it is none.
pub fn net(text: &str) -> IpNet {
    text.parse().unwrap_or_else(|_| panic!("{text} is no network"))
}

/// Whether tests take as long as they were meant to, instead of showing the same in less time.
pub fn is_long() -> bool {
    std::env::var_os("RATELIMIT_LONG").is_some()
}
