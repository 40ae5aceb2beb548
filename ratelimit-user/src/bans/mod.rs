//! The book of bans: what is banned, for how long, by whom, and what it stopped. The kernel holds a copy.
//!
//! A network has one ban; a newer one replaces it. Bans end in the kernel by themselves, and are struck out here later.

mod store;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::Path,
    time::{Duration, SystemTime},
};

use ratelimit_common::{
    Moment,
    ban::{Ban, BanKey, MAX_BANS},
};
use serde::{Deserialize, Serialize};

use crate::{
    changes::seconds,
    compile::key,
    config::{Network, fold_address},
    layout::Layout,
};

pub use store::{Store, StoreError};

/// Prefix lengths that bans may have.
pub const V4_LENGTHS: [u8; 3] = [32, 24, 16];
pub const V6_LENGTHS: [u8; 4] = [128, 64, 56, 48];

/// Who banned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum By {
    Admin,
    Dnsbl,
    Log,
}

impl By {
    pub const ALL: [Self; 3] = [Self::Admin, Self::Dnsbl, Self::Log];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Dnsbl => "dnsbl",
            Self::Log => "log",
        }
    }
}

/// One ban. Times are seconds since 1970, so that they mean the same after a reboot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub network: Network,
    /// Empty means all services.
    pub services: Vec<String>,
    pub by: By,
    pub note: Option<String>,
    pub since_s: u64,
    pub until_s: u64,
    /// As last read from the kernel.
    pub hits: u64,
    pub last_hit_s: Option<u64>,
}

/// A network that automatic bans keep off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protection {
    pub network: Network,
    pub until_s: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum BanError {
    #[error("{network}: bans have the prefix lengths {}, and {} for IPv6", lengths(&V4_LENGTHS), lengths(&V6_LENGTHS))]
    Length { network: Network },
    #[error("{network} holds {guarded}, {what}: that is never banned")]
    Guarded { network: Network, guarded: Network, what: String },
    #[error("{network} meets {protected}, which `ratelimit unban` protects from automatic bans for {rest_s} s more")]
    Protected { network: Network, protected: Network, rest_s: u64 },
    #[error("{MAX_BANS} bans are in force and no more fit: end some with `ratelimit unban`")]
    Full,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// All bans, in memory and on disk.
#[derive(Debug)]
pub struct Book {
    store: Store,
    bans: BTreeMap<Network, Record>,
    protections: BTreeMap<Network, u64>,
    /// When the first of them ends.
    next_end_s: u64,
}

impl Book {
    /// Reads what is kept in the state directory; what has run out meanwhile is struck out.
    pub fn open(state: &Path) -> Result<Self, StoreError> {
        let store = Store::open(state)?;
        let mut book = Self { bans: store.load()?, protections: store.protections()?, store, next_end_s: 0 };
        book.strike_out(SystemTime::now())?;
        Ok(book)
    }

    /// Writes a ban down. It is on disk when this returns.
    pub fn add(&mut self, record: Record) -> Result<(), BanError> {
        check_length(record.network)?;
        if let (false, Some(protection)) = (record.by == By::Admin, self.protection(record.network, record.since_s)) {
            let rest_s = protection.until_s - record.since_s;
            return Err(BanError::Protected { network: record.network, protected: protection.network, rest_s });
        }
        if self.bans.len() >= MAX_BANS && !self.bans.contains_key(&record.network) {
            return Err(BanError::Full);
        }
        self.store.put(&record)?;
        self.next_end_s = self.next_end_s.min(record.until_s);
        self.bans.insert(record.network, record);
        Ok(())
    }

    /// Strikes bans out.
    pub fn remove(&mut self, networks: &[Network]) -> Result<(), StoreError> {
        self.store.remove(networks)?;
        for network in networks {
            self.bans.remove(network);
        }
        Ok(())
    }

    /// Strikes out what has run out, and returns it.
    pub fn strike_out(&mut self, now: SystemTime) -> Result<Vec<Network>, StoreError> {
        let now_s = seconds(now);
        if now_s < self.next_end_s {
            return Ok(Vec::new());
        }
        let over: Vec<Network> =
            self.bans.values().filter(|record| record.until_s <= now_s).map(|record| record.network).collect();
        // First, so that a failure leaves the bans to be struck out by the next attempt.
        self.store.forget_protections(now_s)?;
        self.protections.retain(|_, until_s| *until_s > now_s);
        self.remove(&over)?;
        self.next_end_s = self.bans.values().map(|record| record.until_s).min().unwrap_or(u64::MAX);
        Ok(over)
    }

    pub fn all(&self) -> impl Iterator<Item = &Record> {
        self.bans.values()
    }

    pub fn len(&self) -> usize {
        self.bans.len()
    }

    pub fn is_empty(&self) -> bool {
        self.bans.is_empty()
    }

    /// Bans that an address is under, the narrowest first.
    pub fn around(&self, address: IpAddr) -> impl Iterator<Item = &Record> {
        let address = fold_address(address);
        let lengths: &[u8] = if address.is_ipv4() { &V4_LENGTHS } else { &V6_LENGTHS };
        lengths.iter().filter_map(move |length| self.bans.get(&Network::truncated(address, *length)?))
    }

    /// Bans of a network and of what lies inside it.
    pub fn inside(&self, network: Network) -> impl Iterator<Item = &Record> {
        self.bans.values().filter(move |record| network.contains(record.network))
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

    /// Notes what the kernel counted, in memory and on disk.
    pub fn note_hits(&mut self, counted: &[(Network, u64, Option<u64>)]) -> Result<(), StoreError> {
        let counted = counted.iter().filter_map(|(network, hits, last_hit_s)| {
            let record = self.bans.get(network).filter(|record| record.hits != *hits)?;
            Some(Record { hits: *hits, last_hit_s: *last_hit_s, ..record.clone() })
        });
        let changed: Vec<Record> = counted.collect();
        self.store.put_all(&changed)?;
        self.bans.extend(changed.into_iter().map(|record| (record.network, record)));
        Ok(())
    }
}

/// Rounding a network would ban somebody else too, or too few.
pub fn check_length(network: Network) -> Result<(), BanError> {
    let lengths: &[u8] = if network.is_ipv4() { &V4_LENGTHS } else { &V6_LENGTHS };
    match lengths.contains(&network.prefix_len()) {
        true => Ok(()),
        false => Err(BanError::Length { network }),
    }
}

impl Record {
    pub fn key(&self) -> BanKey {
        let (address, length) = key(self.network);
        BanKey::new(address, length)
    }

    /// The ban as the kernel holds it. Services that do not exist any more are left out.
    pub fn in_kernel(&self, layout: &Layout, now: Moment) -> Ban {
        let rest_s = self.until_s.saturating_sub(seconds(SystemTime::now()));
        let places = self.services.iter().filter_map(|name| layout.place(name));
        let services = match self.services.is_empty() {
            true => u64::from(u16::MAX),
            false => places.fold(0, |all, place| all | u64::from(place.id.bit())),
        };
        Ban {
            until_ns: now.0.saturating_add(rest_s.saturating_mul(SECOND_NS)),
            services,
            hits: self.hits,
            last_hit_ns: 0,
        }
    }
}

const SECOND_NS: u64 = 1_000_000_000;

fn lengths(lengths: &[u8]) -> String {
    lengths.iter().map(|length| format!("/{length}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(network: &str, for_s: u64) -> Record {
        let now_s = seconds(SystemTime::now());
        Record {
            network: network.parse().unwrap(),
            services: vec!["smtp".into()],
            by: By::Admin,
            note: Some("guesses passwords".into()),
            since_s: now_s,
            until_s: now_s + for_s,
            hits: 0,
            last_hit_s: None,
        }
    }

    fn networks(book: &Book) -> Vec<String> {
        book.all().map(|record| record.network.to_string()).collect()
    }

    #[test]
    fn bans_outlive_the_book_and_end() {
        let state = tempfile::tempdir().unwrap();
        let mut book = Book::open(state.path()).unwrap();
        for (network, for_s) in [("192.0.2.7", 60), ("198.51.100.0/24", 3600), ("2001:db8::/64", 60)] {
            book.add(record(network, for_s)).unwrap();
        }
        book.note_hits(&[("192.0.2.7".parse().unwrap(), 9, Some(5))]).unwrap();
        drop(book);
        let mut book = Book::open(state.path()).unwrap();
        assert_eq!(networks(&book), ["192.0.2.7/32", "198.51.100.0/24", "2001:db8::/64"]);
        let found: Vec<_> = book.around("::ffff:192.0.2.7".parse().unwrap()).collect();
        assert_eq!((found.len(), found[0].hits, found[0].last_hit_s), (1, 9, Some(5)));
        assert_eq!(book.inside("198.51.0.0/16".parse().unwrap()).count(), 1);
        let over = book.strike_out(SystemTime::now() + Duration::from_secs(100)).unwrap();
        assert_eq!((over.len(), networks(&book)), (2, vec!["198.51.100.0/24".to_owned()]));
        drop(book);
        assert_eq!(Book::open(state.path()).unwrap().len(), 1);
    }

    #[test]
    fn a_newer_ban_of_a_network_replaces_the_older() {
        let state = tempfile::tempdir().unwrap();
        let mut book = Book::open(state.path()).unwrap();
        book.add(record("192.0.2.7", 3600)).unwrap();
        let newer = Record { services: Vec::new(), ..record("192.0.2.7", 60) };
        book.add(newer.clone()).unwrap();
        assert_eq!(book.all().cloned().collect::<Vec<_>>(), [newer]);
    }

    #[test]
    fn what_was_unbanned_is_protected_from_automatic_bans_alone() {
        let state = tempfile::tempdir().unwrap();
        let mut book = Book::open(state.path()).unwrap();
        book.protect("::ffff:192.0.2.7".parse().unwrap(), Duration::from_secs(100)).unwrap();
        drop(book);
        let mut book = Book::open(state.path()).unwrap();
        let by_log = |network| Record { by: By::Log, ..record(network, 60) };
        for network in ["192.0.2.7", "192.0.2.0/24", "192.0.0.0/16"] {
            let error = book.add(by_log(network)).unwrap_err();
            assert!(matches!(error, BanError::Protected { rest_s: 90..=100, .. }), "{error}");
        }
        book.add(by_log("192.0.2.8")).unwrap();
        book.add(record("192.0.2.0/24", 60)).unwrap();
        let later = by_log("192.0.2.7");
        book.add(Record { since_s: later.since_s + 101, until_s: later.until_s + 101, ..later }).unwrap();
        book.strike_out(SystemTime::now() + Duration::from_secs(1000)).unwrap();
        assert!(book.is_empty() && book.protections.is_empty() && book.store.protections().unwrap().is_empty());
    }

    #[test]
    fn what_cannot_be_written_down_is_not_in_the_book_either() {
        let state = tempfile::tempdir().unwrap();
        let mut book = Book::open(state.path()).unwrap();
        book.add(record("192.0.2.7", 60)).unwrap();
        book.store.refuse_writing();
        book.add(record("192.0.2.8", 60)).unwrap_err();
        book.remove(&["192.0.2.7".parse().unwrap()]).unwrap_err();
        book.note_hits(&[("192.0.2.7".parse().unwrap(), 9, Some(5))]).unwrap_err();
        book.protect("192.0.2.9".parse().unwrap(), Duration::from_secs(9)).unwrap_err();
        book.strike_out(SystemTime::now() + Duration::from_secs(100)).unwrap_err();
        assert_eq!((networks(&book), book.all().next().unwrap().hits), (vec!["192.0.2.7/32".to_owned()], 0));
        assert!(book.protections.is_empty());
    }

    #[test]
    fn other_prefix_lengths_are_refused_with_those_there_are() {
        let state = tempfile::tempdir().unwrap();
        let mut book = Book::open(state.path()).unwrap();
        for network in ["192.0.2.0/25", "10.0.0.0/8", "2001:db8::/32"] {
            let error = book.add(record(network, 60)).unwrap_err().to_string();
            assert!(error.contains("/32, /24, /16") && error.contains("/128, /64, /56, /48"), "{error}");
        }
        assert!(book.is_empty());
    }

    #[test]
    fn what_is_no_database_is_named_and_left_alone() {
        let state = tempfile::tempdir().unwrap();
        std::fs::write(state.path().join("ratelimit.db"), "this is no database, and it is long enough to be sure")
            .unwrap();
        let error = Book::open(state.path()).unwrap_err().to_string();
        assert!(error.contains("ratelimit.db") && error.contains("move it away"), "{error}");
    }
}
