//! The limiter's cells, mapped into memory.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _},
    ptr::NonNull,
    sync::atomic::{AtomicU32, Ordering},
};

use aya::maps::MapData;
use ratelimit_common::{
    Ticks,
    limit::{MAX_DRAIN_NS, SKEW, TICK_NS, UNUSED},
    map::CELLS_PER_LINE,
    suspicion::is_flag,
};

/// What a cell can owe at most; see [`MAX_DRAIN_NS`].
const LONGEST_DEBT: u32 = (MAX_DRAIN_NS / TICK_NS) as u32 / 2 * 3 + SKEW;
/// Half of the time in which an idle cell comes to look indebted: 21 h.
const LONG_IDLE: u32 = (u32::MAX - LONGEST_DEBT) / 2;

/// The cells of a plane, shared with the kernel.
#[derive(Debug)]
pub struct Cells {
    start: NonNull<AtomicU32>,
    count: usize,
    /// Whether the first lines are those of services, in which not every cell is a time.
    holds_services: bool,
}

// SAFETY: the memory is shared with the kernel anyway and every access is atomic.
unsafe impl Send for Cells {}
// SAFETY: as above.
unsafe impl Sync for Cells {}

impl Cells {
    /// Maps the cells of a table of `lines`.
    pub fn map(table: &MapData, lines: u32, holds_services: bool) -> io::Result<Self> {
        let count = lines as usize * CELLS_PER_LINE;
        // SAFETY: a fresh mapping at an address of the kernel's choice, of a map whose size is `count` cells.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                count * size_of::<AtomicU32>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                table.fd().as_fd().as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at address zero"))?;
        Ok(Self { start, count, holds_services })
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
        // SAFETY: `count` cells are mapped from `start` for as long as `self` lives; atomics may be shared
        // with the kernel, which writes them only as whole words.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.count) }
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

impl Drop for Cells {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `map`, which nobody refers to any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.count * size_of::<AtomicU32>()) };
    }
}
