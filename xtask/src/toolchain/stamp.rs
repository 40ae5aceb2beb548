//! What was proven usable, so that it need not be proven again.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::Toolchain;
use crate::process;

#[derive(Serialize, Deserialize)]
struct Stamp {
    toolchain: Toolchain,
    files: Vec<Fingerprint>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Fingerprint {
    path: PathBuf,
    length_bytes: u64,
    modified_s: i64,
    modified_ns: i64,
}

/// The toolchain proven last, if its files are still the same.
pub fn read(dir: &Path) -> Option<Toolchain> {
    let stamp: Stamp = serde_json::from_slice(&fs::read(file(dir)).ok()?).ok()?;
    let now = fingerprints(&stamp.toolchain).ok()?;
    (now == stamp.files).then_some(stamp.toolchain)
}

pub fn write(dir: &Path, toolchain: &Toolchain) -> anyhow::Result<()> {
    let files = fingerprints(toolchain)?;
    let stamp = Stamp { toolchain: toolchain.clone(), files };
    process::write_atomically(&file(dir), &serde_json::to_vec_pretty(&stamp)?, 0o644)
}

fn file(dir: &Path) -> PathBuf {
    dir.join("stamp.json")
}

fn fingerprints(toolchain: &Toolchain) -> anyhow::Result<Vec<Fingerprint>> {
    let fingerprint = |path: &Path| {
        let meta = fs::metadata(path).with_context(|| path.display().to_string())?;
        Ok(Fingerprint {
            path: path.to_path_buf(),
            length_bytes: meta.len(),
            modified_s: meta.mtime(),
            modified_ns: meta.mtime_nsec(),
        })
    };
    toolchain.files().into_iter().map(fingerprint).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toolchain::Compiler;

    #[test]
    fn a_stamp_holds_until_a_file_changes_or_goes() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let (rustc, linker) = (dir.path().join("rustc"), dir.path().join("linker"));
        fs::write(&rustc, "1").expect("write");
        fs::write(&linker, "1").expect("write");
        let toolchain = Toolchain { compiler: Compiler::Debian { rustc: rustc.clone() }, linker: linker.clone() };
        assert_eq!(read(dir.path()), None);
        write(dir.path(), &toolchain).expect("write");
        assert_eq!(read(dir.path()), Some(toolchain.clone()));
        fs::write(&linker, "upgraded").expect("write");
        assert_eq!(read(dir.path()), None);
        write(dir.path(), &toolchain).expect("write");
        fs::remove_file(&rustc).expect("remove");
        assert_eq!(read(dir.path()), None);
    }

    #[test]
    fn half_a_stamp_is_none() {
        let dir = tempfile::tempdir().expect("temporary directory");
        fs::write(file(dir.path()), "{\"toolchain\":{\"comp").expect("write");
        assert_eq!(read(dir.path()), None);
    }
}
