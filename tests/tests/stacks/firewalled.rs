//! Clients behind firewalls, challenged once.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ratelimit_tests::debian::DebianRoot;
use ratelimit_tests::gateway::{GATEWAY_V4, GATEWAY_V6, LAN, OUT, gateway_for, ip};
use ratelimit_tests::raw::RawReceiver;
use ratelimit_tests::receiver::Receiver;
use ratelimit_tests::segment::Segment;
use ratelimit_tests::stacks::firewalled::{Firewall, Firewalled};
use ratelimit_tests::stacks::replayed::{Replayed, Timing};
use ratelimit_tests::stacks::second::SecondStack;

use crate::challenger::{
    ACK_AHEAD, ACK_BEHIND, BANNER, CHALLENGED, Challenge, PORT, SYN_ACK_AHEAD, SYN_ACK_BEHIND, challenged_by, wire,
};

const TIMEOUT: Duration = Duration::from_secs(8);
const SOON: Duration = Duration::from_millis(500);
/// A repeated SYN.
const NO_EARLIER: Duration = Duration::from_millis(900);

#[test]
fn a_client_behind_a_firewall_is_greeted() -> Result<()> {
    let (wire, _listener) = wire()?;
    let root = DebianRoot::new()?;
    for (firewall, host) in Firewall::ALL.into_iter().zip(16..) {
        let client = Firewalled::behind(firewall, &wire, &root, host)?;
        for family in [ip("192.0.2.1"), ip("2001:db8::1")] {
            let server: IpAddr = gateway_for(family);
            let receiver = RawReceiver::to_address(wire.gateway.path(), LAN, server)?;
            let greeted = client.greet((server, PORT).into(), TIMEOUT)?;
            println!("{firewall:?} to {server}: {greeted:?}");
            ensure!(greeted.line == BANNER && greeted.banner < SOON, "{firewall:?}: {greeted:?}");
            let frame = receiver.receive(SOON)?.context("no SYN")?;
            let (from, ..) = Segment::read(&frame).context("no segment")?;
            ensure!(from.ip() == client.seen_as(server), "{firewall:?} came from {from}");
        }
    }
    Ok(())
}

/// The gate's own answers come out of the wire only where a program receives them.
#[test]
fn clients_are_greeted_through_a_program_at_their_end() -> Result<()> {
    let (wire, _listener) = wire()?;
    let root = DebianRoot::new()?;
    let _pass = [Receiver::pass(wire.gateway.path(), LAN)?, Receiver::pass(wire.outside.path(), OUT)?];
    let client = Firewalled::behind(Firewall::Nat, &wire, &root, 16)?;
    let stack = SecondStack::on(&wire, 17)?;
    for server in [SocketAddr::new(GATEWAY_V4.into(), PORT), SocketAddr::new(GATEWAY_V6.into(), PORT)] {
        let greeted = [client.greet(server, TIMEOUT)?, stack.greet(server, TIMEOUT)?];
        ensure!(greeted.iter().all(|greeted| greeted.line == BANNER && greeted.banner < SOON), "{greeted:?}");
        let unowned = ip(if server.is_ipv4() { "203.0.113.7" } else { "2001:db8:2::7" });
        let seen = Replayed::new(Timing::Windows, unowned, server).greet(&wire.link())?;
        ensure!(seen.banner.is_some_and(|banner| banner < SOON), "{seen:?}");
    }
    Ok(())
}

/// What became of a client that was challenged.
#[derive(Debug)]
struct Outcome {
    /// Resets that came back.
    answers: usize,
    banner: Duration,
}

/// Has a new client connect by each family, and challenges it.
fn outcomes(firewall: Firewall, challenge: Challenge) -> Result<Vec<Outcome>> {
    let (wire, _listener) = wire()?;
    let root = DebianRoot::new()?;
    let client = Firewalled::behind(firewall, &wire, &root, 16)?;
    let outcome = |server: &str| -> Result<_> {
        let server = SocketAddr::new(ip(server), PORT);
        let (greeted, answers) = challenged_by(challenge, &wire, server.ip(), || client.greet(server, TIMEOUT))?;
        println!("{firewall:?} to {server}: {answers} answers, {greeted:?}");
        ensure!(greeted.line == BANNER, "{greeted:?}");
        Ok(Outcome { answers, banner: greeted.banner })
    };
    CHALLENGED.into_iter().map(outcome).collect()
}

#[test]
fn the_kernel_alone_answers_a_challenge() -> Result<()> {
    for challenge in [SYN_ACK_AHEAD, SYN_ACK_BEHIND, ACK_AHEAD, ACK_BEHIND] {
        for outcome in outcomes(Firewall::None, challenge)? {
            ensure!(outcome.answers == 1, "{challenge:?}: {outcome:?}");
        }
    }
    Ok(())
}

#[test]
fn a_firewall_that_lets_no_reset_out_swallows_the_answer() -> Result<()> {
    for challenge in [SYN_ACK_AHEAD, ACK_BEHIND] {
        for outcome in outcomes(Firewall::NeverAnswers, challenge)? {
            ensure!(outcome.answers == 0, "{challenge:?}: {outcome:?}");
        }
    }
    Ok(())
}

#[test]
fn a_firewall_that_drops_what_is_invalid_swallows_a_syn_ack_but_no_ack() -> Result<()> {
    for outcome in outcomes(Firewall::DropsInvalid, SYN_ACK_AHEAD)? {
        // The kernel behind it has heard of no challenge, so it waits for its timer.
        ensure!(outcome.answers == 0 && outcome.banner > NO_EARLIER, "{outcome:?}");
    }
    for challenge in [ACK_AHEAD, ACK_BEHIND] {
        for outcome in outcomes(Firewall::DropsInvalid, challenge)? {
            ensure!(outcome.answers == 1, "{challenge:?}: {outcome:?}");
        }
    }
    Ok(())
}

/// An ACK alone may be of a half-open connection, so connection tracking ignores it and hands it on (`tcp_conntracks` of
/// Linux, ACK in reply to SYN_SENT). A wrong SYN+ACK left about half of the connections broken behind such a router: Linux 6.18.
#[test]
fn a_router_keeps_track_of_its_clients_and_lets_an_ack_through() -> Result<()> {
    let (wire, _listener) = wire()?;
    let root = DebianRoot::new()?;
    let client = Firewalled::behind(Firewall::Nat, &wire, &root, 16)?;
    client.greet((GATEWAY_V4, PORT).into(), TIMEOUT)?;
    let tracked = client.firewall().read_proc("/proc/net/nf_conntrack")?;
    ensure!(tracked.contains("src=172.16.0.2 dst=192.0.2.1"), "{tracked:?}");
    for challenge in [ACK_AHEAD, ACK_BEHIND] {
        for _ in 0..3 {
            for outcome in outcomes(Firewall::Nat, challenge)? {
                ensure!(outcome.answers == 1, "{challenge:?}: {outcome:?}");
            }
        }
    }
    Ok(())
}
