//! Network namespaces of the lab, and the bpffs directory a test pins into.
//!
//! A namespace has no name on the machine: it lives through an open descriptor and disappears with the test process, even
//! when that is killed. `nsenter --net=PATH`, with the path that `Namespace::path` gives, looks inside while it lives.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statvfs::statvfs;
use nix::unistd::geteuid;

use crate::debian::ROOT_VARIABLE;
use crate::process::{Place, Task};

mod counter;

const IP_TIMEOUT: Duration = Duration::from_secs(20);

/// One side of a veth pair.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    pub namespace: &'a Namespace,
    pub interface: &'a str,
    /// With prefix length: `192.0.2.1/24`, `2001:db8::1/64`.
    pub addresses: &'a [&'a str],
}

/// A network namespace with nothing in it but loopback.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    handle: Arc<OwnedFd>,
}

impl Namespace {
    pub fn new(label: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        require_root()?;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("rl{}-{count}-{label}", std::process::id());
        let handle = thread::spawn(|| -> Result<OwnedFd> {
            unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace")?;
            Ok(File::open("/proc/thread-self/ns/net")?.into())
        })
        .join()
        .ok()
        .context("the thread that makes a namespace panicked")??;
        let namespace = Self { name, handle: Arc::new(handle) };
        namespace.prepare()?;
        Ok(namespace)
    }

    /// Without duplicate address detection an IPv6 address works at once; without the reverse path filter one interface
    /// may receive the packets of whole networks.
    fn prepare(&self) -> Result<()> {
        for scope in ["all", "default"] {
            self.sysctl(&format!("net.ipv6.conf.{scope}.disable_ipv6"), "0")?;
            self.sysctl(&format!("net.ipv6.conf.{scope}.accept_dad"), "0")?;
            self.sysctl(&format!("net.ipv6.conf.{scope}.accept_ra"), "0")?;
            self.sysctl(&format!("net.ipv4.conf.{scope}.rp_filter"), "0")?;
        }
        self.sysctl("net.ipv6.ip_nonlocal_bind", "1")?;
        self.ip("link set dev lo up")
    }

    /// For messages; unique among all running tests.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// For `nsenter --net=` and `ip … netns`, valid in every process of the machine while this one lives.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.handle.as_raw_fd()).into()
    }

    /// Runs `work` on a thread inside the namespace; threads and sockets it makes belong to the namespace too.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            let inside = scope.spawn(|| -> Result<T> {
                setns(self.handle.as_fd(), CloneFlags::CLONE_NEWNET)
                    .with_context(|| format!("cannot enter {}", self.name))?;
                Ok(work())
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A program of the machine, to run inside.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Task {
        Task::new(program, self.place())
    }

    pub(crate) fn place(&self) -> Place {
        Place { network: Some(Arc::clone(&self.handle)), ..Place::default() }
    }

    /// `ip` with the given words.
    pub fn ip(&self, words: &str) -> Result<()> {
        self.ip_command()
            .args(words.split_whitespace())
            .check(IP_TIMEOUT)
            .with_context(|| format!("in {}", self.name))?;
        Ok(())
    }

    /// Many `ip` commands, one a line, in one run: thousands take well under a second.
    pub fn ip_batch(&self, lines: &str) -> Result<()> {
        self.ip_command()
            .args(["-batch", "-"])
            .input(lines)
            .check(IP_TIMEOUT)
            .with_context(|| format!("in {}", self.name))?;
        Ok(())
    }

    fn ip_command(&self) -> Task {
        static WORDS: OnceLock<Vec<PathBuf>> = OnceLock::new();
        let words = WORDS.get_or_init(|| machine_ip().or_else(tree_ip).unwrap_or_else(|| vec!["ip".into()]));
        self.command(&words[0]).args(&words[1..])
    }

    /// `net.ipv4.ip_forward` and the like; only those that belong to a network namespace.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys").join(key.replace('.', "/"));
        self.enter(|| fs::write(&path, value))?.with_context(|| format!("cannot set {key}={value} in {}", self.name))
    }

    /// The value of a sysctl, or any other file of /proc that depends on the network namespace of the reader.
    pub fn read_proc(&self, path: &str) -> Result<String> {
        // /proc/net is a link to the process, whose namespace is that of its first thread.
        let path = path.replace("/proc/net/", "/proc/thread-self/net/");
        self.enter(|| fs::read_to_string(&path))?.with_context(|| format!("cannot read {path} in {}", self.name))
    }

    /// A counter of the network stack, by the names the kernel gives it: `Tcp`, `InSegs` or `TcpExt`, `ListenDrops`.
    pub fn counter(&self, group: &str, name: &str) -> Result<u64> {
        let text = self.read_proc("/proc/net/snmp")? + &self.read_proc("/proc/net/netstat")?;
        counter::find(&text, group, name).with_context(|| format!("the kernel has no counter {name} of {group}"))
    }

    /// Adds addresses, each with its prefix length.
    pub fn add_addresses<A: AsRef<str>>(&self, interface: &str, addresses: impl IntoIterator<Item = A>) -> Result<()> {
        let mut lines = String::new();
        for address in addresses {
            let address = address.as_ref();
            let dad = if address.contains(':') { " nodad" } else { "" };
            writeln!(lines, "address add {address} dev {interface}{dad}")?;
        }
        self.ip_batch(&lines)
    }

    /// Makes every address of a network this namespace's own without adding one: sockets can be bound to them and packets
    /// to them arrive. Neighbours must have a route to the network; nobody answers for it on the link (IPv6).
    pub fn own_network(&self, network: &str) -> Result<()> {
        self.ip(&format!("route add local {network} dev lo"))
    }

    pub fn route(&self, network: &str, via: IpAddr) -> Result<()> {
        let family = if via.is_ipv6() { "-6" } else { "-4" };
        self.ip(&format!("{family} route add {network} via {via}"))
    }

    /// A neighbour that need not be asked for.
    pub fn neighbour(&self, address: IpAddr, mac: &str, interface: &str) -> Result<()> {
        self.ip(&format!("neighbour replace {address} lladdr {mac} nud permanent dev {interface}"))
    }

    /// The hardware address of an interface.
    pub fn mac(&self, interface: &str) -> Result<String> {
        let shown = self.ip_command().args(["-o", "link", "show", "dev", interface]).check(IP_TIMEOUT)?;
        let mac = shown.split_whitespace().skip_while(|word| *word != "link/ether").nth(1);
        Ok(mac.with_context(|| format!("{interface} has no Ethernet address: {shown}"))?.to_owned())
    }
}

/// Under sudo, and for users, the administrator's programs are not always on the path.
fn machine_ip() -> Option<Vec<PathBuf>> {
    let is_executable = |path: &PathBuf| fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o111 != 0);
    let mut places = ["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip", "/bin/ip"].into_iter().map(PathBuf::from);
    Some(vec![places.find(is_executable)?])
}

/// Small containers have no `ip`: then that of the Debian tree, with the tree's own loader and libraries.
fn tree_ip() -> Option<Vec<PathBuf>> {
    let tree = PathBuf::from(std::env::var_os(ROOT_VARIABLE)?);
    let directories = fs::read_dir(tree.join("usr/lib")).ok()?.flatten().map(|entry| entry.path());
    let libraries = directories.into_iter().find(|directory| directory.join("libc.so.6").exists())?;
    let loader = fs::read_dir(&libraries)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"ld-linux")))?;
    Some(vec![loader, "--library-path".into(), libraries, tree.join("usr/bin/ip")])
}

/// Connects two namespaces by a veth pair, both ends up and addressed.
pub fn veth(one: End, other: End, mtu: u32) -> Result<()> {
    one.namespace.ip(&format!(
        "link add name {} mtu {mtu} type veth peer name {} mtu {mtu} netns {}",
        one.interface,
        other.interface,
        other.namespace.path().display()
    ))?;
    for end in [one, other] {
        end.namespace.add_addresses(end.interface, end.addresses.iter())?;
        end.namespace.ip(&format!("link set dev {} up", end.interface))?;
    }
    Ok(())
}

/// Names, machine-wide, of the directories that `Bpffs` and `Scratch` mount on.
const MOUNT_PREFIX: &str = "ratelimit-lab-";
const MOUNT_HOME: &str = "/run";
/// Of a directory that was full.
const ROOM_BYTES: u64 = 256 << 20;

/// A BPF file system of a test's own, visible to every process the test starts. Unmounting it releases all its pins.
#[derive(Debug)]
pub struct Bpffs(Mounted);

impl Bpffs {
    pub fn new() -> Result<Self> {
        Ok(Self(Mounted::new("bpf", MsFlags::MS_NOEXEC, "is CONFIG_BPF_SYSCALL on in this kernel?")?))
    }

    pub fn path(&self) -> &Path {
        &self.0.path
    }
}

/// A directory in memory of a test's own, for sockets and state.
#[derive(Debug)]
pub struct Scratch(Mounted);

impl Scratch {
    pub fn new() -> Result<Self> {
        Ok(Self(Mounted::new("tmpfs", MsFlags::empty(), "is CONFIG_TMPFS on in this kernel?")?))
    }

    /// Has it hold no more than it holds now, as a disk that is full.
    pub fn fill(&self) -> Result<()> {
        let held = statvfs(self.path()).with_context(|| format!("cannot look at {}", self.path().display()))?;
        self.resize((held.blocks() - held.blocks_free()) * held.fragment_size())
    }

    /// Room again, and enough of it.
    pub fn unfill(&self) -> Result<()> {
        self.resize(ROOM_BYTES)
    }

    fn resize(&self, bytes: u64) -> Result<()> {
        let options = format!("mode=0700,size={bytes}");
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(None::<&str>, self.path(), None::<&str>, flags, Some(options.as_str()))
            .with_context(|| format!("cannot give {} a size of {bytes} bytes", self.path().display()))
    }

    pub fn path(&self) -> &Path {
        &self.0.path
    }
}

/// Only root may enter it, and no test that is killed leaves more than the mount behind, which `sweep` finds by its name.
#[derive(Debug)]
struct Mounted {
    path: PathBuf,
}

impl Mounted {
    fn new(kind: &str, flags: MsFlags, hint: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        require_root()?;
        sweep()?;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(MOUNT_HOME).join(format!("{MOUNT_PREFIX}{}-{count}.{kind}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let mounted = Self { path };
        let flags = flags | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some(kind), &mounted.path, Some(kind), flags, Some("mode=0700"))
            .with_context(|| format!("cannot mount a {kind} file system: {hint}"))?;
        Ok(mounted)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = dismount(&self.path) {
            eprintln!("lab: {error:#}");
        }
    }
}

/// Removes what tests that were killed have left: their mounts. Everything else goes with the process.
/// Returns how many there were.
pub fn sweep() -> Result<usize> {
    let mut swept = 0;
    for entry in fs::read_dir(MOUNT_HOME).with_context(|| format!("cannot list {MOUNT_HOME}"))? {
        let path = entry?.path();
        if owner(&path).is_some_and(|pid| !is_alive(pid)) {
            dismount(&path)?;
            swept += 1;
        }
    }
    Ok(swept)
}

/// A killed process that its parent has not asked about yet still has a directory in /proc.
fn is_alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| Some(stat.rsplit_once(") ")?.1.to_owned()))
        .is_some_and(|state| !state.starts_with(['Z', 'X']))
}

fn owner(path: &Path) -> Option<u32> {
    let name = path.file_name()?.to_str()?;
    let (pid, _count) = name.strip_prefix(MOUNT_PREFIX)?.split_once('-')?;
    pid.parse().ok()
}

fn dismount(path: &Path) -> Result<()> {
    // Fails where nothing is mounted, which removing the directory then shows.
    let _ = umount2(path, MntFlags::MNT_DETACH);
    match fs::remove_dir(path) {
        // Another test may have swept the same leftover.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result.with_context(|| format!("cannot remove {}", path.display())),
    }
}

pub(crate) fn require_root() -> Result<()> {
    ensure!(
        geteuid().is_root(),
        "the gateway tests make network namespaces and need root: run them through `cargo xtask test`"
    );
    Ok(())
}
