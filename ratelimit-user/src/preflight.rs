//! What the machine must offer before anything is loaded.

use std::{
    fmt, fs, io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{FsType, statfs},
};

const BPF_FS_MAGIC: FsType = FsType(0xcafe_4a11);
const BPFFS: &str = "/sys/fs/bpf";

/// What is missing, and how to get it.
#[derive(Debug, thiserror::Error)]
pub enum PreflightError {
    #[error("not enough privileges: {} missing; run as root", .missing.join(", "))]
    Capabilities { missing: Vec<&'static str> },
    #[error("Linux {running} is too old: {} is the oldest supported", KernelVersion::OLDEST_SUPPORTED)]
    Kernel { running: KernelVersion },
    #[error("no BPF file system at {}: mount -t bpf bpf {}", .path.display(), .path.display())]
    NoBpffs { path: PathBuf },
    #[error("cannot mount a BPF file system at {}: {source}; as root: mount -t bpf bpf {}", .path.display(), .path.display())]
    Mount { path: PathBuf, source: nix::Error },
    #[error("{} is not this user's own directory: remove it or choose another one", .path.display())]
    NotADirectory { path: PathBuf },
    #[error("cannot {action} {}: {source}", .path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
}

/// A version of Linux.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    pub major: u32,
    pub minor: u32,
}

impl KernelVersion {
    pub const OLDEST_SUPPORTED: Self = Self { major: 6, minor: 1 };

    /// `None` where its release cannot be read as a version.
    pub fn running() -> Option<Self> {
        let name = nix::sys::utsname::uname().ok()?;
        Self::parse(name.release().to_str()?)
    }

    fn parse(release: &str) -> Option<Self> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit());
        Some(Self { major: numbers.next()?.parse().ok()?, minor: numbers.next()?.parse().ok()? })
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Checks privileges, kernel and BPF file system, and makes the directory for pins, which only root may enter.
pub fn check(pins: &Path) -> Result<(), PreflightError> {
    check_capabilities()?;
    match KernelVersion::running() {
        Some(running) if running < KernelVersion::OLDEST_SUPPORTED => return Err(PreflightError::Kernel { running }),
        _ => {}
    }
    let parent = pins.parent().unwrap_or(Path::new("/"));
    mount_bpffs(parent)?;
    make_pins(pins)
}

/// Mounts a BPF file system, as systemd does at boot, where none is yet. Only for the standard place, /sys/fs/bpf: what a
/// user names elsewhere is mounted by that user.
fn mount_bpffs(path: &Path) -> Result<(), PreflightError> {
    if is_bpffs(path) {
        return Ok(());
    }
    if path != Path::new(BPFFS) {
        return Err(PreflightError::NoBpffs { path: path.into() });
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_RELATIME;
    mount(Some("bpf"), path, Some("bpf"), flags, Some("mode=0700"))
        .map_err(|source| PreflightError::Mount { path: path.into(), source })
}

fn check_capabilities() -> Result<(), PreflightError> {
    let path = "/proc/thread-self/status";
    let status = fs::read_to_string(path).map_err(|source| PreflightError::Io {
        action: "read the privileges from",
        path: path.into(),
        source,
    })?;
    let missing = missing_capabilities(effective_capabilities(&status).unwrap_or(0));
    if missing.is_empty() { Ok(()) } else { Err(PreflightError::Capabilities { missing }) }
}

fn effective_capabilities(status: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(value.trim(), 16).ok()
}

/// Since Linux 5.8 CAP_BPF and CAP_PERFMON are parts of CAP_SYS_ADMIN, which still grants them.
fn missing_capabilities(effective: u64) -> Vec<&'static str> {
    const SYS_ADMIN: u32 = 21;
    const NEEDED: [(&str, u32); 3] = [("CAP_NET_ADMIN", 12), ("CAP_BPF", 39), ("CAP_PERFMON", 38)];
    let has = |bit: u32| effective & (1 << bit) != 0;
    NEEDED
        .into_iter()
        .filter(|(name, bit)| !has(*bit) && (*name == "CAP_NET_ADMIN" || !has(SYS_ADMIN)))
        .map(|(name, _)| name)
        .collect()
}

fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC)
}

fn make_pins(pins: &Path) -> Result<(), PreflightError> {
    let failed = |action| move |source| PreflightError::Io { action, path: pins.into(), source };
    match fs::DirBuilder::new().mode(0o700).create(pins) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed("make the directory")(error)),
    }
    let found = fs::symlink_metadata(pins).map_err(failed("look at"))?;
    if !found.is_dir() {
        return Err(PreflightError::NotADirectory { path: pins.into() });
    }
    if found.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(pins, fs::Permissions::from_mode(0o700)).map_err(failed("close to others"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read_as_versions() {
        let version = |major, minor| Some(KernelVersion { major, minor });
        assert_eq!(KernelVersion::parse("6.1.0-25-amd64"), version(6, 1));
        assert_eq!(KernelVersion::parse("6.18.44-fc-v769"), version(6, 18));
        assert_eq!(KernelVersion::parse("7.0-rc1"), version(7, 0));
        assert_eq!(KernelVersion::parse("five"), None);
        assert_eq!(KernelVersion::parse("6"), None);
        assert!(version(6, 2) < version(6, 18));
        assert!(KernelVersion::running().is_some());
    }

    #[test]
    fn missing_capabilities_are_named() {
        const ALL: u64 = (1 << 41) - 1;
        assert!(missing_capabilities(ALL).is_empty());
        assert_eq!(missing_capabilities(0), ["CAP_NET_ADMIN", "CAP_BPF", "CAP_PERFMON"]);
        assert_eq!(missing_capabilities(ALL & !(1 << 12)), ["CAP_NET_ADMIN"]);
        assert!(missing_capabilities(ALL & !(1 << 38) & !(1 << 39)).is_empty());
        assert_eq!(missing_capabilities(1 << 12 | 1 << 39), ["CAP_PERFMON"]);
    }

    #[test]
    fn effective_capabilities_are_read_from_the_status() {
        let status = "Name:\tx\nCapPrm:\t000001ffffffffff\nCapEff:\t0000000000001000\n";
        assert_eq!(effective_capabilities(status), Some(0x1000));
        assert_eq!(effective_capabilities("Name:\tx\n"), None);
    }

    #[test]
    fn an_ordinary_directory_is_no_bpf_file_system() {
        let directory = tempfile::tempdir().unwrap();
        assert!(!is_bpffs(directory.path()));
        let error = mount_bpffs(directory.path()).unwrap_err();
        assert!(error.to_string().contains("mount -t bpf bpf "), "{error}");
    }

    #[test]
    fn the_directory_for_pins_is_closed_to_others() {
        let directory = tempfile::tempdir().unwrap();
        let pins = directory.path().join("pins");
        let mode = || fs::metadata(&pins).unwrap().permissions().mode() & 0o777;
        make_pins(&pins).unwrap();
        assert_eq!(mode(), 0o700);
        fs::set_permissions(&pins, fs::Permissions::from_mode(0o755)).unwrap();
        make_pins(&pins).unwrap();
        assert_eq!(mode(), 0o700);
        fs::remove_dir(&pins).unwrap();
        fs::write(&pins, "").unwrap();
        assert!(matches!(make_pins(&pins), Err(PreflightError::NotADirectory { .. })));
    }
}
