//! A BPF map of socket storage, written from user space.

use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use anyhow::{Context, Result};
use aya_obj::generated::{BPF_F_NO_PREALLOC, bpf_attr, bpf_cmd, bpf_map_type};

/// The one type that keys and values have in the map's BTF: a signed number of 32 bits.
const NUMBER: u32 = 1;
const NUMBER_LEN: u32 = 4;

#[derive(Debug)]
pub struct Storage(OwnedFd);

impl Storage {
    pub fn new() -> Result<Self> {
        let types = types().context("cannot load BTF")?;
        let mut attr = zeroed();
        attr.__bindgen_anon_1.map_type = bpf_map_type::BPF_MAP_TYPE_SK_STORAGE as u32;
        attr.__bindgen_anon_1.key_size = NUMBER_LEN;
        attr.__bindgen_anon_1.value_size = NUMBER_LEN;
        attr.__bindgen_anon_1.map_flags = BPF_F_NO_PREALLOC;
        attr.__bindgen_anon_1.btf_fd = types.as_raw_fd() as u32;
        attr.__bindgen_anon_1.btf_key_type_id = NUMBER;
        attr.__bindgen_anon_1.btf_value_type_id = NUMBER;
        Ok(Self(descriptor(bpf_cmd::BPF_MAP_CREATE, &mut attr).context("cannot make a map of socket storage")?))
    }

    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    pub fn mark(&self, socket: &TcpStream) -> Result<()> {
        let (key, value) = (socket.as_raw_fd(), 1_i32);
        let mut attr = self.element(&key);
        attr.__bindgen_anon_2.__bindgen_anon_1.value = (&raw const value) as u64;
        call(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr).context("cannot give a socket storage")?;
        Ok(())
    }

    pub fn unmark(&self, socket: &TcpStream) -> Result<()> {
        let key = socket.as_raw_fd();
        call(bpf_cmd::BPF_MAP_DELETE_ELEM, &mut self.element(&key)).context("cannot take a socket's storage")?;
        Ok(())
    }

    /// The key must live until the call.
    fn element(&self, key: &RawFd) -> bpf_attr {
        let mut attr = zeroed();
        attr.__bindgen_anon_2.map_fd = self.0.as_raw_fd() as u32;
        attr.__bindgen_anon_2.key = (&raw const *key) as u64;
        attr
    }
}

/// Loads `int`, without which the kernel makes no such map: a header, one type, and its name.
fn types() -> io::Result<OwnedFd> {
    const MAGIC_AND_VERSION: u32 = 0x0001_eb9f;
    const HEADER_LEN: u32 = 24;
    const TYPE_LEN: u32 = 16;
    const KIND_INT: u32 = 1 << 24;
    const SIGNED_32_BITS: u32 = 1 << 24 | 32;
    const NAMES: &[u8] = b"\0int\0";
    let header = [MAGIC_AND_VERSION, HEADER_LEN, 0, TYPE_LEN, TYPE_LEN, NAMES.len() as u32];
    let number = [1, KIND_INT, NUMBER_LEN, SIGNED_32_BITS];
    let mut btf: Vec<u8> = header.into_iter().chain(number).flat_map(u32::to_ne_bytes).collect();
    btf.extend(NAMES);
    let mut attr = zeroed();
    attr.__bindgen_anon_7.btf = btf.as_ptr() as u64;
    attr.__bindgen_anon_7.btf_size = btf.len() as u32;
    descriptor(bpf_cmd::BPF_BTF_LOAD, &mut attr)
}

fn zeroed() -> bpf_attr {
    // SAFETY: all zero is a valid `bpf_attr`: it is a union of plain numbers.
    unsafe { std::mem::zeroed() }
}

fn descriptor(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    let descriptor = call(command, attr)?;
    // SAFETY: the kernel has just opened this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor as i32) })
}

fn call(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<libc::c_long> {
    // SAFETY: `attr` is a whole `bpf_attr`; the pointers in it are to memory that the caller keeps until this returns.
    let answer =
        unsafe { libc::syscall(libc::SYS_bpf, command as libc::c_long, &raw mut *attr, size_of::<bpf_attr>()) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}
