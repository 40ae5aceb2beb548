//! From what a list's sources hold to the networks that may reach the gate.

use std::{net::IpAddr, sync::Arc, time::Duration};

use super::{
    Networks,
    content::Content,
    format::{self, Bad, Found, Parsed, Reading, Unreadable},
    screen::{Refusals, Screened, screen},
};
use crate::config::{Format, List};

/// A list that was read, with everything that was found wrong with it.
#[derive(Clone, Debug, Default)]
pub struct Read {
    pub networks: Arc<Networks>,
    /// Lines or records that name networks, before anything was refused.
    pub entries: u64,
    /// Good lines that list nothing: too small a count, a time that is over, a country.
    pub left_out: u64,
    /// What each piece was read as.
    pub formats: Vec<Format>,
    /// Lines that do not read, by the name of their piece.
    pub bad: Vec<(String, Bad)>,
    pub refused: Refusals,
    /// Copyright and terms, as the publisher writes them.
    pub notices: Vec<String>,
    /// When the first of the entries ends that have an end of their own, counted from when it was read.
    pub next_end: Option<Duration>,
}

/// A piece that is no list.
#[derive(Debug, thiserror::Error)]
#[error("{piece}: {source}")]
pub struct ReadError {
    pub piece: String,
    pub source: Unreadable,
}

/// A line that says something of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub piece: String,
    pub found: Found,
}

impl Read {
    pub fn bad_lines(&self) -> u64 {
        self.bad.iter().map(|(_, bad)| bad.count).sum()
    }
}

/// Reads a content that came so long ago. One piece that is no list is enough to refuse it all.
pub fn read(content: &Content, list: &List, age: Duration) -> Result<Read, ReadError> {
    let mut read = Read::default();
    let mut all: Option<Networks> = None;
    for piece in &content.pieces {
        let parsed = format::parse(&piece.bytes, &reading(list, age))
            .map_err(|source| ReadError { piece: piece.name.clone(), source })?;
        let Parsed { format, networks, entries, left_out, bad, notices, next_end } = parsed;
        read.entries += entries;
        read.left_out += left_out;
        read.formats.push(format);
        if bad.count > 0 {
            read.bad.push((piece.name.clone(), bad));
        }
        for notice in notices {
            if !read.notices.contains(&notice) {
                read.notices.push(notice);
            }
        }
        read.next_end = [read.next_end, next_end].into_iter().flatten().min();
        all = Some(match all {
            Some(before) => before.union(&networks),
            None => networks,
        });
    }
    let Screened { networks, refused } = screen(all.unwrap_or_default(), list.private);
    (read.networks, read.refused) = (Arc::new(networks), refused);
    Ok(read)
}

/// The lines of a content that say something of an address.
pub fn find(content: &Content, list: &List, age: Duration, address: IpAddr) -> Vec<Line> {
    let lines = content.pieces.iter().flat_map(|piece| {
        // What does not read now did when it was taken; there is no line to show then.
        let found = format::find(&piece.bytes, &reading(list, age), address).unwrap_or_default();
        found.into_iter().map(|found| Line { piece: piece.name.clone(), found })
    });
    lines.collect()
}

fn reading(list: &List, age: Duration) -> Reading {
    Reading { format: list.format, min_count: list.min_count, age }
}
