//! Receiving ends: one that lets everything pass, one that counts and drops. At any MTU, hence with multi-buffer
//! support.

use aya_ebpf::{
    bindings::xdp_action,
    btf_maps::PerCpuArray,
    macros::{btf_map, xdp},
    programs::XdpContext,
};

use crate::layout::Counts;

#[btf_map]
static COUNTS: PerCpuArray<Counts, 1> = PerCpuArray::new();

const ETHERNET_LEN: usize = 14;
const TCP: u8 = 6;

/// Makes a veth end receive what its peer sends with XDP_TX, and nothing else.
#[xdp(frags)]
pub fn pass(_: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// Counts and drops untagged TCP; the rest passes, so that addresses still resolve.
#[xdp(frags)]
pub fn count(ctx: XdpContext) -> u32 {
    let Some(counts) = COUNTS.get_ptr_mut(0) else {
        return xdp_action::XDP_ABORTED;
    };
    // SAFETY: a value of this processor alone, and a program that counts is not interrupted by another one.
    let counts = unsafe { &mut *counts };
    match (byte(&ctx, 12), byte(&ctx, 13)) {
        (Some(0x08), Some(0x00)) if byte(&ctx, ETHERNET_LEN + 9) == Some(TCP) => counts.tcp_v4 += 1,
        (Some(0x86), Some(0xdd)) if byte(&ctx, ETHERNET_LEN + 6) == Some(TCP) => counts.tcp_v6 += 1,
        _ => {
            counts.other += 1;
            return xdp_action::XDP_PASS;
        }
    }
    xdp_action::XDP_DROP
}

/// Counts a source that was looked up.
#[inline(always)]
pub fn listed(found: bool) {
    if let Some(counts) = COUNTS.get_ptr_mut(0) {
        // SAFETY: as above.
        let counts = unsafe { &mut *counts };
        if found { counts.listed += 1 } else { counts.unlisted += 1 }
    }
}

#[inline(always)]
fn byte(ctx: &XdpContext, offset: usize) -> Option<u8> {
    let address = ctx.data() + offset;
    if address + 1 > ctx.data_end() {
        return None;
    }
    // SAFETY: one byte inside the packet, as compared above.
    Some(unsafe { *(address as *const u8) })
}
