//! What lists stopped, counted by class in the kernel and told by list here.
//!
//! A set counts from zero when it is put in force, and its last word is read once nothing counts into it any more: who
//! adds up what sets that went out of force have counted loses nothing.

use std::path::Path;

use aya::{
    maps::{Map, MapData, MapError, PerCpuArray, PerCpuValues},
    util::nr_cpus,
};
use ratelimit_common::{
    ClassId, Entry,
    event::{Hits, place_of_class},
};

use super::wire::Wire;

/// Lists that a set tells apart: the bits of [`Entry::lists`].
pub const LISTS: usize = u64::BITS as usize;

/// What the lists of one set stopped, or would have where they observe.
///
/// A block counts for every list that names its source, whichever of them is about the service. Where `all_packets`
/// holds, packets of open connections count as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListHits {
    of: [Hits; LISTS],
    unnamed: Hits,
}

impl Default for ListHits {
    fn default() -> Self {
        Self { of: [Hits::default(); LISTS], unnamed: Hits::default() }
    }
}

impl ListHits {
    /// Those of a list, by its bit in that set; none for a number that is no bit.
    pub fn of(&self, list: usize) -> Hits {
        self.of.get(list).copied().unwrap_or_default()
    }

    /// Blocks that no list is behind: entries of `block`, and classes beyond those that tell their lists.
    pub fn unnamed(&self) -> Hits {
        self.unnamed
    }

    pub(crate) fn add(&mut self, lists: u64, hits: Hits) {
        if lists == 0 {
            self.unnamed = self.unnamed.and(hits);
        }
        for (_, sum) in self.of.iter_mut().enumerate().filter(|(list, _)| lists >> list & 1 != 0) {
            *sum = sum.and(hits);
        }
    }
}

/// The counters of the classes of both sets.
pub struct HitCounters(PerCpuArray<MapData, Wire<Hits>>);

impl HitCounters {
    pub fn open(plane: &Path) -> Result<Self, MapError> {
        Ok(Self(PerCpuArray::try_from(Map::PerCpuArray(MapData::from_pin(plane.join("CLASS_HITS"))?))?))
    }

    /// What the classes of a set (0 or 1) stopped, told by their lists.
    pub fn by_list(&self, set: u32, classes: impl Iterator<Item = (ClassId, Entry)>) -> Result<ListHits, MapError> {
        let mut sums = ListHits::default();
        for (class, entry) in classes {
            let of_processors = self.0.get(&place_of_class(set, class), 0)?;
            let hits = of_processors.iter().fold(Hits::default(), |sum, Wire(one)| sum.and(*one));
            if hits.hits != 0 {
                sums.add(entry.lists(), hits);
            }
        }
        Ok(sums)
    }

    /// Lets a set that is not in force count from zero.
    pub fn clear(&mut self, set: u32, classes: impl Iterator<Item = ClassId>) -> Result<(), MapError> {
        let processors = nr_cpus().map_err(|(_, error)| MapError::IoError(error))?;
        for class in classes {
            let zeros = PerCpuValues::try_from(vec![Wire(Hits::default()); processors]).map_err(MapError::IoError)?;
            self.0.set(place_of_class(set, class), zeros, 0)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hit_counts_for_every_list_that_names_its_class() {
        let mut sums = ListHits::default();
        sums.add(1 << 63 | 1, Hits { hits: 3, last_hit_ns: 20 });
        sums.add(1, Hits { hits: 4, last_hit_ns: 10 });
        sums.add(0, Hits { hits: 5, last_hit_ns: 30 });
        assert_eq!(sums.of(0), Hits { hits: 7, last_hit_ns: 20 });
        assert_eq!(sums.of(63), Hits { hits: 3, last_hit_ns: 20 });
        assert_eq!(sums.unnamed(), Hits { hits: 5, last_hit_ns: 30 });
        assert!((1..63).chain([64, usize::MAX]).all(|list| sums.of(list) == Hits::default()));
    }
}
