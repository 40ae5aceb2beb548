//! The flood generator against a receiver without any filter. Needs root; every packet stays between two namespaces.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use etherparse::{NetSlice, SlicedPacket, TcpOptionElement, TransportSlice};
use ipnet::IpNet;
use ratelimit_tests::flood::{Flood, Pattern};
use ratelimit_tests::netns::{End, Namespace, veth};
use ratelimit_tests::raw::{RawReceiver, RawSender};
use ratelimit_tests::receiver::{Counts, Receiver};
use ratelimit_tests::template::Syn;

const OUT: &str = "out0";
const IN: &str = "in0";
const PORT: u16 = 25;
const SHORT: Duration = Duration::from_secs(2);
/// A million a second is usual on one core; a busy machine has less.
const LEAST_MPPS: f64 = 0.2;

/// An attacker's and a victim's namespace with a wire between them.
struct Wire {
    attacker: Namespace,
    victim: Namespace,
    victim_mac: [u8; 6],
    /// One flood at a time, or they share the core that is measured.
    _turn: MutexGuard<'static, ()>,
}

impl Wire {
    fn new() -> Result<Self> {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let (attacker, victim) = (Namespace::new("attacker")?, Namespace::new("victim")?);
        veth(
            End { namespace: &attacker, interface: OUT, addresses: &["192.0.2.1/24", "2001:db8::1/64"] },
            End { namespace: &victim, interface: IN, addresses: &["192.0.2.2/24", "2001:db8::2/64"] },
            1500,
        )?;
        let victim_mac = parse_mac(&victim.mac(IN)?)?;
        Ok(Self { attacker, victim, victim_mac, _turn: turn })
    }

    fn syn(&self, destination: &str) -> Result<Syn> {
        let destination = destination.parse()?;
        // Never sent: every packet gets its own.
        let source = if matches!(destination, IpAddr::V4(_)) { "192.0.2.1" } else { "2001:db8::1" };
        Ok(Syn::new(source.parse()?, destination, PORT).macs([2, 0, 0, 0, 0, 9], self.victim_mac))
    }

    fn flood(&self, syn: &Syn) -> Result<Flood> {
        Ok(Flood::new(self.attacker.path(), OUT).template(syn.build()?))
    }

    fn counter(&self) -> Result<Receiver> {
        Receiver::count(self.victim.path(), IN)
    }

    /// Sends a few packets and captures them.
    fn captured(&self, syn: &Syn, pattern: Pattern, packets: usize) -> Result<Vec<Vec<u8>>> {
        let _pass = Receiver::pass(self.victim.path(), IN)?;
        let receiver = RawReceiver::new(self.victim.path(), IN)?;
        self.flood(syn)?.sources(pattern).rate(Some(20_000)).limit(packets as u64, SHORT).start()?.join()?;
        let mut frames = Vec::new();
        while frames.len() < packets {
            let frame = receiver.find(SHORT, |frame| tcp_port(frame) == Some(PORT))?;
            frames.push(frame.with_context(|| format!("only {} of {packets} frames came", frames.len()))?);
        }
        Ok(frames)
    }
}

#[test]
fn a_million_packets_a_second_on_one_core() -> Result<()> {
    let wire = Wire::new()?;
    for destination in ["192.0.2.2", "2001:db8::2"] {
        let counter = wire.counter()?;
        let syn = wire.syn(destination)?;
        let everything = networks(&[if destination.contains(':') { "::/0" } else { "0.0.0.0/0" }])?;
        let flood = wire.flood(&syn)?.sources(Pattern::random(everything));
        let running = flood.limit(20_000_000, Duration::from_secs(1)).start()?;
        thread::sleep(Duration::from_millis(300));
        ensure!(running.sent() > 0, "the live counter stands still");
        let report = running.join()?;
        let arrived = settled(&counter, report.packets)?;
        println!("to {destination}: {:.2} Mpps, {} sent, {arrived} arrived", report.mpps, report.packets);
        ensure!(report.mpps >= LEAST_MPPS, "only {:.3} Mpps", report.mpps);
        ensure!(arrived <= report.packets && arrived >= report.packets / 100 * 99, "{arrived} of {}", report.packets);
    }
    Ok(())
}

#[test]
fn checksums_are_valid_and_ports_and_sequences_differ() -> Result<()> {
    let wire = Wire::new()?;
    let options = [TcpOptionElement::MaximumSegmentSize(1460), TcpOptionElement::WindowScale(7)];
    let v4 = || networks(&["10.0.0.0/8", "198.51.100.7/32"]);
    let v6 = || networks(&["2001:db8:77::/48"]);
    for (syn, sources) in [
        (wire.syn("192.0.2.2")?, v4()?),
        (wire.syn("192.0.2.2")?.options(&options), v4()?),
        (wire.syn("192.0.2.2")?.tags(&[7]), v4()?),
        (wire.syn("192.0.2.2")?.tags(&[7, 8]).options(&options), v4()?),
        (wire.syn("2001:db8::2")?, v6()?),
        (wire.syn("2001:db8::2")?.options(&options), v6()?),
        (wire.syn("2001:db8::2")?.tags(&[7]), v6()?),
    ] {
        let template = syn.build()?;
        let frames = wire.captured(&syn, Pattern::random(sources.clone()), 300)?;
        let mut seen = HashMap::new();
        for frame in &frames {
            let facts = verified(frame)?;
            ensure!(sources.iter().any(|network| network.contains(&facts.source)), "{} is foreign", facts.source);
            ensure!(frame.len() == template.len() && same_elsewhere(frame, &template), "not the template");
            *seen.entry((facts.source_port, facts.sequence)).or_insert(0) += 1;
        }
        ensure!(seen.len() == frames.len(), "connections repeat: {} of {}", seen.len(), frames.len());
    }
    Ok(())
}

#[test]
fn the_stack_finds_no_bad_checksum() -> Result<()> {
    let wire = Wire::new()?;
    let _pass = Receiver::pass(wire.victim.path(), IN)?;
    for (destination, sources) in [("192.0.2.2", "198.51.100.0/24"), ("2001:db8::2", "2001:db8:77::/48")] {
        let before = wire.victim.counter("Tcp", "InSegs")?;
        let flood = wire.flood(&wire.syn(destination)?)?.sources(Pattern::random(networks(&[sources])?));
        let report = flood.rate(Some(20_000)).limit(5_000, SHORT).start()?.join()?;
        thread::sleep(Duration::from_millis(100));
        let segments = wire.victim.counter("Tcp", "InSegs")? - before;
        ensure!(segments >= report.packets * 99 / 100, "the stack saw {segments} of {}", report.packets);
        ensure!(wire.victim.counter("Tcp", "InCsumErrors")? == 0, "bad TCP checksums");
    }
    Ok(())
}

#[test]
fn round_robin_reaches_every_address_equally() -> Result<()> {
    let wire = Wire::new()?;
    let sources = networks(&["198.51.100.0/24", "203.0.113.0/24", "192.0.2.0/24"])?;
    let frames = wire.captured(&wire.syn("192.0.2.2")?, Pattern::round_robin(sources.clone()), 3 * 256 * 2)?;
    let mut seen = HashMap::new();
    for frame in &frames {
        *seen.entry(verified(frame)?.source).or_insert(0) += 1;
    }
    for network in sources {
        let IpNet::V4(network) = network else { continue };
        // Not `hosts`, which leaves out the first and the last address.
        for host in 0..=255 {
            let address = IpAddr::from((network.network().to_bits() + host).to_be_bytes());
            ensure!(seen.get(&address) == Some(&2), "{address}: {:?}", seen.get(&address));
        }
    }
    Ok(())
}

#[test]
fn one_source_stays_one_source() -> Result<()> {
    let wire = Wire::new()?;
    let source: IpAddr = "2001:db8:77::5".parse()?;
    for frame in wire.captured(&wire.syn("2001:db8::2")?, Pattern::one(source), 50)? {
        ensure!(verified(&frame)?.source == source);
    }
    Ok(())
}

#[test]
fn a_rate_is_kept_and_a_flood_can_be_stopped() -> Result<()> {
    let wire = Wire::new()?;
    let counter = wire.counter()?;
    let flood = wire.flood(&wire.syn("192.0.2.2")?)?.sources(Pattern::random(networks(&["10.0.0.0/8"])?));
    let report = flood.clone().rate(Some(30_000)).limit(1_000_000, Duration::from_secs(1)).start()?.join()?;
    ensure!((15_000..=30_000).contains(&report.packets), "{} packets", report.packets);
    ensure!(settled(&counter, report.packets)? == report.packets, "a slow flood lost packets");

    let slow = flood.clone().rate(Some(3)).limit(1_000, Duration::from_millis(1_500)).start()?.join()?;
    ensure!((2..=4).contains(&slow.packets), "{} packets at 3 a second", slow.packets);

    let exact = flood.clone().rate(None).limit(12_345, SHORT).start()?.join()?;
    ensure!(exact.packets == 12_345, "{} packets", exact.packets);

    let start = Instant::now();
    let running = flood.rate(Some(1_000)).limit(1_000_000, Duration::from_secs(5)).start()?;
    running.stop();
    running.join()?;
    ensure!(start.elapsed() < Duration::from_secs(2), "did not stop");
    Ok(())
}

#[test]
fn a_doubled_flood_sends_every_packet_again_later() -> Result<()> {
    const PACKETS: usize = 500;
    const AFTER: Duration = Duration::from_millis(700);
    let wire = Wire::new()?;
    let _pass = Receiver::pass(wire.victim.path(), IN)?;
    for (destination, sources) in [("192.0.2.2", "198.51.100.0/24"), ("2001:db8::2", "2001:db8:77::/48")] {
        let receiver = RawReceiver::new(wire.victim.path(), IN)?;
        let sources = networks(&[sources, sources])?;
        let flood = wire.flood(&wire.syn(destination)?)?.sources(Pattern::random(sources)).doubled(AFTER);
        let running = flood.rate(Some(1_000)).limit(PACKETS as u64, SHORT).start()?;
        let mut seen: HashMap<Vec<u8>, Vec<Instant>> = HashMap::new();
        let mut count = 0;
        while count < 2 * PACKETS {
            let frame = receiver.find(SHORT, |frame| tcp_port(frame) == Some(PORT))?;
            let frame = frame.with_context(|| format!("only {count} frames came"))?;
            verified(&frame)?;
            seen.entry(frame).or_default().push(Instant::now());
            count += 1;
        }
        ensure!(running.join()?.packets == 2 * PACKETS as u64);
        ensure!(seen.len() == PACKETS, "{} different ones", seen.len());
        for times in seen.values() {
            let [first, second] = times[..] else { anyhow::bail!("sent {} times", times.len()) };
            let gap = second - first;
            ensure!((AFTER.mul_f64(0.9)..AFTER.mul_f64(1.5)).contains(&gap), "again after {gap:?}");
        }
    }
    Ok(())
}

#[test]
fn a_doubled_flood_is_as_fast() -> Result<()> {
    let wire = Wire::new()?;
    let counter = wire.counter()?;
    let flood = wire.flood(&wire.syn("192.0.2.2")?)?.sources(Pattern::random(networks(&["0.0.0.0/0"])?));
    let report = flood.doubled(Duration::from_millis(500)).limit(1_000_000, SHORT).start()?.join()?;
    println!("{report:?}");
    ensure!(report.packets == 2_000_000 && report.mpps >= LEAST_MPPS, "{report:?}");
    ensure!(settled(&counter, report.packets)? >= report.packets / 100 * 99);
    Ok(())
}

#[test]
fn what_cannot_work_is_refused() -> Result<()> {
    let wire = Wire::new()?;
    let sources = || networks(&["10.0.0.0/8"]).map(Pattern::random);
    let refusal = |flood: Flood| match flood.start() {
        Ok(_) => String::new(),
        Err(error) => format!("{error:#}"),
    };
    let flood = wire.flood(&wire.syn("192.0.2.2")?)?;
    assert!(refusal(flood.clone()).contains("needs sources"));
    assert!(refusal(flood.clone().template([0; 60]).sources(sources()?)).contains("not a TCP segment"));
    assert!(refusal(flood.clone().sources(Pattern::random([]))).contains("0 networks"));
    let other_family = Pattern::one(Ipv6Addr::LOCALHOST.into());
    assert!(refusal(flood.sources(other_family)).contains("not of the template's family"));
    let outside = Flood::new("/proc/self/ns/net", "lo").template(wire.syn("192.0.2.2")?.build()?).sources(sources()?);
    assert!(refusal(outside).contains("not a namespace of the lab"));
    let nowhere = Flood::new(wire.attacker.path(), "none0").template(wire.syn("192.0.2.2")?.build()?);
    assert!(refusal(nowhere.sources(sources()?)).contains("no interface none0"));
    Ok(())
}

#[test]
fn a_frame_made_by_hand_arrives_as_it_was() -> Result<()> {
    let wire = Wire::new()?;
    let receiver = RawReceiver::new(wire.victim.path(), IN)?;
    let sender = RawSender::new(wire.attacker.path(), OUT)?;
    for tags in [&[][..], &[5], &[5, 6]] {
        let frame = wire.syn("192.0.2.2")?.connection(12_345, 99).tags(tags).build()?;
        sender.send(&frame)?;
        let found = receiver.find(SHORT, |seen| seen == frame)?;
        ensure!(found.is_some(), "the frame with tags {tags:?} did not come");
    }
    ensure!(receiver.find(Duration::from_millis(50), |seen| tcp_port(seen) == Some(PORT))?.is_none());
    Ok(())
}

/// What a frame says, once its checksums are found to be right.
struct Facts {
    source: IpAddr,
    source_port: u16,
    sequence: u32,
}

fn verified(frame: &[u8]) -> Result<Facts> {
    let packet = SlicedPacket::from_ethernet(frame)?;
    let Some(TransportSlice::Tcp(tcp)) = packet.transport else {
        anyhow::bail!("not TCP");
    };
    let (source, checksum) = match packet.net.context("no IP")? {
        NetSlice::Ipv4(ip) => {
            let header = ip.header();
            let calculated = header.to_header().calc_header_checksum();
            ensure!(header.header_checksum() == calculated, "bad header checksum");
            let checksum = tcp.calc_checksum_ipv4(header.source(), header.destination())?;
            (header.source_addr().into(), checksum)
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header();
            let checksum = tcp.calc_checksum_ipv6(header.source(), header.destination())?;
            (header.source_addr().into(), checksum)
        }
        NetSlice::Arp(_) => anyhow::bail!("no IP"),
    };
    ensure!(tcp.checksum() == checksum, "bad TCP checksum");
    ensure!(tcp.syn() && !tcp.ack(), "not a SYN");
    Ok(Facts { source, source_port: tcp.source_port(), sequence: tcp.sequence_number() })
}

/// Whether a frame differs from its template only in addresses, source port, sequence number and checksums.
fn same_elsewhere(frame: &[u8], template: &[u8]) -> bool {
    let parts = |frame: &[u8]| {
        let packet = SlicedPacket::from_ethernet(frame).ok()?;
        let Some(TransportSlice::Tcp(tcp)) = &packet.transport else { return None };
        let mut segment = tcp.slice().to_vec();
        for range in [0..2, 4..8, 16..18] {
            segment[range].fill(0);
        }
        Some((packet.link.as_ref()?.to_header(), packet.vlan_ids(), segment))
    };
    parts(frame).is_some_and(|seen| Some(seen) == parts(template))
}

fn tcp_port(frame: &[u8]) -> Option<u16> {
    match SlicedPacket::from_ethernet(frame).ok()?.transport? {
        TransportSlice::Tcp(tcp) => Some(tcp.destination_port()),
        _ => None,
    }
}

fn networks(texts: &[&str]) -> Result<Vec<IpNet>> {
    Ok(texts.iter().map(|text| text.parse()).collect::<Result<_, _>>()?)
}

/// Waits for the last packets to arrive, but not for lost ones.
fn settled(counter: &Receiver, expected: u64) -> Result<u64> {
    let end = Instant::now() + SHORT;
    loop {
        let Counts { tcp_v4, tcp_v6, .. } = counter.counts()?;
        if tcp_v4 + tcp_v6 >= expected || Instant::now() > end {
            return Ok(tcp_v4 + tcp_v6);
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn parse_mac(text: &str) -> Result<[u8; 6]> {
    let octets = text.split(':').map(|octet| u8::from_str_radix(octet, 16)).collect::<Result<Vec<_>, _>>()?;
    octets.try_into().ok().context("not a hardware address")
}
