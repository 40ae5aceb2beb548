//! The gate in the kernel: reads a frame, has it judged, counts, and acts.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch, core_intrinsics)]
#![expect(internal_features, reason = "the stable atomics have no read-modify-write on the BPF target")]

mod bans;
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
    match settle(context.ctx, &parsed) {
        XDP_TX if reply::reset(context.ctx, &parsed) => XDP_TX,
        XDP_TX => XDP_DROP,
        other => other,
    }
}

/// Judges and counts, and says what is to be done: `XDP_TX` if the frame is to be answered. A function of its own, and
/// global, so that the verifier checks it once and not again for every way through the parser.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn settle(context: *mut xdp_md, parsed: *const Parsed) -> u32 {
    // SAFETY: `handle` passes a reference; the verifier asks for the comparison with null.
    let (Some(parsed), Some(gate)) = (unsafe { parsed.as_ref() }, Gate::open()) else {
        return XDP_PASS;
    };
    let verdict = judge(parsed, &gate);
    let action = verdict.action();
    gate.count(parsed, verdict, action);
    gate.sample(parsed, verdict, &XdpContext::new(context));
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
