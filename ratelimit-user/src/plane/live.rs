//! The live maps as the decision sees them, without changing anything.

use aya::maps::MapError;
use ratelimit_common::{
    Address, Cells, ClassId, Entry, Moment, SERVICES, Secret, ServiceId, Set, Tables,
    ban::Ban,
    listed::{Listed, charged},
    proof::OpenKey,
};

use super::{Maps, WatchMaps, now};

/// A look at the maps: what the next connection would meet. Charges nothing.
#[derive(Debug)]
pub struct LiveTables<'a> {
    maps: &'a Maps,
    set: Box<Set>,
    secret: Secret,
    class: ClassId,
    entry: Entry,
    bans: Vec<Ban>,
    is_proven: bool,
    /// What is left to it at each service where DNSBLs speak against it, by its place.
    listed: [Option<Listed>; SERVICES],
    /// To each service, by its place.
    connections: [u32; SERVICES],
    now: Moment,
}

impl<'a> LiveTables<'a> {
    /// Looks at the maps for one source.
    pub fn open(maps: &'a Maps, watch: Option<&WatchMaps>, source: Address) -> Result<Self, MapError> {
        let class = maps.class(source)?;
        let (set, now) = (maps.active_set()?, now());
        let proven = watch.map(|watch| watch.proven(source)).transpose()?.flatten();
        let mut connections = [0; SERVICES];
        let mut listed = [None; SERVICES];
        for (id, service) in set.services() {
            listed[id.index()] = maps.listed(source, id)?;
            let key = OpenKey::new(source.masked(service.masks(source).0), id);
            let open = watch.map(|watch| watch.connections(&key)).transpose()?.unwrap_or(0);
            connections[id.index()] = u32::try_from(open).unwrap_or(u32::MAX);
        }
        Ok(Self {
            maps,
            set,
            secret: maps.secret()?,
            class,
            entry: maps.entry(class)?,
            bans: maps.bans_of(source)?,
            is_proven: proven.is_some_and(|proven| proven.is_good(now.0)),
            listed,
            connections,
            now,
        })
    }
}

impl Cells for LiveTables<'_> {
    fn cell(&self, index: u32) -> Option<u32> {
        self.maps.cells().get(index)
    }

    fn replace_cell(&self, _index: u32, _seen: u32, _new: u32) -> bool {
        true
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

    fn is_over_listed(&self, _source: &Address, service: ServiceId) -> bool {
        let Some(listed) = self.listed[service.index()].filter(|listed| listed.is_in_force(self.now)) else {
            return false;
        };
        let Set { listed_increment_ns, listed_tolerance_ns, .. } = *self.set;
        charged(listed.used_until_ns, listed_increment_ns, listed_tolerance_ns, self.now).is_none()
    }

    fn secret(&self) -> &Secret {
        &self.secret
    }

    fn now(&self) -> Moment {
        self.now
    }

    fn is_proven(&self, _source: &Address) -> bool {
        self.is_proven
    }

    fn open_connections(&self, _source: &Address, service: ServiceId) -> u32 {
        self.connections[service.index()]
    }

    fn completed_cell(&self, index: u32) -> Option<u32> {
        self.maps.completed().get(index)
    }

    fn count_admitted(&self, _service: ServiceId) -> u32 {
        1
    }
}
