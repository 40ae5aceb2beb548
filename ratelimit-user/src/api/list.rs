//! Lists, and how a refresh of them goes.

use serde::{Deserialize, Serialize};

use crate::{
    config::{Action, Mode, Network},
    lists::screen::Refusals,
};

/// Whether a list weighs anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListState {
    InForce,
    /// Its last good copy is older than its `max_age`.
    Expired,
    /// It was never read.
    Missing,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListView {
    pub name: String,
    pub preset: Option<String>,
    /// Files and URLs, without secrets.
    pub from: Vec<String>,
    /// What its parts were read as.
    pub formats: Vec<String>,
    /// Empty means all services.
    pub services: Vec<String>,
    pub action: Action,
    pub all_packets: bool,
    pub mode: Option<Mode>,
    pub state: ListState,
    /// Lines or records that name networks.
    pub entries: u64,
    /// Networks that they come to, after refusals.
    pub networks: u64,
    /// RFC 3339: when the copy in force came.
    pub fetched: Option<String>,
    /// RFC 3339: when the sources last held this copy.
    pub confirmed: Option<String>,
    /// RFC 3339: when the copy weighs nothing any more unless it is confirmed.
    pub expires: Option<String>,
    /// RFC 3339.
    pub next_refresh: String,
    /// Why the latest refresh brought nothing new into force.
    pub problem: Option<String>,
    /// Good lines that list nothing: too small a count, a time that is over, a country.
    pub left_out: u64,
    pub bad_lines: u64,
    /// The first bad lines.
    pub bad: Vec<BadLine>,
    pub refused: Refusals,
    pub waiting: Option<WaitingCopy>,
    /// Copyright and terms, as the publisher writes them.
    pub notices: Vec<String>,
    /// Connections that it stopped, or would have in enforce.
    pub hits: u64,
    /// RFC 3339.
    pub last_hit: Option<String>,
}

/// A line of a list that does not read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadLine {
    pub file: String,
    pub line: u64,
    pub text: String,
    pub problem: String,
}

/// A copy that differs suddenly from the last good one, and waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingCopy {
    pub entries: u64,
    pub why: String,
    /// RFC 3339: when it came.
    pub seen: Vec<String>,
}

/// What a list says of an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListMatch {
    pub list: String,
    pub action: Action,
    /// Empty means all services.
    pub services: Vec<String>,
    pub network: Network,
    /// Whether the list acts on the address.
    pub in_force: bool,
    /// Whether the line takes the address out of the list.
    pub excludes: bool,
    pub file: Option<String>,
    pub line: Option<u64>,
    pub text: Option<String>,
    /// RFC 3339: when the copy of the list weighs nothing any more unless it is confirmed.
    pub expires: Option<String>,
}

/// How far a refresh is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ListProgress {
    Receiving { list: String, received_bytes: u64, total_bytes: Option<u64> },
    Done { list: String, outcome: String, failed: bool },
}
