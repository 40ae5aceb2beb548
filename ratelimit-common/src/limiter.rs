//! The limiter: a source is over its limit only if both its cells are.
//!
//! *Cells.* The table is fixed; a source is two hashed positions in the region of its service and level. Sources
//! share cells by chance, and the lesser of a source's cells counts (count-min). An admitted connection raises a
//! cell only up to what the source itself can account for (conservative update), a refused one raises nothing.
//!
//! *Several processors.* The lesser cell is raised by compare-and-swap, and only who succeeds is admitted;
//! the other cell follows. A connection judged between those two steps can be admitted through the other
//! cell, so at every level of fill at most two connections get in: never more than twice the limit. After
//! [`ATTEMPTS`] lost swaps a connection is admitted unaccounted; a connection admitted by another of P processors
//! can cost it two, which adds at most 2(P-1)/[`ATTEMPTS`] of the limit.

use crate::{
    address::Address,
    limit::{Limit, Ticks},
    proof::of_completions,
    reason::Reason,
    secret::Secret,
    set::{Service, ServiceId},
    suspicion,
    tables::{Cells, Tables},
};

/// How often a lost compare-and-swap is repeated.
pub const ATTEMPTS: u32 = 4;

/// Why a new connection is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Over {
    pub reason: Reason,
    /// Whether what the source completed exceeds the same limit, so that it is its own excess whoever sent the SYNs.
    pub is_excess: bool,
}

/// Admits a new connection within the limits of its source and its network, and charges it.
#[inline(always)]
pub fn admit<T: Tables>(tables: &T, id: ServiceId, service: &Service, source: Address, now: Ticks) -> Result<(), Over> {
    let (source_mask, network_mask) = service.masks(source);
    let [source_short, source_long, network_short, network_long] = &service.limits;
    let has_room = |limit, hash| has_room(tables, limit, hash, now);

    // All are asked before any is charged: a refused connection must cost its source nothing.
    let network = source.masked(network_mask);
    let source = tables.hash(source.masked(source_mask));
    if !has_room(source_short, source) || !has_room(source_long, source) {
        let is_excess = tables.set().proves(id) && !has_completions_left(tables, id, service, 0, source, now);
        return Err(Over { reason: Reason::SourceLimit, is_excess });
    }
    let network = tables.hash(network);
    if !has_room(network_short, network) || !has_room(network_long, network) {
        let is_excess = tables.set().proves(id) && !has_completions_left(tables, id, service, 2, network, now);
        return Err(Over { reason: Reason::NetworkLimit, is_excess });
    }
    let charge = |limit, hash| charge(tables, limit, hash, now);
    // Another processor took the room meanwhile.
    if !charge(source_short, source) || !charge(source_long, source) {
        return Err(Over { reason: Reason::SourceLimit, is_excess: false });
    }
    if !charge(network_short, network) || !charge(network_long, network) {
        return Err(Over { reason: Reason::NetworkLimit, is_excess: false });
    }
    Ok(())
}

/// The limit that the *completed* connections of a source exceed. SYNs that anybody can send in its name do not count here.
#[inline(always)]
pub fn excess<T: Tables>(tables: &T, id: ServiceId, service: &Service, source: Address, now: Ticks) -> Option<Reason> {
    let (source_mask, network_mask) = service.masks(source);
    if !has_completions_left(tables, id, service, 0, tables.hash(source.masked(source_mask)), now) {
        return Some(Reason::SourceLimit);
    }
    if !has_completions_left(tables, id, service, 2, tables.hash(source.masked(network_mask)), now) {
        return Some(Reason::NetworkLimit);
    }
    None
}

/// Whether one more completed connection is within both windows of a level; `first` is the place of the short one.
#[inline(always)]
fn has_completions_left<T: Tables>(
    tables: &T,
    id: ServiceId,
    service: &Service,
    first: u32,
    hash: u64,
    now: Ticks,
) -> bool {
    let completions = Completions(tables);
    let (short, long) = (&service.limits[first as usize], &service.limits[first as usize + 1]);
    has_room(&completions, &of_completions(short, id, first), hash, now)
        && has_room(&completions, &of_completions(long, id, first + 1), hash, now)
}

/// Charges a completed connection, in the cells that are for that alone.
#[inline(always)]
pub fn complete<C: Cells>(cells: &C, secret: &Secret, id: ServiceId, service: &Service, source: Address, now: Ticks) {
    let (source_mask, network_mask) = service.masks(source);
    let (source, network) = (secret.hash(source.masked(source_mask)), secret.hash(source.masked(network_mask)));
    for (window, limit) in service.limits.iter().enumerate() {
        let hash = if window < 2 { source } else { network };
        charge(cells, &of_completions(limit, id, window as u32), hash, now);
    }
}

/// The cells that only completed connections charge, to be read.
struct Completions<'a, T>(&'a T);

impl<T: Tables> Cells for Completions<'_, T> {
    #[inline(always)]
    fn cell(&self, index: u32) -> Option<u32> {
        self.0.completed_cell(index)
    }

    #[inline(always)]
    fn replace_cell(&self, _index: u32, _seen: u32, _new: u32) -> bool {
        true
    }
}

/// Whether one more connection is within a limit.
#[inline(always)]
pub fn has_room<T: Cells>(tables: &T, limit: &Limit, hash: u64, now: Ticks) -> bool {
    !limit.is_set() || owed_by(tables, limit, hash, now) <= limit.tolerance
}

/// Ticks owed by the lesser cell of a hash.
#[inline(always)]
pub fn owed_by<T: Cells>(tables: &T, limit: &Limit, hash: u64, now: Ticks) -> u32 {
    let [a, b] = limit.choose(hash);
    let owed = |index| limit.owed(tables.cell(index).unwrap_or(now.0), now);
    let (owed_a, owed_b) = (owed(a), owed(b));
    if owed_a <= owed_b { owed_a } else { owed_b }
}

/// Takes one of the repeated SYNs that a service lets in.
#[inline(always)]
pub fn spend_retry<C: Cells>(cells: &C, service: &Service, now: Ticks) -> bool {
    let limit = &service.retry;
    let seen = cells.cell(limit.first_cell).unwrap_or(0);
    let owed = limit.owed(seen, now);
    owed <= limit.tolerance && cells.replace_cell(limit.first_cell, seen, Limit::owing(owed + limit.increment, now))
}

/// Charges one connection; false if there is no room (any more).
#[inline(always)]
fn charge<T: Cells>(tables: &T, limit: &Limit, hash: u64, now: Ticks) -> bool {
    if !limit.is_set() {
        return true;
    }
    let [a, b] = limit.choose(hash);
    for _ in 0..ATTEMPTS {
        let seen_a = tables.cell(a).unwrap_or(now.0);
        let seen_b = tables.cell(b).unwrap_or(now.0);
        let (owed_a, owed_b) = (limit.owed(seen_a, now), limit.owed(seen_b, now));
        let (lesser, seen, owed, other, seen_other, owed_other) = if owed_a <= owed_b {
            (a, seen_a, owed_a, b, seen_b, owed_b)
        } else {
            (b, seen_b, owed_b, a, seen_a, owed_a)
        };
        if owed > limit.tolerance {
            return false;
        }
        let owing = owed + limit.increment;
        let raised = Limit::owing(owing, now);
        if tables.replace_cell(lesser, seen, raised) {
            // One try: a swap lost here was won by a connection that raised the cell itself.
            if owed_other < owing && other != lesser {
                tables.replace_cell(other, seen_other, raised);
            }
            return true;
        }
    }
    true
}

/// Counts a connection that is let in for its service as a whole. Says whether that is over its limit: then, or where too
/// many wait for their handshake, it is suspect where handshakes are seen.
#[inline(always)]
pub fn let_in<T: Tables>(tables: &T, id: ServiceId, service: &Service, now: Ticks) -> bool {
    let admitted = tables.count_admitted(id);
    let is_over = over_service_limit(tables, service, admitted, now);
    if tables.set().proves(id) {
        if admitted & service.half_open_mask == 0 {
            suspicion::note_waiting(tables, id, service, service.half_open_mask + 1, now);
        }
        if is_over {
            suspicion::suspect(tables, id, now);
        }
    }
    is_over
}

/// Whether a service as a whole is over its limit. Refuses nobody.
///
/// Every processor counts for itself and charges the one shared cell once a batch, so that a flood on
/// many processors does not fight over it. The answer lags by a batch per processor, and by one for every batch
/// whose one swap is lost to another processor.
#[inline(always)]
fn over_service_limit<T: Tables>(tables: &T, service: &Service, admitted: u32, now: Ticks) -> bool {
    let limit = &service.whole;
    if !limit.is_set() {
        return false;
    }
    let seen = tables.cell(limit.first_cell).unwrap_or(now.0);
    let owed = limit.owed(seen, now);
    if owed > limit.tolerance {
        return true;
    }
    if admitted & service.batch_mask == 0 {
        tables.replace_cell(limit.first_cell, seen, Limit::owing(owed + limit.increment, now));
    }
    false
}
