//! The limiter's cells, mapped into this process: clearing a million of them takes no system call.

use std::{
    num::NonZeroUsize,
    os::fd::AsFd as _,
    ptr::NonNull,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result};
use aya::maps::MapData;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

#[derive(Debug)]
pub(crate) struct Cells {
    start: NonNull<AtomicU32>,
    len: usize,
}

impl Cells {
    pub(crate) fn of(map: &MapData, len: usize) -> Result<Self> {
        let bytes = NonZeroUsize::new(len * size_of::<u32>()).context("no cells")?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping of memory that only atomic operations touch, here and in the kernel.
        let start = unsafe { mmap(None, bytes, access, MapFlags::MAP_SHARED, map.fd().as_fd(), 0) }
            .context("cannot map the cells")?;
        Ok(Self { start: start.cast(), len })
    }

    fn cells(&self) -> &[AtomicU32] {
        // SAFETY: the mapping is this long, page aligned, and lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    fn cell_at(&self, index: u32) -> Option<&AtomicU32> {
        self.cells().get(index as usize)
    }

    pub(crate) fn clear(&self) {
        for cell in self.cells() {
            cell.store(0, Ordering::Relaxed);
        }
    }

    pub(crate) fn charged(&self) -> Vec<u32> {
        let charged = |(index, cell): (usize, &AtomicU32)| (cell.load(Ordering::Relaxed) != 0).then_some(index as u32);
        self.cells().iter().enumerate().filter_map(charged).collect()
    }
}

impl ratelimit_common::Cells for Cells {
    fn cell(&self, index: u32) -> Option<u32> {
        self.cell_at(index).map(|cell| cell.load(Ordering::SeqCst))
    }

    fn replace_cell(&self, index: u32, seen: u32, new: u32) -> bool {
        let cell = self.cell_at(index);
        cell.is_some_and(|cell| cell.compare_exchange(seen, new, Ordering::SeqCst, Ordering::SeqCst).is_ok())
    }
}

impl Drop for Cells {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `of`, with its length; nothing refers to it any more.
        // A failure leaves the mapping to the end of the process.
        let _ = unsafe { munmap(self.start.cast(), self.len * size_of::<u32>()) };
    }
}
