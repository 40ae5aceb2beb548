//! Tables of networks in memory that the kernel shares: filled before anybody sees them, looked at while they are in use.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _},
    ptr::NonNull,
};

use aya::maps::{MapData, MapError, MapType};
use ratelimit_common::{
    lookup::{Line, Lines},
    map::{INNER_MAP, MMAPABLE},
};

use crate::lists::table::Table;

/// Makes a map of a table and fills it. Nothing refers to the map but who holds it.
pub fn make(table: &Table) -> Result<MapData, MapError> {
    let lines = table.lines().max(1);
    let flags = (MMAPABLE | INNER_MAP) as u32;
    let shape = aya_obj::Map::new_from_params(
        MapType::Array as u32,
        size_of::<u32>() as u32,
        size_of::<Line>() as u32,
        lines,
        flags,
    );
    let map = MapData::create(shape, "lists", None)?;
    let mut shared = SharedLines::of(&map, lines, libc::PROT_READ | libc::PROT_WRITE).map_err(MapError::IoError)?;
    table.fill(shared.all_mut());
    Ok(map)
}

/// The lines of a table, mapped into memory.
#[derive(Debug)]
pub struct SharedLines {
    start: NonNull<Line>,
    count: usize,
}

// SAFETY: the memory belongs to the value alone, or is only read.
unsafe impl Send for SharedLines {}
// SAFETY: as above.
unsafe impl Sync for SharedLines {}

impl SharedLines {
    /// Looks at a table that is in use. Nobody writes it any more: a new one takes its place.
    pub fn open(map: &MapData) -> Result<Self, MapError> {
        let lines = map.info()?.max_entries();
        Self::of(map, lines, libc::PROT_READ).map_err(MapError::IoError)
    }

    fn of(map: &MapData, lines: u32, protection: libc::c_int) -> io::Result<Self> {
        let count = lines as usize;
        // SAFETY: a fresh mapping at an address of the kernel's choice, of a map whose size is `count` lines.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                count * size_of::<Line>(),
                protection,
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

    fn all_mut(&mut self) -> &mut [Line] {
        // SAFETY: `count` lines are mapped writable from `start` for as long as `self` lives, and a map that was just
        // made is nobody else's.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.count) }
    }
}

impl Lines for SharedLines {
    fn line(&self, index: u32) -> Option<&Line> {
        let index = index as usize;
        // SAFETY: the line is one of those mapped, and nobody writes a table that is in use.
        (index < self.count).then(|| unsafe { &*self.start.as_ptr().add(index) })
    }
}

impl Drop for SharedLines {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `of`, which nobody refers to any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.count * size_of::<Line>()) };
    }
}
