//! The bans' maps, and the question whether one stops a source.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::{
    btf_maps::{Array, HashMap},
    macros::btf_map,
};
use ratelimit_common::{
    Address,
    ban::{Ban, BanKey, FILTER_LINES, FilterLine, MAX_BANS, candidates, filter_line},
    map::{MMAPABLE, NO_PREALLOC},
};

/// Written by the controller alone.
#[btf_map]
static BANS: HashMap<BanKey, Ban, MAX_BANS, NO_PREALLOC> = HashMap::new();
#[btf_map]
static BAN_FILTER: Array<FilterLine, FILTER_LINES, MMAPABLE> = Array::new();
/// How many bans there are.
#[btf_map]
static BAN_COUNT: Array<u64, 1> = Array::new();

/// Whether a ban of a source, or of a network around it, is about a service (by its bit) and not over yet. Counts what
/// it stops.
#[inline(always)]
pub fn stop(source: &Address, service: u16, now_ns: u64) -> bool {
    match BAN_COUNT.get(0) {
        Some(0) | None => false,
        Some(_) => is_stopped(source, service.into(), now_ns) != 0,
    }
}

/// A function of its own, and global, so that the verifier checks it once and not again for every way there.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn is_stopped(source: *const Address, service: u32, now_ns: u64) -> u32 {
    // SAFETY: the caller passes a reference; the verifier asks for the comparison with null.
    let Some(source) = (unsafe { source.as_ref() }) else {
        return 0;
    };
    let Some(line) = BAN_FILTER.get(filter_line(*source)) else {
        return 0;
    };
    let stopped = candidates(*source).any(|key| key.is_in(line) && stops(&key, service, now_ns));
    u32::from(stopped)
}

#[inline(always)]
fn stops(key: &BanKey, service: u32, now_ns: u64) -> bool {
    const ORDER: AtomicOrdering = AtomicOrdering::Relaxed;
    let Some(ban) = BANS.get_ptr_mut(key) else {
        return false;
    };
    // SAFETY: an entry stays readable until this run of the program ends, also when the controller removes it.
    let stops = unsafe { (*ban).until_ns > now_ns && (*ban).services & u64::from(service) != 0 };
    if stops {
        // SAFETY: as above; other processors write these words only as a whole.
        unsafe {
            atomic_xadd::<u64, u64, ORDER>(&raw mut (*ban).hits, 1);
            (&raw mut (*ban).last_hit_ns).write_volatile(now_ns);
        }
    }
    stops
}
