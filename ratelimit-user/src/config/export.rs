use std::path::PathBuf;

use serde::Serialize;

use super::grammar::Duration;

/// Bans as a zone that others ask for by DNS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Export {
    /// The file that rbldnsd reads; nothing is written without one.
    pub path: Option<PathBuf>,
    /// Whom those who are banned may write to. Printable ASCII, at most [`LONGEST_CONTACT`] bytes, and never empty where there
    /// is a path.
    pub contact: String,
    /// Whether bans go out that rest on what others list.
    pub include_third_party: bool,
    /// The longest that an answer may be remembered.
    pub ttl_max: Duration,
}

pub const LONGEST_CONTACT: usize = 80;

impl Default for Export {
    fn default() -> Self {
        Self { path: None, contact: String::new(), include_third_party: false, ttl_max: Duration::seconds(300) }
    }
}
