//! What the gate knows of suspects and of completed handshakes. Of these maps packets write the slots alone.

use core::intrinsics::{AtomicOrdering, atomic_or};

use aya_ebpf::{
    btf_maps::{Array, HashMap, PerCpuArray, SkStorage},
    macros::btf_map,
};
use ratelimit_common::{
    Address, Cells, ServiceId,
    bound::opaque,
    challenge::{SLOTS, Slot},
    map::{CELLS_PER_LINE, MMAPABLE, NO_PREALLOC},
    proof::{
        COMPLETED_LINES, FILTER_WORDS, Mark, OLDER_SOURCES, OPEN_SOURCES, Open, OpenKey, PROVEN_SOURCES, Proven, SITES,
        Watched, filter_place, proven_source,
    },
};

/// Tickets and first SYNs of suspects.
#[btf_map]
static SLOTS_OF: Array<u64, SLOTS, MMAPABLE> = Array::new();
/// Cells that only completed handshakes charge.
#[btf_map]
static COMPLETED: Array<[u32; CELLS_PER_LINE], COMPLETED_LINES, MMAPABLE> = Array::new();
/// Sources that completed a handshake. Never evicted; the controller takes out those that are too old.
#[btf_map]
pub static PROVEN: HashMap<Address, Proven, PROVEN_SOURCES, NO_PREALLOC> = HashMap::new();
/// Bits of proven sources: who has none of his own is none.
#[btf_map]
static PROVEN_FILTER: Array<u64, FILTER_WORDS, MMAPABLE> = Array::new();
/// How many proven sources each IPv6 /48 has.
#[btf_map]
pub static PROVEN_OF_SITE: HashMap<u64, u64, SITES, NO_PREALLOC> = HashMap::new();
/// Connections that are open. Only the controller takes entries out.
#[btf_map]
pub static OPEN: HashMap<OpenKey, Open, OPEN_SOURCES, NO_PREALLOC> = HashMap::new();
/// Those among them that were open before anybody counted; the controller keeps these.
#[btf_map]
pub static OLDER: HashMap<OpenKey, u64, OLDER_SOURCES, NO_PREALLOC> = HashMap::new();
/// The sockets that are counted.
#[btf_map]
pub static MARKS: SkStorage<Mark> = SkStorage::new();
#[btf_map]
pub static WATCHED: PerCpuArray<Watched, 1> = PerCpuArray::new();

#[inline(always)]
pub fn slot(place: u32) -> Slot {
    match SLOTS_OF.get_ptr(place) {
        // SAFETY: an aligned word of the map; other processors write it only as a whole.
        Some(slot) => Slot(unsafe { slot.read_volatile() }),
        None => Slot::EMPTY,
    }
}

#[inline(always)]
pub fn put_slot(place: u32, slot: Slot) {
    if let Some(place) = SLOTS_OF.get_ptr_mut(place) {
        // SAFETY: as above. Of two processors that write it at once one wins, whose SYN is the one that is remembered.
        unsafe { place.write_volatile(slot.0) };
    }
}

#[inline(always)]
pub fn is_proven(source: &Address, now_ns: u64) -> bool {
    let (word, bits) = filter_place(proven_source(*source));
    PROVEN_FILTER.get(word).is_some_and(|found| *found & bits == bits) && proven_at(source, now_ns) != 0
}

/// Sets the bits of a proven source.
#[inline(always)]
pub fn mark_proven(source: Address) {
    const ORDER: AtomicOrdering = AtomicOrdering::Relaxed;
    let (word, bits) = filter_place(source);
    if let Some(word) = PROVEN_FILTER.get_ptr_mut(word) {
        // SAFETY: an aligned word of the map; others write it only as a whole.
        unsafe {
            if word.read_volatile() & bits != bits {
                atomic_or::<u64, u64, ORDER>(word, bits);
            }
        }
    }
}

/// A function of its own, and global: its stack is not that of whoever asks.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn proven_at(source: *const Address, now_ns: u64) -> u32 {
    // SAFETY: the caller passes a reference; the verifier asks for the comparison with null.
    let Some(source) = (unsafe { source.as_ref() }) else {
        return 0;
    };
    // SAFETY: an entry stays readable until this run of the program ends.
    let proven = unsafe { PROVEN.get(&proven_source(*source)) };
    u32::from(proven.is_some_and(|proven| proven.is_good(now_ns)))
}

#[inline(always)]
pub fn open_connections(source: &Address, service: ServiceId) -> u32 {
    connections_of(source, service.index() as u32)
}

/// A function of its own, and global, for the same reason.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn connections_of(source: *const Address, service: u32) -> u32 {
    // SAFETY: the caller passes a reference; the verifier asks for the comparison with null.
    match (unsafe { source.as_ref() }, ServiceId::new(service as usize)) {
        (Some(source), Some(service)) => count_of(&OpenKey::new(*source, service)) as u32,
        (Some(_) | None, _) => 0,
    }
}

/// Connections that are open, older ones included.
#[inline(always)]
pub fn count_of(key: &OpenKey) -> u64 {
    // SAFETY: entries stay readable until this run of the program ends; other processors write them only as whole words.
    let (open, older) = unsafe { (OPEN.get(key).map_or(0, |open| open.count), OLDER.get(key).copied().unwrap_or(0)) };
    open + older
}

#[inline(always)]
pub fn completed_cell(index: u32) -> Option<u32> {
    // SAFETY: an aligned word of the map; other processors write it only as a whole.
    completed(index).map(|cell| unsafe { cell.read_volatile() })
}

/// The cells that only completed handshakes charge, to be charged.
pub struct CompletedCells;

impl Cells for CompletedCells {
    #[inline(always)]
    fn cell(&self, index: u32) -> Option<u32> {
        completed_cell(index)
    }

    #[inline(always)]
    fn replace_cell(&self, index: u32, seen: u32, new: u32) -> bool {
        match completed(index) {
            // SAFETY: an aligned word of the map.
            Some(cell) => unsafe { crate::tables::replace(cell, seen, new) },
            None => true,
        }
    }
}

#[inline(always)]
fn completed(index: u32) -> Option<*mut u32> {
    let line = COMPLETED.get_ptr_mut(index / CELLS_PER_LINE as u32)?;
    let place = opaque(index.into()) as usize % CELLS_PER_LINE;
    // SAFETY: `place` is inside the line.
    Some(unsafe { line.cast::<u32>().add(place) })
}
