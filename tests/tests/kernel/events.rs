//! Sampled events: true, and never more than the stated rate.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use anyhow::Result;
use ratelimit_common::{Action, Address, Event, Mode, Reason, map::EVENT_BUFFER_BYTES};
use ratelimit_tests::{
    kernel::{Globals, Kernel, Program, coarse_clock_ns},
    packet::SynPacket,
    tables::World,
};

const INTERVAL_NS: u64 = 10_000_000;
/// Events that a reason may send at once after a rest.
const BURST: u64 = 16;
const FLOOD: u32 = 1_000_000;
/// An event and the header of its record in the buffer.
const RECORD_BYTES: usize = size_of::<Event>() + 8;

fn blocking() -> World {
    World::new().block("192.0.2.0/24").events_every(INTERVAL_NS)
}

fn kernel(globals: Globals, world: &World) -> Kernel {
    crate::load(globals, world)
}

#[test]
fn an_event_tells_what_happened() -> Result<()> {
    let world = blocking();
    let mut kernel = kernel(Globals::default(), &world);
    let before_ns = coarse_clock_ns()?;
    assert_eq!(kernel.run(Program::Gate, &SynPacket::v4().from_port(4711).build())?, Action::Drop);
    assert_eq!(kernel.run(Program::Gate, &SynPacket::v6().to_port(993).build())?, Action::Pass);
    let events = kernel.events()?;
    let [blocked, admitted]: [Event; 2] = events.try_into().expect("one event for each of the two");

    assert_eq!((blocked.reason(), blocked.mode()), (Some(Reason::Blocked), Mode::Enforce));
    assert_eq!((blocked.source, blocked.destination), (address("192.0.2.7"), address("198.51.100.25")));
    assert_eq!((blocked.source_port, blocked.port, blocked.service()), (4711, 25, Some(world.id("smtp"))));
    assert!((before_ns..=coarse_clock_ns()?).contains(&blocked.at_ns));
    assert_eq!((admitted.reason(), admitted.service()), (Some(Reason::Admitted), Some(world.id("imaps"))));
    assert_eq!((admitted.source, admitted.port), (address("2001:db8:7::7"), 993));
    Ok(())
}

fn address(text: &str) -> Address {
    Address::from(text.parse::<IpAddr>().expect("an address"))
}

#[test]
fn a_flood_makes_no_more_events_than_the_stated_rate() -> Result<()> {
    let mut kernel = kernel(Globals::default(), &blocking());
    let start = Instant::now();
    assert_eq!(kernel.repeat(Program::Gate, &SynPacket::v4().build(), FLOOD)?, Action::Drop);
    let took = start.elapsed();
    let sent = kernel.events()?.len() as u64;
    // The kernel may move a long run to another processor, which has a burst of its own.
    let processors = std::thread::available_parallelism()?.get() as u64;
    let most = processors * BURST + took.as_nanos() as u64 / INTERVAL_NS + 1;
    println!("{FLOOD} drops in {took:.2?}: {sent} events, at most {most}");
    assert!((BURST..=most).contains(&sent), "{sent} events, {most} at most");
    Ok(())
}

#[test]
fn each_reason_has_its_own_events() -> Result<()> {
    let mut kernel = kernel(Globals::default(), &blocking());
    let _ = kernel.repeat(Program::Gate, &SynPacket::v4().build(), FLOOD / 10)?;
    let _ = kernel.events()?;
    let _ = kernel.run(Program::Gate, &SynPacket::v4().flags(0).build())?;
    let reasons: Vec<_> = kernel.events()?.iter().map(Event::reason).collect();
    assert_eq!(reasons, [Some(Reason::BadFlags)]);
    Ok(())
}

#[test]
fn what_is_neither_refused_nor_a_new_connection_makes_none() -> Result<()> {
    let mut kernel = kernel(Globals::default(), &blocking());
    for packet in [SynPacket::v4().flags(0x10), SynPacket::v4().to_port(80), SynPacket::v6().udp(&[])] {
        let _ = kernel.run(Program::Gate, &packet.build())?;
    }
    assert_eq!(kernel.events()?, []);
    Ok(())
}

#[test]
fn none_without_an_interval_or_when_switched_off() -> Result<()> {
    let off = Globals { sample_events: false, ..Globals::default() };
    for (globals, world) in [(Globals::default(), blocking().events_every(0)), (off, blocking())] {
        let mut kernel = kernel(globals, &world);
        let _ = kernel.repeat(Program::Gate, &SynPacket::v4().build(), 1000)?;
        assert_eq!(kernel.events()?, []);
    }
    Ok(())
}

#[test]
fn a_full_buffer_loses_events_and_nothing_else() -> Result<()> {
    // At every step of the clock, 4 ms or a few of them, each reason sends a burst; the buffer holds 4096.
    const FILLING: Duration = Duration::from_secs(2);
    let (v4, v6) = (SynPacket::v4, SynPacket::v6);
    let refused = [v4(), v4().flags(0), v4().flags(0x12), v4().total_len(0), v4().first_fragment(8)];
    let mut frames = refused.map(|packet| packet.build()).to_vec();
    frames.push(v6().from("::ffff:192.0.2.7").build());
    for log_diagnostics in [false, true] {
        let world = blocking().events_every(1);
        let mut kernel = kernel(Globals { log_diagnostics, ..Globals::default() }, &world);
        let (start, mut drops) = (Instant::now(), 0u64);
        while start.elapsed() < FILLING {
            for frame in &frames {
                assert_eq!(kernel.run(Program::Gate, frame)?, Action::Drop);
                drops += 1;
            }
        }
        let dropped: u64 = kernel.tallies()?.iter().map(|tally| tally.dropped).sum();
        assert_eq!(dropped, drops);
        let waiting = kernel.events()?.len();
        println!("{drops} drops, {waiting} events in a full buffer");
        assert!(waiting >= EVENT_BUFFER_BYTES / RECORD_BYTES - 1, "{waiting} do not fill it");
    }
    Ok(())
}
