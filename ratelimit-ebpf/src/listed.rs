//! Sources that DNSBLs list: their map, the filter in front of it, and the handshakes that are told to the controller.

use core::intrinsics::{AtomicOrdering, atomic_cxchg, atomic_xadd};

use aya_ebpf::{
    btf_maps::{Array, HashMap, RingBuf},
    macros::btf_map,
};
use ratelimit_common::{
    Address, Moment, ServiceId,
    limiter::ATTEMPTS,
    listed::{HANDSHAKE_BUFFER_BYTES, Handshake, Listed, ListedKey, MAX_LISTED, charged},
    map::{MMAPABLE, NO_PREALLOC},
    proof::{FILTER_WORDS, filter_place},
};

/// Only the controller puts sources in and takes them out.
#[btf_map]
static LISTED: HashMap<ListedKey, Listed, MAX_LISTED, NO_PREALLOC> = HashMap::new();
/// Bits of listed sources: who has none of his own is not listed.
#[btf_map]
static LISTED_FILTER: Array<u64, FILTER_WORDS, MMAPABLE> = Array::new();
#[btf_map]
static HANDSHAKES: RingBuf<Handshake, HANDSHAKE_BUFFER_BYTES> = RingBuf::new();

/// Whether one more connection is more than is left to a listed source. Charges it, or counts the refusal.
#[inline(always)]
pub fn is_over(source: &Address, id: ServiceId, increment_ns: u64, tolerance_ns: u64, now_ns: u64) -> bool {
    let (word, bits) = filter_place(*source);
    LISTED_FILTER.get(word).is_some_and(|found| *found & bits == bits)
        && is_over_of_listed(source, id.index() as u32, increment_ns, tolerance_ns, now_ns) != 0
}

/// A function of its own, and global: its stack is not that of whoever asks.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn is_over_of_listed(
    source: *const Address,
    service: u32,
    increment_ns: u64,
    tolerance_ns: u64,
    now_ns: u64,
) -> u32 {
    // SAFETY: the caller passes a reference; the verifier asks for the comparison with null.
    let (Some(source), Some(id)) = (unsafe { source.as_ref() }, ServiceId::new(service as usize)) else {
        return 0;
    };
    let Some(listed) = LISTED.get_ptr_mut(&ListedKey::new(*source, id)) else {
        return 0;
    };
    // SAFETY: an entry stays readable until this run of the program ends, also when the controller removes it; other
    // processors write its words only as a whole.
    unsafe {
        if (*listed).until_ns <= now_ns {
            return 0;
        }
        for _ in 0..ATTEMPTS {
            const ORDER: AtomicOrdering = AtomicOrdering::SeqCst;
            let used = (&raw const (*listed).used_until_ns).read_volatile();
            let Some(new) = charged(used, increment_ns, tolerance_ns, Moment(now_ns)) else {
                atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(&raw mut (*listed).hits, 1);
                (&raw mut (*listed).last_hit_ns).write_volatile(now_ns);
                return 1;
            };
            if atomic_cxchg::<u64, ORDER, ORDER>(&raw mut (*listed).used_until_ns, used, new).1 {
                return 0;
            }
        }
    }
    0
}

/// Tells the controller of a completed handshake. False if there is no room.
#[inline(always)]
pub fn tell(source: Address, id: ServiceId, now: Moment) -> bool {
    match HANDSHAKES.reserve(0) {
        Some(mut slot) => {
            slot.write(Handshake::new(source, id, now));
            slot.submit(0);
            true
        }
        None => false,
    }
}
