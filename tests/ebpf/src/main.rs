//! Programs of the lab: see each module.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch, core_intrinsics)]
#![expect(internal_features, reason = "the stable atomics have no read-modify-write on the BPF target")]
#![deny(unsafe_op_in_unsafe_fn)]
#![warn(clippy::undocumented_unsafe_blocks)]

/// The gate's own questions, so that what is measured is what it asks.
#[path = "../../../ratelimit-ebpf/src/bans.rs"]
mod bans;
mod compare;
mod count;
mod flood;
mod layout;
#[path = "../../../ratelimit-ebpf/src/lists.rs"]
mod lists;
mod look_up;
/// The gate's own, so that every program compared reads a frame alike.
#[path = "../../../ratelimit-ebpf/src/packet.rs"]
mod packet;
mod random;
mod samples;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
