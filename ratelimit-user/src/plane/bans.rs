//! The bans' maps.

use std::{collections::BTreeMap, io, os::fd::AsFd as _, path::Path};

use aya::maps::{Array, HashMap, Map, MapData, MapError};
use ratelimit_common::{
    Address, Moment,
    ban::{Ban, BanKey, FILTER_LINES, FILTER_WORDS, candidates},
};

use super::{batch::Batch, filter::Filter, is_missing, wire::Wire};

/// What stands in the kernel: exact entries, and the filter in front of them.
pub struct BanMaps {
    bans: HashMap<MapData, Wire<BanKey>, Wire<Ban>>,
    whole: Batch<BanKey, Ban>,
    count: Array<MapData, u64>,
    filter: Filter,
}

/// Reads the bans without holding anybody up.
#[derive(Debug)]
pub struct BanReader(Batch<BanKey, Ban>);

impl BanMaps {
    pub fn open(plane: &Path) -> Result<Self, MapError> {
        let map = |name| MapData::from_pin(plane.join(name));
        let bans = map("BANS")?;
        Ok(Self {
            whole: Batch::of(bans.fd().as_fd()).map_err(MapError::IoError)?,
            bans: HashMap::try_from(Map::HashMap(bans))?,
            count: Array::try_from(Map::Array(map("BAN_COUNT")?))?,
            filter: Filter::map(&map("BAN_FILTER")?, FILTER_LINES * FILTER_WORDS).map_err(MapError::IoError)?,
        })
    }

    pub fn get(&self, key: &BanKey) -> Result<Option<Ban>, MapError> {
        match self.bans.get(&Wire(*key), 0) {
            Ok(Wire(ban)) => Ok(Some(ban)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub fn reader(&self) -> Result<BanReader, MapError> {
        self.whole.try_clone().map(BanReader).map_err(MapError::IoError)
    }

    /// The bans that a source is under, those that are over included.
    pub fn of(&self, source: Address) -> Result<Vec<Ban>, MapError> {
        let keys = candidates(source).filter(|key| !key.is_none());
        keys.filter_map(|key| self.get(&key).transpose()).collect()
    }

    /// Makes bans be in force; the filter last, so that it never shows less than there is.
    pub fn put(&mut self, bans: &[(BanKey, Ban)]) -> Result<(), MapError> {
        let (keys, values): (Vec<BanKey>, Vec<Ban>) = bans.iter().copied().unzip();
        self.whole.write(&keys, &values).map_err(MapError::IoError)?;
        for (word, mask) in keys.iter().flat_map(bits) {
            self.filter.add(word, mask);
        }
        Ok(())
    }

    /// Makes these bans, and no others, be in force. What the kernel counted of them stays.
    pub fn restore(&mut self, bans: &[(BanKey, Ban)]) -> Result<(), MapError> {
        let there = self.whole.read(|_| true).map_err(MapError::IoError)?;
        let mut there: BTreeMap<BanKey, Ban> = there.into_iter().collect();
        let counted = bans.iter().map(|(key, ban)| {
            let before = there.remove(key).unwrap_or_default();
            (*key, Ban { hits: before.hits.max(ban.hits), last_hit_ns: before.last_hit_ns, ..*ban })
        });
        let counted: Vec<(BanKey, Ban)> = counted.collect();
        for key in there.keys() {
            self.remove(key)?;
        }
        self.put(&counted)?;
        self.rebuild_filter(counted.iter().map(|(key, _)| *key));
        self.set_count(counted.len() as u64)
    }

    /// Adds what the maps of an older gate have counted beyond `known`. What the kernel counts of the same ban between the
    /// two system calls is lost.
    pub fn add_hits(&mut self, older: &Self, known: &[(BanKey, Ban)]) -> Result<(), MapError> {
        let known: BTreeMap<BanKey, u64> = known.iter().map(|(key, ban)| (*key, ban.hits)).collect();
        let hit = older.whole.read(|ban| ban.last_hit_ns > 0).map_err(MapError::IoError)?;
        for (key, old) in hit {
            let more = known.get(&key).map_or(0, |known| old.hits.saturating_sub(*known));
            if more > 0
                && let Some(ban) = self.get(&key)?
            {
                let last_hit_ns = ban.last_hit_ns.max(old.last_hit_ns);
                self.put(&[(key, Ban { hits: ban.hits + more, last_hit_ns, ..ban })])?;
            }
        }
        Ok(())
    }

    pub fn remove(&mut self, key: &BanKey) -> Result<(), MapError> {
        match self.bans.remove(&Wire(*key)) {
            Err(error) if !is_missing(&error) => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// How many bans there are, those that are over and not struck out yet included.
    pub fn count(&self) -> Result<u64, MapError> {
        self.count.get(&0, 0)
    }

    /// Says how many bans there are; none switches the question off.
    pub fn set_count(&mut self, count: u64) -> Result<(), MapError> {
        self.count.set(0, count, 0)
    }

    /// Takes bits of bans that went out of the filter. `all` are those that are there.
    pub fn rebuild_filter(&self, all: impl Iterator<Item = BanKey>) {
        let mut words = vec![0u64; FILTER_LINES * FILTER_WORDS];
        for (word, mask) in all.flat_map(|key| bits(&key)) {
            words[word] |= mask;
        }
        self.filter.put(&words);
    }
}

impl BanReader {
    /// The bans that stopped something at this moment or later.
    pub fn hit_since(&self, moment: Moment) -> io::Result<Vec<BanKey>> {
        let hit = self.0.read(|ban| ban.last_hit_ns > 0 && ban.last_hit_ns >= moment.0)?;
        Ok(hit.into_iter().map(|(key, _)| key).collect())
    }
}

impl std::fmt::Debug for BanMaps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BanMaps").finish_non_exhaustive()
    }
}

/// The words of the filter and the bits in them that stand for a ban.
fn bits(key: &BanKey) -> impl Iterator<Item = (usize, u64)> + use<> {
    let (word, bits) = key.filter_word();
    key.filter_lines().map(move |line| (line as usize * FILTER_WORDS + word as usize, bits))
}
