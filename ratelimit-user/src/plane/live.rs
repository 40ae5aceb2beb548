//! The live maps as the decision sees them, without changing anything.

use aya::maps::MapError;
use ratelimit_common::{Address, Entry, Moment, Secret, ServiceId, Set, Tables};

use super::{Maps, now};

/// A look at the maps: what the next connection would meet. Charges nothing.
#[derive(Debug)]
pub struct LiveTables<'a> {
    maps: &'a Maps,
    set: Box<Set>,
    secret: Secret,
    entry: Entry,
    now: Moment,
}

impl<'a> LiveTables<'a> {
    /// Looks at the maps for one source.
    pub fn open(maps: &'a Maps, source: Address) -> Result<Self, MapError> {
        Ok(Self { maps, set: maps.active_set()?, secret: maps.secret()?, entry: maps.entry(source)?, now: now() })
    }
}

impl Tables for LiveTables<'_> {
    fn set(&self) -> &Set {
        &self.set
    }

    fn entry(&self, _source: Address) -> Entry {
        self.entry
    }

    fn secret(&self) -> &Secret {
        &self.secret
    }

    fn now(&self) -> Moment {
        self.now
    }

    fn cell(&self, index: u32) -> Option<u32> {
        self.maps.cells().get(index)
    }

    fn replace_cell(&self, _index: u32, _seen: u32, _new: u32) -> bool {
        true
    }

    fn count_admitted(&self, _service: ServiceId) -> u32 {
        1
    }
}
