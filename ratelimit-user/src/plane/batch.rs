//! A whole hash map in a few system calls, which aya does not offer: it asks for every element by itself.

use std::{
    io,
    marker::PhantomData,
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd},
};

use aya_obj::generated::{bpf_attr, bpf_cmd};
use bytemuck::Pod;

/// Elements a call; a bucket of the kernel's hash table with more would be refused, and has a handful.
const AT_ONCE: usize = 8192;

/// A descriptor of a hash map of these types, for reading and writing all of it.
#[derive(Debug)]
pub struct Batch<K, V> {
    map: OwnedFd,
    types: PhantomData<(K, V)>,
}

impl<K: Pod, V: Pod> Batch<K, V> {
    /// The map must have keys and values of these sizes.
    pub fn of(map: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self { map: map.try_clone_to_owned()?, types: PhantomData })
    }

    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { map: self.map.try_clone()?, types: PhantomData })
    }

    /// Every element that is wanted. What is inserted or removed meanwhile may be among them or not.
    pub fn read(&self, wanted: impl Fn(&V) -> bool) -> io::Result<Vec<(K, V)>> {
        let (mut keys, mut values) = (vec![K::zeroed(); AT_ONCE], vec![V::zeroed(); AT_ONCE]);
        let mut place: Option<u32> = None;
        let mut found = Vec::new();
        loop {
            let mut next = 0u32;
            let mut attr = zeroed();
            attr.batch.in_batch = place.as_ref().map_or(0, |place| std::ptr::from_ref(place) as u64);
            attr.batch.out_batch = (&raw mut next) as u64;
            attr.batch.keys = keys.as_mut_ptr() as u64;
            attr.batch.values = values.as_mut_ptr() as u64;
            attr.batch.count = AT_ONCE as u32;
            attr.batch.map_fd = self.map.as_raw_fd() as u32;
            let is_last = match call(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attr) {
                Ok(()) => false,
                // The kernel says so together with the last elements.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
                Err(error) => return Err(error),
            };
            // SAFETY: the member that was written above; the kernel put a plain number there.
            let count = unsafe { attr.batch.count } as usize;
            let read = keys.iter().zip(&values).take(count).filter(|(_, value)| wanted(value));
            found.extend(read.map(|(key, value)| (*key, *value)));
            if is_last {
                return Ok(found);
            }
            place = Some(next);
        }
    }

    /// Takes an element out, as it is at that moment.
    pub fn take(&self, key: &K) -> io::Result<Option<V>> {
        let mut value = V::zeroed();
        let mut attr = zeroed();
        // SAFETY: the member of the union that the command below reads.
        let element = unsafe { &mut attr.__bindgen_anon_2 };
        element.map_fd = self.map.as_raw_fd() as u32;
        element.key = std::ptr::from_ref(key) as u64;
        element.__bindgen_anon_1.value = (&raw mut value) as u64;
        match call(bpf_cmd::BPF_MAP_LOOKUP_AND_DELETE_ELEM, &mut attr) {
            Ok(()) => Ok(Some(value)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Inserts or replaces elements, one after the other; those before the one that fails are in the map.
    pub fn write(&self, keys: &[K], values: &[V]) -> io::Result<()> {
        for (keys, values) in keys.chunks(AT_ONCE).zip(values.chunks(AT_ONCE)) {
            let mut attr = zeroed();
            attr.batch.keys = keys.as_ptr() as u64;
            attr.batch.values = values.as_ptr() as u64;
            attr.batch.count = keys.len().min(values.len()) as u32;
            attr.batch.map_fd = self.map.as_raw_fd() as u32;
            call(bpf_cmd::BPF_MAP_UPDATE_BATCH, &mut attr)?;
        }
        Ok(())
    }
}

fn zeroed() -> bpf_attr {
    // SAFETY: all zero is a valid `bpf_attr`: it is a union of plain numbers, and the kernel demands zeros in the unused part.
    unsafe { std::mem::zeroed() }
}

fn call(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<()> {
    // SAFETY: `attr` is a whole `bpf_attr`; the pointers in it are to buffers of as many elements of the map's sizes as it
    // says, which the caller keeps until this returns.
    let answer =
        unsafe { libc::syscall(libc::SYS_bpf, command as libc::c_long, &raw mut *attr, size_of::<bpf_attr>()) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
