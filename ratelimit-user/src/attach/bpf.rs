//! Links of the kernel, on interfaces and on control groups: the few calls of bpf(2) that aya does not offer.
//!
//! aya attaches over netlink where `BPF_LINK_CREATE` says EINVAL, and what is attached so cannot be pinned; and it does not
//! tell which interface a link belongs to.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use aya_obj::generated::{
    XDP_FLAGS_DRV_MODE, XDP_FLAGS_SKB_MODE, bpf_attach_type, bpf_attr, bpf_cmd, bpf_link_info, bpf_link_type,
};

/// Where in the receive path a program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    Driver,
    Stack,
}

impl Hook {
    pub const fn flags(self) -> u32 {
        match self {
            Self::Driver => XDP_FLAGS_DRV_MODE,
            Self::Stack => XDP_FLAGS_SKB_MODE,
        }
    }
}

/// A program on an interface, for as long as this or a pin of it exists.
#[derive(Debug)]
pub struct XdpLink(OwnedFd);

/// A program that watches the sockets of a control group, for as long as this or a pin of it exists.
#[derive(Debug)]
pub struct SocketLink(OwnedFd);

/// What the kernel says about a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct XdpLinkInfo {
    pub id: u32,
    pub program_id: u32,
    /// 0 once the interface is gone or the link was detached.
    pub interface_index: u32,
}

impl XdpLink {
    pub fn create(program: BorrowedFd<'_>, interface_index: u32, hook: Hook) -> io::Result<Self> {
        let mut attr = zeroed();
        attr.link_create.__bindgen_anon_1.prog_fd = raw(program);
        attr.link_create.__bindgen_anon_2.target_ifindex = interface_index;
        attr.link_create.attach_type = bpf_attach_type::BPF_XDP as u32;
        attr.link_create.flags = hook.flags();
        descriptor(bpf_cmd::BPF_LINK_CREATE, &mut attr).map(Self)
    }

    /// `Ok(None)` if what is pinned there is something else.
    pub fn open(pin: &Path) -> io::Result<Option<Self>> {
        Ok(open(pin, bpf_link_type::BPF_LINK_TYPE_XDP)?.map(Self))
    }

    pub fn pin(&self, path: &Path) -> io::Result<()> {
        pin(self.0.as_fd(), path)
    }

    /// Replaces the program; every packet meets the old one or the new one.
    pub fn replace(&self, program: BorrowedFd<'_>) -> io::Result<()> {
        replace(self.0.as_fd(), program)
    }

    /// Takes the program off the interface, whoever else holds the link.
    pub fn detach(&self) -> io::Result<()> {
        let mut attr = zeroed();
        attr.link_detach.link_fd = raw(self.0.as_fd());
        call(bpf_cmd::BPF_LINK_DETACH, &mut attr).map(drop)
    }

    pub fn info(&self) -> io::Result<XdpLinkInfo> {
        let info = link_info(self.0.as_fd())?;
        // SAFETY: for an XDP link, and only such are made here, the kernel has filled this member; it is a plain number.
        let interface_index = unsafe { info.__bindgen_anon_1.xdp.ifindex };
        Ok(XdpLinkInfo { id: info.id, program_id: info.prog_id, interface_index })
    }
}

impl SocketLink {
    pub fn create(program: BorrowedFd<'_>, control_group: BorrowedFd<'_>) -> io::Result<Self> {
        let mut attr = zeroed();
        attr.link_create.__bindgen_anon_1.prog_fd = raw(program);
        attr.link_create.__bindgen_anon_2.target_fd = raw(control_group);
        attr.link_create.attach_type = bpf_attach_type::BPF_CGROUP_SOCK_OPS as u32;
        descriptor(bpf_cmd::BPF_LINK_CREATE, &mut attr).map(Self)
    }

    /// `Ok(None)` if what is pinned there is something else.
    pub fn open(pin: &Path) -> io::Result<Option<Self>> {
        Ok(open(pin, bpf_link_type::BPF_LINK_TYPE_CGROUP)?.map(Self))
    }

    pub fn pin(&self, path: &Path) -> io::Result<()> {
        pin(self.0.as_fd(), path)
    }

    /// Replaces the program; whatever happens to a socket is seen by the old one or the new one.
    pub fn replace(&self, program: BorrowedFd<'_>) -> io::Result<()> {
        replace(self.0.as_fd(), program)
    }
}

/// Opens a pinned link; `Ok(None)` if what is pinned there is something else.
fn open(pin: &Path, kind: bpf_link_type) -> io::Result<Option<OwnedFd>> {
    let path = c_path(pin)?;
    let mut attr = zeroed();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    let opened = descriptor(bpf_cmd::BPF_OBJ_GET, &mut attr)?;
    // Programs and maps answer the question for their information too, each in a form of its own, so the kind of the
    // descriptor is asked first.
    let file = std::fs::read_link(format!("/proc/self/fd/{}", opened.as_raw_fd()))?;
    // Linux writes a link it has just made with an underscore, and one opened from a pin with a dash.
    let is_link = [&b"anon_inode:bpf_link"[..], b"anon_inode:bpf-link"].contains(&file.as_os_str().as_bytes());
    Ok((is_link && link_info(opened.as_fd())?.type_ == kind as u32).then_some(opened))
}

fn pin(link: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let mut attr = zeroed();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    attr.__bindgen_anon_4.bpf_fd = raw(link);
    call(bpf_cmd::BPF_OBJ_PIN, &mut attr).map(drop)
}

fn replace(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = zeroed();
    attr.link_update.link_fd = raw(link);
    attr.link_update.__bindgen_anon_1.new_prog_fd = raw(program);
    call(bpf_cmd::BPF_LINK_UPDATE, &mut attr).map(drop)
}

fn link_info(link: BorrowedFd<'_>) -> io::Result<bpf_link_info> {
    // SAFETY: all zero is a valid `bpf_link_info`: it is plain numbers.
    let mut info: bpf_link_info = unsafe { std::mem::zeroed() };
    let mut attr = zeroed();
    attr.info.bpf_fd = raw(link);
    attr.info.info_len = size_of::<bpf_link_info>() as u32;
    attr.info.info = (&raw mut info) as u64;
    call(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(info)
}

fn zeroed() -> bpf_attr {
    // SAFETY: all zero is a valid `bpf_attr`: it is a union of plain numbers, and the kernel demands zeros in the unused part.
    unsafe { std::mem::zeroed() }
}

fn raw(descriptor: BorrowedFd<'_>) -> u32 {
    // Open descriptors are never negative.
    descriptor.as_raw_fd() as u32
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

fn descriptor(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    let descriptor = call(command, attr)?;
    // SAFETY: the kernel has just opened this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor as i32) })
}

fn call(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<libc::c_long> {
    // SAFETY: `attr` is a whole `bpf_attr`; the pointers in it, if any, are to memory that the caller keeps until this returns.
    let answer =
        unsafe { libc::syscall(libc::SYS_bpf, command as libc::c_long, &raw mut *attr, size_of::<bpf_attr>()) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}
