//! Packets that belong to no connection.
//!
//! A lookup of the socket costs many times a packet, so only a sample is looked at: one in [`SAMPLE`] of each processor. When that
//! shows more than [`MOST_PER_S`] packets of no connection a second, every packet is looked at for a while.

use aya_ebpf::{
    bindings::{bpf_sock, bpf_sock_tuple, xdp_md},
    helpers::{
        bpf_xdp_load_bytes,
        generated::{bpf_sk_release, bpf_skc_lookup_tcp, bpf_tcp_check_syncookie},
    },
};
use ratelimit_common::{Address, Family, Parsed};

use crate::tables::clock_ns;

pub const SAMPLE: u64 = 256;
const MOST_PER_S: u64 = 1_000;
/// What one packet of no connection costs of the second.
const COST_NS: u64 = 1_000_000_000 / MOST_PER_S;
/// So many of them at once are no flood.
const BURST_NS: u64 = 4 * SAMPLE * COST_NS;
/// For how long every packet is looked at after the last reason for it.
const HOLD_NS: u64 = 4_000_000_000;

const LISTEN: u32 = 10;
const CURRENT_NAMESPACE: u64 = u64::MAX;
const TCP_HEADER: usize = 20;
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;

/// Until when every packet is looked at; 0 while only a sample is. Written without order: who loses writes again soon.
static mut SOUGHT_UNTIL_NS: u64 = 0;
/// When the packets of no connection seen so far would be over at the rate that is none of a flood.
static mut SEEN_UNTIL_NS: u64 = 0;

/// Whether every packet is looked at.
#[inline(always)]
pub fn are_sought() -> bool {
    // SAFETY: an aligned word that other processors write only as a whole.
    unsafe { (&raw const SOUGHT_UNTIL_NS).read_volatile() != 0 }
}

/// 1 if a packet is one of a flood of those that belong to no connection although a listener of this machine would have them.
#[inline(always)]
pub fn is_stray(context: *mut xdp_md, parsed: &Parsed) -> u32 {
    belongs_to_none(context, parsed)
}

/// Counts what was seen, and goes over to looking at every packet and back. Says whether every packet is looked at.
#[inline(always)]
fn note(is_stray: bool) -> bool {
    let now = clock_ns();
    // SAFETY: aligned words that other processors write only as a whole; losing one of their writes loses a packet's count.
    unsafe {
        let sought_until = (&raw const SOUGHT_UNTIL_NS).read_volatile();
        let mut is_sought = sought_until > now;
        if sought_until != 0 && !is_sought {
            (&raw mut SOUGHT_UNTIL_NS).write_volatile(0);
        }
        if is_stray {
            let weight = if is_sought { 1 } else { SAMPLE };
            let seen_until = (&raw const SEEN_UNTIL_NS).read_volatile();
            let seen_until = if seen_until > now { seen_until } else { now };
            if seen_until - now > BURST_NS {
                (&raw mut SOUGHT_UNTIL_NS).write_volatile(now + HOLD_NS);
                is_sought = true;
            } else {
                (&raw mut SEEN_UNTIL_NS).write_volatile(seen_until + weight * COST_NS);
            }
        }
        is_sought
    }
}

/// A reference to a socket, given back at the end.
struct Socket(*mut bpf_sock);

impl Socket {
    #[inline(always)]
    fn listens(&self) -> bool {
        // SAFETY: the socket is held.
        unsafe { (*self.0).state == LISTEN }
    }
}

impl Drop for Socket {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: the reference that the lookup gave.
        unsafe { bpf_sk_release(self.0.cast()) };
    }
}

/// A function of its own, and global: its stack is not that of the parser.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn belongs_to_none(context: *mut xdp_md, parsed: *const Parsed) -> u32 {
    // SAFETY: the caller passes a reference; the verifier asks for the comparison with null.
    let Some(parsed) = (unsafe { parsed.as_ref() }) else {
        return 0;
    };
    let is_stray = match parsed.family {
        Family::V4 => is_stray_v4(context, parsed),
        // What came through NAT64 shows another address than it has.
        Family::V6 if !parsed.source.is_v4() => is_stray_v6(context, parsed),
        Family::V6 | Family::Other => false,
    };
    // One of a few goes where it always went: to the kernel, which resets it.
    u32::from(note(is_stray) && is_stray)
}

#[inline(always)]
fn is_stray_v4(context: *mut xdp_md, parsed: &Parsed) -> bool {
    let word = |address: Address| (address.words().1 as u32).to_be();
    let ports = u32::from(parsed.source_port.to_be()) | u32::from(parsed.port.to_be()) << 16;
    let mut tuple = [word(parsed.source), word(parsed.destination), ports];
    let Some(socket) = look_up(context, tuple.as_mut_ptr().cast(), size_of_val(&tuple) as u32) else {
        return false;
    };
    let mut packet = [0u32; (IPV4_HEADER + TCP_HEADER) / 4];
    socket.listens() && !has_cookie::<{ IPV4_HEADER as u32 }>(context, parsed, &socket, packet.as_mut_ptr().cast())
}

#[inline(always)]
fn is_stray_v6(context: *mut xdp_md, parsed: &Parsed) -> bool {
    let words = |address: Address| {
        let (high, low) = address.words();
        [(high >> 32) as u32, high as u32, (low >> 32) as u32, low as u32].map(u32::to_be)
    };
    let ports = u32::from(parsed.source_port.to_be()) | u32::from(parsed.port.to_be()) << 16;
    let ([s0, s1, s2, s3], [d0, d1, d2, d3]) = (words(parsed.source), words(parsed.destination));
    let mut tuple = [s0, s1, s2, s3, d0, d1, d2, d3, ports];
    let Some(socket) = look_up(context, tuple.as_mut_ptr().cast(), size_of_val(&tuple) as u32) else {
        return false;
    };
    let mut packet = [0u32; (IPV6_HEADER + TCP_HEADER) / 4];
    socket.listens() && !has_cookie::<{ IPV6_HEADER as u32 }>(context, parsed, &socket, packet.as_mut_ptr().cast())
}

#[inline(always)]
fn look_up(context: *mut xdp_md, tuple: *mut bpf_sock_tuple, length: u32) -> Option<Socket> {
    // SAFETY: the tuple has `length` bytes, which are those of its family.
    let socket = unsafe { bpf_skc_lookup_tcp(context.cast(), tuple, length, CURRENT_NAMESPACE, 0) };
    (!socket.is_null()).then(|| Socket(socket))
}

/// Whether a packet for a listener completes a handshake of which the kernel remembers nothing: one with a SYN cookie.
///
/// `packet` has room for an IP header of `IP_HEADER` bytes and a TCP header. Behind options or extension headers, which
/// nobody's handshake has, no cookie is found.
#[inline(always)]
fn has_cookie<const IP_HEADER: u32>(context: *mut xdp_md, parsed: &Parsed, socket: &Socket, packet: *mut u8) -> bool {
    let length = IP_HEADER + TCP_HEADER as u32;
    // SAFETY: the context is that of this run, and `packet` holds as many bytes.
    if unsafe { bpf_xdp_load_bytes(context, u32::from(parsed.ip_at), packet.cast(), length) } != 0 {
        return false;
    }
    // SAFETY: both headers have as many bytes as is said, and the socket is held.
    unsafe {
        let tcp = packet.add(IP_HEADER as usize);
        bpf_tcp_check_syncookie(socket.0.cast(), packet.cast(), IP_HEADER, tcp.cast(), TCP_HEADER as u32) == 0
    }
}
