//! The root of the control groups, where a program sees the sockets of the whole machine.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::PathBuf,
};

const FSOPEN_CLOEXEC: libc::c_long = 1;
const FSCONFIG_CMD_CREATE: libc::c_long = 6;
const FSMOUNT_CLOEXEC: libc::c_long = 1;

/// Opens it where it is mounted; where it is not, through a mount of its own that nobody sees and that ends with it.
pub fn root() -> io::Result<File> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    match mounted(&mounts) {
        Some(path) => File::open(path),
        None => unmounted(),
    }
}

fn mounted(mounts: &str) -> Option<PathBuf> {
    let mut lines = mounts.lines().map(|line| line.split(' '));
    lines.find_map(|mut words| {
        let path = words.nth(1)?;
        (words.next() == Some("cgroup2")).then(|| PathBuf::from(path.replace("\\040", " ")))
    })
}

fn unmounted() -> io::Result<File> {
    // SAFETY: the name is a string that ends in zero.
    let context = unsafe { descriptor(libc::syscall(libc::SYS_fsopen, c"cgroup2".as_ptr(), FSOPEN_CLOEXEC))? };
    let (nothing, raw) = (std::ptr::null::<libc::c_char>(), context.as_raw_fd());
    // SAFETY: the command takes neither key nor value.
    let made = unsafe { libc::syscall(libc::SYS_fsconfig, raw, FSCONFIG_CMD_CREATE, nothing, nothing, 0) };
    if made < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: takes three numbers and touches no memory of ours.
    unsafe { descriptor(libc::syscall(libc::SYS_fsmount, raw, FSMOUNT_CLOEXEC, 0)) }.map(File::from)
}

/// # Safety
///
/// The answer of a system call that has made this descriptor, or failed.
unsafe fn descriptor(answer: libc::c_long) -> io::Result<OwnedFd> {
    match i32::try_from(answer) {
        // SAFETY: the kernel has just opened it, and nobody else knows it.
        Ok(raw) if raw >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(raw) }),
        Ok(_) | Err(_) => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_version_is_found_among_mounts() {
        let hybrid = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n";
        assert_eq!(mounted(hybrid), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(mounted("cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n"), None);
        assert_eq!(mounted("cgroup2\nx\n"), None);
    }
}
