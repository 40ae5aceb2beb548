//! When a service is suspect, and what is known of it as a whole.
//!
//! Each service has a line of cells of its own. In it stands, besides the arrival time of its own limit, how many of its
//! connections are *half-open*: SYNs that passed, less handshakes that completed, kept like a limit that drains by itself within
//! [`DRAIN_NS`]. More of them than half the listener can hold, or a service over its own limit, make it suspect; it stays so
//! until less than a quarter is left for [`HOLD_NS`].
//!
//! While it is suspect, SYNs that are challenged count too until they are answered, so that a flood that never answers keeps
//! the suspicion alive without being let in.

use crate::{
    limit::{Limit, TICK_SHIFT, Ticks},
    map::CELLS_PER_LINE,
    set::{SERVICES, Service, ServiceId},
    tables::Cells,
};

/// In which half-open connections are forgotten, however many a listener can hold.
pub const DRAIN_NS: u64 = 16_000_000_000;
/// How long a service stays suspect after the last reason for it.
pub const HOLD_NS: u64 = 4_000_000_000;

const HOLD: u32 = (HOLD_NS >> TICK_SHIFT) as u32;
const ATTEMPTS: u32 = 4;

/// Places in the line of a service.
pub const WHOLE: u32 = 0;
const HALF_OPEN: u32 = 1;
/// Not zero while there is something to look at more closely.
const PRESSED: u32 = 2;
const SUSPECT_UNTIL: u32 = 3;
/// Not zero once a handshake was seen to complete: without, nothing is known of half-open ones.
const COMPLETES: u32 = 4;
/// Not zero while some source may have as many connections as it may.
const CAPPED: u32 = 5;
const RETRIES: u32 = 6;

/// Whether a cell holds no time but a yes or no, and so never gets old.
pub const fn is_flag(index: u32) -> bool {
    let (line, place) = (index / CELLS_PER_LINE as u32, index % CELLS_PER_LINE as u32);
    line < SERVICES as u32 && matches!(place, PRESSED | COMPLETES | CAPPED)
}

/// A cell in the line of a service.
#[inline(always)]
pub const fn cell_of(service: ServiceId, place: u32) -> u32 {
    service.index() as u32 * CELLS_PER_LINE as u32 + place
}

/// The limit by which half-open connections are counted: half a backlog drains in [`DRAIN_NS`].
pub const fn half_open_limit(service: ServiceId, backlog: u32) -> Limit {
    let most = if backlog < 2 { 1 } else { backlog / 2 };
    let increment = (DRAIN_NS >> TICK_SHIFT) as u32 / most;
    let increment = if increment == 0 { 1 } else { increment };
    Limit { increment, tolerance: increment * most, first_cell: cell_of(service, HALF_OPEN), cells: 1 }
}

/// The cell of the budget for repeated SYNs.
pub const fn retries_cell(service: ServiceId) -> u32 {
    cell_of(service, RETRIES)
}

/// Whether there may be something about a service that asks for a closer look.
#[inline(always)]
pub fn is_pressed<C: Cells>(cells: &C, id: ServiceId) -> bool {
    cells.cell(cell_of(id, PRESSED)).unwrap_or(0) != 0
}

/// Whether unproven sources of a service are challenged.
#[inline(always)]
pub fn is_suspect<C: Cells>(cells: &C, id: ServiceId, now: Ticks) -> bool {
    let until = cells.cell(cell_of(id, SUSPECT_UNTIL)).unwrap_or(0);
    until != 0 && until.wrapping_sub(now.0).wrapping_sub(1) < HOLD
}

#[inline(always)]
pub fn may_be_capped<C: Cells>(cells: &C, id: ServiceId) -> bool {
    cells.cell(cell_of(id, CAPPED)).unwrap_or(0) != 0
}

/// Half-open connections of a service, as far as they are known.
pub fn half_open<C: Cells>(cells: &C, service: &Service, now: Ticks) -> u32 {
    owed(&service.half_open, cells.cell(service.half_open.first_cell).unwrap_or(0), now)
        .checked_div(service.half_open.increment)
        .unwrap_or(0)
}

/// Whether completed handshakes of a service are seen.
pub fn completes<C: Cells>(cells: &C, id: ServiceId) -> bool {
    cells.cell(cell_of(id, COMPLETES)).unwrap_or(0) != 0
}

/// Makes a service suspect from now on.
#[inline(always)]
pub fn suspect<C: Cells>(cells: &C, id: ServiceId, now: Ticks) {
    let cell = cell_of(id, SUSPECT_UNTIL);
    let seen = cells.cell(cell).unwrap_or(0);
    let until = match now.0.wrapping_add(HOLD) {
        0 => 1,
        until => until,
    };
    // The step keeps a flood on many processors from fighting over the line.
    if seen == 0 || until.wrapping_sub(seen) > HOLD / 64 {
        cells.replace_cell(cell, seen, until);
    }
    press(cells, id);
}

/// Says that there is something to look at.
#[inline(always)]
fn press<C: Cells>(cells: &C, id: ServiceId) {
    let cell = cell_of(id, PRESSED);
    if cells.cell(cell) == Some(0) {
        cells.replace_cell(cell, 0, 1);
    }
}

/// Takes back that there is something to look at, unless somebody says it again meanwhile.
#[inline(always)]
pub fn release<C: Cells>(cells: &C, id: ServiceId, now: Ticks) {
    let cell = cell_of(id, PRESSED);
    let Some(seen @ 1..) = cells.cell(cell) else {
        return;
    };
    if !is_suspect(cells, id, now) && !may_be_capped(cells, id) && cells.replace_cell(cell, seen, 0) {
        // Whoever found something in between saw that it had been said already.
        if is_suspect(cells, id, now) || may_be_capped(cells, id) {
            cells.replace_cell(cell, 0, 1);
        }
    }
}

/// Says whether some source may have as many connections as it may.
#[inline(always)]
pub fn set_capped<C: Cells>(cells: &C, id: ServiceId, capped: bool) {
    let cell = cell_of(id, CAPPED);
    let seen = cells.cell(cell).unwrap_or(0);
    if (seen != 0) != capped {
        cells.replace_cell(cell, seen, capped.into());
    }
    if capped {
        press(cells, id);
    }
}

/// Counts SYNs that wait for their handshake; too many make the service suspect.
#[inline(always)]
pub fn note_waiting<C: Cells>(cells: &C, id: ServiceId, service: &Service, count: u32, now: Ticks) {
    let limit = &service.half_open;
    if !limit.is_set() {
        return;
    }
    let seen = cells.cell(limit.first_cell).unwrap_or(0);
    let owed = owed(limit, seen, now);
    if owed <= limit.tolerance {
        cells.replace_cell(limit.first_cell, seen, Limit::owing(owed + limit.increment * count, now));
    }
    let is_over = owed > limit.tolerance || (owed > limit.tolerance / 2 && is_suspect(cells, id, now));
    if is_over && completes(cells, id) {
        suspect(cells, id, now);
    }
}

/// Takes off one that waits no longer.
#[inline(always)]
pub fn note_arrived<C: Cells>(cells: &C, service: &Service, now: Ticks) {
    let limit = &service.half_open;
    for _ in 0..ATTEMPTS {
        let seen = cells.cell(limit.first_cell).unwrap_or(0);
        let owed = owed(limit, seen, now);
        if owed == 0 {
            return;
        }
        let left = owed.saturating_sub(limit.increment);
        if cells.replace_cell(limit.first_cell, seen, Limit::owing(left, now)) {
            return;
        }
    }
}

/// Says that handshakes of a service are seen.
#[inline(always)]
pub fn note_completes<C: Cells>(cells: &C, id: ServiceId) {
    let cell = cell_of(id, COMPLETES);
    if cells.cell(cell) == Some(0) {
        cells.replace_cell(cell, 0, 1);
    }
}

/// What half-open connections owe. Several may be charged at once, so that more may be owed than for a limit.
#[inline(always)]
const fn owed(limit: &Limit, cell: u32, now: Ticks) -> u32 {
    let ahead = cell.wrapping_sub(now.0);
    if cell == 0 || ahead > limit.tolerance.saturating_mul(4) { 0 } else { ahead }
}
