//! The gate in the kernel: reads a frame, has it judged, counts, and acts.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch, core_intrinsics)]
#![expect(internal_features, reason = "the stable atomics have no read-modify-write on the BPF target")]

mod bans;
mod lists;
mod packet;
mod reply;
mod tables;

use aya_ebpf::{
    bindings::{
        xdp_action::{XDP_DROP, XDP_PASS, XDP_TX},
        xdp_md,
    },
    macros::xdp,
    programs::XdpContext,
};
use packet::Packet;
use ratelimit_common::{Action, Parsed, event::Outcome, judge, parse};
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
    match settle(context.ctx, &parsed, judged(&parsed)) {
        XDP_TX if reply::reset(context.ctx, &parsed) => XDP_TX,
        XDP_TX => XDP_DROP,
        other => other,
    }
}

/// Judges. This and [`settle`] are functions of their own, and global: the verifier checks them once and not again for
/// every way through the parser, and each has the stack for itself.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn judged(parsed: *const Parsed) -> u32 {
    // SAFETY: `handle` passes a reference; the verifier asks for the comparison with null.
    match (unsafe { parsed.as_ref() }, Gate::open()) {
        (Some(parsed), Some(gate)) => Outcome::of(judge(parsed, &gate)).0,
        _ => Outcome::UNJUDGED.0,
    }
}

/// Counts what was judged, and says what is to be done: `XDP_TX` if the frame is to be answered.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn settle(context: *mut xdp_md, parsed: *const Parsed, outcome: u32) -> u32 {
    let outcome = Outcome(outcome);
    // SAFETY: `handle` passes a reference; the verifier asks for the comparison with null.
    let (Some(parsed), Some(gate), false) = (unsafe { parsed.as_ref() }, Gate::open(), outcome == Outcome::UNJUDGED)
    else {
        return XDP_PASS;
    };
    let action = outcome.action();
    gate.count(parsed, outcome, action);
    gate.sample(parsed, outcome, context);
    match action {
        Action::Pass => XDP_PASS,
        Action::Drop => XDP_DROP,
        Action::Reset if gate.spend_reset() => XDP_TX,
        Action::Reset => XDP_DROP,
    }
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
