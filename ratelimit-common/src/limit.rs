//! A limit, and the arithmetic of the cells that keep it (GCRA).
//!
//! A cell is 32 bits: the time at which its source will have used up nothing, in ticks of 2^16 ns.

use bytemuck::{Pod, Zeroable};

/// Nanoseconds of a tick, as a power of two.
pub const TICK_SHIFT: u32 = 16;
pub const TICK_NS: u64 = 1 << TICK_SHIFT;
/// A cell that nobody has used, or not for long. It owes nothing however often the ticks wrap.
pub const UNUSED: u32 = 0;
/// How far two processors' clocks may differ before a cell written by one looks stale to the other: 0.27 s.
pub const SKEW: u32 = 4096;
/// Longest time a burst may take to drain: 24 h; with the one connection more that a tolerance admits, at
/// most half as long again, since no burst is less than 2. Keeps live cells far from stale ones, which are told
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

    /// Ticks that are owed by a cell. One that was never used ([`UNUSED`]), in the past, or further ahead than
    /// this limit can bring it, owes nothing.
    #[inline(always)]
    pub const fn owed(&self, cell: u32, now: Ticks) -> u32 {
        let ahead = cell.wrapping_sub(now.0);
        if cell == UNUSED || ahead > self.tolerance + self.increment + SKEW { 0 } else { ahead }
    }

    /// The cell that owes so many ticks.
    #[inline(always)]
    pub const fn owing(owed: u32, now: Ticks) -> u32 {
        match now.0.wrapping_add(owed) {
            UNUSED => UNUSED + 1,
            cell => cell,
        }
    }

    /// The two cells of a hash; they may be the same one.
    #[inline(always)]
    pub fn choose(&self, hash: u64) -> [u32; 2] {
        let scale = |part: u64| self.first_cell + ((part * self.cells as u64) >> 32) as u32;
        [scale(hash & 0xffff_ffff), scale(hash >> 32)]
    }
}
