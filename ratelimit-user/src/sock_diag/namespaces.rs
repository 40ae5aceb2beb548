//! The same question in every network namespace of the machine.

use std::{
    collections::{BTreeSet, HashSet},
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, AsRawFd},
        unix::{fs::MetadataExt, net::UnixDatagram},
    },
    path::{Path, PathBuf},
    thread,
};

use nix::sched::{CloneFlags, setns};

use crate::config::Namespaces;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answers<T> {
    /// One a namespace; the first is that of the asking thread's own.
    pub answers: Vec<T>,
    /// Processes whose namespace may not be looked at: without CAP_SYS_PTRACE, or where a security module forbids it. If
    /// no other process is in it, it has no answer.
    pub hidden: BTreeSet<u32>,
}

#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    #[error("cannot look at processes in {path}: {source}; is /proc mounted?")]
    Look { path: PathBuf, source: io::Error },
    #[error("cannot enter the network namespace {path}: {source}; run as root, or with CAP_SYS_ADMIN")]
    Enter { path: PathBuf, source: io::Error },
}

/// Runs `work` once in each network namespace; the first error ends it.
///
/// Others than the own one are entered by a thread that exists for it. Sockets that `work` makes stay in the namespace
/// where it made them.
pub fn in_namespaces<T: Send, E: From<NamespaceError> + Send>(
    which: Namespaces,
    work: impl Fn() -> Result<T, E> + Sync,
) -> Result<Answers<T>, E> {
    let mut found = Answers { answers: vec![work()?], hidden: BTreeSet::new() };
    match which {
        Namespaces::Host => Ok(found),
        Namespaces::All => {
            let own = Path::new("/proc/thread-self/ns/net");
            let own = fs::metadata(own).map_err(|source| NamespaceError::Look { path: own.to_owned(), source })?;
            thread::scope(|scope| {
                let visitor = scope.spawn(|| visit(Path::new("/proc"), own.ino(), &mut found, &work));
                visitor.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })?;
            Ok(found)
        }
    }
}

/// The number that BPF programs know the current network namespace by (`bpf_get_netns_cookie`).
pub fn namespace_cookie() -> io::Result<u64> {
    let socket = UnixDatagram::unbound()?;
    let mut cookie = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `cookie`, which is as long; both live until the call is over.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if answer == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}

/// Goes from namespace to namespace with this very thread.
fn visit<T, E: From<NamespaceError>>(
    proc: &Path,
    own: u64,
    found: &mut Answers<T>,
    work: impl Fn() -> Result<T, E>,
) -> Result<(), E> {
    let mut seen = HashSet::from([own]);
    for process in numbered(proc)? {
        let threads = proc.join(process.to_string()).join("task");
        for thread in numbered(&threads)? {
            let path = threads.join(thread.to_string()).join("ns/net");
            match look(&path, &mut seen)? {
                Sight::New(namespace) => {
                    setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET)
                        .map_err(|error| NamespaceError::Enter { path, source: error.into() })?;
                    found.answers.push(work()?);
                }
                Sight::Hidden => drop(found.hidden.insert(process)),
                Sight::Nothing => {}
            }
        }
    }
    Ok(())
}

/// Processes, or threads of one, by the directories that are called by their numbers; none of a process that has ended.
fn numbered(directory: &Path) -> Result<Vec<u32>, NamespaceError> {
    let names = fs::read_dir(directory)
        .and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>());
    match names {
        Ok(names) => Ok(names.iter().filter_map(|name| name.to_str()?.parse().ok()).collect()),
        Err(error) if has_ended(&error) => Ok(Vec::new()),
        Err(source) => Err(NamespaceError::Look { path: directory.to_owned(), source }),
    }
}

#[derive(Debug)]
enum Sight {
    New(File),
    /// A namespace that was seen already, or a thread that has ended.
    Nothing,
    Hidden,
}

/// Looks at the namespace of a thread.
fn look(path: &Path, seen: &mut HashSet<u64>) -> Result<Sight, NamespaceError> {
    let mut opened = || -> io::Result<Sight> {
        if seen.contains(&fs::metadata(path)?.ino()) {
            return Ok(Sight::Nothing);
        }
        // The thread may have gone elsewhere since: what was opened counts.
        let namespace = File::open(path)?;
        Ok(if seen.insert(namespace.metadata()?.ino()) { Sight::New(namespace) } else { Sight::Nothing })
    };
    match opened() {
        Ok(sight) => Ok(sight),
        Err(error) if has_ended(&error) => Ok(Sight::Nothing),
        // The kernel says so too of a thread that ends while it looks.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Ok(if is_there(path) { Sight::Hidden } else { Sight::Nothing })
        }
        Err(source) => Err(NamespaceError::Look { path: path.to_owned(), source }),
    }
}

fn has_ended(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}

/// Whether a thread is, by its directory in /proc, which holds `ns/net`.
fn is_there(path: &Path) -> bool {
    path.ancestors().nth(2).is_some_and(Path::exists)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_are_processes_and_who_has_ended_has_no_threads() {
        let proc = tempfile::tempdir().unwrap();
        for name in ["1", "20", "self", "1x", "net", "99999999999"] {
            fs::create_dir(proc.path().join(name)).unwrap();
        }
        let mut found = numbered(proc.path()).unwrap();
        found.sort_unstable();
        assert_eq!(found, [1, 20]);
        assert!(numbered(&proc.path().join("20/task")).unwrap().is_empty());
    }

    #[test]
    fn a_namespace_is_seen_once_and_not_that_of_a_thread_that_has_ended() {
        let proc = tempfile::tempdir().unwrap();
        let path = proc.path().join("net");
        fs::write(&path, "").unwrap();
        let mut seen = HashSet::new();
        assert!(matches!(look(&path, &mut seen).unwrap(), Sight::New(_)));
        assert!(matches!(look(&path, &mut seen).unwrap(), Sight::Nothing));
        assert!(matches!(look(&proc.path().join("gone"), &mut seen).unwrap(), Sight::Nothing));
    }

    #[test]
    fn the_own_namespace_is_asked_alone_by_the_thread_itself() {
        let found = in_namespaces(Namespaces::Host, || Ok::<_, NamespaceError>(thread::current().id())).unwrap();
        assert_eq!(found, Answers { answers: vec![thread::current().id()], hidden: BTreeSet::new() });
    }
}
