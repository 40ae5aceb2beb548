//! The whole decision, from a frame to a [`Reason`].
//!
//! The same function runs in the kernel over the packet and the BPF maps, on the host in the tests,
//! and in `ratelimit explain` over the live maps.

use crate::{
    Action, Address, Entry, Frame, Mode, Reason, Service, ServiceId,
    limiter::{admit, over_service_limit},
    lookup::ClassId,
    parse::{Parsed, Scope, parse},
    reply::can_be_answered,
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
    /// What the lists say of the source, where they were asked, and the class by which they say it.
    pub entry: Entry,
    pub class: ClassId,
    /// Whether a refusal is answered with a reset.
    pub resets: bool,
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
    let of_frame = |reason, service| Judged::by_frame(reason).in_mode(set.mode(service), service);
    match parsed.scope {
        Scope::Frame => of_frame(parsed.reason, None),
        Scope::Destination if set.serves(parsed.destination) => of_frame(parsed.reason, None),
        Scope::Destination => of_frame(Reason::NotServed, None),
        Scope::Service => match set.service(parsed.destination, parsed.port) {
            None => of_frame(Reason::NotServed, None),
            Some((id, service)) => judge_for(parsed, id, service, tables).in_mode(set.mode(Some(id)), Some(id)),
        },
    }
}

/// Judges a frame for a service. Only new connections are held against lists and limits, unless a list asks for more.
#[inline(always)]
fn judge_for<T: Tables>(parsed: &Parsed, id: ServiceId, service: &Service, tables: &T) -> Judged {
    let set = tables.set();
    let is_new = parsed.reason == Reason::Admitted;
    let is_listed = parsed.reason == Reason::Established && set.judges_all_packets(id);
    if !is_new && !is_listed {
        return Judged::by_frame(parsed.reason);
    }
    let class = if set.has_entries() { tables.class(&parsed.source) } else { ClassId::NONE };
    let entry = if class == ClassId::NONE { Entry::NONE } else { tables.entry(class) };
    if is_listed {
        let blocked = entry.blocks_all_packets(id) && !entry.trusts(id) && !entry.allows(id);
        let reason = if blocked { Reason::Blocked } else { Reason::Established };
        return Judged { reason, entry, class, ..Judged::by_frame(reason) };
    }
    let reason = judge_new(&parsed.source, entry, id, service, tables);
    // A list that observes refuses nobody; its mark is left on whoever everything else lets in.
    let observed = !reason.refuses() && reason != Reason::Trusted && entry.observes(id) && !entry.allows(id);
    let reason = if observed { Reason::Blocked } else { reason };
    let resets = reason == Reason::Restricted && set.resets(id) && can_be_answered(parsed);
    Judged { reason, entry, class, observed, resets }
}

/// Judges a new connection: trusted? restricted? blocked or banned, unless allowed? within its limits?
#[inline(always)]
fn judge_new<T: Tables>(source: &Address, entry: Entry, id: ServiceId, service: &Service, tables: &T) -> Reason {
    if entry.trusts(id) {
        return Reason::Trusted;
    }
    if tables.set().restricts(id) && !entry.permits(id) {
        return Reason::Restricted;
    }
    if !entry.allows(id) {
        if entry.blocks(id) {
            return Reason::Blocked;
        }
        if tables.is_banned(source, id) {
            return Reason::Banned;
        }
    }
    let now = tables.secret().ticks(tables.now());
    if let Err(over) = admit(tables, service, *source, now) {
        return over;
    }
    match over_service_limit(tables, id, service, now) {
        true => Reason::ServiceLimit,
        false => Reason::Admitted,
    }
}

/// A verdict before its mode.
#[derive(Clone, Copy)]
struct Judged {
    reason: Reason,
    entry: Entry,
    class: ClassId,
    observed: bool,
    resets: bool,
}

impl Judged {
    #[inline(always)]
    const fn by_frame(reason: Reason) -> Self {
        Self { reason, entry: Entry::NONE, class: ClassId::NONE, observed: false, resets: false }
    }

    #[inline(always)]
    fn in_mode(self, mode: Mode, service: Option<ServiceId>) -> Verdict {
        let Self { reason, entry, class, observed, resets } = self;
        Verdict { reason, service, mode: if observed { Mode::Observe } else { mode }, entry, class, resets }
    }
}

impl Verdict {
    /// What is done with the frame.
    #[inline(always)]
    pub fn action(&self) -> Action {
        match self.reason.action(self.mode) {
            Action::Drop if self.resets => Action::Reset,
            other => other,
        }
    }

    /// The class by which it was blocked, or would be where that is only observed.
    #[inline(always)]
    pub fn blocked_by(&self) -> Option<ClassId> {
        (self.reason == Reason::Blocked).then_some(self.class)
    }
}
