//! Turns a SYN into the answer to it, in place.

use core::arch::asm;

use aya_ebpf::{
    bindings::xdp_md,
    helpers::{bpf_xdp_adjust_tail, bpf_xdp_get_buff_len},
};
use ratelimit_common::{Parsed, Tables as _, bound::opaque, reply::Answer};

use crate::tables::Gate;

const MAC_LEN: usize = 6;
/// The bit of a hardware address that means several stations.
const GROUP: u8 = 0x01;
const IPV4_ANSWER: u32 = 40;
const IPV6_ANSWER: u32 = 60;
/// Where an IP header begins at the latest: behind two tags.
const LATEST_IP: u32 = 22;

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
    // SAFETY: fields of the context of this run.
    let (start, end, interface) =
        unsafe { ((*context).data as usize, (*context).data_end as usize, (*context).ingress_ifindex) };
    if start + 2 * MAC_LEN > end {
        return false;
    }
    // SAFETY: the bytes lie between the start and the end of the frame.
    let macs: [[u8; MAC_LEN]; 2] = unsafe { (start as *const [[u8; MAC_LEN]; 2]).read_unaligned() };
    let [to, from] = macs;
    let Some(gate) = Gate::<true>::open() else {
        return false;
    };
    if (to[0] | from[0]) & GROUP != 0 || !gate.set().is_station(interface, to) {
        return false;
    }
    // SAFETY: as above, and nobody else's.
    unsafe { (start as *mut [[u8; MAC_LEN]; 2]).write_unaligned([from, to]) };
    true
}

/// Puts an answer in the place of the IP packet and cuts the frame off behind it.
#[inline(always)]
fn put(context: *mut xdp_md, ip_at: u32, answer: &Answer) -> bool {
    // SAFETY: fields of the context of this run.
    let (start, end) = unsafe { ((*context).data as usize, (*context).data_end as usize) };
    if ip_at > LATEST_IP {
        return false;
    }
    // The mask tells the verifier what the comparison tells us.
    let packet = start + (opaque(ip_at.into()) as usize & 0x1f);
    let length = match answer.length() as u32 {
        IPV4_ANSWER if packet + IPV4_ANSWER as usize <= end => {
            // SAFETY: so many bytes lie between the start and the end of the frame, which is nobody else's.
            unsafe { store::<{ IPV4_ANSWER as usize / 4 }>(packet, answer) };
            IPV4_ANSWER
        }
        IPV6_ANSWER if packet + IPV6_ANSWER as usize <= end => {
            // SAFETY: as above.
            unsafe { store::<{ IPV6_ANSWER as usize / 4 }>(packet, answer) };
            IPV6_ANSWER
        }
        _ => return false,
    };
    // SAFETY: the context is that of this run.
    let before = unsafe { bpf_xdp_get_buff_len(context) } as i64;
    let delta = i64::from(ip_at + length) - before;
    // SAFETY: as above. No pointer into the frame is used afterwards.
    delta == 0 || (delta < 0 && unsafe { bpf_xdp_adjust_tail(context, delta as i32) } == 0)
}

/// Stores the first words of an answer. BPF stores a word at any address, but LLVM stores it byte by byte, since nothing tells
/// it so.
///
/// # Safety
///
/// All of the words must be writable.
#[inline(always)]
unsafe fn store<const WORDS: usize>(packet: usize, answer: &Answer) {
    for (index, word) in answer.words().iter().enumerate().take(WORDS) {
        let address = packet + index * size_of::<u32>();
        // SAFETY: what the caller says.
        unsafe { asm!("*(u32 *)({0} + 0) = {1}", in(reg) address, in(reg) u64::from(*word), options(nostack)) };
    }
}
