//! The gate in the kernel: reads a frame, has it judged, counts, and acts.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch, core_intrinsics)]
#![expect(internal_features, reason = "the stable atomics have no read-modify-write on the BPF target")]

mod bans;
mod books;
mod listed;
mod lists;
mod packet;
mod proofs;
mod reply;
mod strays;
mod tables;
mod watch;

use aya_ebpf::{
    bindings::{
        xdp_action::{XDP_DROP, XDP_PASS, XDP_TX},
        xdp_md,
    },
    macros::{sock_ops, xdp},
    programs::{SockOpsContext, XdpContext},
};
use books::{Books, Settled};
use packet::Packet;
use ratelimit_common::{
    Action, Parsed, Tables as _,
    decide::{examine, glance},
    parse,
};
use tables::Gate;

/// For drivers that receive a frame in one piece.
#[xdp]
pub fn gate(context: XdpContext) -> u32 {
    handle(&context)
}

/// For drivers that may split a frame over several buffers (jumbo MTU, large receive offload).
#[xdp(frags)]
pub fn gate_frags(context: XdpContext) -> u32 {
    handle(&context)
}

#[inline(always)]
fn handle(context: &XdpContext) -> u32 {
    let parsed = parse(&Packet::new(context));
    let settled = resolve(context.ctx, &parsed, Settled(settle(&parsed)));
    if settled.is_told() {
        books::send_event(context.ctx, &parsed, settled.outcome());
    }
    match settled.action() {
        Action::Pass => XDP_PASS,
        Action::Reset if reply::reset(context.ctx, &parsed) => XDP_TX,
        Action::Challenge if reply::challenge(context.ctx, &parsed, settled.cookie()) => XDP_TX,
        Action::Drop | Action::Reset | Action::Challenge => XDP_DROP,
    }
}

/// Looks closer at what a glance leaves in doubt.
#[inline(always)]
fn resolve(context: *mut xdp_md, parsed: &Parsed, mut settled: Settled) -> Settled {
    if settled.is_in_doubt() {
        settled = Settled(look_closer(parsed, settled.0));
    }
    if settled.is_sought() {
        settled = Settled(settle_connection(parsed, settled.0, strays::is_stray(context, parsed)));
    }
    settled
}

/// Judges and counts. A function of its own, and global: the verifier checks it once and not again for every way through
/// the parser. The only one on the way of most packets, because a call costs as much as parsing.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn settle(parsed: *const Parsed) -> u64 {
    // SAFETY: `handle` passes a reference; the verifier asks for the comparison with null.
    match (unsafe { parsed.as_ref() }, Gate::<false>::open()) {
        (Some(parsed), Some(gate)) => Books::of(&gate, glance(parsed, &gate)).settle(parsed).0,
        _ => Settled::NOTHING.0,
    }
}

/// Judges what is in doubt: new connections of suspects, and answers to challenges. A function of its own, like [`settle`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn look_closer(parsed: *const Parsed, settled: u64) -> u64 {
    let settled = Settled(settled);
    // SAFETY: as above.
    let (Some(parsed), Some(gate)) = (unsafe { parsed.as_ref() }, settled.gate()) else {
        return Settled::NOTHING.0;
    };
    let verdict = examine(parsed, settled.verdict(&gate), &gate);
    let settled = Books::of(&gate, verdict).settle(parsed);
    match settled.action() {
        Action::Challenge => settled.with_cookie(gate.tuple(parsed).cookie(gate.now())).0,
        Action::Pass | Action::Drop | Action::Reset => settled.0,
    }
}

/// Counts a packet of which it is known whether it belongs to a connection.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn settle_connection(parsed: *const Parsed, settled: u64, is_stray: u32) -> u64 {
    let settled = Settled(settled);
    // SAFETY: as above.
    match (unsafe { parsed.as_ref() }, settled.gate()) {
        (Some(parsed), Some(gate)) => {
            let verdict = settled.verdict(&gate).of_connection(is_stray != 0);
            Books::of(&gate, verdict).settle(parsed).0
        }
        _ => Settled::NOTHING.0,
    }
}

/// For all sockets of the machine, at the root of its control groups.
#[sock_ops]
pub fn watch_sockets(context: SockOpsContext) -> u32 {
    watch::watch(&context);
    1
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
