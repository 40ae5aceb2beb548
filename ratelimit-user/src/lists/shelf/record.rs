//! What is written down of a copy, and whether the copy is still that.

use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::{Facts, ShelfError};
use crate::lists::content::{Content, Piece, Validators};

/// Enough for the names of all files of the fullest directory.
const MOST_RECORD_BYTES: u64 = 32 * 1024 * 1024;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) digest: String,
    pieces: Vec<Part>,
    pub(super) facts: Facts,
}

/// One piece; its bytes lie behind those of the piece before.
#[derive(Debug, Serialize, Deserialize)]
struct Part {
    name: String,
    bytes: u64,
    #[serde(default)]
    validators: Validators,
}

/// How a copy is not what was put there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The record is not what ratelimit wrote.
    Record(String),
    /// In bytes.
    Length {
        said: u64,
        found: u64,
    },
    Digest,
}

impl Record {
    pub(super) fn of(content: &Content, facts: &Facts) -> Self {
        let part = |piece: &Piece| Part {
            name: piece.name.clone(),
            bytes: piece.bytes.len() as u64,
            validators: piece.validators.clone(),
        };
        Self { digest: content.digest(), pieces: content.pieces.iter().map(part).collect(), facts: facts.clone() }
    }

    /// `None` if there is no such file.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, ShelfError> {
        let read = || {
            let mut bytes = Vec::new();
            File::open(path)?.take(MOST_RECORD_BYTES).read_to_end(&mut bytes)?;
            io::Result::Ok(bytes)
        };
        let bytes = match read() {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(ShelfError::Read { path: path.to_owned(), source }),
        };
        let damaged = |why| ShelfError::Damaged { path: path.to_owned(), damage: Damage::Record(why) };
        let record: Self = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        // It becomes part of a path.
        if !is_digest(&record.digest) {
            return Err(damaged("the digest is none".to_owned()));
        }
        Ok(Some(record))
    }

    /// Reads the bytes that belong to it.
    pub(super) fn content(&self, path: &Path) -> Result<Content, ShelfError> {
        let failed = |source| ShelfError::Read { path: path.to_owned(), source };
        let damaged = |damage| ShelfError::Damaged { path: path.to_owned(), damage };
        let said = self.pieces.iter().fold(0_u64, |sum, part| sum.saturating_add(part.bytes));
        let mut file = File::open(path).map_err(failed)?;
        let found = file.metadata().map_err(failed)?.len();
        // Nothing is reserved for what a record says before the file is known to be that long.
        if found != said {
            return Err(damaged(Damage::Length { said, found }));
        }
        let mut content = Content::default();
        for part in &self.pieces {
            let mut bytes = Vec::new();
            file.by_ref().take(part.bytes).read_to_end(&mut bytes).map_err(failed)?;
            content.pieces.push(Piece { name: part.name.clone(), bytes, validators: part.validators.clone() });
        }
        if content.digest() != self.digest {
            return Err(damaged(Damage::Digest));
        }
        Ok(content)
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record(why) => write!(out, "not what ratelimit wrote ({why})"),
            Self::Length { said, found } => write!(out, "{found} bytes, and {said} were written"),
            Self::Digest => write!(out, "other bytes than were written"),
        }
    }
}

pub(super) fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
