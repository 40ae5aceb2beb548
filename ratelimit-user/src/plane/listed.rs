//! The map of sources that DNSBLs list, and the handshakes after which they are looked up.

use std::{os::fd::AsFd as _, path::Path};

use aya::maps::{HashMap, Map, MapData, MapError, RingBuf};
use ratelimit_common::{
    listed::{Listed, ListedKey},
    proof::{FILTER_WORDS, filter_place},
};

use super::{batch::Batch, filter::Filter, is_missing, wire::Wire};

/// What stands in the kernel: exact entries, and the filter in front of them.
pub struct ListedMaps {
    listed: HashMap<MapData, Wire<ListedKey>, Wire<Listed>>,
    whole: Batch<ListedKey, Listed>,
    filter: Filter,
}

impl ListedMaps {
    pub fn open(plane: &Path) -> Result<Self, MapError> {
        let map = |name| MapData::from_pin(plane.join(name));
        let listed = map("LISTED")?;
        Ok(Self {
            whole: Batch::of(listed.fd().as_fd()).map_err(MapError::IoError)?,
            listed: HashMap::try_from(Map::HashMap(listed))?,
            filter: Filter::map(&map("LISTED_FILTER")?, FILTER_WORDS).map_err(MapError::IoError)?,
        })
    }

    pub fn open_handshakes(plane: &Path) -> Result<RingBuf<MapData>, MapError> {
        RingBuf::try_from(Map::RingBuf(MapData::from_pin(plane.join("HANDSHAKES"))?))
    }

    pub fn get(&self, key: &ListedKey) -> Result<Option<Listed>, MapError> {
        match self.listed.get(&Wire(*key), 0) {
            Ok(Wire(listed)) => Ok(Some(listed)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Lists a source; the filter last, so that it never shows less than there is.
    pub fn put(&mut self, key: ListedKey, listed: Listed) -> Result<(), MapError> {
        self.listed.insert(Wire(key), Wire(listed), 0)?;
        let (word, mask) = filter_place(key.source());
        self.filter.add(word as usize, mask);
        Ok(())
    }

    pub fn remove(&mut self, key: &ListedKey) -> Result<(), MapError> {
        match self.listed.remove(&Wire(*key)) {
            Err(error) if !is_missing(&error) => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    pub fn all(&self) -> Result<Vec<(ListedKey, Listed)>, MapError> {
        self.whole.read(|_| true).map_err(MapError::IoError)
    }

    /// Takes bits of sources that went out of the filter. `all` are those that are there.
    pub fn rebuild_filter(&self, all: impl Iterator<Item = ListedKey>) {
        let mut words = vec![0u64; FILTER_WORDS];
        for key in all {
            let (word, mask) = filter_place(key.source());
            words[word as usize] |= mask;
        }
        self.filter.put(&words);
    }
}

impl std::fmt::Debug for ListedMaps {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("ListedMaps").finish_non_exhaustive()
    }
}
