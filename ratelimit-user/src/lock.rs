//! One controller for each socket.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use nix::fcntl::{Flock, FlockArg};

/// Held for as long as a controller runs; the kernel lets go of it however the controller ends.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error(
        "a controller is already running (pid {pid}, {}): use `ratelimit reload` to change what it does, \
         or `ratelimit detach` to end it",
        path.display()
    )]
    Held { pid: String, path: PathBuf },
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
}

impl Lock {
    /// Takes the lock beside a socket.
    pub fn take(socket: &Path) -> Result<Self, LockError> {
        let path = path_beside(socket);
        let fail = |source| LockError::File { path: path.clone(), source };
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(fail)?;
        }
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        match Flock::lock(file.map_err(fail)?, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                let written = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
                written.map_err(fail)?;
                Ok(Self { _file: file })
            }
            Err((mut file, nix::Error::EWOULDBLOCK)) => {
                let mut pid = String::new();
                file.read_to_string(&mut pid).map_err(fail)?;
                Err(LockError::Held { pid: pid.trim().to_owned(), path })
            }
            Err((_, error)) => Err(fail(error.into())),
        }
    }
}

fn path_beside(socket: &Path) -> PathBuf {
    let mut path = socket.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_controller_is_told_of_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control.sock");
        let first = Lock::take(&socket).unwrap();
        let error = Lock::take(&socket).unwrap_err().to_string();
        assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
        drop(first);
        Lock::take(&socket).unwrap();
    }
}
