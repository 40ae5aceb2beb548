//! The name of an interface's driver.

use std::{ffi::CStr, os::fd::AsRawFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

const ETHTOOL_GDRVINFO: u32 = 3;
/// The size of the kernel's `struct ethtool_drvinfo` in words. The command comes first, then 32 bytes of name.
const DRIVER_INFO_WORDS: usize = 49;
const NAME_WORDS: std::ops::Range<usize> = 1..9;

/// Asked through the ioctl, because /sys/class/net shows the network namespace in which /sys was mounted, which need not
/// be the caller's.
pub fn of(interface: &str) -> Option<String> {
    // SAFETY: all zero is a valid `ifreq`: it holds an array and a union of plain data.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if interface.len() >= request.ifr_name.len() {
        return None;
    }
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from as libc::c_char;
    }
    let mut info = [0u32; DRIVER_INFO_WORDS];
    info[0] = ETHTOOL_GDRVINFO;
    request.ifr_ifru.ifru_data = info.as_mut_ptr().cast();
    let socket = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).ok()?;
    // SAFETY: the descriptor is open, the name is terminated, and the kernel writes exactly one `ethtool_drvinfo`.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
    if answer != 0 {
        return None;
    }
    let name: Vec<u8> = info[NAME_WORDS].iter().flat_map(|word| word.to_ne_bytes()).collect();
    let name = CStr::from_bytes_until_nul(&name).ok()?.to_str().ok()?;
    (!name.is_empty()).then(|| name.to_owned())
}
