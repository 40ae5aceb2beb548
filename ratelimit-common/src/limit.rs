//! The limiter: one theoretical arrival time per cell (GCRA), two cells per source, the lesser one counts.
//!
//! *Cells.* A cell is 32 bits: the time at which its source will have used up nothing, in ticks of 2^16 ns.
//! The table is fixed; a source is two hashed positions in the region of its service and level. Sources share
//! cells by chance, and a source is over its limit only if both its cells are (count-min). An admitted
//! connection raises a cell only up to what the source itself can account for (conservative update), a
//! refused one raises nothing.
//!
//! *Several processors.* The lesser cell is raised by compare-and-swap, and only who succeeds is admitted;
//! the other cell follows. A connection judged between those two steps can be admitted through the other
//! cell, so at every level of fill at most two connections get in: never more than twice the limit. After
//! [`ATTEMPTS`] lost swaps a connection is admitted unaccounted; each lost swap is a connection admitted by
//! another of P processors, which adds at most (P-1)/[`ATTEMPTS`] of the limit.

use bytemuck::{Pod, Zeroable};

use crate::{
    address::Address,
    decide::Tables,
    reason::Reason,
    set::{Service, ServiceId},
};

/// How often a lost compare-and-swap is repeated.
pub const ATTEMPTS: u32 = 4;
/// Nanoseconds of a tick, as a power of two.
pub const TICK_SHIFT: u32 = 16;
pub const TICK_NS: u64 = 1 << TICK_SHIFT;
/// How far two processors' clocks may differ before a cell written by one looks stale to the other: 0.27 s.
pub const SKEW: u32 = 4096;
/// Longest time a full burst may take to drain: 24 h. Keeps live cells far from stale ones, which are told
/// apart by a difference that wraps at 2^32 ticks, 78 h.
pub const MAX_DRAIN_NS: u64 = 24 * 3600 * 1_000_000_000;

/// Nanoseconds of `CLOCK_MONOTONIC` (coarse).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Moment {
    #[inline(always)]
    pub const fn ticks_since(self, base_ns: u64) -> Ticks {
        Ticks((self.0.wrapping_sub(base_ns) >> TICK_SHIFT) as u32)
    }
}

/// A time in ticks of 2^16 ns since the base of the cells, wrapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticks(pub u32);

/// A rate and a burst, and the cells that keep them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Limit {
    /// Ticks that one connection costs; 0 means no limit.
    pub increment: u32,
    /// Ticks that may be owed before the next connection is refused; see [`Limit::tolerance_of`].
    pub tolerance: u32,
    pub first_cell: u32,
    pub cells: u32,
}

impl Limit {
    pub const NONE: Self = Self { increment: 0, tolerance: 0, first_cell: 0, cells: 0 };

    /// The tolerance that admits a whole burst at once, and one more a tick later.
    ///
    /// (burst - 1) * increment would do for the burst. What is added absorbs the debt of one stranger in a
    /// source's cells, which would otherwise cost the source the last connection of its burst: under a forged
    /// flood that is almost all of what honest bursts lose.
    pub const fn tolerance_of(increment: u32, burst: u32) -> u32 {
        increment.saturating_mul(burst).saturating_sub(1)
    }

    #[inline(always)]
    pub const fn is_set(&self) -> bool {
        self.increment != 0
    }

    /// Ticks that are owed by a cell. A cell in the past, or further ahead than this limit can bring it,
    /// is stale and owes nothing.
    #[inline(always)]
    pub const fn owed(&self, cell: u32, now: Ticks) -> u32 {
        let ahead = cell.wrapping_sub(now.0);
        if ahead > self.tolerance + self.increment + SKEW { 0 } else { ahead }
    }

    /// The two cells of a hash; they may be the same one.
    #[inline(always)]
    pub fn choose(&self, hash: u64) -> [u32; 2] {
        let scale = |part: u64| self.first_cell + ((part * self.cells as u64) >> 32) as u32;
        [scale(hash & 0xffff_ffff), scale(hash >> 32)]
    }
}

/// Admits a new connection within the limits of its source and its network, and charges it.
#[inline(always)]
pub fn admit<T: Tables>(tables: &T, service: &Service, source: Address, now: Ticks) -> Result<(), Reason> {
    let (source_mask, network_mask) = service.masks(source);
    let network = tables.secret().hash(source.masked(network_mask));
    let source = tables.secret().hash(source.masked(source_mask));
    let [source_short, source_long, network_short, network_long] = &service.limits;

    // All are asked before any is charged: a refused connection must cost its source nothing.
    let has_room = |limit, hash| has_room(tables, limit, hash, now);
    if !has_room(source_short, source) || !has_room(source_long, source) {
        return Err(Reason::SourceLimit);
    }
    if !has_room(network_short, network) || !has_room(network_long, network) {
        return Err(Reason::NetworkLimit);
    }
    let charge = |limit, hash| charge(tables, limit, hash, now);
    if !charge(source_short, source) || !charge(source_long, source) {
        return Err(Reason::SourceLimit);
    }
    if !charge(network_short, network) || !charge(network_long, network) {
        return Err(Reason::NetworkLimit);
    }
    Ok(())
}

/// Whether one more connection is within a limit.
#[inline(always)]
pub fn has_room<T: Tables>(tables: &T, limit: &Limit, hash: u64, now: Ticks) -> bool {
    !limit.is_set() || owed_by(tables, limit, hash, now) <= limit.tolerance
}

/// Ticks owed by the lesser cell of a hash.
#[inline(always)]
pub fn owed_by<T: Tables>(tables: &T, limit: &Limit, hash: u64, now: Ticks) -> u32 {
    let [a, b] = limit.choose(hash);
    let owed = |index| limit.owed(tables.cell(index).unwrap_or(now.0), now);
    let (owed_a, owed_b) = (owed(a), owed(b));
    if owed_a <= owed_b { owed_a } else { owed_b }
}

/// Charges one connection; false if there is no room (any more).
#[inline(always)]
fn charge<T: Tables>(tables: &T, limit: &Limit, hash: u64, now: Ticks) -> bool {
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
        let raised = now.0.wrapping_add(owing);
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

/// Whether a service as a whole is over its limit. Refuses nobody.
///
/// Every processor counts for itself and charges the one shared cell once a batch, so that a flood on
/// many processors does not fight over it; the answer lags by at most a batch per processor.
#[inline(always)]
pub fn over_service_limit<T: Tables>(tables: &T, id: ServiceId, service: &Service, now: Ticks) -> bool {
    let limit = &service.whole;
    if !limit.is_set() {
        return false;
    }
    let admitted = tables.count_admitted(id);
    let seen = tables.cell(limit.first_cell).unwrap_or(now.0);
    let owed = limit.owed(seen, now);
    if owed > limit.tolerance {
        return true;
    }
    if admitted & service.batch_mask == 0 {
        tables.replace_cell(limit.first_cell, seen, now.0.wrapping_add(owed + limit.increment));
    }
    false
}
