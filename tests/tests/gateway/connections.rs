//! The count of open connections is what the kernel tells, whatever ends them, and whatever becomes of the controller.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::maps::{HashMap, Map, MapData};
use ratelimit_tests::controller::{Controller, Options};
use ratelimit_tests::gateway::{GATEWAY_V4, GATEWAY_V6, LAN, Site, Wire, eventually, ip, is_long};
use ratelimit_tests::open::{Open, agree, agree_and_show};
use ratelimit_tests::pairs::{Door, End, Pair};
use ratelimit_user::plane::{Pins, open_watch};

/// Nobody is refused, so that as many connections come as the test makes.
const FREE: &str = r#"
mode = "enforce"
[services.smtp]
source = "off"
network = "off"
service = "off"
connections = 1000000
[services.imap]
source = "off"
network = "off"
service = "off"
[services.submission]
source = "off"
network = "off"
service = "off"
connections = "off"
[services.pop3]
source = "off"
network = "off"
service = "off"
"#;
const POP3: u16 = 110;
const SOURCES: usize = 60;
/// Entries without a connection go after a minute, at the next full one.
const GONE: Duration = Duration::from_secs(150);

/// Where the connections of a test go: IPv4, IPv6, and IPv4 to a listener of both.
fn doors(wire: &Wire) -> Result<[Door; 3]> {
    let (v4, v6) = (IpAddr::from(GATEWAY_V4), IpAddr::from(GATEWAY_V6));
    let door =
        |at: IpAddr, to: IpAddr, port| Door::open(&wire.gateway, SocketAddr::new(at, port), SocketAddr::new(to, port));
    Ok([door(v4, v4, 25)?, door(v6, v6, 143)?, door(ip("::"), v4, 587)?])
}

/// Sources for one of the doors, each several times: by IPv6, the addresses of a source are many.
fn sources(door: usize, count: usize) -> Vec<IpAddr> {
    let of = |number: usize| match door {
        1 => ip(&format!("2001:db8:1:{:x}::{number:x}", number % SOURCES)),
        _ => ip(&format!("10.20.{door}.{}", number % SOURCES + 1)),
    };
    (0..count).map(of).collect()
}

fn options() -> Options {
    let args = vec!["--keep".to_owned()];
    Options { config: Some(FREE.to_owned()), interfaces: vec![LAN.to_owned()], args, ..Options::default() }
}

struct Count {
    site: Site,
    doors: [Door; 3],
    /// Open all the while, of sources that have others too.
    held: Vec<Pair>,
    made: usize,
}

/// What becomes of the controller while connections come and go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Lives,
    /// It dies amid the connecting and comes back before they end.
    Dies,
    /// It comes back after they have ended.
    IsMissing,
    IsReplaced,
}

impl Count {
    fn new() -> Result<Self> {
        let wire = Wire::new(1500)?;
        // What is left of closed sockets is not looked at, only read past.
        for namespace in [&wire.gateway, &wire.outside] {
            namespace.sysctl("net.ipv4.tcp_max_tw_buckets", "1000")?;
        }
        let doors = doors(&wire)?;
        let site = Site { controller: Controller::start(&wire.gateway, &options())?, wire };
        let mut count = Self { site, doors, held: Vec::new(), made: 0 };
        for door in 0..count.doors.len() {
            let pairs = count.connect(door, &sources(door, 10))?;
            count.held.extend(pairs);
        }
        Ok(count)
    }

    fn connect(&mut self, door: usize, sources: &[IpAddr]) -> Result<Vec<Pair>> {
        self.made += sources.len();
        self.doors[door].pairs(&self.site.wire.outside, sources)
    }

    fn agree(&self, open: usize) -> Result<()> {
        agree(&self.site.wire.gateway, &self.site.controller, open + self.held.len())
    }

    /// Nothing that the kernel told of itself is taken for older than the gate, whoever came back.
    fn agree_and_show(&self, open: usize) -> Result<()> {
        agree_and_show(&self.site.wire.gateway, &self.site.controller, open + self.held.len())?;
        let older = self.site.controller.status()?.proof.older;
        ensure!(older == 0, "{older} are taken for older than the gate");
        Ok(())
    }

    fn batch(&mut self, door: usize, end: End, count: usize, fate: Fate) -> Result<()> {
        let sources = sources(door, count);
        let (early, late) = sources.split_at(count / 2);
        let mut pairs = self.connect(door, early)?;
        if matches!(fate, Fate::Dies | Fate::IsMissing) {
            self.site.controller.kill9()?;
        }
        pairs.extend(self.connect(door, late)?);
        self.agree(count)?;
        if fate == Fate::IsReplaced {
            self.site.controller.stop()?;
        }
        if matches!(fate, Fate::Dies | Fate::IsReplaced) {
            self.site.controller.restart()?;
            self.agree_and_show(count)?;
        }
        end.of(&self.site.wire, pairs, &mut |open| self.agree(open))?;
        self.agree(0)?;
        if fate == Fate::IsMissing {
            self.site.controller.restart()?;
            self.agree_and_show(0)?;
        }
        Ok(())
    }

    /// All ways to end at all doors.
    fn round(&mut self, count: usize, fate: impl Fn(usize) -> Fate) -> Result<()> {
        let batches = (0..self.doors.len()).flat_map(|door| End::ALL.map(|end| (door, end)));
        for (number, (door, end)) in batches.enumerate() {
            let fate = fate(number);
            self.batch(door, end, count, fate)
                .with_context(|| format!("{end:?} at door {door}, controller {fate:?}"))?;
        }
        Ok(())
    }
}

/// Twenty comings back in the first 36 batches.
fn fates(number: usize) -> Fate {
    match number % 9 {
        0 | 5 => Fate::Dies,
        2 => Fate::IsMissing,
        4 | 7 => Fate::IsReplaced,
        _ => Fate::Lives,
    }
}

/// Looks all the while whether any source ever has more connections than were made: a count below zero would be that.
fn never_more<T>(pins: &Path, most: usize, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let maps = open_watch(&Pins::at(pins))?;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let watcher = scope.spawn(|| -> Result<()> {
            while !done.load(Ordering::Relaxed) {
                let highest = maps.all_connections()?.values().max().copied().unwrap_or(0);
                ensure!(highest <= most as u64, "a source had {highest} connections");
                thread::sleep(Duration::from_millis(5));
            }
            Ok(())
        });
        let outcome = work();
        done.store(true, Ordering::Relaxed);
        let watched = watcher.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        outcome.and_then(|outcome| watched.map(|()| outcome))
    })
}

/// Entries that the kernel holds, with connections or without.
fn entries(controller: &Controller) -> Result<usize> {
    let map = Map::HashMap(MapData::from_pin(controller.pins().join("watch/OPEN"))?);
    let map: HashMap<MapData, [u8; 24], [u8; 16]> = HashMap::try_from(map)?;
    Ok(map.keys().count())
}

#[test]
fn every_end_of_a_connection_is_counted_and_no_restart_loses_one() -> Result<()> {
    let mut count = Count::new()?;
    let batches = 3 * End::ALL.len();
    let all: usize = if is_long() { 100_000 } else { 5_000 };
    let rounds = if is_long() { 20 } else { 1 };
    let each = all.div_ceil(batches * rounds);
    let pins = count.site.controller.pins();
    never_more(&pins, each + 10, || {
        count.round(each, fates)?;
        (1..rounds).try_for_each(|_| count.round(each, |_| Fate::Lives))
    })?;
    ensure!(count.made >= all, "only {} connections were made", count.made);
    count.agree_and_show(0)?;

    let held = std::mem::take(&mut count.held);
    End::ClientFirst.of(&count.site.wire, held, &mut |_| Ok(()))?;
    count.agree_and_show(0)?;
    let proof = count.site.controller.status()?.proof;
    println!("{} connections, 20 restarts: {proof:?}", count.made);
    ensure!(proof.not_counted == 0 && proof.challenges.sent == 0, "{proof:?}");
    ensure!(proof.handshakes <= count.made as u64 && proof.handshakes * 100 >= count.made as u64 * 99, "{proof:?}");
    if is_long() {
        eventually("entries go when they are empty", GONE, || Ok(entries(&count.site.controller)? == 0))?;
    }
    Ok(())
}

/// The kernel counts them from the handshake on, accepted or not.
#[test]
fn connections_that_nobody_accepts_are_counted_until_the_listener_closes() -> Result<()> {
    let wire = Wire::new(1500)?;
    let to = SocketAddr::new(GATEWAY_V4.into(), POP3);
    let listener = wire.gateway.enter(|| TcpListener::bind(to))??;
    let site = Site { controller: Controller::start(&wire.gateway, &options())?, wire };
    let clients = site.wire.outside.enter(|| -> Result<Vec<TcpStream>> {
        (0..50).map(|_| TcpStream::connect(to).context("not even queued")).collect()
    })??;
    agree(&site.wire.gateway, &site.controller, clients.len())?;
    drop(listener);
    agree_and_show(&site.wire.gateway, &site.controller, 0)
}

#[test]
fn connections_older_than_the_gate_are_counted_until_they_end() -> Result<()> {
    let wire = Wire::new(1500)?;
    let doors = doors(&wire)?;
    let connect = |wire: &Wire, each| -> Result<Vec<Vec<Pair>>> {
        doors.iter().enumerate().map(|(door, at)| at.pairs(&wire.outside, &sources(door, each))).collect()
    };
    let first = connect(&wire, 12)?;
    let controller = Controller::start(&wire.gateway, &Options { args: Vec::new(), ..options() })?;
    let mut site = Site { controller, wire };
    let older = |site: &Site| -> Result<u64> { Ok(site.controller.status()?.proof.older) };
    agree_and_show(&site.wire.gateway, &site.controller, 36)?;
    ensure!(older(&site)? == 36, "{} are older", older(&site)?);
    let second = connect(&site.wire, 5)?;
    agree_and_show(&site.wire.gateway, &site.controller, 51)?;
    ensure!(older(&site)? == 36, "{} are older", older(&site)?);

    // The gate goes with the controller, and all that it counted.
    site.controller.stop()?;
    ensure!(!site.controller.pins().join("watch").exists(), "the count outlived the gate");
    let third = connect(&site.wire, 3)?;
    site.controller.restart()?;
    agree_and_show(&site.wire.gateway, &site.controller, 60)?;
    ensure!(older(&site)? == 60, "{} are older", older(&site)?);
    site.controller.restart()?;
    agree_and_show(&site.wire.gateway, &site.controller, 60)?;

    let mut open = 60;
    let all = first.into_iter().zip(second).zip(third);
    let mut ends = End::ALL.into_iter().cycle();
    for ((first, second), third) in all {
        for mut pairs in [first, second, third] {
            while !pairs.is_empty() {
                let some = pairs.split_off(pairs.len().saturating_sub(3));
                let end = ends.next().context("a cycle has no end")?;
                open -= some.len();
                end.of(&site.wire, some, &mut |_| Ok(()))?;
                agree(&site.wire.gateway, &site.controller, open).with_context(|| format!("{end:?}"))?;
            }
        }
    }
    agree_and_show(&site.wire.gateway, &site.controller, 0)?;
    ensure!(older(&site)? == 0 && Open::shown(&site.controller)?.total() == 0);
    ensure!(fs::exists(site.controller.pins().join("watch/OLDER"))?);
    Ok(())
}
