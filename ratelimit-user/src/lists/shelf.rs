//! The last good copy of every list, on disk: what is in force when a restart finds the network down.
//!
//! A copy is two files. `LIST.DIGEST` holds the bytes and is written first; `LIST.json` says what they are and names
//! their digest, and is replaced last and as a whole. So a crash leaves the old copy or the new one, and at most a file
//! that nothing names, which goes when the shelf is opened. A copy that waits to be accepted lies beside, under
//! `LIST.candidate.json`.

mod disk;
mod record;
#[cfg(test)]
mod tests;

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use self::{
    disk::{TEMPORARY, replace},
    record::{Damage, Record},
};
use super::content::Content;
use crate::config::LONGEST_LIST_NAME;

/// Used by the controller alone, and by one thread at a time for the same list.
#[derive(Debug)]
pub struct Shelf {
    directory: PathBuf,
}

/// A copy as it was put there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub content: Content,
    pub facts: Facts,
}

/// What is to be known of a copy. Times are seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The marks of the list's sources: where they are others now, the copy is not of this list.
    pub from: Vec<String>,
    /// When the content came first.
    pub fetched_s: u64,
    /// When it was last known to be what the sources hold.
    pub confirmed_s: u64,
    /// Of a copy that waits: every time it came.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seen_s: Vec<u64>,
}

#[derive(Debug, thiserror::Error)]
pub enum ShelfError {
    #[error("{}: {source}; the last good copies of lists are kept there", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("{list:?} is no name of a list")]
    Name { list: String },
    #[error("{}: {source}; this copy is not used, and is replaced when the list comes next", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: {damage}; this copy is not used, and is replaced when the list comes next", path.display())]
    Damaged { path: PathBuf, damage: Damage },
    #[error("{}: there is no copy to confirm", path.display())]
    Missing { path: PathBuf },
    #[error("{}: {source}; {}. {}", path.display(), slot.loss(), remedy(source))]
    Write { path: PathBuf, slot: Slot, source: io::Error },
}

/// What a copy is to its list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    Good,
    Candidate,
}

impl Slot {
    const ALL: [Self; 2] = [Self::Good, Self::Candidate];

    const fn ending(self) -> &'static str {
        match self {
            Self::Good => "json",
            Self::Candidate => "candidate.json",
        }
    }

    /// What it means that a copy was not written.
    const fn loss(self) -> &'static str {
        match self {
            Self::Good => "no copy is kept: the list is in force, but a restart would bring back the older copy",
            Self::Candidate => "the copy that waits to be accepted is forgotten at a restart",
        }
    }
}

impl Shelf {
    /// Makes the directory if it is missing, and removes what a crash left behind.
    pub fn open(state: &Path) -> Result<Self, ShelfError> {
        let directory = state.join("lists");
        let prepare = || {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
            fs::set_permissions(&directory, fs::Permissions::from_mode(0o700))?;
            names(&directory)
        };
        let names = prepare().map_err(|source| ShelfError::Directory { path: directory.clone(), source })?;
        let shelf = Self { directory };
        for name in &names {
            match place(name) {
                Place::Temporary => shelf.remove(name),
                Place::Content { list, .. } | Place::Facts { list } => shelf.tidy(list),
                Place::Foreign => {}
            }
        }
        Ok(shelf)
    }

    /// The last good copy. An error is no reason to stop: the list is without a copy then.
    pub fn load(&self, list: &str) -> Result<Option<Kept>, ShelfError> {
        self.load_from(list, Slot::Good)
    }

    /// The copy that waits to be accepted.
    pub fn candidate(&self, list: &str) -> Result<Option<Kept>, ShelfError> {
        self.load_from(list, Slot::Candidate)
    }

    /// Takes the place of the last good copy; where the bytes are the same, only what is said of them is written.
    pub fn keep(&self, list: &str, content: &Content, facts: &Facts) -> Result<(), ShelfError> {
        self.save(list, Slot::Good, content, facts)
    }

    /// Keeps a copy that waits, in place of one that waited before.
    pub fn set_aside(&self, list: &str, content: &Content, facts: &Facts) -> Result<(), ShelfError> {
        self.save(list, Slot::Candidate, content, facts)
    }

    /// The last good copy is still good, and this is to be known of it now.
    pub fn confirm(&self, list: &str, facts: &Facts) -> Result<(), ShelfError> {
        let path = self.facts_path(list, Slot::Good)?;
        let mut record = Record::read(&path)?.ok_or_else(|| ShelfError::Missing { path: path.clone() })?;
        record.facts = facts.clone();
        self.write_record(&path, Slot::Good, &record)
    }

    pub fn drop_candidate(&self, list: &str) -> Result<(), ShelfError> {
        let path = self.facts_path(list, Slot::Candidate)?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(ShelfError::Write { path, slot: Slot::Candidate, source }),
            Ok(()) => {
                self.tidy(list);
                Ok(())
            }
        }
    }

    /// Removes the copies of all lists but these.
    pub fn forget_others(&self, known: &[&str]) -> io::Result<()> {
        for name in names(&self.directory)? {
            match place(&name) {
                Place::Content { list, .. } | Place::Facts { list } if !known.contains(&list) => {
                    fs::remove_file(self.directory.join(&name))?;
                }
                Place::Content { .. } | Place::Facts { .. } | Place::Temporary | Place::Foreign => {}
            }
        }
        Ok(())
    }

    fn load_from(&self, list: &str, slot: Slot) -> Result<Option<Kept>, ShelfError> {
        let path = self.facts_path(list, slot)?;
        let Some(record) = Record::read(&path)? else {
            return Ok(None);
        };
        let content = record.content(&self.content_path(list, &record.digest))?;
        Ok(Some(Kept { content, facts: record.facts }))
    }

    fn save(&self, list: &str, slot: Slot, content: &Content, facts: &Facts) -> Result<(), ShelfError> {
        let facts_path = self.facts_path(list, slot)?;
        let record = Record::of(content, facts);
        let path = self.content_path(list, &record.digest);
        // A copy that was damaged on the disk is written again.
        if record.content(&path).is_err() {
            replace(&path, |file| content.pieces.iter().try_for_each(|piece| io::Write::write_all(file, &piece.bytes)))
                .map_err(|source| ShelfError::Write { path, slot, source })?;
        }
        let written = self.write_record(&facts_path, slot, &record);
        self.tidy(list);
        written
    }

    fn write_record(&self, path: &Path, slot: Slot, record: &Record) -> Result<(), ShelfError> {
        replace(path, |file| Ok(serde_json::to_writer_pretty(file, record)?)).map_err(|source| ShelfError::Write {
            path: path.to_owned(),
            slot,
            source,
        })
    }

    /// Removes the contents of a list that nothing names. Where it cannot be read what is named, nothing is removed.
    fn tidy(&self, list: &str) {
        let mut named = Vec::new();
        for slot in Slot::ALL {
            match self.facts_path(list, slot).and_then(|path| Record::read(&path)) {
                Ok(record) => named.extend(record.map(|record| record.digest)),
                Err(_) => return,
            }
        }
        for name in names(&self.directory).unwrap_or_default() {
            match place(&name) {
                Place::Content { list: of, digest } if of == list && !named.iter().any(|named| named == digest) => {
                    self.remove(&name);
                }
                Place::Content { .. } | Place::Facts { .. } | Place::Temporary | Place::Foreign => {}
            }
        }
    }

    /// What is left takes room, no more: it is tried again when the shelf is opened.
    fn remove(&self, name: &str) {
        let path = self.directory.join(name);
        if let Err(error) = fs::remove_file(&path) {
            tracing::warn!(path = %path.display(), %error, "cannot remove an old copy of a list");
        }
    }

    fn facts_path(&self, list: &str, slot: Slot) -> Result<PathBuf, ShelfError> {
        if !is_list_name(list) {
            return Err(ShelfError::Name { list: list.to_owned() });
        }
        Ok(self.directory.join(format!("{list}.{}", slot.ending())))
    }

    /// Both have been checked.
    fn content_path(&self, list: &str, digest: &str) -> PathBuf {
        self.directory.join(format!("{list}.{digest}"))
    }
}

/// What a file of the directory is, by its name.
enum Place<'a> {
    Facts { list: &'a str },
    Content { list: &'a str, digest: &'a str },
    Temporary,
    Foreign,
}

fn place(name: &str) -> Place<'_> {
    if name.starts_with(TEMPORARY) {
        return Place::Temporary;
    }
    match name.split_once('.') {
        Some((list, ending)) if is_list_name(list) => {
            if Slot::ALL.iter().any(|slot| slot.ending() == ending) {
                Place::Facts { list }
            } else if record::is_digest(ending) {
                Place::Content { list, digest: ending }
            } else {
                Place::Foreign
            }
        }
        Some(_) | None => Place::Foreign,
    }
}

fn is_list_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    (1..=LONGEST_LIST_NAME).contains(&name.len()) && name.bytes().all(is_allowed)
}

/// The names in a directory; those that are not UTF-8 are not ours.
fn names(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        names.extend(entry?.file_name().into_string().ok());
    }
    Ok(names)
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "There is no room: make some on that disk",
        _ => "See that the controller can write there",
    }
}
