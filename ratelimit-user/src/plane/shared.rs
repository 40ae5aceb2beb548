//! The values of an array map, mapped into memory.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _},
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicU64},
};

use aya::maps::MapData;

/// Values of a map that has as many, for as long as this lives.
#[derive(Debug)]
pub struct Shared<T> {
    start: NonNull<T>,
    count: usize,
}

/// What may be done with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
}

/// A value that we and the kernel write at the same time, each of us only as a whole.
///
/// # Safety
///
/// All access to it is atomic, and any bytes are one.
pub unsafe trait Word {}

// SAFETY: atomic.
unsafe impl Word for AtomicU32 {}
// SAFETY: atomic.
unsafe impl Word for AtomicU64 {}

// SAFETY: the memory is not tied to a thread; what may be done with it at the same time is for `T` to say.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// Maps the first `count` values of a map.
    pub fn map(map: &MapData, count: usize, access: Access) -> io::Result<Self> {
        let protection = match access {
            Access::Read => libc::PROT_READ,
            Access::Write => libc::PROT_READ | libc::PROT_WRITE,
        };
        let bytes = count * size_of::<T>();
        // SAFETY: a fresh mapping at an address of the kernel's choice; the kernel refuses one that is longer than the map.
        let start = unsafe {
            let map = map.fd().as_fd().as_raw_fd();
            libc::mmap(std::ptr::null_mut(), bytes, protection, libc::MAP_SHARED, map, 0)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at address zero"))?;
        Ok(Self { start, count })
    }

    /// A value.
    ///
    /// # Safety
    ///
    /// Nobody writes it as long as it is referred to, and its bytes are a `T`.
    pub unsafe fn get(&self, index: usize) -> Option<&T> {
        // SAFETY: one of those that are mapped for as long as `self` lives; the rest is the caller's word.
        (index < self.count).then(|| unsafe { &*self.start.as_ptr().add(index) })
    }

    /// All values.
    ///
    /// # Safety
    ///
    /// They are mapped to be written, the map is nobody else's, and its bytes are `T`s.
    pub unsafe fn all_mut(&mut self) -> &mut [T] {
        // SAFETY: so many are mapped for as long as `self` lives; the rest is the caller's word.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.count) }
    }
}

impl<T: Word> Shared<T> {
    pub fn all(&self) -> &[T] {
        // SAFETY: so many are mapped for as long as `self` lives, and words may be shared with the kernel.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.count) }
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `map`, which nobody refers to any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.count * size_of::<T>()) };
    }
}
