//! The book of bans: what is banned, for how long, by whom, and what it stopped. The kernel holds a copy.
//!
//! A network may have several bans, each for services of its own; a newer one for the same services replaces the older. Of
//! a network the kernel holds one entry, see [`held`]. Bans end in the kernel by themselves, and are struck out here later.

mod ground;
pub mod held;
mod peers;
mod proven;
mod record;
mod store;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::Path,
    time::{Duration, SystemTime},
};

use aya::maps::MapError;
use ratelimit_common::{
    Moment,
    ban::{Ban, BanKey, MAX_BANS},
};

use crate::{
    changes::seconds,
    config::{Network, fold_address},
    layout::Layout,
    plane::now,
};

pub use ground::{Finder, Ground, Proof};
pub use peers::{MOST_PEERS, PEERS_KEPT};
pub use proven::ProvenSource;
pub use record::{By, Id, Record, V4_LENGTHS, V6_LENGTHS, check_length, key_of};
pub use store::{Store, StoreError};

/// A network that automatic bans keep off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protection {
    pub network: Network,
    pub until_s: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum BanError {
    #[error("{network}: bans have the prefix lengths {}, and {} for IPv6", record::lengths(&V4_LENGTHS), record::lengths(&V6_LENGTHS))]
    Length { network: Network },
    #[error("{network} holds {guarded}, {what}: that is never banned")]
    Guarded { network: Network, guarded: Network, what: String },
    #[error("{network} lies in {allowed}, which is allowed, so the ban would do nothing: {remedy}")]
    Allowed { network: Network, allowed: Network, remedy: String },
    #[error("{network} meets {protected}, which `ratelimit unban` protects from automatic bans for {rest_s} s more")]
    Protected { network: Network, protected: Network, rest_s: u64 },
    #[error("{network}: nothing has shown that all of it is one source; ban that source alone")]
    Unproven { network: Network },
    #[error("{MAX_BANS} bans are in force and no more fit: end some with `ratelimit unban`")]
    Full,
    #[error("{network} is not banned, and nothing has changed: the kernel refuses: {}", crate::describe(source))]
    Kernel { network: Network, source: MapError },
    #[error(
        "{network}: the kernel refuses ({}), and the ban could not be taken back: {undo}; \
         it comes into force at the next start unless `ratelimit unban` ends it",
        crate::describe(source)
    )]
    HalfDone { network: Network, source: MapError, undo: Box<StoreError> },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// All bans, in memory and on disk.
#[derive(Debug)]
pub struct Book {
    store: Store,
    bans: BTreeMap<Id, Record>,
    /// Networks with more than one ban.
    shared: BTreeSet<Network>,
    protections: BTreeMap<Network, u64>,
    /// When administrators were last there, in seconds since 1970.
    peers: BTreeMap<IpAddr, u64>,
    /// When the first of the bans ends; earlier if the wall clock was set back.
    next_end: Moment,
    /// The same by the wall clock.
    next_end_s: u64,
}

impl Book {
    /// Reads what is kept in the state directory; what has run out meanwhile is struck out.
    pub fn open(state: &Path) -> Result<Self, StoreError> {
        let mut store = Store::open(state)?;
        let mut book = Self {
            bans: store.load()?,
            shared: BTreeSet::new(),
            protections: store.protections()?,
            peers: store.peers()?,
            store,
            next_end: Moment(0),
            next_end_s: 0,
        };
        let over = book.over(SystemTime::now(), usize::MAX);
        book.remove(&over)?;
        book.forget_protections(SystemTime::now())?;
        let networks: Vec<Network> = book.networks().collect();
        book.note_shared(networks);
        Ok(book)
    }

    /// Bans in the book and, by `put`, in the kernel: in both or in neither.
    pub fn ban(&mut self, record: Record, put: impl FnOnce(&Self) -> Result<(), MapError>) -> Result<(), BanError> {
        let (network, id) = (record.network, record.id());
        let replaced = self.add(record)?;
        let Err(source) = put(self) else {
            return Ok(());
        };
        let undone = match replaced {
            Some(older) => self.put_back(vec![older]),
            None => self.remove(&[id]).map(drop),
        };
        Err(match undone {
            Ok(()) => BanError::Kernel { network, source },
            Err(undo) => BanError::HalfDone { network, source, undo: Box::new(undo) },
        })
    }

    /// Writes a ban down, and returns the one it replaces. It is on disk when this returns.
    fn add(&mut self, record: Record) -> Result<Option<Record>, BanError> {
        check_length(record.network)?;
        if let (false, Some(protection)) = (record.by == By::Admin, self.protection(record.network, record.since_s)) {
            let rest_s = protection.until_s - record.since_s;
            return Err(BanError::Protected { network: record.network, protected: protection.network, rest_s });
        }
        let id = record.id();
        if self.bans.len() >= MAX_BANS && !self.bans.contains_key(&id) {
            return Err(BanError::Full);
        }
        self.store.put(std::slice::from_ref(&record))?;
        self.next_end = self.next_end.min(record.until);
        self.next_end_s = self.next_end_s.min(record.until_s);
        let network = record.network;
        let replaced = self.bans.insert(id, record);
        self.note_shared([network]);
        Ok(replaced)
    }

    /// Undoes a removal, or the replacement of a ban.
    pub fn put_back(&mut self, records: Vec<Record>) -> Result<(), StoreError> {
        self.store.put(&records)?;
        let networks: Vec<Network> = records.iter().map(|record| record.network).collect();
        self.bans.extend(records.into_iter().map(|record| (record.id(), record)));
        (self.next_end, self.next_end_s) = (Moment(0), 0);
        self.note_shared(networks);
        Ok(())
    }

    /// Strikes bans out, and returns them.
    pub fn remove(&mut self, ids: &[Id]) -> Result<Vec<Record>, StoreError> {
        self.store.remove(ids)?;
        let removed = ids.iter().filter_map(|id| self.bans.remove(id)).collect();
        self.note_shared(ids.iter().map(|(network, _)| *network));
        Ok(removed)
    }

    /// So many of those that have run out. The clock that comes first counts, so that neither a wall clock that is set
    /// back nor a machine that slept makes a ban longer.
    pub fn over(&mut self, at: SystemTime, most: usize) -> Vec<Id> {
        let (now, now_s) = (now(), seconds(at));
        if now < self.next_end && now_s < self.next_end_s {
            return Vec::new();
        }
        let is_over = |record: &&Record| record.until <= now || record.until_s <= now_s;
        let over: Vec<Id> = self.bans.values().filter(is_over).take(most).map(Record::id).collect();
        if over.is_empty() {
            self.next_end = self.bans.values().map(|record| record.until).min().unwrap_or(Moment(u64::MAX));
            self.next_end_s = self.bans.values().map(|record| record.until_s).min().unwrap_or(u64::MAX);
        }
        over
    }

    pub fn all(&self) -> impl Iterator<Item = &Record> {
        self.bans.values()
    }

    /// Networks with bans, each once.
    pub fn networks(&self) -> impl Iterator<Item = Network> {
        let mut before = None;
        self.bans.keys().map(|(network, _)| *network).filter(move |network| before.replace(*network) != Some(*network))
    }

    pub fn len(&self) -> usize {
        self.bans.len()
    }

    pub fn is_empty(&self) -> bool {
        self.bans.is_empty()
    }

    /// The bans of exactly this network.
    pub fn of(&self, network: Network) -> impl Iterator<Item = &Record> + Clone {
        // No services sort first.
        let from = self.bans.range((network, Vec::new())..).map(|(_, record)| record);
        from.take_while(move |record| record.network == network)
    }

    /// Whether a network has more than one ban.
    pub fn is_shared(&self, network: Network) -> bool {
        self.shared.contains(&network)
    }

    /// Bans that an address is under, the narrowest first.
    pub fn around(&self, address: IpAddr) -> impl Iterator<Item = &Record> {
        let address = fold_address(address);
        let lengths: &[u8] = if address.is_ipv4() { &V4_LENGTHS } else { &V6_LENGTHS };
        let networks = lengths.iter().filter_map(move |length| Network::truncated(address, *length));
        networks.flat_map(|network| self.of(network))
    }

    /// Bans of a network and of what lies inside it.
    pub fn inside(&self, network: Network) -> impl Iterator<Item = &Record> {
        self.bans.values().filter(move |record| network.contains(record.network))
    }

    /// The entry of a network as the kernel should hold it now; `None` for none.
    pub fn in_kernel(&self, network: Network, layout: &Layout, now: Moment) -> Option<(BanKey, Ban)> {
        let held = held::held(self.of(network), layout, now)?;
        Some((key_of(network), held.with_hits(self.hits_of(network))))
    }

    /// Networks whose entry should be another now than it was when the kernel was last told.
    pub fn turned(&self, layout: &Layout, told: Moment, now: Moment) -> Vec<Network> {
        let held = |network: &Network, at| held::held(self.of(*network), layout, at);
        self.shared.iter().filter(|network| held(network, told) != held(network, now)).copied().collect()
    }

    /// Keeps automatic bans off a network for a time.
    pub fn protect(&mut self, network: Network, time: Duration) -> Result<(), StoreError> {
        let until_s = seconds(SystemTime::now() + time);
        self.store.protect(network, until_s)?;
        self.protections.insert(network, until_s);
        Ok(())
    }

    /// What keeps automatic bans off a network, or off a part of it.
    pub fn protection(&self, network: Network, now_s: u64) -> Option<Protection> {
        let mut all =
            self.protections.iter().map(|(network, until_s)| Protection { network: *network, until_s: *until_s });
        all.find(|protection| protection.until_s > now_s && protection.network.overlaps(network))
    }

    /// What automatic bans are kept off, and for how long still.
    pub fn protections(&self, at: SystemTime) -> Vec<(Network, Duration)> {
        let now_s = seconds(at);
        let rest = |(network, until_s): (&Network, &u64)| {
            Some((*network, Duration::from_secs(until_s.checked_sub(now_s).filter(|rest_s| *rest_s > 0)?)))
        };
        self.protections.iter().filter_map(rest).collect()
    }

    /// Strikes out protections that have run out.
    pub fn forget_protections(&mut self, at: SystemTime) -> Result<(), StoreError> {
        let now_s = seconds(at);
        if self.protections.values().any(|until_s| *until_s <= now_s) {
            self.store.forget_protections(now_s)?;
            self.protections.retain(|_, until_s| *until_s > now_s);
        }
        Ok(())
    }

    /// Notes what the kernel counted of networks, in memory and on disk: the count of its entry, and the last hit. The
    /// kernel counts for the network, so each of its bans gets what came since the last time.
    pub fn note_hits(&mut self, counted: &[(Network, u64, Option<u64>)]) -> Result<(), StoreError> {
        let mut changed = Vec::new();
        for (network, hits, last_hit_s) in counted {
            let more = hits.saturating_sub(self.hits_of(*network));
            let of_network = self.of(*network).filter(|_| more > 0).cloned();
            changed.extend(of_network.map(|record| Record {
                hits: record.hits.saturating_add(more),
                last_hit_s: last_hit_s.or(record.last_hit_s),
                ..record
            }));
        }
        self.store.put_hits(&changed)?;
        self.bans.extend(changed.into_iter().map(|record| (record.id(), record)));
        Ok(())
    }

    /// What the kernel's entry of a network counted when it was last read, which it goes on from when it is made anew.
    fn hits_of(&self, network: Network) -> u64 {
        self.of(network).map(|record| record.hits).max().unwrap_or(0)
    }

    fn note_shared(&mut self, networks: impl IntoIterator<Item = Network>) {
        for network in networks {
            let has_several = self.of(network).nth(1).is_some();
            match has_several {
                true => self.shared.insert(network),
                false => self.shared.remove(&network),
            };
        }
    }
}
