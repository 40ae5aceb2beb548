//! The maps, and what the decision sees of them. Nothing but this, `lists.rs` and `bans.rs` touches a map.

use core::{
    cell::Cell,
    intrinsics::{AtomicOrdering, atomic_cxchg},
};

use aya_ebpf::{
    Global,
    bindings::xdp_md,
    btf_maps::{Array, PerCpuArray, RingBuf},
    helpers::generated::bpf_ktime_get_coarse_ns,
    macros::btf_map,
    programs::XdpContext,
};
use aya_log_ebpf::warn;
use ratelimit_common::{
    Action, Address, Entry, Event, Moment, Parsed, Reason, SERVICES, Secret, ServiceId, Set, Tables,
    bound::opaque,
    event::{Outcome, TALLIES, Tally},
    lookup::{CLASSES, ClassId},
    map::{CELLS_PER_LINE, DEFAULT_LINES, EVENT_BUFFER_BYTES, MMAPABLE},
};

use crate::{bans, lists};

/// Which of the two sets is in force: the lowest bit.
#[btf_map]
static EPOCH: Array<u32, 1> = Array::new();
#[btf_map]
static SETS: Array<Set, 2> = Array::new();
/// What the classes of each set say.
#[btf_map]
static ENTRIES: Array<Entry, { 2 * CLASSES }> = Array::new();
#[btf_map]
static SECRET: Array<Secret, 1> = Array::new();
/// The limiter's cells, in lines; the controller chooses how many.
#[btf_map]
static CELLS: Array<[u32; CELLS_PER_LINE], DEFAULT_LINES, MMAPABLE> = Array::new();
#[btf_map]
static TALLIES_OF: PerCpuArray<Tally, TALLIES> = PerCpuArray::new();
/// Connections each service admitted on this processor.
#[btf_map]
static ADMITTED: PerCpuArray<[u32; SERVICES], 1> = PerCpuArray::new();
#[btf_map]
static EVENTS: RingBuf<Event, EVENT_BUFFER_BYTES> = RingBuf::new();
/// Until when each reason has used up its events on this processor.
#[btf_map]
static EVENTS_SPENT: PerCpuArray<[u64; REASONS], 1> = PerCpuArray::new();

/// Until when the resets of this processor are used up.
#[btf_map]
static RESETS_SPENT: PerCpuArray<u64, 1> = PerCpuArray::new();

/// Whether events are sampled at all.
#[unsafe(no_mangle)]
static SAMPLE_EVENTS: Global<u8> = Global::new(1);
/// Whether a full event buffer is reported through aya-log.
#[unsafe(no_mangle)]
static LOG_DIAGNOSTICS: Global<u8> = Global::new(0);

/// Places for reasons: a power of two, so that a mask shows the verifier the bound.
const REASONS: usize = Reason::COUNT.next_power_of_two();
/// Events of one reason, or resets, that a quiet processor may send at once.
const BURST: u64 = 16;

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

    #[inline(always)]
    pub fn count(&self, parsed: &Parsed, outcome: Outcome, action: Action) {
        if let Some(tally) = TALLIES_OF.get_ptr_mut(outcome.tally_index(parsed.family)) {
            // SAFETY: the element is this processor's own, and XDP programs do not preempt each other on it.
            let tally = unsafe { &mut *tally };
            match action {
                Action::Pass => tally.passed += 1,
                Action::Drop | Action::Reset => tally.dropped += 1,
            }
        }
    }

    /// The place of a class of the set in force in the tables that hold both sets.
    #[inline(always)]
    fn place_of(&self, class: ClassId) -> u32 {
        self.epoch * CLASSES as u32 + u32::from(class.0)
    }

    /// Whether there is a reset to spare: at any flood rate at most one an interval.
    #[inline(always)]
    pub fn spend_reset(&self) -> bool {
        let Some(spent) = RESETS_SPENT.get_ptr_mut(0) else {
            return false;
        };
        // SAFETY: the element is this processor's own, and XDP programs do not preempt each other on it.
        spend(unsafe { &mut *spent }, self.now().0, self.set.reset_interval_ns)
    }

    /// Sends an event if the reason has one to spare: at any flood rate at most one an interval.
    #[inline(always)]
    pub fn sample(&self, parsed: &Parsed, outcome: Outcome, context: *mut xdp_md) {
        if !outcome.is_sampled() || SAMPLE_EVENTS.load() == 0 || self.set.event_interval_ns == 0 {
            return;
        }
        let now = self.now().0;
        if !self.spend_event(outcome.reason(), now) {
            return;
        }
        send_event(context, parsed, outcome.0, now);
    }

    #[inline(always)]
    fn spend_event(&self, reason: u8, now: u64) -> bool {
        let Some(spent) = EVENTS_SPENT.get_ptr_mut(0) else {
            return false;
        };
        // SAFETY: the element is this processor's own, and XDP programs do not preempt each other on it.
        let spent = unsafe { &mut (&mut *spent)[opaque(reason.into()) as usize % REASONS] };
        spend(spent, now, self.set.event_interval_ns)
    }
}

/// Takes one of what comes once an interval, [`BURST`] of them at once after a pause.
#[inline(always)]
fn spend(spent: &mut u64, now: u64, interval_ns: u64) -> bool {
    let start = (*spent).max(now);
    if start - now > (BURST - 1) * interval_ns {
        return false;
    }
    *spent = start + interval_ns;
    true
}

impl Tables for Gate {
    #[inline(always)]
    fn set(&self) -> &Set {
        self.set
    }

    #[inline(always)]
    fn class(&self, source: Address) -> ClassId {
        lists::class(self.epoch, &source)
    }

    #[inline(always)]
    fn entry(&self, class: ClassId) -> Entry {
        ENTRIES.get(self.place_of(class)).copied().unwrap_or(Entry::NONE)
    }

    #[inline(always)]
    fn is_banned(&self, source: Address, service: ServiceId) -> bool {
        bans::stop(&source, service.bit(), self.now().0)
    }

    #[inline(always)]
    fn secret(&self) -> &Secret {
        self.secret
    }

    #[inline(always)]
    fn now(&self) -> Moment {
        if self.now.get() == 0 {
            // SAFETY: the helper takes nothing and has no precondition.
            self.now.set(unsafe { bpf_ktime_get_coarse_ns() });
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

/// A function of its own, and global: an event is built on its stack, not on that of the judge.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn send_event(context: *mut xdp_md, parsed: *const Parsed, outcome: u32, now_ns: u64) -> u32 {
    // SAFETY: the caller passes a reference; the verifier asks for the comparison with null.
    let Some(parsed) = (unsafe { parsed.as_ref() }) else {
        return 0;
    };
    let context = &XdpContext::new(context);
    match EVENTS.reserve(0) {
        Some(mut slot) => {
            let interface = context.ingress_ifindex() as u32;
            slot.write(Event::new(parsed, Outcome(outcome), Moment(now_ns), interface));
            slot.submit(0);
        }
        None if LOG_DIAGNOSTICS.load() != 0 => warn!(context, "the event buffer is full, an event is lost"),
        None => {}
    }
    0
}

#[inline(always)]
fn cell(index: u32) -> Option<*mut u32> {
    let line = CELLS.get_ptr_mut(index / CELLS_PER_LINE as u32)?;
    let place = opaque(index.into()) as usize % CELLS_PER_LINE;
    // SAFETY: `place` is inside the line.
    Some(unsafe { line.cast::<u32>().add(place) })
}
