//! The limiter's cells, mapped into memory.

use std::{
    io,
    sync::atomic::{AtomicU32, Ordering},
};

use aya::maps::MapData;
use ratelimit_common::{
    Ticks,
    limit::{MAX_DRAIN_NS, SKEW, TICK_NS, UNUSED},
    map::CELLS_PER_LINE,
    suspicion::is_flag,
};

use super::shared::{Access, Shared};

/// What a cell can owe at most; see [`MAX_DRAIN_NS`].
const LONGEST_DEBT: u32 = (MAX_DRAIN_NS / TICK_NS) as u32 / 2 * 3 + SKEW;
/// Half of the time in which an idle cell comes to look indebted: 21 h.
const LONG_IDLE: u32 = (u32::MAX - LONGEST_DEBT) / 2;

/// The cells of a plane, shared with the kernel.
#[derive(Debug)]
pub struct Cells {
    words: Shared<AtomicU32>,
    /// Whether the first lines are those of services, in which not every cell is a time.
    holds_services: bool,
}

impl Cells {
    /// Maps the cells of a table of `lines`.
    pub fn map(table: &MapData, lines: u32, holds_services: bool) -> io::Result<Self> {
        let words = Shared::map(table, lines as usize * CELLS_PER_LINE, Access::Write)?;
        Ok(Self { words, holds_services })
    }

    pub fn get(&self, index: u32) -> Option<u32> {
        Some(self.all().get(index as usize)?.load(Ordering::Relaxed))
    }

    /// Replaces a cell if it still holds `seen`.
    pub fn replace(&self, index: u32, seen: u32, new: u32) -> bool {
        let cell = self.all().get(index as usize);
        cell.is_some_and(|cell| cell.compare_exchange(seen, new, Ordering::SeqCst, Ordering::SeqCst).is_ok())
    }

    /// Marks cells that have owed nothing for long as unused, so that none is ever so old that it looks new
    /// again: a cell's time wraps after 78 h. Returns how many there were.
    pub fn sweep(&self, now: Ticks) -> usize {
        let mut swept = 0;
        for (index, cell) in self.all().iter().enumerate() {
            let seen = cell.load(Ordering::Relaxed);
            let behind = now.0.wrapping_sub(seen);
            let owes = seen.wrapping_sub(now.0) <= LONGEST_DEBT;
            if seen != UNUSED && behind > LONG_IDLE && !owes && !self.is_flag(index) {
                // Lost to the kernel: then the cell is in use, and not old.
                swept += usize::from(cell.compare_exchange(seen, UNUSED, Ordering::Relaxed, Ordering::Relaxed).is_ok());
            }
        }
        swept
    }

    fn is_flag(&self, index: usize) -> bool {
        self.holds_services && u32::try_from(index).is_ok_and(is_flag)
    }

    fn all(&self) -> &[AtomicU32] {
        self.words.all()
    }
}

impl ratelimit_common::Cells for Cells {
    fn cell(&self, index: u32) -> Option<u32> {
        self.get(index)
    }

    fn replace_cell(&self, index: u32, seen: u32, new: u32) -> bool {
        self.replace(index, seen, new)
    }
}
