//! Files that are there as a whole or not at all.

use std::{
    fs::File,
    io::{self, BufWriter, Write as _},
    path::Path,
};

/// How files begin that are not whole yet. No list's name begins like this.
pub(super) const TEMPORARY: &str = ".new-";

/// Replaces a file by what `fill` writes. When this returns it survives a power cut; when it fails the old file is
/// as it was.
pub(super) fn replace(path: &Path, fill: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    // Readable by the owner alone, and removed if it does not get its name.
    let new = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(directory)?;
    let mut writer = BufWriter::new(new.as_file());
    fill(&mut writer)?;
    writer.flush()?;
    drop(writer);
    new.as_file().sync_all()?;
    new.persist(path).map_err(|error| error.error)?;
    File::open(directory)?.sync_all()
}
