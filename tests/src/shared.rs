//! Arrays of a program, copied in and out through shared memory: a million values take no system call each.

use std::num::NonZeroUsize;
use std::os::fd::AsFd as _;
use std::ptr::NonNull;

use anyhow::{Context, Result, bail, ensure};
use aya::Ebpf;
use aya::maps::{Map, MapData};
use bytemuck::Pod;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// The array lays its values out in words of so many bytes.
const ALIGNMENT: usize = 8;

/// Writes the first values of an array.
pub(crate) fn put<T: Pod>(ebpf: &Ebpf, name: &str, values: &[T]) -> Result<()> {
    let memory = Memory::of::<T>(ebpf, name, values.len())?;
    // SAFETY: so many values are mapped writable from the start, and nothing else refers to the fresh mapping.
    unsafe { std::slice::from_raw_parts_mut(memory.start.cast::<T>().as_ptr(), values.len()) }.copy_from_slice(values);
    Ok(())
}

/// Reads the first values of an array that no program writes meanwhile.
pub(crate) fn get<T: Pod>(ebpf: &Ebpf, name: &str, count: usize) -> Result<Vec<T>> {
    let memory = Memory::of::<T>(ebpf, name, count)?;
    // SAFETY: so many values are mapped from the start, and any bytes are a value.
    Ok(unsafe { std::slice::from_raw_parts(memory.start.cast::<T>().as_ptr(), count) }.to_vec())
}

struct Memory {
    start: NonNull<libc::c_void>,
    bytes: NonZeroUsize,
}

impl Memory {
    fn of<T: Pod>(ebpf: &Ebpf, name: &str, count: usize) -> Result<Self> {
        let map = array(ebpf, name)?;
        let info = map.info()?;
        ensure!(
            count <= info.max_entries() as usize
                && info.value_size() as usize == size_of::<T>()
                && size_of::<T>().is_multiple_of(ALIGNMENT),
            "{name} does not hold {count} values of {} bytes",
            size_of::<T>()
        );
        let bytes = NonZeroUsize::new(count * size_of::<T>()).context("no values")?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice, within the map as compared above.
        let start = unsafe { mmap(None, bytes, access, MapFlags::MAP_SHARED, map.fd().as_fd(), 0) }
            .with_context(|| format!("cannot map {name}"))?;
        Ok(Self { start, bytes })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `of`, with its length; nothing refers to it any more.
        // A failure leaves the mapping to the end of the process.
        let _ = unsafe { munmap(self.start, self.bytes.get()) };
    }
}

fn array<'a>(ebpf: &'a Ebpf, name: &str) -> Result<&'a MapData> {
    match ebpf.map(name).with_context(|| format!("the lab has no map {name}"))? {
        Map::Array(data) => Ok(data),
        other => bail!("{name} is {other:?}"),
    }
}
