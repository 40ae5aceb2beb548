//! What the decision sees of the maps. Nothing but this, [`lists`], [`bans`], [`listed`], [`proofs`] and [`books`](crate::books) touches
//! a map.

use core::{
    cell::Cell,
    intrinsics::{AtomicOrdering, atomic_cxchg},
};

use aya_ebpf::{
    btf_maps::{Array, PerCpuArray},
    helpers::generated::{bpf_jiffies64, bpf_ktime_get_coarse_ns},
    macros::btf_map,
};
use ratelimit_common::{
    Address, Cells, ClassId, Entry, Moment, Parsed, SERVICES, Secret, ServiceId, Set, Tables,
    bound::opaque,
    challenge::{Slot, Tuple},
    event::{CLASS_PLACES, place_of_class},
    map::{CELLS_PER_LINE, DEFAULT_LINES, MMAPABLE},
};

use crate::{bans, books, listed, lists, proofs};

/// Which of the two sets is in force: the lowest bit.
#[btf_map]
static EPOCH: Array<u32, 1> = Array::new();
#[btf_map]
static SETS: Array<Set, 2> = Array::new();
/// What the classes of each set say.
#[btf_map]
static ENTRIES: Array<Entry, CLASS_PLACES> = Array::new();
#[btf_map]
static SECRET: Array<Secret, 1> = Array::new();
/// The limiter's cells, in lines; the controller chooses how many.
#[btf_map]
static CELLS: Array<[u32; CELLS_PER_LINE], DEFAULT_LINES, MMAPABLE> = Array::new();
/// Connections each service admitted on this processor.
#[btf_map]
static ADMITTED: PerCpuArray<[u32; SERVICES], 1> = PerCpuArray::new();

/// One run's view of the maps: the epoch is read once, the clock at most once.
///
/// One that looks closely calls functions where the other one computes in place: it has less stack to spare, and more time.
pub struct Gate<const CLOSELY: bool = false> {
    epoch: u32,
    set: &'static Set,
    secret: &'static Secret,
    now: Cell<u64>,
    /// The hash of the connection, once it was asked for; 0 before.
    tuple: Cell<u64>,
}

impl<const CLOSELY: bool> Gate<CLOSELY> {
    #[inline(always)]
    pub fn open() -> Option<Self> {
        Self::open_at(*EPOCH.get(0)?)
    }

    /// One that judges by the set that an earlier step has judged by.
    #[inline(always)]
    pub fn open_at(epoch: u32) -> Option<Self> {
        let epoch = epoch & 1;
        Some(Self { epoch, set: SETS.get(epoch)?, secret: SECRET.get(0)?, now: Cell::new(0), tuple: Cell::new(0) })
    }

    #[inline(always)]
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The place of a class of the set in force in the tables that hold both sets.
    #[inline(always)]
    pub fn place_of(&self, class: ClassId) -> u32 {
        place_of_class(self.epoch, class)
    }
}

/// What the coarse clock showed when the kernel's ticks were last found changed, and those ticks. Written without order: whoever
/// writes shows a time of the same tick, or of the one before.
static mut TIME_NS: u64 = 0;
static mut TIME_TICKS: u64 = u64::MAX;

/// Nanoseconds of the coarse clock, late by a tick at most.
///
/// It advances with the kernel's ticks and costs 18 ns to read; the ticks are a word in memory.
#[inline(always)]
pub fn clock_ns() -> u64 {
    // SAFETY: the helpers take nothing and have no precondition; the words are aligned, and written only as a whole.
    unsafe {
        let ticks = bpf_jiffies64();
        if (&raw const TIME_TICKS).read_volatile() == ticks {
            return (&raw const TIME_NS).read_volatile();
        }
        let now_ns = bpf_ktime_get_coarse_ns();
        (&raw mut TIME_NS).write_volatile(now_ns);
        (&raw mut TIME_TICKS).write_volatile(ticks);
        now_ns
    }
}

impl<const CLOSELY: bool> Cells for Gate<CLOSELY> {
    #[inline(always)]
    fn cell(&self, index: u32) -> Option<u32> {
        // SAFETY: an aligned word of the map; other processors write it only as a whole.
        cell(index).map(|cell| unsafe { cell.read_volatile() })
    }

    #[inline(always)]
    fn replace_cell(&self, index: u32, seen: u32, new: u32) -> bool {
        match cell(index) {
            // SAFETY: an aligned word of the map.
            Some(cell) => unsafe { replace(cell, seen, new) },
            None => true,
        }
    }
}

impl<const CLOSELY: bool> Tables for Gate<CLOSELY> {
    #[inline(always)]
    fn set(&self) -> &Set {
        self.set
    }

    #[inline(always)]
    fn class(&self, source: &Address) -> ClassId {
        lists::class(self.epoch, source)
    }

    #[inline(always)]
    fn entry(&self, class: ClassId) -> Entry {
        ENTRIES.get(self.place_of(class)).copied().unwrap_or(Entry::NONE)
    }

    #[inline(always)]
    fn is_banned(&self, source: &Address, service: ServiceId) -> bool {
        bans::stop(source, service.bit(), self.now().0)
    }

    #[inline(always)]
    fn is_over_listed(&self, source: &Address, service: ServiceId) -> bool {
        let Set { listed_increment_ns, listed_tolerance_ns, .. } = *self.set;
        listed::is_over(source, service, listed_increment_ns, listed_tolerance_ns, self.now().0)
    }

    #[inline(always)]
    fn secret(&self) -> &Secret {
        self.secret
    }

    #[inline(always)]
    fn hash(&self, address: Address) -> u64 {
        match CLOSELY {
            true => hash_of(&address),
            false => self.secret.hash(address),
        }
    }

    #[inline(always)]
    fn tuple(&self, parsed: &Parsed) -> Tuple {
        match CLOSELY {
            true => {
                if self.tuple.get() == 0 {
                    self.tuple.set(hash_of_connection(parsed));
                }
                Tuple::from_hash(self.tuple.get())
            }
            false => Tuple::of(self.secret, parsed),
        }
    }

    #[inline(always)]
    fn now(&self) -> Moment {
        if self.now.get() == 0 {
            self.now.set(clock_ns());
        }
        Moment(self.now.get())
    }

    #[inline(always)]
    fn is_proven(&self, source: &Address) -> bool {
        proofs::is_proven(source, self.now().0)
    }

    #[inline(always)]
    fn open_connections(&self, source: &Address, service: ServiceId) -> u32 {
        proofs::open_connections(source, service)
    }

    #[inline(always)]
    fn completed_cell(&self, index: u32) -> Option<u32> {
        proofs::completed_cell(index)
    }

    #[inline(always)]
    fn slot(&self, place: u32) -> Slot {
        proofs::slot(place)
    }

    #[inline(always)]
    fn put_slot(&self, place: u32, slot: Slot) {
        proofs::put_slot(place, slot);
    }

    #[inline(always)]
    fn spend_challenge(&self) -> bool {
        books::spend_challenge(self)
    }

    #[inline(always)]
    fn count_admitted(&self, service: ServiceId) -> u32 {
        let Some(counts) = ADMITTED.get_ptr_mut(0) else {
            return 1;
        };
        // SAFETY: the element is this processor's own, and XDP programs do not preempt each other on it.
        let counts = unsafe { &mut *counts };
        let count = &mut counts[opaque(service.index() as u64) as usize % SERVICES];
        *count = count.wrapping_add(1);
        *count
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn hash_of(address: *const Address) -> u64 {
    // SAFETY: the caller passes a reference; the verifier asks for the comparison with null.
    match (unsafe { address.as_ref() }, SECRET.get(0)) {
        (Some(address), Some(secret)) => secret.hash(*address),
        _ => 0,
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn hash_of_connection(parsed: *const Parsed) -> u64 {
    // SAFETY: as above.
    match (unsafe { parsed.as_ref() }, SECRET.get(0)) {
        (Some(parsed), Some(secret)) => {
            secret.hash_connection(parsed.source, parsed.destination, parsed.source_port, parsed.port)
        }
        _ => 0,
    }
}

/// Replaces a word if it still is what was seen.
///
/// # Safety
///
/// An aligned word of a map.
#[inline(always)]
pub unsafe fn replace(cell: *mut u32, seen: u32, new: u32) -> bool {
    const ORDER: AtomicOrdering = AtomicOrdering::SeqCst;
    // SAFETY: what the caller says.
    unsafe { atomic_cxchg::<u32, ORDER, ORDER>(cell, seen, new).1 }
}

#[inline(always)]
fn cell(index: u32) -> Option<*mut u32> {
    let line = CELLS.get_ptr_mut(index / CELLS_PER_LINE as u32)?;
    let place = opaque(index.into()) as usize % CELLS_PER_LINE;
    // SAFETY: `place` is inside the line.
    Some(unsafe { line.cast::<u32>().add(place) })
}
