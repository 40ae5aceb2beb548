//! Bits in front of a table, mapped into memory: who has not all of his own is not in the table.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _},
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

use aya::maps::MapData;

/// Shared with the kernel.
pub struct Filter {
    start: NonNull<AtomicU64>,
    count: usize,
}

// SAFETY: the memory is shared with the kernel anyway and every access is atomic.
unsafe impl Send for Filter {}
// SAFETY: as above.
unsafe impl Sync for Filter {}

impl Filter {
    /// Maps an array of `count` words.
    pub fn map(map: &MapData, count: usize) -> io::Result<Self> {
        // SAFETY: a fresh mapping at an address of the kernel's choice, of a map of this size.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                count * size_of::<AtomicU64>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.fd().as_fd().as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at address zero"))?;
        Ok(Self { start, count })
    }

    pub fn add(&self, word: usize, mask: u64) {
        if let Some(word) = self.all().get(word) {
            word.fetch_or(mask, Ordering::Relaxed);
        }
    }

    /// These bits and no others.
    pub fn put(&self, words: &[u64]) {
        for (shared, word) in self.all().iter().zip(words) {
            if shared.load(Ordering::Relaxed) != *word {
                shared.store(*word, Ordering::Relaxed);
            }
        }
    }

    fn all(&self) -> &[AtomicU64] {
        // SAFETY: so many words are mapped from `start` for as long as `self` lives; atomics may be shared with the kernel,
        // which writes them only as a whole.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.count) }
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `map`, which nobody refers to any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.count * size_of::<AtomicU64>()) };
    }
}
