//! What the decision sees of the maps. Nothing but this, [`lists`], [`bans`] and [`books`](crate::books) touches a map.

use core::{
    cell::Cell,
    intrinsics::{AtomicOrdering, atomic_cxchg},
};

use aya_ebpf::{
    btf_maps::{Array, PerCpuArray},
    helpers::generated::bpf_ktime_get_coarse_ns,
    macros::btf_map,
};
use ratelimit_common::{
    Address, ClassId, Entry, Moment, SERVICES, Secret, ServiceId, Set, Tables,
    bound::opaque,
    event::{CLASS_PLACES, place_of_class},
    map::{CELLS_PER_LINE, DEFAULT_LINES, MMAPABLE},
};

use crate::{bans, lists};

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
pub struct Gate {
    epoch: u32,
    set: &'static Set,
    secret: &'static Secret,
    now: Cell<u64>,
}

impl Gate {
    #[inline(always)]
    pub fn open() -> Option<Self> {
        let epoch = *EPOCH.get(0)? & 1;
        Some(Self { epoch, set: SETS.get(epoch)?, secret: SECRET.get(0)?, now: Cell::new(0) })
    }

    /// The place of a class of the set in force in the tables that hold both sets.
    #[inline(always)]
    pub fn place_of(&self, class: ClassId) -> u32 {
        place_of_class(self.epoch, class)
    }
}

/// Nanoseconds of the coarse clock.
#[inline(always)]
pub fn clock_ns() -> u64 {
    // SAFETY: the helper takes nothing and has no precondition.
    unsafe { bpf_ktime_get_coarse_ns() }
}

impl Tables for Gate {
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
    fn secret(&self) -> &Secret {
        self.secret
    }

    #[inline(always)]
    fn now(&self) -> Moment {
        if self.now.get() == 0 {
            self.now.set(clock_ns());
        }
        Moment(self.now.get())
    }

    #[inline(always)]
    fn cell(&self, index: u32) -> Option<u32> {
        // SAFETY: an aligned word of the map; other processors write it only as a whole.
        cell(index).map(|cell| unsafe { cell.read_volatile() })
    }

    #[inline(always)]
    fn replace_cell(&self, index: u32, seen: u32, new: u32) -> bool {
        const ORDER: AtomicOrdering = AtomicOrdering::SeqCst;
        match cell(index) {
            // SAFETY: an aligned word of the map.
            Some(cell) => unsafe { atomic_cxchg::<u32, ORDER, ORDER>(cell, seen, new).1 },
            None => true,
        }
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

#[inline(always)]
fn cell(index: u32) -> Option<*mut u32> {
    let line = CELLS.get_ptr_mut(index / CELLS_PER_LINE as u32)?;
    let place = opaque(index.into()) as usize % CELLS_PER_LINE;
    // SAFETY: `place` is inside the line.
    Some(unsafe { line.cast::<u32>().add(place) })
}
