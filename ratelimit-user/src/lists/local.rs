//! Lists in files and directories.

mod stamp;
#[cfg(test)]
mod tests;

use std::{
    ffi::OsStr,
    fs::{self, File, FileType, OpenOptions},
    io::{self, Read as _},
    os::unix::{ffi::OsStrExt as _, fs::OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use super::content::{Content, Piece, Validators};

pub use stamp::{Stamp, Watch};

/// A directory may hold as much as this many of the largest files.
const FULL_FILES: u64 = 8;
pub const MOST_FILES: usize = 4096;

#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    #[error("{}: {source}{}", path.display(), remedy(source))]
    File { path: PathBuf, source: io::Error },
    #[error("{}: neither a file nor a directory; lists are read from nothing else", path.display())]
    Kind { path: PathBuf },
    #[error("{}: larger than {most_bytes} bytes{}", path.display(), if *together { " together" } else { "" })]
    TooBig { path: PathBuf, most_bytes: u64, together: bool },
    #[error("{}: more than {MOST_FILES} files; is this the directory of the list?", path.display())]
    TooMany { path: PathBuf },
    #[error(
        "{}: no file in it that is read: names with a dot in front and *~, *.new and *.tmp are left out",
        path.display()
    )]
    Nothing { path: PathBuf },
    #[error("{}: changed while it was read; it is read again when it stays as it is", path.display())]
    Changing { path: PathBuf },
}

/// Reads a file, or every file of a directory by order of name. `most_bytes` is for one file; never waits for a writer.
pub fn read(path: &Path, most_bytes: u64) -> Result<Content, LocalError> {
    read_watched(path, most_bytes, || ())
}

/// `amid` is called when everything has been read and before it is known whether it was changed meanwhile.
fn read_watched(path: &Path, most_bytes: u64, amid: impl FnOnce()) -> Result<Content, LocalError> {
    let stamp = || Stamp::of(path).map_err(|source| LocalError::File { path: path.to_owned(), source });
    let before = stamp()?;
    let content = read_once(path, most_bytes)?;
    amid();
    if stamp()? != before {
        return Err(LocalError::Changing { path: path.to_owned() });
    }
    Ok(content)
}

fn read_once(path: &Path, most_bytes: u64) -> Result<Content, LocalError> {
    if !kind(path)?.is_dir() {
        return Ok(Content { pieces: vec![read_file(path, most_bytes)?] });
    }
    let mut content = Content::default();
    let mut room = most_bytes.saturating_mul(FULL_FILES);
    for file in files(path).map_err(|source| LocalError::File { path: path.to_owned(), source })? {
        if !kind(&file)?.is_file() {
            continue;
        }
        if content.pieces.len() == MOST_FILES {
            return Err(LocalError::TooMany { path: path.to_owned() });
        }
        let piece = read_file(&file, most_bytes)?;
        let most_bytes = most_bytes.saturating_mul(FULL_FILES);
        let too_big = || LocalError::TooBig { path: path.to_owned(), most_bytes, together: true };
        room = room.checked_sub(piece.bytes.len() as u64).ok_or_else(too_big)?;
        content.pieces.push(piece);
    }
    if content.pieces.is_empty() {
        return Err(LocalError::Nothing { path: path.to_owned() });
    }
    Ok(content)
}

fn read_file(path: &Path, most_bytes: u64) -> Result<Piece, LocalError> {
    let failed = |source| LocalError::File { path: path.to_owned(), source };
    let too_big = || LocalError::TooBig { path: path.to_owned(), most_bytes, together: false };
    // Opening a device may do something, so only what is a file is opened; what takes its place meanwhile is found out.
    if !kind(path)?.is_file() {
        return Err(LocalError::Kind { path: path.to_owned() });
    }
    let file = open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(LocalError::Kind { path: path.to_owned() });
    }
    if metadata.len() > most_bytes {
        return Err(too_big());
    }
    let mut bytes = Vec::new();
    file.take(most_bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > most_bytes {
        return Err(too_big());
    }
    Ok(Piece { name: path.display().to_string(), bytes, validators: Validators::default() })
}

/// Does not wait for somebody who writes into a pipe.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)
}

fn kind(path: &Path) -> Result<FileType, LocalError> {
    let metadata = fs::metadata(path).map_err(|source| LocalError::File { path: path.to_owned(), source })?;
    Ok(metadata.file_type())
}

/// What of a directory counts, by order of name; files and others.
fn files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if !is_left_out(&entry.file_name()) {
            files.push(entry.path());
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// What editors and programs write before, or leave beside, the file itself.
fn is_left_out(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name.starts_with(b".") || [&b"~"[..], b".new", b".tmp"].iter().any(|end| name.ends_with(end))
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "; write it, or correct `from`",
        io::ErrorKind::PermissionDenied => "; the controller must be able to read it",
        _ => "",
    }
}
