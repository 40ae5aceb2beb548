//! Work inside a network namespace that is given by its path.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, setns};

/// Moves the calling thread, for good.
///
/// # Errors
///
/// If the namespace is the one this process was started in: what the lab sends must never reach a real network.
pub(crate) fn enter(namespace: &Path) -> Result<()> {
    let file = File::open(namespace).with_context(|| format!("no namespace at {}", namespace.display()))?;
    let inside = file.metadata()?;
    let own = fs::metadata("/proc/self/ns/net").context("cannot look at the namespace of this process")?;
    ensure!(
        (inside.dev(), inside.ino()) != (own.dev(), own.ino()),
        "{} is not a namespace of the lab",
        namespace.display()
    );
    setns(&file, CloneFlags::CLONE_NEWNET).with_context(|| format!("cannot enter {}", namespace.display()))
}

/// Runs `work` on a thread inside the namespace; sockets and BPF links it makes stay valid outside.
pub(crate) fn within<T: Send>(namespace: &Path, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            enter(namespace)?;
            work()
        });
        inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
