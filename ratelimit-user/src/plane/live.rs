//! The live maps as the decision sees them, without changing anything.

use aya::maps::MapError;
use ratelimit_common::{Address, ClassId, Entry, Moment, Secret, ServiceId, Set, Tables, ban::Ban};

use super::{Maps, now};

/// A look at the maps: what the next connection would meet. Charges nothing.
#[derive(Debug)]
pub struct LiveTables<'a> {
    maps: &'a Maps,
    set: Box<Set>,
    secret: Secret,
    class: ClassId,
    entry: Entry,
    bans: Vec<Ban>,
    now: Moment,
}

impl<'a> LiveTables<'a> {
    /// Looks at the maps for one source.
    pub fn open(maps: &'a Maps, source: Address) -> Result<Self, MapError> {
        let class = maps.class(source)?;
        Ok(Self {
            maps,
            set: maps.active_set()?,
            secret: maps.secret()?,
            class,
            entry: maps.entry(class)?,
            bans: maps.bans_of(source)?,
            now: now(),
        })
    }
}

impl Tables for LiveTables<'_> {
    fn set(&self) -> &Set {
        &self.set
    }

    fn class(&self, _source: &Address) -> ClassId {
        self.class
    }

    fn entry(&self, _class: ClassId) -> Entry {
        self.entry
    }

    fn is_banned(&self, _source: &Address, service: ServiceId) -> bool {
        let stops = |ban: &Ban| ban.until_ns > self.now.0 && ban.services & u64::from(service.bit()) != 0;
        self.bans.iter().any(stops)
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
