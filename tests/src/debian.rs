//! The Debian root that mail servers, clients and attack tools run in, and the accounts and files they expect there.
//!
//! `cargo xtask` makes the tree. Each `DebianRoot` lays a writable layer in memory over it, in mount and process namespaces
//! of its own: the tree never changes, two roots never meet, and when the root's first process ends, which it does when the
//! test does, the kernel ends all the others and drops the mounts.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{ChildStdin, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{chdir, pivot_root};

use crate::netns::{Namespace, require_root};
use crate::process::{Place, Process, Processes, Task};

/// Where `cargo xtask` says the tree is.
pub const ROOT_VARIABLE: &str = "RATELIMIT_DEBIAN_ROOT";

/// Every account of the servers, as Debian's maintainer scripts would have made them.
#[derive(Debug, Clone, Copy)]
pub struct Account {
    pub name: &'static str,
    pub id: u32,
    home: &'static str,
}

pub const POSTFIX: Account = account("postfix", 101, "/var/spool/postfix");
pub const DOVECOT: Account = account("dovecot", 102, "/usr/lib/dovecot");
pub const DOVENULL: Account = account("dovenull", 103, "/nonexistent");
pub const POSTDROP: Account = account("postdrop", 104, "/nonexistent");
/// Owns the mailboxes. Dovecot refuses identities below 500.
pub const VMAIL: Account = account("vmail", 5000, "/var/vmail");
const ROOT: Account = account("root", 0, "/root");
const NOBODY: Account = account("nobody", 65534, "/nonexistent");
const ACCOUNTS: [Account; 7] = [ROOT, POSTFIX, DOVECOT, DOVENULL, POSTDROP, VMAIL, NOBODY];

const fn account(name: &'static str, id: u32, home: &'static str) -> Account {
    Account { name, id, home }
}

/// The servers run as several users, so the mask of whoever runs the tests must not decide what they can read.
pub(crate) const OPEN: Mode = Mode::from_bits_truncate(0o022);

const DEVICES: [&str; 6] = ["full", "null", "random", "tty", "urandom", "zero"];

/// How old a written file looks.
const AGE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct DebianRoot {
    mounts: Arc<OwnedFd>,
    processes: Arc<OwnedFd>,
    /// The first process reads from here until the end of the input, which comes even if the test is killed.
    lifeline: Option<ChildStdin>,
    first: Process,
}

impl DebianRoot {
    /// A fresh root over the tree that `RATELIMIT_DEBIAN_ROOT` names.
    pub fn new() -> Result<Self> {
        let tree = std::env::var_os(ROOT_VARIABLE)
            .with_context(|| format!("{ROOT_VARIABLE} is not set: run the tests through `cargo xtask test`"))?;
        Self::over(Path::new(&tree))
    }

    pub fn over(tree: &Path) -> Result<Self> {
        require_root()?;
        let tree = tree.to_owned();
        let mounts = thread::spawn(move || assemble(&tree))
            .join()
            .map_err(|_| anyhow!("the thread that mounts the Debian root panicked"))??;
        let mounts = Arc::new(mounts);
        let mut first = start_first(&mounts)?;
        let processes = File::open(format!("/proc/{}/ns/pid", first.id()))
            .context("cannot open the process namespace of the Debian root")?;
        Ok(Self { lifeline: first.take_stdin(), mounts, processes: Arc::new(processes.into()), first })
    }

    /// A program of the root, in a network namespace.
    pub fn command(&self, namespace: &Namespace, program: impl AsRef<OsStr>) -> Task {
        let place = Place {
            mounts: Some(Arc::clone(&self.mounts)),
            processes: Processes::In(Arc::clone(&self.processes)),
            ..namespace.place()
        };
        inside(Task::new(program, place))
    }

    pub fn write(&self, path: &str, contents: &str) -> Result<()> {
        self.enter(|| {
            if let Some(directory) = Path::new(path).parent() {
                fs::create_dir_all(directory)?;
            }
            let mut file = File::create(path)?;
            file.write_all(contents.as_bytes())?;
            // Postfix takes a configuration that has just changed for one still being edited, and waits.
            file.set_modified(SystemTime::now() - AGE)
        })?
        .with_context(|| format!("cannot write {path} in the Debian root"))
    }

    /// A file to append to, made if need be.
    pub fn open_log(&self, path: &str) -> Result<File> {
        self.enter(|| File::options().create(true).append(true).open(path))?
            .with_context(|| format!("cannot open {path} in the Debian root"))
    }

    /// Empty where there is no such file, or not yet.
    pub fn read(&self, path: &str) -> Result<String> {
        match self.enter(|| fs::read(path))? {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(error).context(format!("cannot read {path} in the Debian root")),
        }
    }

    /// The names in a directory; none where there is no such directory, or not yet.
    pub fn list(&self, path: &str) -> Result<Vec<OsString>> {
        self.enter(|| {
            fs::read_dir(path)
                .map_or_else(|_| Vec::new(), |entries| entries.flatten().map(|entry| entry.file_name()).collect())
        })
    }

    /// Makes a directory, or takes an existing one over, with the given owner and permissions.
    pub fn directory(&self, path: &str, owner: u32, group: u32, mode: u32) -> Result<()> {
        self.enter(|| {
            fs::create_dir_all(path)?;
            std::os::unix::fs::chown(path, Some(owner), Some(group))?;
            fs::set_permissions(path, fs::Permissions::from_mode(mode))
        })?
        .with_context(|| format!("cannot prepare the directory {path} in the Debian root"))
    }

    /// Runs `work` on a thread whose `/` is the root; the network stays the test's own.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            let thread = scope.spawn(|| -> Result<T> {
                // A thread can change its mounts only when it shares its root and working directory with no other.
                unshare(CloneFlags::CLONE_FS).context("cannot leave the shared root")?;
                setns(self.mounts.as_fd(), CloneFlags::CLONE_NEWNS).context("cannot enter the Debian root")?;
                umask(OPEN);
                Ok(work())
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for DebianRoot {
    /// When this returns, no process of the root is left: its first process ends only after all others.
    fn drop(&mut self) {
        self.lifeline = None;
        if let Err(error) = self.first.kill() {
            eprintln!("lab: cannot end the Debian root: {error:#}");
        }
    }
}

fn inside(task: Task) -> Task {
    task.clean_env().env("PATH", "/usr/sbin:/usr/bin").env("HOME", "/root").env("LC_ALL", "C").env("TZ", "UTC")
}

/// `/proc` shows the processes of the namespace that mounts it, so the first process of that namespace does.
fn start_first(mounts: &Arc<OwnedFd>) -> Result<Process> {
    let place = Place { network: None, mounts: Some(Arc::clone(mounts)), processes: Processes::First };
    let mut first = inside(Task::new("sh", place))
        .args(["-c", "mount -t proc proc /proc && echo ready && exec cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the first process of the Debian root")?;
    let mut answer = String::new();
    let stdout = first.take_stdout().context("no output to read from")?;
    BufReader::new(stdout).read_line(&mut answer).context("cannot read from the first process of the Debian root")?;
    ensure!(answer == "ready\n", "the first process of the Debian root could not mount /proc");
    Ok(first)
}

/// Builds the root in a new mount namespace, on the calling thread, and returns the namespace.
fn assemble(tree: &Path) -> Result<OwnedFd> {
    ensure!(
        tree.join("usr/sbin/postfix").exists() && tree.join("usr/sbin/dovecot").exists(),
        "{} holds no Postfix and Dovecot: remove it, and `cargo xtask test` makes it again",
        tree.display()
    );
    unshare(CloneFlags::CLONE_NEWNS).context("cannot make a mount namespace")?;
    umask(OPEN);
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("cannot make the mounts private")?;
    let lower = File::open(tree)
        .with_context(|| format!("cannot open the Debian tree {}: `cargo xtask test` makes it", tree.display()))?;
    // Any directory will do: what it hides, it hides in this namespace alone. The tree may be below it, hence the descriptor.
    let memory = Path::new("/tmp");
    tmpfs(memory, "mode=0755")?;
    let (upper, work, root) = (memory.join("upper"), memory.join("work"), memory.join("root"));
    for directory in [&upper, &work, &root] {
        fs::create_dir(directory)?;
    }
    fs::set_permissions(&upper, fs::Permissions::from_mode(0o755))?;
    let options =
        format!("lowerdir=/proc/self/fd/{},upperdir={},workdir={}", lower.as_raw_fd(), upper.display(), work.display());
    mount(Some("overlay"), &root, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
        .context("cannot mount an overlay over the Debian tree: does this kernel have overlayfs (modprobe overlay)?")?;
    furnish(&root)?;
    let namespace = File::open("/proc/thread-self/ns/mnt").context("cannot open the mount namespace")?;
    // Not chroot: the machine's mounts would stay in this namespace and keep a BPF file system's pins alive.
    chdir(&root)?;
    pivot_root(".", ".").context(
        "cannot make the Debian tree the root: the tests run on a machine or in a container, not inside a chroot",
    )?;
    umount2(".", MntFlags::MNT_DETACH).context("cannot let go of the machine's own root")?;
    Ok(namespace.into())
}

fn tmpfs(path: &Path, options: &str) -> Result<()> {
    mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), Some(options))
        .with_context(|| format!("cannot mount a tmpfs on {}", path.display()))
}

/// What a running Debian has and an extracted one lacks.
fn furnish(root: &Path) -> Result<()> {
    let devices = root.join("dev");
    tmpfs(&devices, "mode=0755")?;
    for device in DEVICES {
        let path = devices.join(device);
        File::create(&path)?;
        // Bound rather than made: a container may bind devices but not make them.
        let none = None::<&str>;
        mount(Some(&Path::new("/dev").join(device)), &path, none, MsFlags::MS_BIND, none)
            .with_context(|| format!("cannot bind /dev/{device}"))?;
    }
    symlink("/proc/self/fd", devices.join("fd"))?;
    for directory in ["proc", "run/lock", "tmp", "dev/shm"] {
        fs::create_dir_all(root.join(directory))?;
    }
    for shared in ["tmp", "dev/shm"] {
        fs::set_permissions(root.join(shared), fs::Permissions::from_mode(0o1777))?;
    }
    for (directory, target) in [("var/run", "/run"), ("var/lock", "/run/lock")] {
        let path = root.join(directory);
        if path.is_dir() && !path.is_symlink() {
            fs::remove_dir_all(&path)?;
        }
        if !path.is_symlink() {
            symlink(target, &path)?;
        }
    }
    for (file, contents) in system_files() {
        let path = root.join("etc").join(file);
        fs::write(&path, contents).with_context(|| format!("cannot write /etc/{file} of the Debian root"))?;
    }
    Ok(())
}

fn system_files() -> [(&'static str, String); 6] {
    let passwd = ACCOUNTS.map(|Account { name, id, home }| format!("{name}:x:{id}:{id}::{home}:/bin/sh\n"));
    let group = ACCOUNTS.map(|Account { name, id, .. }| format!("{name}:x:{id}:\n"));
    [
        ("passwd", passwd.concat()),
        ("group", group.concat()),
        ("hosts", "127.0.0.1 localhost\n::1 localhost\n".to_owned()),
        ("mailname", "mail.example.test\n".to_owned()),
        // Nobody answers there, so nothing waits for a name.
        ("resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n".to_owned()),
        ("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n".to_owned()),
    ]
}
