//! The bans' maps.

use std::{
    collections::BTreeSet,
    io,
    os::fd::{AsFd as _, AsRawFd as _},
    path::Path,
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

use aya::maps::{Array, HashMap, Map, MapData, MapError};
use ratelimit_common::{
    Address,
    ban::{Ban, BanKey, FILTER_LINES, FILTER_WORDS, candidates},
};

use super::wire::Wire;

/// What stands in the kernel: exact entries, and the filter in front of them.
pub struct BanMaps {
    bans: HashMap<MapData, Wire<BanKey>, Wire<Ban>>,
    count: Array<MapData, u64>,
    filter: Filter,
}

impl BanMaps {
    pub fn open(plane: &Path) -> Result<Self, MapError> {
        let map = |name| MapData::from_pin(plane.join(name));
        Ok(Self {
            bans: HashMap::try_from(Map::HashMap(map("BANS")?))?,
            count: Array::try_from(Map::Array(map("BAN_COUNT")?))?,
            filter: Filter::map(&map("BAN_FILTER")?).map_err(MapError::IoError)?,
        })
    }

    pub fn get(&self, key: &BanKey) -> Result<Option<Ban>, MapError> {
        match self.bans.get(&Wire(*key), 0) {
            Ok(Wire(ban)) => Ok(Some(ban)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The bans that a source is under, those that are over included.
    pub fn of(&self, source: Address) -> Result<Vec<Ban>, MapError> {
        let keys = candidates(source).filter(|key| !key.is_none());
        keys.filter_map(|key| self.get(&key).transpose()).collect()
    }

    /// Makes bans be in force; the filter last, so that it never shows less than there is.
    pub fn put(&mut self, bans: &[(BanKey, Ban)]) -> Result<(), MapError> {
        for (key, ban) in bans {
            self.bans.insert(Wire(*key), Wire(*ban), 0)?;
            self.filter.add(key);
        }
        Ok(())
    }

    /// Makes these bans, and no others, be in force. What the kernel counted of them stays.
    pub fn restore(&mut self, bans: &[(BanKey, Ban)]) -> Result<(), MapError> {
        let wanted: BTreeSet<BanKey> = bans.iter().map(|(key, _)| *key).collect();
        let there: Vec<BanKey> = self.bans.keys().map(|key| Ok(key?.0)).collect::<Result<_, MapError>>()?;
        for key in there.iter().filter(|key| !wanted.contains(key)) {
            self.remove(key)?;
        }
        let counted = |(key, ban): &(BanKey, Ban)| {
            let before = self.get(key)?.unwrap_or_default();
            let (hits, last_hit_ns) = (before.hits.max(ban.hits), before.last_hit_ns);
            Ok((*key, Ban { hits, last_hit_ns, ..*ban }))
        };
        let bans = bans.iter().map(counted).collect::<Result<Vec<_>, MapError>>()?;
        self.put(&bans)?;
        self.rebuild_filter(wanted.iter());
        self.set_count(bans.len() as u64)
    }

    pub fn remove(&mut self, key: &BanKey) -> Result<(), MapError> {
        match self.bans.remove(&Wire(*key)) {
            Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
            Err(error) => Err(error),
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
    pub fn rebuild_filter<'a>(&self, all: impl Iterator<Item = &'a BanKey>) {
        let mut words = vec![0u64; FILTER_LINES * FILTER_WORDS];
        for (word, mask) in all.flat_map(bits) {
            words[word] |= mask;
        }
        self.filter.put(&words);
    }
}

impl std::fmt::Debug for BanMaps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BanMaps").finish_non_exhaustive()
    }
}

/// The words of the filter and the bits in them that stand for a ban.
fn bits(key: &BanKey) -> impl Iterator<Item = (usize, u64)> {
    let bit = key.filter_bit();
    key.filter_lines().map(move |line| (line as usize * FILTER_WORDS + bit as usize / 64, 1 << (bit % 64)))
}

/// The filter, mapped into memory.
struct Filter {
    start: NonNull<AtomicU64>,
}

// SAFETY: the memory is shared with the kernel anyway and every access is atomic.
unsafe impl Send for Filter {}
// SAFETY: as above.
unsafe impl Sync for Filter {}

impl Filter {
    const COUNT: usize = FILTER_LINES * FILTER_WORDS;
    const BYTES: usize = Self::COUNT * size_of::<AtomicU64>();

    fn map(map: &MapData) -> io::Result<Self> {
        // SAFETY: a fresh mapping at an address of the kernel's choice, of a map of this size.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                Self::BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.fd().as_fd().as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at address zero"))?;
        Ok(Self { start })
    }

    fn add(&self, key: &BanKey) {
        for (word, mask) in bits(key) {
            self.all()[word].fetch_or(mask, Ordering::Relaxed);
        }
    }

    fn put(&self, words: &[u64]) {
        for (shared, word) in self.all().iter().zip(words) {
            if shared.load(Ordering::Relaxed) != *word {
                shared.store(*word, Ordering::Relaxed);
            }
        }
    }

    fn all(&self) -> &[AtomicU64] {
        // SAFETY: so many words are mapped from `start` for as long as `self` lives; atomics may be shared with the
        // kernel, which only reads them.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), Self::COUNT) }
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `map`, which nobody refers to any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), Self::BYTES) };
    }
}
