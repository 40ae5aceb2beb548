//! What lists have stopped, over all sets that were in force.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// Connections that each list stopped, on disk too, so that they are known the next day.
#[derive(Debug)]
pub struct Hits {
    path: PathBuf,
    by_list: BTreeMap<String, Count>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Count {
    hits: u64,
    last_hit_s: Option<u64>,
}

impl Hits {
    const FILE: &'static str = "lists/hits.json";

    /// A file that does not read counts for nothing: what lists do does not depend on it.
    pub fn open(state: &Path) -> Self {
        let path = state.join(Self::FILE);
        let by_list = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self { path, by_list: by_list.unwrap_or_default() }
    }

    /// Connections, and when the last one was, in seconds since 1970.
    pub fn of(&self, list: &str) -> (u64, Option<u64>) {
        let count = self.by_list.get(list).copied().unwrap_or_default();
        (count.hits, count.last_hit_s)
    }
}
