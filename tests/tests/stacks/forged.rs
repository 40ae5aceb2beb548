//! Floods of segments that belong to no connection, against the kernel as it is.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use ratelimit_tests::flood::Pattern;
use ratelimit_tests::forged::Forged;
use ratelimit_tests::gateway::{LAN, eventually, ip, net};
use ratelimit_tests::raw::RawReceiver;
use ratelimit_tests::receiver::Receiver;
use ratelimit_tests::segment::Segment;

use crate::challenger::{PORT, wire};

const PACKETS: u64 = 1_000;
const RATE: u64 = 10_000;
const TIMEOUT: Duration = Duration::from_secs(5);
const SOURCES: [&str; 2] = ["203.0.113.0/24", "2001:db8:2::/48"];

/// What the flags and the data of a segment make it.
fn kind(segment: &Segment) -> Option<Forged> {
    match (segment.syn, segment.reset, segment.acknowledgement.is_some(), segment.data.is_empty()) {
        (false, false, true, true) => Some(Forged::Ack),
        (false, true, false, true) => Some(Forged::Reset),
        (true, false, true, true) => Some(Forged::SynAck),
        (false, false, true, false) => Some(Forged::Data),
        _ => None,
    }
}

#[test]
fn every_kind_reaches_the_stack_and_differs_from_packet_to_packet() -> Result<()> {
    let (wire, _listener) = wire()?;
    let _pass = Receiver::pass(wire.gateway.path(), LAN)?;
    for (forged, network) in Forged::ALL.into_iter().flat_map(|forged| SOURCES.map(|network| (forged, network))) {
        let network = net(network);
        let receiver = RawReceiver::new(wire.gateway.path(), LAN)?;
        let [segments, resets] = ["InSegs", "OutRsts"].map(|name| wire.gateway.counter("Tcp", name));
        let (segments, resets) = (segments?, resets?);
        let flood = forged.flood(&wire, PORT, Pattern::random([network]), network.addr())?;
        let report = flood.rate(Some(RATE)).limit(PACKETS, TIMEOUT).start()?.join()?;
        ensure!(report.packets == PACKETS, "{report:?}");
        eventually("all arrived", TIMEOUT, || Ok(wire.gateway.counter("Tcp", "InSegs")? >= segments + PACKETS))?;
        ensure!(wire.gateway.counter("Tcp", "InCsumErrors")? == 0, "{forged:?}: bad checksums");
        let resets = wire.gateway.counter("Tcp", "OutRsts")? - resets;
        println!("{forged:?} from {network}: {resets} resets");
        // A reset is never answered by another one.
        ensure!(resets == if forged == Forged::Reset { 0 } else { PACKETS }, "{forged:?}: {resets} resets");
        let mut seen = HashSet::new();
        while let Some(frame) = receiver.receive(Duration::from_millis(50))? {
            let Some((from, to, segment)) = Segment::read(&frame) else { continue };
            ensure!(network.contains(&from.ip()) && to.port() == PORT && kind(&segment) == Some(forged), "{segment:?}");
            seen.insert((from.port(), segment.sequence));
        }
        // Of a million million, hardly two are alike.
        ensure!(seen.len() as u64 == PACKETS, "{forged:?}: {} of {PACKETS} differ", seen.len());
    }
    Ok(())
}

#[test]
fn every_address_of_the_outside_answers_what_it_never_asked_for() -> Result<()> {
    let (wire, _listener) = wire()?;
    for (live, nobody) in
        [("10.77.0.0", "203.0.113.1"), ("10.77.255.255", "203.0.113.2"), ("2001:db8:1:77::1", "2001:db8:2::1")]
    {
        for (source, answers) in [(live, true), (nobody, false)] {
            let receiver = RawReceiver::new(wire.gateway.path(), LAN)?;
            wire.attempt(ip(source), PORT, 1)?;
            let reset = receiver.find(Duration::from_millis(300), |frame| {
                Segment::read(frame).is_some_and(|(from, _, segment)| from.ip() == ip(source) && segment.reset)
            })?;
            ensure!(reset.is_some() == answers, "{source}: {reset:?}");
        }
    }
    Ok(())
}
