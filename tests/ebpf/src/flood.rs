//! The flood generator: run over live frames, it sends each one out of the interface it is said to have come from.
//!
//! The kernel reuses the pages of the frames without writing them again, and whoever received one may have changed
//! it, so the whole head is written for every packet. A frame that was cut off stays so, unless the program changes its bounds
//! (`frame_was_changed` of Linux 6.18 does not look at the length): so each comes one byte too long, and is made right here.

use aya_ebpf::{
    EbpfContext,
    bindings::xdp_action,
    btf_maps::Array,
    helpers::{bpf_xdp_adjust_tail, bpf_xdp_store_bytes},
    macros::{btf_map, xdp},
    programs::XdpContext,
};

use crate::{
    layout::{FRAME_START, HEAD_LEN, IN_TURN, NETWORKS, Plan, Progress, SAMPLED, WORDS},
    random::draw,
    samples,
};

#[btf_map]
static FLOOD_PLAN: Array<Plan, 1> = Array::new();
#[btf_map]
static FLOOD_PROGRESS: Array<Progress, 1> = Array::new();

#[xdp]
pub fn flood(ctx: XdpContext) -> u32 {
    let (Some(plan), Some(progress)) = (FLOOD_PLAN.get_ptr_mut(0), FLOOD_PROGRESS.get_ptr_mut(0)) else {
        return xdp_action::XDP_ABORTED;
    };
    // SAFETY: both point to map values, and only the one thread that runs this flood touches them.
    let (plan, progress) = unsafe { (&mut *plan, &mut *progress) };
    fill(plan, progress);
    let len = (plan.last as usize & (HEAD_LEN - 1)) + 1;
    // SAFETY: `FRAME_START + HEAD_LEN` bytes fit into the words; the helper checks the length of the frame.
    let written = unsafe {
        let head = plan.words.as_mut_ptr().cast::<u8>().add(FRAME_START);
        bpf_xdp_store_bytes(ctx.as_ptr().cast(), 0, head.cast(), len as u32)
    };
    // SAFETY: the context is that of this run; no pointer into the frame is used.
    if written != 0 || unsafe { bpf_xdp_adjust_tail(ctx.as_ptr().cast(), -1) } != 0 {
        return xdp_action::XDP_ABORTED;
    }
    progress.packets += 1;
    xdp_action::XDP_TX
}

/// Writes the next packet into the head.
#[inline(always)]
fn fill(plan: &mut Plan, progress: &mut Progress) {
    let [high, low] = next_source(plan, progress);
    let sum = match plan.family {
        4 => fill_v4(plan, low as u32),
        _ => fill_v6(plan, high, low),
    };
    fill_tcp(plan, sum, draw(&mut progress.random));
}

#[inline(always)]
fn next_source(plan: &Plan, progress: &mut Progress) -> [u64; 2] {
    let index = match plan.order {
        SAMPLED => return next_sample(plan, progress),
        IN_TURN => progress.network,
        _ => ((draw(&mut progress.random) >> 32) * u64::from(plan.sources_len)) >> 32,
    };
    let network = &plan.networks[index as usize & (NETWORKS - 1)];
    let host = if plan.order == IN_TURN {
        let host = progress.host;
        progress.host = host.wrapping_add(1);
        if host == network.hosts[1] {
            progress.host = 0;
            progress.network = if index + 1 < u64::from(plan.sources_len) { index + 1 } else { 0 };
        }
        [0, host]
    } else {
        let high = if network.hosts[0] != 0 { draw(&mut progress.random) } else { 0 };
        [high, draw(&mut progress.random).rotate_left(32)]
    };
    [network.base[0] | (host[0] & network.hosts[0]), network.base[1] | (host[1] & network.hosts[1])]
}

#[inline(always)]
fn next_sample(plan: &Plan, progress: &mut Progress) -> [u64; 2] {
    let mut place = progress.network as u32;
    let sample = samples::take(&mut place, plan.sources_len);
    progress.network = place.into();
    sample
}

/// Writes source and header checksum; returns the source's share of the TCP checksum.
#[inline(always)]
fn fill_v4(plan: &mut Plan, source: u32) -> u64 {
    let at = plan.source_word;
    let checksum = fold(u64::from(plan.header_sum) + u64::from(source));
    let time_to_live_and_protocol = word(plan, at.wrapping_sub(1)) & 0xffff_0000;
    set_word(plan, at.wrapping_sub(1), time_to_live_and_protocol | u32::from(checksum));
    set_word(plan, at, source);
    u64::from(source)
}

#[inline(always)]
fn fill_v6(plan: &mut Plan, high: u64, low: u64) -> u64 {
    let at = plan.source_word;
    let words = [(high >> 32) as u32, high as u32, (low >> 32) as u32, low as u32];
    set_word(plan, at, words[0]);
    set_word(plan, at + 1, words[1]);
    set_word(plan, at + 2, words[2]);
    set_word(plan, at + 3, words[3]);
    u64::from(words[0]) + u64::from(words[1]) + u64::from(words[2]) + u64::from(words[3])
}

/// Writes an ephemeral source port, a sequence number and the checksum.
#[inline(always)]
fn fill_tcp(plan: &mut Plan, source_sum: u64, random: u64) {
    let at = plan.tcp_word;
    let source_port = (random >> 48) as u32 | 0x8000;
    let sequence = (random >> 16) as u32;
    let sum = u64::from(plan.segment_sum) + source_sum + u64::from(source_port) + u64::from(sequence);
    let port = word(plan, at) & 0xffff;
    set_word(plan, at, (source_port << 16) | port);
    set_word(plan, at + 1, sequence);
    let urgent = word(plan, at + 4) & 0xffff;
    set_word(plan, at + 4, (u32::from(fold(sum)) << 16) | urgent);
}

/// The Internet checksum of a sum: words of 32 bits may be added as they are (RFC 1071, section 2 (B)).
#[inline(always)]
fn fold(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    !(sum as u16)
}

#[inline(always)]
fn word(plan: &Plan, index: u32) -> u32 {
    u32::from_be(plan.words[index as usize & (WORDS - 1)])
}

#[inline(always)]
fn set_word(plan: &mut Plan, index: u32, value: u32) {
    plan.words[index as usize & (WORDS - 1)] = value.to_be();
}
