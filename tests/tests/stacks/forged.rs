//! Floods of segments that belong to no connection, against the kernel as it is.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use ratelimit_tests::flood::Pattern;
use ratelimit_tests::forged::Forged;
use ratelimit_tests::gateway::{LAN, Wire, eventually, gateway_for, ip, net};
use ratelimit_tests::raw::{RawReceiver, RawSender};
use ratelimit_tests::receiver::Receiver;
use ratelimit_tests::segment::{Link, Segment};

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

/// Whether somebody resets what he never asked for.
fn is_reset(wire: &Wire, source: IpAddr, ask: impl FnOnce() -> Result<()>) -> Result<bool> {
    let receiver = RawReceiver::to_address(wire.gateway.path(), LAN, gateway_for(source))?;
    ask()?;
    let reset = receiver.find(Duration::from_millis(300), |frame| {
        Segment::read(frame).is_some_and(|(from, _, segment)| from.ip() == source && segment.reset)
    })?;
    Ok(reset.is_some())
}

#[test]
fn every_address_of_the_outside_answers_what_it_never_asked_for() -> Result<()> {
    let (wire, _listener) = wire()?;
    let to_outside = RawSender::new(wire.gateway.path(), LAN)?;
    let outside = wire.link();
    let link = Link {
        namespace: wire.gateway.path(),
        interface: LAN.to_owned(),
        mac: outside.next_hop,
        next_hop: outside.mac,
    };
    let live = ["10.77.0.0", "10.77.128.9", "10.77.255.255", "2001:db8:1:77::1"].map(|source| (ip(source), true));
    let nobody = ["203.0.113.1", "2001:db8:2::1"].map(|source| (ip(source), false));
    for (source, answers) in live.into_iter().chain(nobody) {
        let by_syn_ack = is_reset(&wire, source, || wire.attempt(source, PORT, 1))?;
        let ack = Segment { acknowledgement: Some(7), ..Segment::default() };
        let frame = ack.frame(&link, (gateway_for(source), PORT).into(), (source, 40_000).into())?;
        let by_ack = is_reset(&wire, source, || to_outside.send(&frame))?;
        ensure!((by_syn_ack, by_ack) == (answers, answers), "{source}: {by_syn_ack} {by_ack}");
    }
    Ok(())
}
