//! A sampled verdict on its way to the controller, and the place of a verdict among the counters.

use bytemuck::{Pod, Zeroable};

use crate::{
    address::{Address, Family},
    decide::Verdict,
    limit::Moment,
    lookup::{CLASSES, ClassId},
    parse::Parsed,
    reason::{Action, Mode, Reason},
    set::{SERVICES, ServiceId},
};

/// One sampled verdict.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Event {
    pub at_ns: u64,
    pub source: Address,
    pub destination: Address,
    pub interface: u32,
    pub source_port: u16,
    pub port: u16,
    reason: u8,
    /// [`SERVICES`] where it belongs to none.
    service: u8,
    mode: u8,
    padding: [u8; 5],
}

const _: () = assert!(size_of::<Event>() == 56);

impl Event {
    #[inline(always)]
    pub const fn new(parsed: &Parsed, outcome: Outcome, at: Moment, interface: u32) -> Self {
        let [reason, service, mode, _] = outcome.0.to_le_bytes();
        Self {
            at_ns: at.0,
            source: parsed.source,
            destination: parsed.destination,
            interface,
            source_port: parsed.source_port,
            port: parsed.port,
            reason,
            service,
            mode,
            padding: [0; 5],
        }
    }

    /// `None` if the gate that wrote it knows more reasons than we do.
    pub const fn reason(&self) -> Option<Reason> {
        Reason::from_raw(self.reason)
    }

    pub const fn service(&self) -> Option<ServiceId> {
        ServiceId::new(self.service as usize)
    }

    pub const fn mode(&self) -> Mode {
        Mode::from_raw(self.mode)
    }
}

/// A verdict in one word: the kernel's program hands it on in a register, and its verifier sees one number where it
/// would follow every verdict by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome(pub u32);

/// The lowest two bits say what is done.
const DROPS: u8 = 1;
const RESETS: u8 = 2;
const CHALLENGES: u8 = 3;
const ACTION: u8 = 3;
const IS_SAMPLED: u8 = 4;
/// Bits of an [`Outcome`] that are free for whoever hands it on.
pub const FREE_SHIFT: u32 = 24 + 3;

impl Outcome {
    #[inline(always)]
    pub fn of(verdict: Verdict) -> Self {
        let action = match verdict.action() {
            Action::Pass => 0,
            Action::Drop => DROPS,
            Action::Reset => RESETS,
            Action::Challenge => CHALLENGES,
        };
        let is_sampled = verdict.reason.refuses() || verdict.reason.is_new_connection();
        let flags = action | if is_sampled { IS_SAMPLED } else { 0 };
        let service = service_index(verdict.service) as u8;
        Self(u32::from_le_bytes([verdict.reason as u8, service, verdict.mode as u8, flags]))
    }

    #[inline(always)]
    pub const fn action(self) -> Action {
        match self.0.to_le_bytes()[3] & ACTION {
            DROPS => Action::Drop,
            RESETS => Action::Reset,
            CHALLENGES => Action::Challenge,
            _ => Action::Pass,
        }
    }

    /// Whether an event tells of it if there is one to spare.
    #[inline(always)]
    pub const fn is_sampled(self) -> bool {
        self.0.to_le_bytes()[3] & IS_SAMPLED != 0
    }

    /// The service, also of an outcome that was handed on.
    #[inline(always)]
    pub const fn service(self) -> Option<ServiceId> {
        ServiceId::new(self.0.to_le_bytes()[1] as usize)
    }

    /// The reason as a number.
    #[inline(always)]
    pub const fn reason(self) -> u8 {
        self.0.to_le_bytes()[0]
    }

    /// Where it is tallied.
    #[inline(always)]
    pub const fn tally_index(self, family: Family) -> u32 {
        let [reason, service, ..] = self.0.to_le_bytes();
        place_of_tally(reason as u32, service as u32, family)
    }
}

/// Frames that left the gate for one reason, of one service and family.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Tally {
    pub passed: u64,
    pub dropped: u64,
}

/// What the lists of a class stopped, or would have where they observe.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Hits {
    pub hits: u64,
    /// Nanoseconds of `CLOCK_MONOTONIC`; 0 if nothing was stopped yet.
    pub last_hit_ns: u64,
}

impl Hits {
    /// Both together.
    pub const fn and(self, other: Self) -> Self {
        let last_hit_ns = if self.last_hit_ns > other.last_hit_ns { self.last_hit_ns } else { other.last_hit_ns };
        Self { hits: self.hits.saturating_add(other.hits), last_hit_ns }
    }
}

/// Places of classes, of both sets.
pub const CLASS_PLACES: usize = 2 * CLASSES;

/// The place of a class of a set (0 or 1) in the tables that hold both sets.
#[inline(always)]
pub const fn place_of_class(set: u32, class: ClassId) -> u32 {
    set * CLASSES as u32 + class.0 as u32
}

/// Size of the table of tallies.
pub const TALLIES: usize = Reason::COUNT * (SERVICES + 1) * Family::ALL.len();

/// Where a verdict is tallied.
#[inline(always)]
pub const fn tally_index(reason: Reason, service: Option<ServiceId>, family: Family) -> u32 {
    place_of_tally(reason as u32, service_index(service), family)
}

#[inline(always)]
const fn place_of_tally(reason: u32, service: u32, family: Family) -> u32 {
    let services = (SERVICES + 1) as u32;
    let families = Family::ALL.len() as u32;
    (reason * services + service) * families + family as u32
}

#[inline(always)]
const fn service_index(service: Option<ServiceId>) -> u32 {
    match service {
        Some(id) => id.index() as u32,
        None => SERVICES as u32,
    }
}
