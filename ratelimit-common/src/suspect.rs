//! What becomes of a suspect's new connection, and of the answer to a challenge.

use crate::{
    Challenge, Reason, Service, ServiceId,
    challenge::{Seen, Slot},
    limit::Ticks,
    limiter::{Over, admit, excess, let_in, spend_retry},
    parse::Parsed,
    reply::can_be_answered,
    suspicion,
    tables::Tables,
};

/// Judges a new connection of which a glance says that it is over a limit by the count of SYNs, or that there is something
/// about its service.
///
/// At its connection cap? Within its limits, and either of no suspect service or proven? Over a limit by what it completed? Has
/// it answered, or repeated itself? Else it is challenged.
#[inline(always)]
pub fn judge_suspect<T: Tables>(
    parsed: &Parsed,
    is_over: bool,
    id: ServiceId,
    service: &Service,
    tables: &T,
) -> Reason {
    let set = tables.set();
    if is_capped(parsed, id, service, tables) {
        return Reason::ConnectionCap;
    }
    let moment = tables.now();
    let now = tables.secret().ticks(moment);
    let tuple = tables.tuple(parsed);
    let slot = tables.slot(tuple.place());
    let seen = if set.proves(id) { slot.seen(tuple, parsed.sequence, now) } else { Seen::Nothing };
    let is_free = !is_over && is_free(parsed, id, tables, now);
    let is_retried = !is_free && seen == Seen::Repeated && spend_retry(tables, service, now);
    if (is_free || is_retried) && seen != Seen::Ticket {
        match admit(tables, id, service, parsed.source, now) {
            Ok(()) => {
                let is_service_over = let_in(tables, id, service, now);
                return match (is_retried, is_service_over) {
                    (true, _) => Reason::Repeated,
                    (false, true) => Reason::ServiceLimit,
                    (false, false) => Reason::Admitted,
                };
            }
            Err(Over { reason, is_excess }) if is_excess || !set.proves(id) => return reason,
            Err(_) => {}
        }
    }
    if seen == Seen::Ticket || is_retried {
        // What others send in its name does not count: only what it completed itself can be its excess. So a repetition is
        // held to its budget alone where limits of SYNs are used up.
        if let Some(reason) = excess(tables, id, service, parsed.source, now) {
            return reason;
        }
        let_in(tables, id, service, now);
        return if is_retried { Reason::Repeated } else { Reason::Ticketed };
    }
    if seen == Seen::Nothing {
        tables.put_slot(tuple.place(), Slot::first_syn(tuple, parsed.sequence, now));
    }
    if suspicion::is_suspect(tables, id, now) {
        suspicion::note_waiting(tables, id, service, 1, now);
    }
    challenge(parsed, seen == Seen::Repeated && !is_retried, tables)
}

/// Whether a source has as many connections as it may. The hint spares the look where nobody has.
#[inline(always)]
fn is_capped<T: Tables>(parsed: &Parsed, id: ServiceId, service: &Service, tables: &T) -> bool {
    if service.connections == 0 || !suspicion::may_be_capped(tables, id) {
        return false;
    }
    let (mask, _) = service.masks(parsed.source);
    u64::from(tables.open_connections(&parsed.source.masked(mask), id)) >= service.connections
}

/// Whether a source need not prove itself while it is within its limits.
#[inline(always)]
fn is_free<T: Tables>(parsed: &Parsed, id: ServiceId, tables: &T, now: Ticks) -> bool {
    if !tables.set().proves(id) || !suspicion::is_suspect(tables, id, now) {
        suspicion::release(tables, id, now);
        return true;
    }
    tables.is_proven(&parsed.source)
}

/// Asks a source to show that it is alive, as far as it can be asked.
#[inline(always)]
fn challenge<T: Tables>(parsed: &Parsed, is_beyond_retries: bool, tables: &T) -> Reason {
    let is_asked = tables.set().challenge() == Challenge::Reset && can_be_answered(parsed);
    match is_asked {
        true if tables.spend_challenge() => Reason::Challenged,
        true => Reason::ChallengeRate,
        false if is_beyond_retries => Reason::RetryRate,
        false => Reason::Awaited,
    }
}

/// Takes the answer to a challenge; false if it is none.
#[inline(always)]
pub fn takes_answer<T: Tables>(parsed: &Parsed, id: ServiceId, service: &Service, tables: &T) -> bool {
    let tuple = tables.tuple(parsed);
    let moment = tables.now();
    if !tuple.is_answered_by(parsed.sequence, moment) {
        return false;
    }
    let now = tables.secret().ticks(moment);
    // An answer that comes again is worth nothing more.
    if tables.slot(tuple.place()).seen(tuple, parsed.sequence, now) != Seen::Ticket {
        tables.put_slot(tuple.place(), Slot::ticket(tuple, now));
        if suspicion::is_suspect(tables, id, now) {
            suspicion::note_arrived(tables, service, now);
        }
    }
    true
}
