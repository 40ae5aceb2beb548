//! The gate in the kernel: reads a frame, has it judged, counts, and acts.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch, core_intrinsics)]
#![expect(internal_features, reason = "the stable atomics have no read-modify-write on the BPF target")]

mod bans;
mod books;
mod lists;
mod packet;
mod reply;
mod tables;

use aya_ebpf::{
    bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX},
    macros::xdp,
    programs::XdpContext,
};
use books::{Books, Settled};
use packet::Packet;
use ratelimit_common::{Action, Parsed, judge, parse};
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
    let settled = Settled(settle(&parsed));
    if settled.is_told() {
        books::send_event(context.ctx, &parsed, settled.outcome());
    }
    match settled.action() {
        Action::Pass => XDP_PASS,
        Action::Reset if reply::reset(context.ctx, &parsed) => XDP_TX,
        Action::Drop | Action::Reset => XDP_DROP,
    }
}

/// Judges and counts. A function of its own, and global: the verifier checks it once and not again for every way through
/// the parser. The only one on the way of most packets, because a call costs as much as parsing.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn settle(parsed: *const Parsed) -> u64 {
    // SAFETY: `handle` passes a reference; the verifier asks for the comparison with null.
    match (unsafe { parsed.as_ref() }, Gate::open()) {
        (Some(parsed), Some(gate)) => Books::of(&gate, judge(parsed, &gate)).settle(parsed).0,
        _ => Settled::NOTHING.0,
    }
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
