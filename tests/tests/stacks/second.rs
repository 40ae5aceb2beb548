//! The second TCP stack against the kernel's own listener.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ratelimit_tests::gateway::{GATEWAY_V4, GATEWAY_V6, LAN, ip};
use ratelimit_tests::raw::RawReceiver;
use ratelimit_tests::segment::Segment;
use ratelimit_tests::stacks::second::SecondStack;

use crate::challenger::{ACK_BEHIND, BANNER, CHALLENGED, PORT, SYN_ACK_AHEAD, challenged_by, wire};

const TIMEOUT: Duration = Duration::from_secs(8);
const SOON: Duration = Duration::from_millis(500);
/// A repeated SYN.
const NO_EARLIER: Duration = Duration::from_millis(900);

#[test]
fn it_is_greeted_from_addresses_that_no_kernel_has() -> Result<()> {
    let (wire, _listener) = wire()?;
    let stack = SecondStack::on(&wire, 16)?;
    for server in [IpAddr::from(GATEWAY_V4), GATEWAY_V6.into()] {
        let receiver = RawReceiver::to_address(wire.gateway.path(), LAN, server)?;
        let greeted = stack.greet((server, PORT).into(), TIMEOUT)?;
        println!("{server}: {greeted:?}");
        ensure!(greeted.line == BANNER && greeted.banner < SOON && greeted.connect < greeted.banner, "{greeted:?}");
        let syn = receiver.find(SOON, |frame| Segment::read(frame).is_some_and(|(.., segment)| segment.syn))?;
        let (from, _, syn) = Segment::read(&syn.context("no SYN")?).context("no segment")?;
        ensure!(from.ip() == stack.seen_as(server), "it came from {from}");
        println!("{:?}", syn.options());
        ensure!(syn.timestamp().is_none(), "a SYN as the kernel's own: {syn:?}");
    }
    Ok(())
}

#[test]
fn it_answers_a_challenge_with_a_reset() -> Result<()> {
    let (wire, _listener) = wire()?;
    let stack = SecondStack::on(&wire, 16)?;
    for (server, challenge) in CHALLENGED.into_iter().zip([SYN_ACK_AHEAD, ACK_BEHIND]) {
        let server = SocketAddr::new(ip(server), PORT);
        let (greeted, answers) = challenged_by(challenge, &wire, server.ip(), || stack.greet(server, TIMEOUT))?;
        println!("{server}: {greeted:?}");
        ensure!(answers == 1 && greeted.line == BANNER, "{answers} answers, {greeted:?}");
        // Its timer alone repeats the SYN.
        ensure!(greeted.connect > NO_EARLIER && greeted.connect < Duration::from_secs(2), "{greeted:?}");
    }
    Ok(())
}

#[test]
fn a_closed_port_refuses_it() -> Result<()> {
    let (wire, _listener) = wire()?;
    let refused = SecondStack::on(&wire, 16)?.greet((GATEWAY_V4, 26).into(), TIMEOUT);
    let error = refused.err().context("nobody listens there")?;
    ensure!(format!("{error:#}").contains("refused"), "{error:#}");
    Ok(())
}
