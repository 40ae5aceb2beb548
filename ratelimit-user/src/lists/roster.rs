//! All lists of the configuration, and their copies on disk.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{
    Weights,
    content::mark,
    list::{Candidate, Good, List, Origin},
    reading::{self, Line},
    shelf::{Facts, Kept, Shelf, ShelfError},
};
use crate::config::{self, Config, Source};

/// The lists in the order of the configuration.
#[derive(Debug)]
pub struct Roster {
    lists: Vec<List>,
    shelf: Arc<Shelf>,
}

/// What is to be done about a list away from the controller.
#[derive(Clone, Debug)]
pub struct Job {
    pub config: config::List,
    pub kind: JobKind,
    /// What is known of the copy in force.
    pub known: Option<Origin>,
    pub fetched_s: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobKind {
    /// Ask its sources.
    Ask,
    /// Read the copy on disk again: entries have ended, or it is to be read in another way.
    Reread,
    /// Take the copy that waits.
    Accept,
}

/// Why a list is not asked for now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    Unknown,
    Busy,
    TooEarly { not_before_s: u64 },
    NothingWaits,
}

impl Roster {
    /// Reads the copies that are kept. One that cannot be read is said, and the list is without it.
    pub fn open(config: &Config, state: &Path, now_s: u64) -> Result<Self, ShelfError> {
        let mut roster = Self { lists: Vec::new(), shelf: Arc::new(Shelf::open(state)?) };
        roster.lists = config.lists.iter().map(|list| roster.load(list, now_s)).collect();
        roster.forget_others();
        Ok(roster)
    }

    pub fn shelf(&self) -> Arc<Shelf> {
        Arc::clone(&self.shelf)
    }

    pub fn all(&self) -> impl Iterator<Item = &List> {
        self.lists.iter()
    }

    pub fn get(&self, name: &str) -> Option<&List> {
        self.lists.iter().find(|list| list.config.name == name)
    }

    pub fn get_mut(&mut self, name: &str) -> Option<&mut List> {
        self.lists.iter_mut().find(|list| list.config.name == name)
    }

    /// What the lists of a configuration weigh with; nothing for those that are not known yet.
    pub fn weights(&self, config: &Config, now_s: u64) -> Weights {
        let weight = |list: &config::List| {
            let known = self.get(&list.name)?;
            known.weight(now_s, config.is_permit(&list.name)).map(Arc::clone)
        };
        config.lists.iter().map(weight).collect()
    }

    /// Follows a configuration that is in force now. A list keeps its copy as long as its name stays.
    pub fn follow(&mut self, config: &Config, now_s: u64) {
        let mut before = std::mem::take(&mut self.lists);
        for list in &config.lists {
            let known = before.iter().position(|known| known.config.name == list.name);
            let state = match known.map(|place| before.swap_remove(place)) {
                Some(known) if known.config == *list => known,
                Some(known) => changed(known, list, now_s),
                None => self.load(list, now_s),
            };
            self.lists.push(state);
        }
        self.forget_others();
    }

    /// The jobs that are due; their lists are busy until the outcome is given back.
    pub fn due(&mut self, now_s: u64) -> Vec<Job> {
        let mut jobs = Vec::new();
        for list in &mut self.lists {
            // A new copy is held against the one in force as both are read now.
            if list.is_to_be_reread(now_s) {
                jobs.push(begin(list, JobKind::Reread));
            } else if list.is_due(now_s) {
                jobs.push(begin(list, JobKind::Ask));
            }
        }
        jobs
    }

    /// Asks for one list now, out of turn.
    pub fn ask(&mut self, name: &str, kind: JobKind, now_s: u64) -> Result<Job, Refusal> {
        let list = self.get_mut(name).ok_or(Refusal::Unknown)?;
        let not_before_s = list.not_by_command_before_s();
        match kind {
            _ if list.is_busy => Err(Refusal::Busy),
            JobKind::Ask if not_before_s > now_s => Err(Refusal::TooEarly { not_before_s }),
            JobKind::Accept if list.candidate.is_none() => Err(Refusal::NothingWaits),
            JobKind::Ask | JobKind::Reread | JobKind::Accept => Ok(begin(list, kind)),
        }
    }

    /// The files and directories to watch, by the names of their lists.
    pub fn local_sources(&self) -> Vec<(String, PathBuf)> {
        let path = |list: &List, source: &Source| match source {
            Source::Path(path) => Some((list.config.name.clone(), path.clone())),
            Source::Url(_) => None,
        };
        self.lists.iter().flat_map(|list| list.config.from.iter().filter_map(|source| path(list, source))).collect()
    }

    /// The lines of the copy in force that say something of an address.
    pub fn find(&self, list: &List, address: IpAddr, now_s: u64) -> Vec<Line> {
        let Some(good) = &list.good else { return Vec::new() };
        match self.shelf.load(&list.config.name) {
            Ok(Some(Kept { content, .. })) if content.digest() == good.origin.digest => {
                reading::find(&content, &list.config, age(good.fetched_s, now_s), address)
            }
            Ok(_) => Vec::new(),
            Err(error) => {
                tracing::warn!(list = list.config.name, %error, "the lines of the list cannot be shown");
                Vec::new()
            }
        }
    }

    fn load(&self, config: &config::List, now_s: u64) -> List {
        let mut list = List::new(config.clone());
        match self.shelf.load(&config.name) {
            Ok(Some(kept)) => match good_of(kept, config, now_s) {
                Ok(good) => {
                    list.asked_s = Some(good.confirmed_s);
                    list.next_s = list.not_before_s();
                    list.good = Some(good);
                }
                Err(error) => tracing::error!(list = config.name, %error, "the copy that was kept does not read"),
            },
            Ok(None) => {}
            Err(error) => tracing::error!(list = config.name, %error, "the copy that was kept cannot be used"),
        }
        list.candidate = self.load_candidate(config, now_s);
        list
    }

    /// A copy that waited before a restart goes on waiting.
    fn load_candidate(&self, config: &config::List, now_s: u64) -> Option<Candidate> {
        let kept = self.shelf.candidate(&config.name).ok()??;
        let (seen_s, why) = (kept.facts.seen_s.clone(), "it differs too much from the last good copy".to_owned());
        let Good { read, origin, .. } = good_of(kept, config, now_s).ok()?;
        Some(Candidate { read, origin, why, seen_s })
    }

    fn forget_others(&self) {
        let known: Vec<&str> = self.lists.iter().map(|list| list.config.name.as_str()).collect();
        if let Err(error) = self.shelf.forget_others(&known) {
            tracing::warn!(%error, "copies of lists that are gone could not be removed");
        }
    }
}

/// Where the copies of a list's sources would be from.
pub fn marks(list: &config::List) -> Vec<String> {
    list.from.iter().map(mark).collect()
}

/// How long ago a copy was fetched.
pub fn age(fetched_s: u64, now_s: u64) -> Duration {
    Duration::from_secs(now_s.saturating_sub(fetched_s))
}

fn good_of(kept: Kept, config: &config::List, now_s: u64) -> Result<Good, reading::ReadError> {
    let Kept { content, facts: Facts { from, fetched_s, confirmed_s, .. } } = kept;
    let read = reading::read(&content, config, age(fetched_s, now_s))?;
    let validators = content.pieces.iter().map(|piece| piece.validators.clone()).collect();
    Ok(Good { read, origin: Origin { from, digest: content.digest(), validators }, fetched_s, confirmed_s })
}

/// A list whose configuration changed keeps its copy until another comes.
fn changed(mut known: List, config: &config::List, now_s: u64) -> List {
    let reads_alike = known.config.format == config.format
        && known.config.min_count == config.min_count
        && known.config.private == config.private;
    let same_sources = known.config.from == config.from;
    known.config = config.clone();
    if !reads_alike || !same_sources {
        known.candidate = None;
        known.problem = None;
    }
    known.reads_otherwise |= !reads_alike && same_sources;
    if !same_sources {
        // What is known of the copy must not make its sources say that nothing is new.
        known.bring_again();
        known.next_s = now_s;
    }
    known
}

fn begin(list: &mut List, kind: JobKind) -> Job {
    list.is_busy = true;
    list.reads_otherwise &= kind != JobKind::Reread;
    Job {
        config: list.config.clone(),
        kind,
        known: list.good.as_ref().map(|good| good.origin.clone()),
        fetched_s: list.good.as_ref().map_or(0, |good| good.fetched_s),
    }
}
