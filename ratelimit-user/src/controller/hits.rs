//! What lists have stopped, over all sets that were in force.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::{Controller, Rejection};
use crate::{
    changes::seconds,
    config::Config,
    plane::{ListHits, now},
};

/// Connections that each list stopped. On disk too, so that they are known the next day.
#[derive(Debug)]
pub struct Hits {
    path: PathBuf,
    book: Book,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Book {
    /// In sets that went out of force.
    before: BTreeMap<String, Count>,
    /// The lists of the set in force, by their bits.
    in_force: Vec<String>,
    /// In the set in force, when it was last written down: a reboot takes the kernel's own counters away.
    noted: BTreeMap<String, Count>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    pub hits: u64,
    /// Seconds since 1970.
    pub last_s: Option<u64>,
}

impl Count {
    fn and(self, more: Self) -> Self {
        Self { hits: self.hits.saturating_add(more.hits), last_s: self.last_s.max(more.last_s) }
    }

    fn of(hits: ratelimit_common::event::Hits) -> Self {
        let ago_s = now().0.saturating_sub(hits.last_hit_ns) / 1_000_000_000;
        let last_s = (hits.last_hit_ns != 0).then(|| seconds(SystemTime::now()).saturating_sub(ago_s));
        Self { hits: hits.hits, last_s }
    }
}

impl Hits {
    const FILE: &'static str = "list-hits.json";

    /// A file that does not read counts for nothing: what lists do does not depend on it.
    pub fn open(state: &Path) -> Self {
        let path = state.join(Self::FILE);
        let book = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self { path, book: book.unwrap_or_default() }
    }

    /// A list's, with what the set in force has counted so far.
    pub fn of(&self, list: &str, live: &ListHits) -> Count {
        let before = self.book.before.get(list).copied().unwrap_or_default();
        match self.book.in_force.iter().position(|name| name == list) {
            Some(bit) => before.and(Count::of(live.of(bit))),
            None => before,
        }
    }

    /// Adds up what the set that went out of force has counted, and begins anew with the lists of a configuration.
    pub fn begin(&mut self, ended: &ListHits, config: &Config) {
        for (bit, name) in self.book.in_force.iter().enumerate() {
            let noted = self.book.noted.get(name).copied().unwrap_or_default();
            let ended = Count::of(ended.of(bit));
            let more = if noted.hits > ended.hits { noted } else { ended };
            let before = self.book.before.entry(name.clone()).or_default();
            *before = before.and(more);
        }
        self.book.in_force = config.lists.iter().map(|list| list.name.clone()).collect();
        self.book.noted.clear();
        self.book.before.retain(|name, _| self.book.in_force.contains(name));
        self.save();
    }

    /// Writes down what the set in force has counted.
    fn note(&mut self, live: &ListHits) {
        let counted = self.book.in_force.iter().enumerate().map(|(bit, name)| (name.clone(), Count::of(live.of(bit))));
        let noted: BTreeMap<String, Count> = counted.filter(|(_, count)| count.hits > 0).collect();
        let counts = |counts: &BTreeMap<String, Count>| counts.values().map(|count| count.hits).collect::<Vec<_>>();
        if counts(&noted) != counts(&self.book.noted) {
            self.book.noted = noted;
            self.save();
        }
    }

    fn save(&self) {
        if let Err(error) = self.try_save() {
            tracing::warn!(path = %self.path.display(), %error, "what lists stopped is not written down");
        }
    }

    fn try_save(&self) -> io::Result<()> {
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        let mut file = NamedTempFile::new_in(directory)?;
        serde_json::to_writer(&mut file, &self.book)?;
        file.persist(&self.path)?;
        Ok(())
    }
}

impl Controller {
    /// Writes down what lists have stopped.
    pub fn note_list_hits(&mut self) -> Result<(), Rejection> {
        let live = self.plane.maps().list_hits().map_err(anyhow::Error::from)?;
        self.hits.note(&live);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{List, Source};

    fn config(names: &[&str]) -> Config {
        let list = |name: &&str| List::new(name, vec![Source::Path("/list".into())]);
        Config { lists: names.iter().map(list).collect(), ..Config::default() }
    }

    fn stopped(counts: &[u64]) -> ListHits {
        let mut hits = ListHits::default();
        for (bit, count) in counts.iter().enumerate() {
            hits.add(1 << bit, ratelimit_common::event::Hits { hits: *count, last_hit_ns: now().0 });
        }
        hits
    }

    #[test]
    fn what_sets_counted_adds_up_by_name_also_over_a_restart() {
        let state = tempfile::tempdir().unwrap();
        let mut hits = Hits::open(state.path());
        hits.begin(&ListHits::default(), &config(&["a", "b"]));
        assert_eq!(hits.of("b", &stopped(&[1, 2])).hits, 2);
        hits.begin(&stopped(&[1, 2]), &config(&["b", "c"]));
        assert_eq!((hits.of("b", &stopped(&[10, 20])).hits, hits.of("c", &stopped(&[10, 20])).hits), (12, 20));
        assert_eq!(hits.of("a", &stopped(&[10, 20])), Count::default());
        // The next controller finds the set in force with what it has counted.
        let mut next = Hits::open(state.path());
        next.begin(&stopped(&[10, 20]), &config(&["b", "c"]));
        assert_eq!(next.of("b", &ListHits::default()).hits, 12);
        assert!(next.of("c", &ListHits::default()).last_s.is_some());
    }

    #[test]
    fn what_was_noted_survives_a_reboot_and_counts_once() {
        let state = tempfile::tempdir().unwrap();
        let mut hits = Hits::open(state.path());
        hits.begin(&ListHits::default(), &config(&["a"]));
        hits.note(&stopped(&[7]));
        let mut rebooted = Hits::open(state.path());
        rebooted.begin(&ListHits::default(), &config(&["a"]));
        assert_eq!(rebooted.of("a", &ListHits::default()).hits, 7);
        let mut restarted = Hits::open(state.path());
        restarted.note(&stopped(&[3]));
        restarted.begin(&stopped(&[5]), &config(&["a"]));
        assert_eq!(restarted.of("a", &ListHits::default()).hits, 12);
    }

    #[test]
    fn a_file_that_does_not_read_counts_for_nothing() {
        let state = tempfile::tempdir().unwrap();
        fs::write(state.path().join(Hits::FILE), "{").unwrap();
        assert_eq!(Hits::open(state.path()).of("a", &ListHits::default()), Count::default());
    }
}
