//! Turns a SYN into the answer to it, in place.

use aya_ebpf::{
    bindings::xdp_md,
    helpers::{bpf_xdp_adjust_tail, bpf_xdp_get_buff_len, bpf_xdp_load_bytes, bpf_xdp_store_bytes},
};
use ratelimit_common::{Parsed, Tables as _, reply::Answer};

use crate::tables::Gate;

const MAC_LEN: usize = 6;
/// The bit of a hardware address that means several stations.
const GROUP: u8 = 0x01;
const IPV4_ANSWER: u32 = 40;
const IPV6_ANSWER: u32 = 60;

/// Makes of a SYN the reset that answers it; false if it cannot be, and the frame may be spoilt then.
#[inline(always)]
pub fn reset(context: *mut xdp_md, parsed: &Parsed) -> bool {
    answer_with_reset(context, parsed) != 0
}

/// The same with a challenge.
#[inline(always)]
pub fn challenge(context: *mut xdp_md, parsed: &Parsed, cookie: u32) -> bool {
    answer_with_challenge(context, parsed, cookie) != 0
}

/// A function of its own, and global: its stack is not that of whoever refuses, and the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn answer_with_reset(context: *mut xdp_md, parsed: *const Parsed) -> u32 {
    // SAFETY: the caller passes a reference; the verifier asks for the comparison with null.
    let Some(parsed) = (unsafe { parsed.as_ref() }) else {
        return 0;
    };
    u32::from(turn_round(context) && put(context, u32::from(parsed.ip_at), &Answer::reset(parsed)))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn answer_with_challenge(context: *mut xdp_md, parsed: *const Parsed, cookie: u32) -> u32 {
    // SAFETY: the caller passes a reference; the verifier asks for the comparison with null.
    let Some(parsed) = (unsafe { parsed.as_ref() }) else {
        return 0;
    };
    u32::from(turn_round(context) && put(context, u32::from(parsed.ip_at), &Answer::challenge(parsed, cookie)))
}

/// Exchanges the hardware addresses. A frame that is not for this machine, or from several stations, is not answered.
#[inline(always)]
fn turn_round(context: *mut xdp_md) -> bool {
    let mut macs = [[0u8; MAC_LEN]; 2];
    let length = size_of_val(&macs) as u32;
    // SAFETY: the context is that of this run, and `macs` holds `length` bytes.
    if unsafe { bpf_xdp_load_bytes(context, 0, macs.as_mut_ptr().cast(), length) } != 0 {
        return false;
    }
    let [to, from] = macs;
    // SAFETY: as above.
    let interface = unsafe { (*context).ingress_ifindex };
    let Some(gate) = Gate::<true>::open() else {
        return false;
    };
    if (to[0] | from[0]) & GROUP != 0 || !gate.set().is_station(interface, to) {
        return false;
    }
    let mut turned = [from, to];
    // SAFETY: as above.
    unsafe { bpf_xdp_store_bytes(context, 0, turned.as_mut_ptr().cast(), length) == 0 }
}

/// Puts an answer in the place of the IP packet and cuts the frame off behind it.
#[inline(always)]
fn put(context: *mut xdp_md, ip_at: u32, answer: &Answer) -> bool {
    // The helper only reads.
    let start = answer.bytes().as_ptr().cast_mut().cast();
    // Lengths that the verifier can see.
    let (stored, length) = match answer.length() as u32 {
        // SAFETY: the context is that of this run, and the answer is longer.
        IPV4_ANSWER => (unsafe { bpf_xdp_store_bytes(context, ip_at, start, IPV4_ANSWER) }, IPV4_ANSWER),
        // SAFETY: as above.
        _ => (unsafe { bpf_xdp_store_bytes(context, ip_at, start, IPV6_ANSWER) }, IPV6_ANSWER),
    };
    if stored != 0 {
        return false;
    }
    // SAFETY: the context is that of this run.
    let before = unsafe { bpf_xdp_get_buff_len(context) } as i64;
    let delta = i64::from(ip_at + length) - before;
    // SAFETY: as above. No pointer into the frame is used afterwards.
    delta <= 0 && unsafe { bpf_xdp_adjust_tail(context, delta as i32) } == 0
}
