//! The dialogue with a suspect, frame by frame.

use std::{net::IpAddr, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use etherparse::{SlicedPacket, TransportSlice};
use ratelimit_common::{Action, Address, Challenge, Family, Reason, event::tally_index};
use ratelimit_tests::{
    kernel::{Globals, Kernel, Program},
    packet::{ACK, DOT1AD, RST, SynPacket},
    tables::{World, world::Rate},
};

/// Longer than the least time between a SYN and its repetition.
const PAUSE: Duration = Duration::from_millis(600);

fn families() -> [SynPacket; 2] {
    [SynPacket::v4(), SynPacket::v6()]
}

/// What a frame came to: one counter moved, and it was this one's.
fn reason_of(kernel: &Kernel, world: &World, packet: &SynPacket) -> Result<(Reason, Action)> {
    let before = kernel.tallies()?;
    let action = kernel.run(Program::Gate, &packet.build())?;
    let after = kernel.tallies()?;
    let moved: Vec<u32> = (0..).zip(before.iter().zip(&after)).filter(|(_, (b, a))| b != a).map(|(i, _)| i).collect();
    let of = |reason: &&Reason| moved == [tally_index(**reason, Some(world.id("smtp")), packet.family())];
    let reason = Reason::ALL.iter().find(of).with_context(|| format!("counters {moved:?} moved"))?;
    Ok((*reason, action))
}

/// The challenge that a SYN is answered with.
fn challenge(kernel: &Kernel, syn: &SynPacket) -> Result<Vec<u8>> {
    let sent = syn.build();
    let (action, frame) = kernel.exchange(Program::Gate, &sent, 1)?;
    ensure!(action == Action::Challenge, "{action:?}");
    ensure!(frame.len() <= sent.len(), "{} bytes in answer to {}", frame.len(), sent.len());
    Ok(frame)
}

/// The number that it asks for.
fn cookie(frame: &[u8]) -> Result<u32> {
    match SlicedPacket::from_ethernet(frame)?.transport {
        Some(TransportSlice::Tcp(tcp)) => Ok(tcp.acknowledgment_number()),
        other => anyhow::bail!("{other:?}"),
    }
}

#[test]
fn who_answers_is_let_in_with_that_connection_alone() -> Result<()> {
    let world = World::new().suspect("smtp", Challenge::Reset);
    let kernel = {
        let mut kernel = crate::load(Globals::default(), &world);
        kernel.reset()?;
        kernel
    };
    for syn in families() {
        let cookie = cookie(&challenge(&kernel, &syn)?)?;
        let reset = |sequence| syn.clone().flags(RST).sequence(sequence);
        assert_eq!(reason_of(&kernel, &world, &reset(cookie ^ 1))?, (Reason::Established, Action::Pass));
        assert_eq!(reason_of(&kernel, &world, &syn)?, (Reason::Challenged, Action::Challenge));
        assert_eq!(reason_of(&kernel, &world, &reset(cookie))?, (Reason::Answered, Action::Drop));
        assert_eq!(reason_of(&kernel, &world, &syn.clone().from_port(4))?, (Reason::Challenged, Action::Challenge));
        for _ in 0..3 {
            assert_eq!(reason_of(&kernel, &world, &syn)?, (Reason::Ticketed, Action::Pass));
        }
        // An acknowledgement with the right number is no answer.
        assert_eq!(reason_of(&kernel, &world, &reset(cookie).flags(RST | ACK))?, (Reason::Established, Action::Pass));
    }
    Ok(())
}

#[test]
fn a_challenge_is_a_valid_answer_to_its_syn_and_keeps_the_tags() -> Result<()> {
    let world = World::new().suspect("smtp", Challenge::Reset);
    let mut kernel = crate::load(Globals::default(), &world);
    kernel.reset()?;
    for syn in families().into_iter().flat_map(|syn| [syn.clone(), syn.tag(DOT1AD, 7).vlan(9)]) {
        let sent = syn.build();
        let frame = challenge(&kernel, &syn)?;
        let is_tagged = sent[12..14] == DOT1AD.to_be_bytes();
        let tags = if is_tagged { 12..22 } else { 12..14 };
        assert_eq!(&sent[tags.clone()], &frame[tags]);
        assert_eq!((&frame[..6], &frame[6..12]), (&sent[6..12], &sent[..6]));
        let (asked, answered) = (SlicedPacket::from_ethernet(&sent)?, SlicedPacket::from_ethernet(&frame)?);
        let (Some(TransportSlice::Tcp(syn)), Some(TransportSlice::Tcp(tcp))) = (asked.transport, answered.transport)
        else {
            anyhow::bail!("no TCP in {frame:02x?}");
        };
        assert_eq!((tcp.source_port(), tcp.destination_port()), (syn.destination_port(), syn.source_port()));
        assert_ne!(tcp.acknowledgment_number(), syn.sequence_number().wrapping_add(1));
        let checksum = match answered.net.context("no IP header")? {
            etherparse::NetSlice::Ipv4(ip) => {
                tcp.calc_checksum_ipv4(ip.header().source(), ip.header().destination())?
            }
            etherparse::NetSlice::Ipv6(ip) => {
                tcp.calc_checksum_ipv6(ip.header().source(), ip.header().destination())?
            }
            other => anyhow::bail!("{other:?}"),
        };
        assert_eq!(tcp.checksum(), checksum);
    }
    Ok(())
}

#[test]
fn who_cannot_answer_is_let_in_when_he_repeats_himself() -> Result<()> {
    for by in [Challenge::Reset, Challenge::Retry] {
        let world = World::new().suspect("smtp", by).retries("smtp", Rate::only(2));
        let mut kernel = crate::load(Globals::default(), &world);
        kernel.reset()?;
        let asked = if by == Challenge::Reset { Reason::Challenged } else { Reason::Awaited };
        let beyond = if by == Challenge::Reset { Reason::Challenged } else { Reason::RetryRate };
        let [v4, v6] = families();
        let third = v4.clone().from_port(5);
        let of = |packet: &SynPacket| reason_of(&kernel, &world, packet).map(|(reason, _)| reason);
        for packet in [&v4, &v6, &third] {
            assert_eq!((of(packet)?, of(packet)?), (asked, asked));
        }
        thread::sleep(PAUSE);
        assert_eq!(of(&v4.clone().sequence(99))?, asked, "another sequence number is another SYN");
        // That one took the place.
        assert_eq!(of(&v4)?, asked);
        assert_eq!(of(&v6)?, Reason::Repeated);
        assert_eq!(of(&third)?, Reason::Repeated);
        assert_eq!(of(&third)?, beyond, "two are all that may be");
    }
    Ok(())
}

/// Only what he completed, and the budget of the service, hold him then.
#[test]
fn who_repeats_himself_is_let_in_also_where_others_have_used_up_his_limit() -> Result<()> {
    let world = World::new().proving("smtp", Challenge::Reset).source_limit("smtp", Rate::only(2));
    let world = world.retries("smtp", Rate::only(3));
    let mut kernel = crate::load(Globals::default(), &world);
    for syn in families() {
        kernel.reset()?;
        let source: IpAddr = if syn.family() == Family::V4 { "192.0.2.7" } else { "2001:db8:7::7" }.parse()?;
        let of = |packet: &SynPacket| reason_of(&kernel, &world, packet).map(|(reason, _)| reason);
        assert_eq!([of(&syn)?, of(&syn)?, of(&syn)?], [Reason::Admitted, Reason::Admitted, Reason::Challenged]);
        thread::sleep(PAUSE);
        // The first one may still be within the limit, which allows one more a tick of the clock later.
        assert_eq!([of(&syn)?, of(&syn)?], [Reason::Repeated; 2]);
        kernel.complete(Address::from(source), "smtp")?;
        kernel.complete(Address::from(source), "smtp")?;
        assert_eq!(of(&syn)?, Reason::SourceLimit);
    }
    Ok(())
}

#[test]
fn only_what_a_source_completed_is_its_excess() -> Result<()> {
    let world = World::new().proving("smtp", Challenge::Reset).source_limit("smtp", Rate::only(2));
    let mut kernel = crate::load(Globals::default(), &world);
    for syn in families() {
        kernel.reset()?;
        let source: IpAddr = if syn.family() == Family::V4 { "192.0.2.7" } else { "2001:db8:7::7" }.parse()?;
        let of = |packet: &SynPacket| reason_of(&kernel, &world, packet).map(|(reason, _)| reason);
        assert_eq!([of(&syn)?, of(&syn)?, of(&syn)?], [Reason::Admitted, Reason::Admitted, Reason::Challenged]);
        let cookie = cookie(&challenge(&kernel, &syn)?)?;
        assert_eq!(of(&syn.clone().flags(RST).sequence(cookie))?, Reason::Answered);
        assert_eq!(of(&syn)?, Reason::Ticketed);
        kernel.complete(Address::from(source), "smtp")?;
        assert_eq!(of(&syn)?, Reason::Ticketed);
        kernel.complete(Address::from(source), "smtp")?;
        assert_eq!(of(&syn)?, Reason::SourceLimit);
        assert_eq!(of(&syn.clone().from_port(9))?, Reason::SourceLimit);
    }
    Ok(())
}

#[test]
fn too_many_that_wait_for_their_handshake_make_a_service_suspect() -> Result<()> {
    let world = World::new().unlimited().proving("smtp", Challenge::Reset);
    let mut kernel = crate::load(Globals::default(), &world);
    kernel.reset()?;
    let mut admitted = 0;
    let reason = loop {
        let packet = SynPacket::v4().from(&format!("10.0.{}.{}", admitted / 256, admitted % 256));
        match reason_of(&kernel, &world, &packet)?.0 {
            Reason::Admitted if admitted < 1000 => admitted += 1,
            other => break other,
        }
    };
    assert_eq!(reason, Reason::Challenged);
    // Half of a backlog of 128, one by which it is found out, and what drains meanwhile: four a second, on a slow machine.
    assert!((64..=100).contains(&admitted), "{admitted}");
    Ok(())
}
