//! Whether a file or directory has changed, without reading it.

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::files;

/// How a file, or every file of a directory, looks from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// `None` for a link that leads nowhere.
    files: Vec<(PathBuf, Option<Look>)>,
}

/// The time of the last change of the inode is in it: whoever writes in place can set the time of the file back, but
/// not that one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    device: u64,
    inode: u64,
    bytes: u64,
    /// Seconds and nanoseconds.
    written: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        if !metadata.is_dir() {
            return Ok(Self { files: vec![(path.to_owned(), Some(Look::of(&metadata)))] });
        }
        let mut stamped = Vec::new();
        for file in files(path)? {
            let look = match fs::metadata(&file) {
                Ok(metadata) if metadata.is_dir() => continue,
                Ok(metadata) => Some(Look::of(&metadata)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            };
            stamped.push((file, look));
        }
        Ok(Self { files: stamped })
    }
}

impl Look {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.size(),
            written: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Tells when a file or directory is to be read again. Asked at intervals: a replaced file is told at the second look,
/// one that is written in place when its writer has been quiet from one look to the next.
#[derive(Clone, Debug)]
pub struct Watch {
    path: PathBuf,
    /// At the last look; `None` if there was nothing to see.
    last: Option<Stamp>,
    told: Option<Stamp>,
}

impl Watch {
    /// Whoever watches reads the file after this, not before.
    pub fn new(path: &Path) -> Self {
        let now = Stamp::of(path).ok();
        Self { path: path.to_owned(), last: now.clone(), told: now }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it changed (or came, or went) and has stayed so since the last look. Told once.
    pub fn has_changed(&mut self) -> bool {
        let now = Stamp::of(&self.path).ok();
        let is_settled = now == self.last;
        self.last = now;
        if !is_settled || self.last == self.told {
            return false;
        }
        self.told.clone_from(&self.last);
        true
    }
}
