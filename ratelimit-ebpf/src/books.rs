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
    Action, ClassId, Doubt, Entry, Event, Moment, Parsed, Reason, Tables as _, Verdict,
    bound::opaque,
    event::{CLASS_PLACES, FREE_SHIFT, Hits, Outcome, TALLIES, Tally},
    map::EVENT_BUFFER_BYTES,
};

use crate::{
    strays,
    tables::{Gate, clock_ns},
};

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
/// The same of challenges.
#[btf_map]
static CHALLENGES_SPENT: PerCpuArray<u64, 1> = PerCpuArray::new();

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
/// How many challenges may be sent at once: those of this time. Longer than a tick of the clock at HZ=100.
const CHALLENGES_NS: u64 = 20_000_000;

/// What is left to do with a frame, in one word: the outcome; whether an event tells of it; whether there is no reset to spare;
/// what is in doubt, and by which set and class; or, in the same place, the cookie of a challenge.
#[derive(Clone, Copy)]
pub struct Settled(pub u64);

const TOLD: u64 = 1 << FREE_SHIFT;
const SILENT: u64 = 2 << FREE_SHIFT;
const HAS_COOKIE: u64 = 4 << FREE_SHIFT;
const DOUBT_SHIFT: u32 = 32;
const DOUBT: u64 = 7 << DOUBT_SHIFT;
const EPOCH: u64 = 8 << DOUBT_SHIFT;
const CLASS_SHIFT: u32 = 48;
const COOKIE_SHIFT: u32 = 32;

impl Settled {
    /// There was nothing to judge by.
    pub const NOTHING: Self = Self(0);

    /// Whether an event is to be sent.
    #[inline(always)]
    pub const fn is_told(self) -> bool {
        self.0 & TOLD != 0
    }

    #[inline(always)]
    pub const fn outcome(self) -> Outcome {
        Outcome(self.0 as u32)
    }

    #[inline(always)]
    pub const fn action(self) -> Action {
        match self.outcome().action() {
            Action::Reset if self.0 & SILENT != 0 => Action::Drop,
            other => other,
        }
    }

    /// The number that a challenge asks for.
    #[inline(always)]
    pub const fn cookie(self) -> u32 {
        (self.0 >> COOKIE_SHIFT) as u32
    }

    #[inline(always)]
    pub const fn with_cookie(self, cookie: u32) -> Self {
        Self(self.0 & 0xffff_ffff | HAS_COOKIE | (cookie as u64) << COOKIE_SHIFT)
    }

    /// A verdict that is not settled yet.
    #[inline(always)]
    fn in_doubt<const CLOSELY: bool>(outcome: Outcome, doubt: Doubt, gate: &Gate<CLOSELY>, class: ClassId) -> Self {
        let epoch = if gate.epoch() == 0 { 0 } else { EPOCH };
        let class = (class.0 as u64) << CLASS_SHIFT;
        Self(u64::from(outcome.0) | (doubt as u64) << DOUBT_SHIFT | epoch | class)
    }

    /// Whether a new connection or an answer is in doubt.
    #[inline(always)]
    pub const fn is_in_doubt(self) -> bool {
        let doubt = self.0 & DOUBT;
        doubt != 0 && doubt != (Doubt::Connection as u64) << DOUBT_SHIFT
    }

    /// Whether it is to be found out if a packet belongs to a connection.
    #[inline(always)]
    pub const fn is_sought(self) -> bool {
        self.0 & (DOUBT | HAS_COOKIE) == (Doubt::Connection as u64) << DOUBT_SHIFT
    }

    /// The gate that has begun to judge.
    #[inline(always)]
    pub fn gate(self) -> Option<Gate<true>> {
        Gate::open_at((self.0 & EPOCH != 0) as u32)
    }

    /// What that gate has found so far. Whatever is in doubt passes unless a closer look speaks against it.
    #[inline(always)]
    pub fn verdict(self, gate: &Gate<true>) -> Verdict {
        let service = self.outcome().service();
        let class = ClassId((self.0 >> CLASS_SHIFT) as u16);
        let doubt = match (self.0 & DOUBT) >> DOUBT_SHIFT {
            1 => Doubt::Pressed,
            2 => Doubt::Over,
            3 => Doubt::Answer,
            4 => Doubt::Connection,
            _ => Doubt::None,
        };
        let mode = gate.set().mode(service);
        Verdict { reason: Reason::Established, service, mode, entry: Entry::NONE, class, resets: false, doubt }
    }
}

/// A verdict on its way into the books.
pub struct Books<'a, const CLOSELY: bool> {
    gate: &'a Gate<CLOSELY>,
    outcome: Outcome,
    class: ClassId,
    is_hit: bool,
    doubt: Doubt,
}

impl<'a, const CLOSELY: bool> Books<'a, CLOSELY> {
    #[inline(always)]
    pub fn of(gate: &'a Gate<CLOSELY>, verdict: Verdict) -> Self {
        let is_hit = verdict.blocked_by().is_some();
        Self { gate, outcome: Outcome::of(verdict), class: verdict.class, is_hit, doubt: verdict.doubt }
    }

    /// Counts the frame, and spends an event and a reset where there are some to spare. What is in doubt is handed on as it is,
    /// but for packets of open connections: of these only a sample is looked at, until it shows too many that belong to none.
    #[inline(always)]
    pub fn settle(&self, parsed: &Parsed) -> Settled {
        let action = self.outcome.action();
        let is_last = match self.doubt {
            Doubt::None => true,
            Doubt::Connection => !strays::are_sought(),
            Doubt::Pressed | Doubt::Over | Doubt::Answer => false,
        };
        if !is_last || self.count(parsed, action) {
            return Settled::in_doubt(self.outcome, self.doubt, self.gate, self.class);
        }
        if self.is_hit {
            self.count_hit(self.class);
        }
        let told = self.outcome.is_sampled() && SAMPLE_EVENTS.load() != 0 && self.spend_event();
        let silent = action == Action::Reset && !self.spend_reset();
        let told = if told { TOLD } else { 0 };
        Settled(u64::from(self.outcome.0) | told | if silent { SILENT } else { 0 })
    }

    /// Whether the frame is one of the sample that is not counted yet but looked at.
    #[inline(always)]
    fn count(&self, parsed: &Parsed, action: Action) -> bool {
        let Some(tally) = TALLIES_OF.get_ptr_mut(self.outcome.tally_index(parsed.family)) else {
            return false;
        };
        // SAFETY: the element is this processor's own, and XDP programs do not preempt each other on it.
        let tally = unsafe { &mut *tally };
        if self.doubt == Doubt::Connection && tally.passed % strays::SAMPLE == 0 {
            return true;
        }
        match action {
            Action::Pass => tally.passed += 1,
            Action::Drop | Action::Reset | Action::Challenge => tally.dropped += 1,
        }
        false
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
        spend(spent, self.gate.now(), interval_ns, (BURST - 1) * interval_ns)
    }

    /// Takes one of the resets: at any flood rate at most one an interval.
    #[inline(always)]
    fn spend_reset(&self) -> bool {
        let Some(spent) = RESETS_SPENT.get_ptr_mut(0) else {
            return false;
        };
        let interval_ns = self.gate.set().reset_interval_ns;
        // SAFETY: the element is this processor's own, and XDP programs do not preempt each other on it.
        spend(unsafe { &mut *spent }, self.gate.now(), interval_ns, (BURST - 1) * interval_ns)
    }
}

/// Takes one of the challenges: at any flood rate at most one an interval.
#[inline(always)]
pub fn spend_challenge<const CLOSELY: bool>(gate: &Gate<CLOSELY>) -> bool {
    let Some(spent) = CHALLENGES_SPENT.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: the element is this processor's own, and XDP programs do not preempt each other on it.
    spend(unsafe { &mut *spent }, gate.now(), gate.set().challenge_interval_ns, CHALLENGES_NS)
}

/// Takes one of what comes once an interval; after a pause all those of a time at once, and one more.
#[inline(always)]
fn spend(spent: &mut u64, Moment(now): Moment, interval_ns: u64, at_once_ns: u64) -> bool {
    let start = (*spent).max(now);
    if start - now > at_once_ns {
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
