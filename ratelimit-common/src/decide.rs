//! The whole decision, from a frame to a [`Reason`].
//!
//! The same function runs in the kernel over the packet and the BPF maps, on the host in the tests,
//! and in `ratelimit explain` over the live maps.

use crate::{
    Action, Address, Entry, Frame, Mode, Reason, Service, ServiceId,
    limiter::{admit, over_service_limit},
    parse::{Parsed, Scope, parse},
    tables::Tables,
};

/// What was decided about one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Verdict {
    pub reason: Reason,
    /// `None` where the frame belongs to no service of ours.
    pub service: Option<ServiceId>,
    pub mode: Mode,
}

/// Judges one frame.
#[inline(always)]
pub fn decide<F: Frame, T: Tables>(frame: &F, tables: &T) -> Verdict {
    judge(&parse(frame), tables)
}

/// Judges what a frame shows of itself.
///
/// The kernel calls [`parse`] and this apart, with a function boundary between them: its verifier then
/// checks each half once, and not this one again for every way through the other.
#[inline(always)]
pub fn judge<T: Tables>(parsed: &Parsed, tables: &T) -> Verdict {
    let set = tables.set();
    let (reason, service) = match parsed.scope {
        Scope::Frame => (parsed.reason, None),
        Scope::Destination if set.serves(parsed.destination) => (parsed.reason, None),
        Scope::Destination => (Reason::NotServed, None),
        Scope::Service => match set.service(parsed.destination, parsed.port) {
            None => (Reason::NotServed, None),
            // Only new connections are held against lists and limits.
            Some((id, service)) if parsed.reason == Reason::Admitted => {
                (judge_new(parsed.source, id, service, tables), Some(id))
            }
            Some((id, _)) => (parsed.reason, Some(id)),
        },
    };
    Verdict { reason, service, mode: set.mode(service) }
}

/// Judges a new connection: trusted? blocked, unless allowed? within its limits?
#[inline(always)]
fn judge_new<T: Tables>(source: Address, id: ServiceId, service: &Service, tables: &T) -> Reason {
    let entry = match tables.set().has_entries() {
        true => tables.entry(source),
        false => Entry::NONE,
    };
    if entry.trusts(id) {
        return Reason::Trusted;
    }
    if entry.blocks(id) && !entry.allows(id) {
        return Reason::Blocked;
    }
    let now = tables.secret().ticks(tables.now());
    if let Err(over) = admit(tables, service, source, now) {
        return over;
    }
    match over_service_limit(tables, id, service, now) {
        true => Reason::ServiceLimit,
        false => Reason::Admitted,
    }
}

impl Verdict {
    /// What is done with the frame.
    #[inline(always)]
    pub fn action(&self) -> Action {
        self.reason.action(self.mode)
    }
}
