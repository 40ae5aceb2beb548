//! What the files of lists say: bytes in, networks out.
//!
//! One way: *bytes → `unpack` → `text` → `recognise` → a format's `read` → `Sink`*. A format says line by line what it
//! reads; who listens either takes it all down ([`parse`]) or looks for one address ([`find`]).

mod count;
mod crowdsec;
mod drop;
mod drop_json;
mod error;
mod exclusion;
mod find;
mod go_duration;
mod plain;
mod range;
mod rbldnsd;
mod recognise;
mod shadowserver;
mod tally;
mod text;
mod unpack;

#[cfg(test)]
mod tests;

use std::{net::IpAddr, time::Duration};

use serde::Serialize;

pub use error::{Problem, Unreadable};

use self::{find::Finder, range::Range, tally::Tally, text::Line};
use super::Networks;
use crate::config::{Format, Network};

/// More networks than this are no list; they would take half a GiB while they are read.
pub const MOST_NETWORKS: usize = 16 << 20;
/// More bad lines than this many percent are no list either.
pub const MOST_BAD_PERCENT: u64 = 5;
/// How many bad lines, notices and places of an address are kept.
pub const MOST_BAD_KEPT: usize = 10;
pub const MOST_NOTICES: usize = 10;
pub const MOST_FOUND: usize = 100;

/// How a list is to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// `None` recognises it.
    pub format: Option<Format>,
    /// Of an address with a count, the least that is taken.
    pub min_count: u64,
    /// Since it was fetched: what lasts for a time lasts from then.
    pub age: Duration,
}

/// What a list says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// As told, or as recognised.
    pub format: Format,
    /// Without what the list excludes itself.
    pub networks: Networks,
    /// Lines or records that list something.
    pub entries: u64,
    /// Lines or records that are good and list nothing: too small a count, a duration that is over, a country.
    pub left_out: u64,
    pub bad: Bad,
    /// Copyright and terms, in the publisher's words.
    pub notices: Vec<String>,
    /// When the first of the entries that last for a time ends, from now.
    pub next_end: Option<Duration>,
}

/// Lines that do not read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Bad {
    pub count: u64,
    /// The first of them.
    pub lines: Vec<BadLine>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BadLine {
    /// From 1, of what a packed file holds.
    pub line: u64,
    /// Shortened, and safe to print.
    pub text: String,
    /// Completes "is …".
    pub problem: String,
}

/// A line that says something of an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Found {
    pub line: u64,
    /// Shortened, and safe to print.
    pub text: String,
    /// As written; of a range, the part that holds the address.
    pub network: Network,
    /// Whether it takes the address out instead.
    pub excludes: bool,
}

/// Reads a list. One without any entry reads too: whether that can be is for the caller to judge.
pub fn parse(bytes: &[u8], reading: &Reading) -> Result<Parsed, Unreadable> {
    let mut tally = Tally::default();
    let format = read(bytes, reading, &mut tally)?;
    tally.parsed(format)
}

/// The lines of a list that say something of an address, at most [`MOST_FOUND`].
pub fn find(bytes: &[u8], reading: &Reading, address: IpAddr) -> Result<Vec<Found>, Unreadable> {
    let mut finder = Finder::new(address);
    read(bytes, reading, &mut finder)?;
    Ok(finder.found())
}

/// What a line or a record says.
enum Said {
    Nothing,
    Listed { range: Range, rest: Option<Duration> },
    Excluded(Range),
    LeftOut,
}

impl Said {
    /// Listed for as long as the list says so.
    fn listed(range: Range) -> Self {
        Self::Listed { range, rest: None }
    }
}

/// Who listens to what a list says.
trait Sink {
    fn said(&mut self, line: Line<'_>, said: Result<Said, Problem>);

    /// Copyright and terms.
    fn notice(&mut self, text: &[u8]);
}

fn read(bytes: &[u8], reading: &Reading, sink: &mut dyn Sink) -> Result<Format, Unreadable> {
    let unpacked = unpack::unpacked(bytes)?;
    let text = text::checked(&unpacked)?;
    let format = reading.format.unwrap_or_else(|| recognise::format(text));
    match format {
        Format::Plain => text::read_lines(text, sink, plain::said),
        Format::Count => text::read_lines(text, sink, |line| count::said(line, reading.min_count)),
        Format::Drop => text::read_lines(text, sink, drop::said),
        Format::DropJson => drop_json::read(text, sink)?,
        Format::Rbldnsd => rbldnsd::read(text, sink)?,
        Format::Crowdsec => crowdsec::read(text, reading.age, sink)?,
        Format::Shadowserver => shadowserver::read(text, sink)?,
    }
    Ok(format)
}
