//! A flood from every address there is: it uses up no memory, and costs no honest source anything.
//!
//! The flood is IPv4 and comes in at an interface of its own; honest sources are IPv6. Both are judged by the same cells,
//! their counters tell them apart, and the one queue cannot lose the other's packets. The flood's frames carry somebody
//! else's hardware address: the gate judges them like all others, and the kernel behind it wastes no time on them.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::maps::MapData;
use ratelimit_common::event::Tally;
use ratelimit_common::{Family, Reason};
use ratelimit_tests::controller::{COUNTING_SYNS, Controller, Options};
use ratelimit_tests::flood::{Flood, Pattern, RunningFlood};
use ratelimit_tests::gateway::{GATEWAY_V4, LAN, Moved, Site, Wire, frames_received, ip, is_long, net, paced};
use ratelimit_tests::netns::{End, Namespace, veth};
use ratelimit_tests::template::Syn;

const SMTP: u16 = 25;
const SIEVE: u16 = 4190;
const WAN: &str = "wan0";
const FAR: &str = "far0";
const NOBODY: [u8; 6] = [2, 0, 0, 0, 0, 0x99];
/// Packets a second of the flood. One core of a quiet machine makes twice as many; a busy machine makes less.
const RATE: u64 = 1_100_000;
const LEAST_MPPS: f64 = 0.2;
/// The default burst of a source on smtp.
const BURST: u64 = 300;
const SOURCES: u64 = 10_000;

struct Storm {
    site: Site,
    far: Namespace,
}

impl Storm {
    fn new(options: &Options) -> Result<Self> {
        let (wire, far) = (Wire::new(1500)?, Namespace::new("far")?);
        veth(
            End { namespace: &wire.gateway, interface: WAN, addresses: &["198.51.100.1/24"] },
            End { namespace: &far, interface: FAR, addresses: &["198.51.100.2/24"] },
            1500,
        )?;
        let controller = Controller::start(&wire.gateway, options)?;
        Ok(Self { site: Site { controller, wire }, far })
    }

    fn flood(&self, port: u16, time: Duration) -> Result<RunningFlood> {
        let template = Syn::new(ip("192.0.2.9"), GATEWAY_V4.into(), port).macs([2, 0, 0, 0, 0, 1], NOBODY).build()?;
        let everybody = Pattern::random([net("0.0.0.0/0")]);
        Flood::new(self.far.path(), FAR)
            .template(template)
            .sources(everybody)
            .rate(Some(RATE))
            .limit(u64::MAX, time)
            .start()
    }

    /// One attempt a second of every source, for so long; returns how many were sent.
    fn steady(&self, port: u16, seconds: u64) -> Result<u64> {
        let count = SOURCES * seconds;
        paced(count, SOURCES as f64, |number| self.site.wire.attempt(household(number % SOURCES), port, 1))?;
        Ok(count)
    }

    /// Whole bursts at once, of sources that have not been seen before; returns how many attempts were sent.
    fn bursts(&self, port: u16, count: u64, round: u64) -> Result<u64> {
        let source = |number| household(SOURCES + round * count + number);
        paced(count, 25.0, |number| self.site.wire.attempt(source(number), port, u32::try_from(BURST)?))?;
        Ok(count * BURST)
    }

    /// What the limits made of honest attempts.
    fn honest(&self, moved: &Moved, service: &str, sent: u64) -> Result<Tally> {
        let tally = moved.connections_of(service, Family::V6);
        let arrived = tally.passed + tally.dropped;
        println!("{service}: {sent} honest attempts, {arrived} arrived, {} refused", tally.dropped);
        ensure!(arrived <= sent && arrived * 10 >= sent * 9, "{arrived} of {sent} attempts arrived");
        Ok(tally)
    }
}

/// Each a household in a network of its own, whatever the service takes for a network.
fn household(number: u64) -> IpAddr {
    ip(&format!("2a00:{number:x}::7"))
}

/// Bytes of every pinned map.
fn memory_of_maps(controller: &Controller) -> Result<BTreeMap<String, String>> {
    let mut memory = BTreeMap::new();
    for plane in fs::read_dir(controller.pins())?.flatten().filter(|entry| entry.file_name() != "links") {
        for pin in fs::read_dir(plane.path())?.flatten().filter(|entry| entry.file_name() != "link") {
            let map = MapData::from_pin(pin.path())?;
            let facts = fs::read_to_string(format!("/proc/self/fdinfo/{}", map.fd().as_fd().as_raw_fd()))?;
            let bytes = facts.lines().find_map(|line| line.strip_prefix("memlock:")).context("no memlock")?;
            memory.insert(pin.path().display().to_string(), bytes.trim().to_owned());
        }
    }
    Ok(memory)
}

fn memory_of_controller(controller: &Controller) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", controller.id().context("no controller")?))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

#[test]
fn a_flood_of_forged_sources_costs_nobody_anything() -> Result<()> {
    let storm = Storm::new(&Options::counting_syns([LAN, WAN]))?;
    let controller = &storm.site.controller;
    let (rounds, bursts_each) = if is_long() { (66, 15) } else { (1, 100) };
    storm.steady(SMTP, 1)?;
    let (maps, resident) = (memory_of_maps(controller)?, memory_of_controller(controller)?);
    let first = storm.site.counters()?;

    let flood = storm.flood(SMTP, Duration::from_secs(3_600))?;
    thread::sleep(Duration::from_secs(1));
    for round in 0..rounds {
        let before = storm.site.counters()?;
        let sent = storm.steady(SMTP, 8)?;
        thread::sleep(Duration::from_millis(200));
        let steady = storm.honest(&storm.site.counters()?.since(&before), "smtp", sent)?;
        ensure!(steady.dropped == 0, "{} of the steady sources were refused in round {round}", steady.dropped);

        let before = storm.site.counters()?;
        let sent = storm.bursts(SMTP, bursts_each, round)?;
        thread::sleep(Duration::from_millis(200));
        let bursts = storm.honest(&storm.site.counters()?.since(&before), "smtp", sent)?;
        ensure!(bursts.dropped * 1_000 <= sent, "{} of {sent} attempts in bursts were refused", bursts.dropped);
    }
    flood.stop();
    let flood = flood.join()?;
    let moved = storm.site.counters()?.since(&first);
    println!("{flood:?}\n{moved}");
    ensure!(flood.mpps >= LEAST_MPPS, "only {:.2} Mpps", flood.mpps);
    let forged = moved.connections_of("smtp", Family::V4);
    let judged = forged.passed + forged.dropped;
    ensure!(judged * 10 >= flood.packets * 9, "{judged} of {} packets were judged", flood.packets);
    ensure!(frames_received(&storm.site.wire.gateway, WAN)? >= judged, "more were judged than came in");
    ensure!(moved.of(Reason::ServiceLimit) > 0, "the service as a whole is over its limit");

    ensure!(memory_of_maps(controller)? == maps, "the maps have grown: {:?}", memory_of_maps(controller)?);
    let now = memory_of_controller(controller)?;
    // The latest events, ten thousand at most.
    ensure!(now < resident + 16 * 1024, "the controller had {resident} kB and has {now} kB");
    Ok(())
}

#[test]
fn a_flood_on_one_service_harms_no_other() -> Result<()> {
    // Cells that hold one connection an hour are soon all taken.
    let config = format!("{COUNTING_SYNS}[services.sieve]\nsource = {{ rate = \"1/h\", burst = 2 }}\n");
    let storm = Storm::new(&Options { config: Some(config), ..Options::counting_syns([LAN, WAN]) })?;
    let flood = storm.flood(SIEVE, Duration::from_secs(3_600))?;
    thread::sleep(Duration::from_secs(2));
    let before = storm.site.counters()?;
    let mut sent = BTreeMap::new();
    for (service, port) in [("smtp", SMTP), ("imap", 143)] {
        let count = storm.steady(port, 2)? + storm.bursts(port, 20, 0)?;
        sent.insert(service, count);
    }
    thread::sleep(Duration::from_millis(200));
    let moved = storm.site.counters()?.since(&before);
    flood.stop();
    println!("{:?}\n{moved}", flood.join()?);
    for (service, count) in sent {
        let tally = storm.honest(&moved, service, count)?;
        ensure!(tally.dropped == 0, "{} of {count} attempts at {service} were refused", tally.dropped);
    }
    let sieve = moved.connections("sieve");
    ensure!(sieve.dropped > sieve.passed, "sieve itself is not full, so this shows nothing:\n{moved}");
    Ok(())
}
