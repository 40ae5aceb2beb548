//! A gate made by hand: it answers the first SYN to an address with what acknowledges something else, and lets the kernel
//! have the address from then on.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use ipnet::IpNet;
use ratelimit_tests::gateway::{GATEWAY_V4, GATEWAY_V6, LAN, Listener, Wire};
use ratelimit_tests::raw::{RawReceiver, RawSender};
use ratelimit_tests::segment::{Link, Segment};

pub const PORT: u16 = 25;
pub const BANNER: &str = "220 mail.example.test\r\n";
/// In networks behind the gateway that nobody has until it is challenged.
pub const CHALLENGED: [&str; 2] = ["198.51.100.25", "2001:db8:100::25"];
const NAP: Duration = Duration::from_millis(20);
/// Far outside of any window.
const FAR: u32 = 1 << 30;

/// What asks a client whether it is there: it acknowledges something else than its SYN.
#[derive(Debug, Clone, Copy)]
pub struct Challenge {
    /// A SYN+ACK; otherwise an ACK alone, as of a connection that the other end still has.
    syn: bool,
    /// From what it should acknowledge to what it acknowledges.
    distance: u32,
}

/// Of what was never sent.
pub const SYN_ACK_AHEAD: Challenge = Challenge { syn: true, distance: FAR };
pub const ACK_AHEAD: Challenge = Challenge { syn: false, distance: FAR };
/// Of what is long past.
pub const SYN_ACK_BEHIND: Challenge = Challenge { syn: true, distance: FAR.wrapping_neg() };
pub const ACK_BEHIND: Challenge = Challenge { syn: false, distance: FAR.wrapping_neg() };

/// A wire whose gateway greets on [`PORT`], and whose outside knows the way to [`CHALLENGED`].
pub fn wire() -> Result<(Wire, Listener)> {
    let wire = Wire::new(1500)?;
    wire.outside.route("198.51.100.0/24", GATEWAY_V4.into())?;
    wire.outside.route("2001:db8:100::/48", GATEWAY_V6.into())?;
    let listener = Listener::saying(BANNER, &wire.gateway, PORT)?;
    Ok((wire, listener))
}

/// Does something while the first SYN to an address is challenged; the address is the kernel's from then on. Returns also how
/// many resets answered the challenge.
pub fn challenged<T>(wire: &Wire, address: IpAddr, work: impl FnOnce() -> Result<T>) -> Result<(T, usize)> {
    challenged_by(ACK_AHEAD, wire, address, work)
}

/// The same with a challenge of one's choice.
pub fn challenged_by<T>(
    challenge: Challenge,
    wire: &Wire,
    address: IpAddr,
    work: impl FnOnce() -> Result<T>,
) -> Result<(T, usize)> {
    let receiver = RawReceiver::to_address(wire.gateway.path(), LAN, address)?;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let challenger = scope.spawn(|| answer(challenge, wire, &receiver, &stop));
        let done = work();
        stop.store(true, Ordering::Relaxed);
        let answers = challenger.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok((done?, answers?))
    })
}

fn answer(challenge: Challenge, wire: &Wire, receiver: &RawReceiver, stop: &AtomicBool) -> Result<usize> {
    let sender = RawSender::new(wire.gateway.path(), LAN)?;
    let (mut cookie, mut answers) = (None, 0);
    loop {
        // What has arrived is looked at even when it is over.
        let is_over = stop.load(Ordering::Relaxed);
        let Some(frame) = receiver.receive(NAP)? else {
            if is_over {
                break;
            }
            continue;
        };
        let Some((from, to, segment)) = Segment::read(&frame) else { continue };
        let is_answer = segment.reset && segment.acknowledgement.is_none() && Some(segment.sequence) == cookie;
        answers += usize::from(is_answer);
        if segment.syn && cookie.is_none() {
            let Challenge { syn, distance } = challenge;
            let wrong = segment.next_sequence().wrapping_add(distance);
            let question = Segment { syn, acknowledgement: Some(wrong), ..Segment::default() };
            sender.send(&question.frame(&back(wire, &frame)?, to, from)?)?;
            cookie = Some(wrong);
            wire.gateway.add_addresses(LAN, [host(to)])?;
        }
    }
    ensure!(cookie.is_some(), "there was nothing to challenge");
    Ok(answers)
}

/// From the gateway to where a frame came from.
fn back(wire: &Wire, frame: &[u8]) -> Result<Link> {
    let next_hop = frame[6..12].try_into()?;
    Ok(Link { namespace: wire.gateway.path(), interface: LAN.to_owned(), mac: wire.link().next_hop, next_hop })
}

/// An address as a network of its own.
fn host(endpoint: SocketAddr) -> String {
    IpNet::from(endpoint.ip()).to_string()
}
