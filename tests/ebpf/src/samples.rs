//! Addresses that userspace chose, in an order of its own. They are taken one after another: that costs no cold touch.

use aya_ebpf::{btf_maps::Array, macros::btf_map};
use ratelimit_common::map::MMAPABLE;

/// The words of an address, the most significant first. Userspace says how many it needs.
#[btf_map]
static SAMPLES: Array<[u64; 2], 1, MMAPABLE> = Array::new();

/// The address at a place, and the place of the next one of `count`.
#[inline(always)]
pub fn take(place: &mut u32, count: u32) -> [u64; 2] {
    let index = *place;
    *place = if index + 1 < count { index + 1 } else { 0 };
    SAMPLES.get(index).copied().unwrap_or_default()
}
