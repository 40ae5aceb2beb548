//! A sampled verdict on its way to the controller, and the place of a verdict among the counters.

use bytemuck::{Pod, Zeroable};

use crate::{
    address::{Address, Family},
    decide::Verdict,
    limit::Moment,
    parse::Parsed,
    reason::{Mode, Reason},
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
    pub const fn new(parsed: &Parsed, verdict: Verdict, at: Moment, interface: u32) -> Self {
        Self {
            at_ns: at.0,
            source: parsed.source,
            destination: parsed.destination,
            interface,
            source_port: parsed.source_port,
            port: parsed.port,
            reason: verdict.reason as u8,
            service: service_index(verdict.service) as u8,
            mode: verdict.mode as u8,
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

/// Frames that left the gate for one reason, of one service and family.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Tally {
    pub passed: u64,
    pub dropped: u64,
}

/// Size of the table of tallies.
pub const TALLIES: usize = Reason::COUNT * (SERVICES + 1) * Family::ALL.len();

/// Where a verdict is tallied.
#[inline(always)]
pub const fn tally_index(reason: Reason, service: Option<ServiceId>, family: Family) -> u32 {
    let services = (SERVICES + 1) as u32;
    let families = Family::ALL.len() as u32;
    (reason as u32 * services + service_index(service)) * families + family as u32
}

#[inline(always)]
const fn service_index(service: Option<ServiceId>) -> u32 {
    match service {
        Some(id) => id.index() as u32,
        None => SERVICES as u32,
    }
}
