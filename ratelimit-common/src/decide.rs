//! The whole decision, from a frame to a [`Reason`].
//!
//! The same function runs in the kernel over the packet and the BPF maps, on the host in the tests,
//! and in `ratelimit explain` over the live maps.
//!
//! It has two steps. A [`glance`] settles almost every frame; what it leaves in [`Doubt`] is [examined](examine) more closely:
//! new connections of suspects, and resets that may be answers to a challenge.

use crate::{
    Action, Address, Entry, Frame, Mode, Reason, Service, ServiceId,
    limiter::{Over, admit, let_in},
    lookup::ClassId,
    parse::{Parsed, Scope, parse},
    reply::can_be_answered,
    suspect::{judge_suspect, takes_answer},
    suspicion::is_pressed,
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
    /// What could change the verdict.
    pub doubt: Doubt,
}

/// Why a frame cannot be judged at a glance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Doubt {
    None = 0,
    /// A new connection, while there is something about its service as a whole.
    Pressed = 1,
    /// A new connection over a limit by the count of SYNs, and not by that of completed handshakes.
    Over = 2,
    /// A reset that may answer a challenge.
    Answer = 3,
    /// A packet that may belong to no connection. It may be passed without asking.
    Connection = 4,
}

/// Judges one frame.
#[inline(always)]
pub fn decide<F: Frame, T: Tables>(frame: &F, tables: &T) -> Verdict {
    judge(&parse(frame), tables)
}

/// Judges what a frame shows of itself.
///
/// The kernel calls [`parse`] and the steps of this apart, with function boundaries between them: its verifier then checks each
/// part once, and not again for every way through the others.
#[inline(always)]
pub fn judge<T: Tables>(parsed: &Parsed, tables: &T) -> Verdict {
    let verdict = examine(parsed, glance(parsed, tables), tables);
    match verdict.doubt {
        Doubt::Connection => verdict.of_connection(tables.is_stray(parsed)),
        Doubt::None | Doubt::Pressed | Doubt::Over | Doubt::Answer => verdict,
    }
}

/// The first step.
#[inline(always)]
pub fn glance<T: Tables>(parsed: &Parsed, tables: &T) -> Verdict {
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

/// The second step, for what the first one left in doubt.
#[inline(always)]
pub fn examine<T: Tables>(parsed: &Parsed, verdict: Verdict, tables: &T) -> Verdict {
    let Some(id) = verdict.service else {
        return verdict;
    };
    let service = tables.set().service_of(id);
    let is_over = match verdict.doubt {
        Doubt::None | Doubt::Connection => return verdict,
        Doubt::Answer if takes_answer(parsed, id, service, tables) => {
            return Verdict { reason: Reason::Answered, doubt: Doubt::None, ..verdict };
        }
        Doubt::Answer => return Verdict { doubt: doubt_of_connection(id, tables), ..verdict },
        Doubt::Pressed => false,
        Doubt::Over => true,
    };
    let reason = judge_suspect(parsed, is_over, id, service, tables);
    let entry = if verdict.class == ClassId::NONE { Entry::NONE } else { tables.entry(verdict.class) };
    let observed = is_observed(reason, entry, id);
    Verdict {
        reason: if observed { Reason::Blocked } else { reason },
        mode: if observed { Mode::Observe } else { verdict.mode },
        doubt: Doubt::None,
        ..verdict
    }
}

/// Judges a frame for a service. Only new connections are held against lists and limits, unless a list asks for more.
#[inline(always)]
fn judge_for<T: Tables>(parsed: &Parsed, id: ServiceId, service: &Service, tables: &T) -> Judged {
    let set = tables.set();
    let is_new = parsed.reason == Reason::Admitted;
    let is_open = matches!(parsed.reason, Reason::Established | Reason::Answered);
    let is_listed = is_open && set.judges_all_packets(id);
    if !is_new && !is_listed {
        return if is_open { judge_open(parsed, id, tables) } else { Judged::by_frame(parsed.reason) };
    }
    let class = if set.has_entries() { tables.class(&parsed.source) } else { ClassId::NONE };
    let entry = if class == ClassId::NONE { Entry::NONE } else { tables.entry(class) };
    if is_listed {
        let blocked = entry.blocks_all_packets(id) && !entry.trusts(id) && !entry.allows(id);
        return match blocked {
            true => Judged { entry, class, ..Judged::by_frame(Reason::Blocked) },
            false => judge_open(parsed, id, tables),
        };
    }
    let (reason, doubt) = judge_new(&parsed.source, entry, id, service, tables);
    if doubt != Doubt::None {
        return Judged { entry, class, doubt, ..Judged::by_frame(reason) };
    }
    let is_listed = reason == Reason::ListedLimit && set.observes_listed();
    let blocked = is_observed(reason, entry, id);
    let reason = if blocked { Reason::Blocked } else { reason };
    let observed = blocked || is_listed;
    let resets = reason == Reason::Restricted && set.resets(id) && can_be_answered(parsed);
    Judged { reason, entry, class, observed, resets, doubt }
}

/// A packet that opens no connection: it passes unless it is an answer to a challenge, or belongs to none.
#[inline(always)]
fn judge_open<T: Tables>(parsed: &Parsed, id: ServiceId, tables: &T) -> Judged {
    let doubt = match parsed.reason == Reason::Answered && tables.set().proves(id) {
        true => Doubt::Answer,
        false => doubt_of_connection(id, tables),
    };
    Judged { doubt, ..Judged::by_frame(Reason::Established) }
}

#[inline(always)]
fn doubt_of_connection<T: Tables>(id: ServiceId, tables: &T) -> Doubt {
    if tables.set().seeks_strays(id) { Doubt::Connection } else { Doubt::None }
}

/// Judges a new connection: trusted? restricted? blocked, banned or over what DNSBLs leave to it, unless allowed? within its
/// limits?
///
/// Where what DNSBLs say is only observed, it is the reason of whoever everything else lets in at a glance.
#[inline(always)]
fn judge_new<T: Tables>(
    source: &Address,
    entry: Entry,
    id: ServiceId,
    service: &Service,
    tables: &T,
) -> (Reason, Doubt) {
    let settled = |reason| (reason, Doubt::None);
    if entry.trusts(id) {
        return settled(Reason::Trusted);
    }
    let set = tables.set();
    if set.restricts(id) && !entry.permits(id) {
        return settled(Reason::Restricted);
    }
    if !entry.allows(id) {
        if entry.blocks(id) {
            return settled(Reason::Blocked);
        }
        if tables.is_banned(source, id) {
            return settled(Reason::Banned);
        }
    }
    let is_over_listed = set.asks(id) && !entry.allows(id) && tables.is_over_listed(source, id);
    if is_over_listed && !set.observes_listed() {
        return settled(Reason::ListedLimit);
    }
    if set.is_watched(id) && is_pressed(tables, id) {
        return (Reason::Admitted, Doubt::Pressed);
    }
    let now = tables.secret().ticks(tables.now());
    match admit(tables, id, service, *source, now) {
        Err(Over { reason, is_excess }) if is_excess || !set.proves(id) => settled(reason),
        Err(Over { reason, .. }) => (reason, Doubt::Over),
        Ok(()) => {
            let is_service_over = let_in(tables, id, service, now);
            settled(match (is_over_listed, is_service_over) {
                (true, _) => Reason::ListedLimit,
                (false, true) => Reason::ServiceLimit,
                (false, false) => Reason::Admitted,
            })
        }
    }
}

/// A list that observes refuses nobody; its mark is left on whoever everything else lets in.
#[inline(always)]
fn is_observed(reason: Reason, entry: Entry, id: ServiceId) -> bool {
    !reason.refuses() && reason != Reason::Trusted && entry.observes(id) && !entry.allows(id)
}

/// A verdict before its mode.
#[derive(Clone, Copy)]
struct Judged {
    reason: Reason,
    entry: Entry,
    class: ClassId,
    observed: bool,
    resets: bool,
    doubt: Doubt,
}

impl Judged {
    #[inline(always)]
    const fn by_frame(reason: Reason) -> Self {
        Self { reason, entry: Entry::NONE, class: ClassId::NONE, observed: false, resets: false, doubt: Doubt::None }
    }

    #[inline(always)]
    fn in_mode(self, mode: Mode, service: Option<ServiceId>) -> Verdict {
        let Self { reason, entry, class, observed, resets, doubt } = self;
        Verdict { reason, service, mode: if observed { Mode::Observe } else { mode }, entry, class, resets, doubt }
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

    /// The verdict about a packet of which it is known whether it belongs to a connection.
    #[inline(always)]
    pub const fn of_connection(self, is_stray: bool) -> Self {
        let reason = if is_stray { Reason::Stray } else { self.reason };
        Self { reason, doubt: Doubt::None, ..self }
    }
}
