//! What is written down of a verdict: counters, hits of lists, sampled events, resets spent.

use aya_ebpf::{
    Global,
    bindings::xdp_md,
    btf_maps::{PerCpuArray, RingBuf},
    macros::btf_map,
    programs::XdpContext,
};
use aya_log_ebpf::warn;
use ratelimit_common::{
    Action, ClassId, Event, Moment, Parsed, Reason, Tables as _, Verdict,
    bound::opaque,
    event::{CLASS_PLACES, Hits, Outcome, TALLIES, Tally},
    map::EVENT_BUFFER_BYTES,
};

use crate::tables::{Gate, clock_ns};

#[btf_map]
static TALLIES_OF: PerCpuArray<Tally, TALLIES> = PerCpuArray::new();
/// What the classes of each set stopped on this processor.
#[btf_map]
static CLASS_HITS: PerCpuArray<Hits, CLASS_PLACES> = PerCpuArray::new();
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

/// What is left to do with a frame, in one word: what the verdict was, and two bits above it.
#[derive(Clone, Copy)]
pub struct Settled(pub u64);

impl Settled {
    /// There was nothing to judge by.
    pub const NOTHING: Self = Self(0);
    const TOLD: u64 = 1 << 32;
    /// There is no reset to spare.
    const SILENT: u64 = 1 << 33;

    /// Whether an event is to be sent.
    #[inline(always)]
    pub const fn is_told(self) -> bool {
        self.0 & Self::TOLD != 0
    }

    #[inline(always)]
    pub const fn outcome(self) -> Outcome {
        Outcome(self.0 as u32)
    }

    #[inline(always)]
    pub const fn action(self) -> Action {
        match self.outcome().action() {
            Action::Reset if self.0 & Self::SILENT != 0 => Action::Drop,
            other => other,
        }
    }
}

/// A verdict on its way into the books.
pub struct Books<'a> {
    gate: &'a Gate,
    outcome: Outcome,
    blocked_by: Option<ClassId>,
}

impl<'a> Books<'a> {
    #[inline(always)]
    pub fn of(gate: &'a Gate, verdict: Verdict) -> Self {
        Self { gate, outcome: Outcome::of(verdict), blocked_by: verdict.blocked_by() }
    }

    /// Counts the frame, and spends an event and a reset where there are some to spare.
    #[inline(always)]
    pub fn settle(&self, parsed: &Parsed) -> Settled {
        let action = self.outcome.action();
        self.count(parsed, action);
        if let Some(class) = self.blocked_by {
            self.count_hit(class);
        }
        let told = self.outcome.is_sampled() && SAMPLE_EVENTS.load() != 0 && self.spend_event();
        let silent = action == Action::Reset && !self.spend_reset();
        let told = if told { Settled::TOLD } else { 0 };
        Settled(u64::from(self.outcome.0) | told | if silent { Settled::SILENT } else { 0 })
    }

    #[inline(always)]
    fn count(&self, parsed: &Parsed, action: Action) {
        if let Some(tally) = TALLIES_OF.get_ptr_mut(self.outcome.tally_index(parsed.family)) {
            // SAFETY: the element is this processor's own, and XDP programs do not preempt each other on it.
            let tally = unsafe { &mut *tally };
            match action {
                Action::Pass => tally.passed += 1,
                Action::Drop | Action::Reset => tally.dropped += 1,
            }
        }
    }

    #[inline(always)]
    fn count_hit(&self, class: ClassId) {
        if let Some(hits) = CLASS_HITS.get_ptr_mut(self.gate.place_of(class)) {
            // SAFETY: the element is this processor's own, and XDP programs do not preempt each other on it.
            let hits = unsafe { &mut *hits };
            hits.hits += 1;
            hits.last_hit_ns = self.gate.now().0;
        }
    }

    /// Takes one of the reason's events: at any flood rate at most one an interval.
    #[inline(always)]
    fn spend_event(&self) -> bool {
        let interval_ns = self.gate.set().event_interval_ns;
        if interval_ns == 0 {
            return false;
        }
        let Some(spent) = EVENTS_SPENT.get_ptr_mut(0) else {
            return false;
        };
        // SAFETY: the element is this processor's own, and XDP programs do not preempt each other on it.
        let spent = unsafe { &mut (&mut *spent)[opaque(self.outcome.reason().into()) as usize % REASONS] };
        spend(spent, self.gate.now(), interval_ns)
    }

    /// Takes one of the resets: at any flood rate at most one an interval.
    #[inline(always)]
    fn spend_reset(&self) -> bool {
        let Some(spent) = RESETS_SPENT.get_ptr_mut(0) else {
            return false;
        };
        // SAFETY: the element is this processor's own, and XDP programs do not preempt each other on it.
        spend(unsafe { &mut *spent }, self.gate.now(), self.gate.set().reset_interval_ns)
    }
}

/// Takes one of what comes once an interval, [`BURST`] of them at once after a pause.
#[inline(always)]
fn spend(spent: &mut u64, Moment(now): Moment, interval_ns: u64) -> bool {
    let start = (*spent).max(now);
    if start - now > (BURST - 1) * interval_ns {
        return false;
    }
    *spent = start + interval_ns;
    true
}

/// Tells the controller of a frame.
#[inline(always)]
pub fn send_event(context: *mut xdp_md, parsed: &Parsed, outcome: Outcome) {
    put_event(context, parsed, outcome.0);
}

/// A function of its own, and global: an event is built on its stack, not on that of the parser.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn put_event(context: *mut xdp_md, parsed: *const Parsed, outcome: u32) -> u32 {
    // SAFETY: the caller passes a reference; the verifier asks for the comparison with null.
    let Some(parsed) = (unsafe { parsed.as_ref() }) else {
        return 0;
    };
    let context = &XdpContext::new(context);
    match EVENTS.reserve(0) {
        Some(mut slot) => {
            let interface = context.ingress_ifindex() as u32;
            slot.write(Event::new(parsed, Outcome(outcome), Moment(clock_ns()), interface));
            slot.submit(0);
        }
        None if LOG_DIAGNOSTICS.load() != 0 => warn!(context, "the event buffer is full, an event is lost"),
        None => {}
    }
    0
}
