//! One process at a time makes the toolchain.

use std::fs::{self, File, TryLockError};
use std::path::Path;

use anyhow::Context;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

/// Held until dropped, and by the commands started meanwhile: when we are killed, a download that
/// still runs keeps the next process waiting instead of writing into the same files.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

pub fn acquire(dir: &Path) -> anyhow::Result<Lock> {
    let path = dir.join("lock");
    let context = || format!("cannot lock {}", path.display());
    fs::create_dir_all(dir).with_context(context)?;
    let file = File::create(&path).with_context(context)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            eprintln!("Another process is making the toolchain in {}; waiting.", dir.display());
            file.lock().with_context(context)?;
        }
        Err(TryLockError::Error(error)) => return Err(error).with_context(context),
    }
    fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty())).with_context(context)?;
    Ok(Lock { _file: file })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_started_command_keeps_the_lock() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let lock = acquire(dir.path()).expect("lock");
        let mut child = Command::new("sleep").arg("30").spawn().expect("sleep");
        drop(lock);
        let again = File::create(dir.path().join("lock")).expect("open");
        assert!(matches!(again.try_lock(), Err(TryLockError::WouldBlock)));
        child.kill().expect("kill");
        child.wait().expect("wait");
        again.try_lock().expect("free after the command ended");
    }
}
