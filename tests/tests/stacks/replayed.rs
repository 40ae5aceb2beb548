//! Clients made of raw frames against the kernel's own listener.

use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ratelimit_tests::gateway::{gateway_for, ip};
use ratelimit_tests::raw::RawReceiver;
use ratelimit_tests::segment::Segment;
use ratelimit_tests::stacks::replayed::{Replayed, Seen, Timing};

use crate::challenger::{ACK_BEHIND, BANNER, CHALLENGED, PORT, SYN_ACK_AHEAD, challenged, challenged_by, wire};

const SOURCES: [&str; 2] = ["203.0.113.7", "2001:db8:2::7"];
/// Longer than anything takes that needs no timer.
const SOON: Duration = Duration::from_millis(500);
/// How late a timer may fire on a busy machine.
const LATE: Duration = Duration::from_millis(300);

fn to_gateway(timing: Timing, source: &str) -> Replayed {
    let source = ip(source);
    Replayed::new(timing, source, (gateway_for(source), PORT).into())
}

fn is_at(time: Duration, due: Duration) -> bool {
    (due..due + LATE).contains(&time)
}

/// The client has its banner after so many SYNs.
fn greeted(seen: &Seen, syns: usize) -> Result<Duration> {
    let banner = seen.banner.with_context(|| format!("{seen:?}"))?;
    ensure!(seen.line == BANNER && seen.syns.len() == syns && !seen.refused, "{seen:?}");
    Ok(banner)
}

#[test]
fn a_syn_is_answered_at_once() -> Result<()> {
    let (wire, _listener) = wire()?;
    for (timing, source) in Timing::ALL.into_iter().flat_map(|timing| SOURCES.map(|source| (timing, source))) {
        let at_gateway = RawReceiver::to_address(wire.gateway.path(), "lan0", gateway_for(ip(source)))?;
        let seen = to_gateway(timing, source).greet(&wire.link())?;
        println!("{timing:?} from {source}: {seen:?}");
        ensure!(greeted(&seen, 1)? < SOON && seen.connect < seen.banner, "{seen:?}");
        ensure!((seen.wrong_answers, seen.resets) == (0, 0), "{seen:?}");
        let frame = at_gateway.receive(SOON)?.context("no SYN")?;
        let (from, _, syn) = Segment::read(&frame).context("no segment")?;
        ensure!(from.ip() == ip(source) && syn.syn && syn.options().len() >= 4, "{syn:?}");
    }
    Ok(())
}

#[test]
fn the_gaps_are_those_of_the_system() -> Result<()> {
    let (wire, _listener) = wire()?;
    let nobody: IpAddr = ip(CHALLENGED[0]);
    let link = &wire.link();
    thread::scope(|scope| {
        let clients = [
            (Timing::Linux65, &[0, 1, 2, 3, 4, 5, 7][..]),
            (Timing::LinuxOld, &[0, 1, 3, 7]),
            (Timing::Windows, &[0, 3]),
            (Timing::MacOs, &[0, 1, 2, 3, 4, 5, 7]),
        ];
        let running = clients.map(|(timing, expected)| {
            let client =
                Replayed::new(timing, ip(SOURCES[0]), (nobody, PORT).into()).timeout(Duration::from_millis(7_500));
            (timing, expected, scope.spawn(move || client.greet(link)))
        });
        for (timing, expected, client) in running {
            let seen = client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            println!("{timing:?}: {seen:?}");
            ensure!(seen.connect.is_none() && seen.banner.is_none(), "{timing:?}: {seen:?}");
            let is_timed = |(syn, due): (&Duration, &u64)| is_at(*syn, Duration::from_secs(*due));
            let is_as_expected = seen.syns.len() == expected.len() && seen.syns.iter().zip(expected).all(is_timed);
            ensure!(is_as_expected, "{timing:?}: {seen:?}");
        }
        Ok(())
    })
}

#[test]
fn a_client_gives_up_when_its_system_does() -> Result<()> {
    let sum = |timing: Timing| timing.gaps().iter().sum::<Duration>();
    ensure!(Timing::ALL.map(sum).map(|sum| sum.as_secs()) == [67, 127, 21, 67]);
    Ok(())
}

#[test]
fn a_wrong_answer_is_answered_with_a_reset() -> Result<()> {
    for (timing, repeated) in [
        (Timing::Linux65, Duration::from_millis(8)),
        (Timing::LinuxOld, Duration::from_secs(1)),
        (Timing::Windows, Duration::from_secs(3)),
        (Timing::MacOs, Duration::from_secs(1)),
    ] {
        let (wire, _listener) = wire()?;
        for ((source, server), challenge) in SOURCES.into_iter().zip(CHALLENGED).zip([SYN_ACK_AHEAD, ACK_BEHIND]) {
            let client = Replayed::new(timing, ip(source), (ip(server), PORT).into());
            let (seen, answers) = challenged_by(challenge, &wire, ip(server), || client.greet(&wire.link()))?;
            println!("{timing:?} to {server}: {seen:?}");
            ensure!((seen.wrong_answers, seen.resets, answers) == (1, 1, 1), "{answers} answers, {seen:?}");
            // One more where the kernel was too late to take the first repetition.
            greeted(&seen, seen.syns.len().clamp(2, 3))?;
            ensure!(is_at(seen.syns[1], repeated), "{seen:?}");
        }
    }
    Ok(())
}

#[test]
fn who_never_answers_repeats_his_syn_by_the_timer() -> Result<()> {
    let (wire, _listener) = wire()?;
    for (source, server) in SOURCES.into_iter().zip(CHALLENGED) {
        let client = Replayed::new(Timing::Linux65, ip(source), (ip(server), PORT).into()).never_answers();
        let (seen, answers) = challenged(&wire, ip(server), || client.greet(&wire.link()))?;
        ensure!((seen.wrong_answers, seen.resets, answers) == (1, 0, 0), "{answers} answers, {seen:?}");
        let banner = greeted(&seen, 2)?;
        ensure!(is_at(seen.syns[1], Duration::from_secs(1)) && banner < Duration::from_secs(2), "{seen:?}");
    }
    Ok(())
}

#[test]
fn a_lost_third_packet_delays_the_banner_by_the_servers_timer() -> Result<()> {
    let (wire, _listener) = wire()?;
    for source in SOURCES {
        let client = to_gateway(Timing::Linux65, source).drops_first_ack();
        let seen = client.greet(&wire.link())?;
        println!("{seen:?}");
        let banner = greeted(&seen, 1)?;
        ensure!(seen.connect.is_some_and(|connect| connect < SOON), "{seen:?}");
        ensure!((Duration::from_millis(900)..Duration::from_secs(2)).contains(&banner), "{seen:?}");
    }
    Ok(())
}

#[test]
fn a_closed_port_refuses() -> Result<()> {
    let (wire, _listener) = wire()?;
    let client = Replayed::new(Timing::Windows, ip(SOURCES[0]), (gateway_for(ip(SOURCES[0])), 26).into());
    let seen = client.greet(&wire.link())?;
    ensure!(seen.refused && seen.syns.len() == 1 && seen.connect.is_none(), "{seen:?}");
    Ok(())
}
