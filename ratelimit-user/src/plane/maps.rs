//! The maps of one plane, opened by their pins.

use std::{io, path::Path};

use aya::maps::{Array, ArrayOfMaps, Map, MapData, MapError, MapInfo, MapType, PerCpuArray, PerCpuValues, RingBuf};
use ratelimit_common::{
    Address, Entry, SERVICES, Secret, ServiceId, Set, Ticks,
    ban::{self, Ban, BanKey},
    challenge::{self, Slot},
    event::{CLASS_PLACES, Hits, TALLIES, Tally, place_of_class},
    listed::{self, Listed, ListedKey},
    lookup::{CLASSES, ClassId, find},
    map, proof,
};

use super::{
    bans::BanMaps,
    cells::Cells,
    hits::{HitCounters, ListHits},
    listed::ListedMaps,
    lists::{self, SharedLines},
    wire::Wire,
};
use crate::{compile::Compiled, lists::table::Table};

/// The maps of one plane.
pub struct Maps {
    epoch: Array<MapData, u32>,
    sets: Array<MapData, Wire<Set>>,
    lists: ArrayOfMaps<MapData, MapData>,
    entries: Array<MapData, Wire<Entry>>,
    bans: BanMaps,
    listed: ListedMaps,
    secret: Array<MapData, Wire<Secret>>,
    tallies: PerCpuArray<MapData, Wire<Tally>>,
    hits: HitCounters,
    cells: Cells,
    /// Those that only completed handshakes charge.
    completed: Cells,
    /// As words, two a slot.
    slots: Cells,
    lines: u32,
}

impl Maps {
    pub fn open(plane: &Path) -> Result<Self, MapError> {
        let map = |name| MapData::from_pin(plane.join(name));
        let cells = map("CELLS")?;
        let lines = cells.info()?.max_entries();
        Ok(Self {
            epoch: Array::try_from(Map::Array(map("EPOCH")?))?,
            sets: Array::try_from(Map::Array(map("SETS")?))?,
            lists: ArrayOfMaps::try_from(Map::ArrayOfMaps(map("LISTS")?))?,
            entries: Array::try_from(Map::Array(map("ENTRIES")?))?,
            bans: BanMaps::open(plane)?,
            listed: ListedMaps::open(plane)?,
            secret: Array::try_from(Map::Array(map("SECRET")?))?,
            tallies: PerCpuArray::try_from(Map::PerCpuArray(map("TALLIES_OF")?))?,
            hits: HitCounters::open(plane)?,
            cells: Cells::map(&cells, lines, true).map_err(MapError::IoError)?,
            completed: Cells::map(&map("COMPLETED")?, proof::COMPLETED_LINES as u32, false)
                .map_err(MapError::IoError)?,
            slots: Cells::map(&map("SLOTS_OF")?, SLOT_LINES, false).map_err(MapError::IoError)?,
            lines,
        })
    }

    /// Opens the event buffer of a plane.
    pub fn open_events(plane: &Path) -> Result<RingBuf<MapData>, MapError> {
        RingBuf::try_from(Map::RingBuf(MapData::from_pin(plane.join("EVENTS"))?))
    }

    pub fn lines(&self) -> u32 {
        self.lines
    }

    pub fn cells(&self) -> &Cells {
        &self.cells
    }

    /// Brings cells that owe nothing up to date, before their time wraps. Returns how many there were.
    pub fn sweep(&self, now: Ticks) -> usize {
        [&self.cells, &self.completed].into_iter().map(|cells| cells.sweep(now)).sum()
    }

    /// The cells that only completed handshakes charge.
    pub fn completed(&self) -> &Cells {
        &self.completed
    }

    /// What is remembered in a place about a source that was suspect.
    pub fn slot(&self, place: u32) -> Slot {
        let word = |index| u64::from(self.slots.get(index).unwrap_or(0));
        Slot(word(2 * place) | word(2 * place + 1) << 32)
    }

    /// Tickets that are good at a moment.
    pub fn tickets(&self, now: Ticks) -> usize {
        (0..challenge::SLOTS as u32).filter(|place| self.slot(*place).is_good_ticket(now)).count()
    }

    pub fn secret(&self) -> Result<Secret, MapError> {
        Ok(self.secret.get(&0, 0)?.0)
    }

    pub fn put_secret(&mut self, secret: Secret) -> Result<(), MapError> {
        self.secret.set(0, Wire(secret), 0)
    }

    /// The number of the set in force.
    pub fn epoch(&self) -> Result<u32, MapError> {
        Ok(self.epoch.get(&0, 0)? & 1)
    }

    /// The set in force.
    pub fn active_set(&self) -> Result<Box<Set>, MapError> {
        Ok(Box::new(self.sets.get(&self.epoch()?, 0)?.0))
    }

    /// The class of a source in the lists of the set in force.
    pub fn class(&self, source: Address) -> Result<ClassId, MapError> {
        match self.lists.get(&self.epoch()?, 0) {
            Ok(table) => Ok(find(&SharedLines::open(&table)?, source)),
            // No list was ever put in force.
            Err(MapError::KeyNotFound) => Ok(ClassId::NONE),
            Err(error) => Err(error),
        }
    }

    /// What a class of the set in force says.
    pub fn entry(&self, class: ClassId) -> Result<Entry, MapError> {
        Ok(self.entries.get(&place_of_class(self.epoch()?, class), 0)?.0)
    }

    /// The bans that a source is under, those that are over included.
    pub fn bans_of(&self, source: Address) -> Result<Vec<Ban>, MapError> {
        self.bans.of(source)
    }

    /// What is left to a source that DNSBLs list for a service.
    pub fn listed(&self, source: Address, id: ServiceId) -> Result<Option<Listed>, MapError> {
        self.listed.get(&ListedKey::new(source, id))
    }

    pub fn bans(&self) -> &BanMaps {
        &self.bans
    }

    pub fn bans_mut(&mut self) -> &mut BanMaps {
        &mut self.bans
    }

    /// Fills the set that is not in force, then flips: all of it becomes visible at once. Without a table the one in
    /// force stays. Returns what the lists of the set that went out of force stopped, by their bits in that set.
    pub fn put_in_force(&mut self, compiled: Compiled) -> Result<ListHits, MapError> {
        let Compiled { mut set, table } = compiled;
        let active = self.epoch()?;
        let inactive = active ^ 1;
        let before = self.sets.get(&active, 0)?.0;
        set.generation = before.generation + 1;
        self.hits.clear(inactive, classes_of(&self.sets.get(&inactive, 0)?.0))?;
        let lists = self.put_table(inactive, table.as_ref(), &mut set, &before)?;
        self.sets.set(inactive, wire(&*set), 0)?;
        self.epoch.set(0, inactive, 0)?;
        wait_for_running_programs();
        // What a table held is free once neither set refers to it; the kernel frees it on its own time.
        self.lists.set(active, &lists, 0)?;
        self.hits_of(active, &before)
    }

    /// What the lists of the set in force stopped since then, by their bits in it.
    pub fn list_hits(&self) -> Result<ListHits, MapError> {
        let epoch = self.epoch()?;
        self.hits_of(epoch, &self.sets.get(&epoch, 0)?.0)
    }

    fn hits_of(&self, epoch: u32, set: &Set) -> Result<ListHits, MapError> {
        let entry = |class: ClassId| Ok((class, self.entries.get(&place_of_class(epoch, class), 0)?.0));
        let classes = classes_of(set).map(entry).collect::<Result<Vec<_>, MapError>>()?;
        self.hits.by_list(epoch, classes.into_iter())
    }

    /// Puts a table, or the one in force, into a set that is not.
    fn put_table(
        &mut self,
        inactive: u32,
        table: Option<&Table>,
        set: &mut Set,
        before: &Set,
    ) -> Result<MapData, MapError> {
        let (lists, classes) = match table {
            Some(table) => (lists::make(table)?, table.classes().to_vec()),
            None => {
                let active = inactive ^ 1;
                set.entries = before.entries;
                let classes =
                    classes_of(before).map(|class| Ok(self.entries.get(&place_of_class(active, class), 0)?.0));
                (self.lists.get(&active, 0)?, classes.collect::<Result<_, MapError>>()?)
            }
        };
        set.classes = classes.len() as u32;
        for (class, entry) in classes_of(set).zip(classes) {
            self.entries.set(place_of_class(inactive, class), Wire(entry), 0)?;
        }
        self.lists.set(inactive, &lists, 0)?;
        Ok(lists)
    }

    /// Changes the modes in the set in force, in place. For when no controller runs: everything else in the
    /// set stays as it is, so there is nothing that could be seen half-changed.
    pub fn change_active(&mut self, change: impl FnOnce(&mut Set)) -> Result<(), MapError> {
        let mut set = self.active_set()?;
        change(&mut set);
        self.sets.set(self.epoch()?, wire(&*set), 0)
    }

    /// Every tally, summed over the processors.
    pub fn tallies(&self) -> Result<Vec<Tally>, MapError> {
        self.tallies
            .iter()
            .map(|values| {
                Ok(values?.iter().fold(Tally::default(), |sum, Wire(one)| Tally {
                    passed: sum.passed + one.passed,
                    dropped: sum.dropped + one.dropped,
                }))
            })
            .collect()
    }

    /// Adds to the tallies. What the gate counts into the same tally between the two system calls is lost.
    pub fn add_tallies(&mut self, more: &[Tally]) -> Result<(), MapError> {
        if more.len() != TALLIES {
            return Ok(());
        }
        for (index, more) in more.iter().enumerate().filter(|(_, more)| **more != Tally::default()) {
            let mut values = self.tallies.get(&(index as u32), 0)?.to_vec();
            if let Some(Wire(first)) = values.first_mut() {
                first.passed += more.passed;
                first.dropped += more.dropped;
            }
            self.tallies.set(index as u32, PerCpuValues::try_from(values).map_err(MapError::IoError)?, 0)?;
        }
        Ok(())
    }
}

const SLOT_LINES: u32 = (challenge::SLOTS * size_of::<u64>() / map::LINE_BYTES) as u32;

/// The classes of a set.
fn classes_of(set: &Set) -> impl Iterator<Item = ClassId> + use<> {
    (0..set.classes.min(CLASSES as u32) as u16).map(ClassId)
}

impl std::fmt::Debug for Maps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Maps").field("lines", &self.lines).finish_non_exhaustive()
    }
}

/// Whether the pinned maps of a plane have the shapes this program was built for; aya reuses a pin unseen.
pub fn shapes_match(plane: &Path, lines: u32) -> bool {
    use aya::maps::MapType::{Array, ArrayOfMaps, Hash, PerCpuArray, RingBuf};
    use ratelimit_common::{Event, Reason};

    let (word, line) = (size_of::<u32>(), map::LINE_BYTES);
    let spent = size_of::<u64>() * Reason::COUNT.next_power_of_two();
    let expected = [
        ("EPOCH", Array, word, word, 1),
        ("SETS", Array, word, size_of::<Set>(), 2),
        ("LISTS", ArrayOfMaps, word, word, 2),
        ("ENTRIES", Array, word, size_of::<Entry>(), CLASS_PLACES),
        ("BANS", Hash, size_of::<BanKey>(), size_of::<Ban>(), ban::MAX_BANS),
        ("BAN_FILTER", Array, word, size_of::<ban::FilterLine>(), ban::FILTER_LINES),
        ("BAN_COUNT", Array, word, size_of::<u64>(), 1),
        ("SECRET", Array, word, size_of::<Secret>(), 1),
        ("CELLS", Array, word, line, lines as usize),
        ("TALLIES_OF", PerCpuArray, word, size_of::<Tally>(), TALLIES),
        ("CLASS_HITS", PerCpuArray, word, size_of::<Hits>(), CLASS_PLACES),
        ("ADMITTED", PerCpuArray, word, word * SERVICES, 1),
        ("EVENTS", RingBuf, 0, 0, map::EVENT_BUFFER_BYTES),
        ("EVENTS_SPENT", PerCpuArray, word, spent, 1),
        ("RESETS_SPENT", PerCpuArray, word, size_of::<u64>(), 1),
        ("CHALLENGES_SPENT", PerCpuArray, word, size_of::<u64>(), 1),
        ("SLOTS_OF", Array, word, size_of::<u64>(), challenge::SLOTS),
        ("COMPLETED", Array, word, line, proof::COMPLETED_LINES),
        ("LISTED", Hash, size_of::<ListedKey>(), size_of::<Listed>(), listed::MAX_LISTED),
        ("LISTED_FILTER", Array, word, size_of::<u64>(), proof::FILTER_WORDS),
        ("HANDSHAKES", RingBuf, 0, 0, listed::HANDSHAKE_BUFFER_BYTES),
    ];
    const _: () = assert!(size_of::<Event>().is_multiple_of(8));
    expected
        .into_iter()
        .all(|(name, kind, key, value, entries)| has_shape(&plane.join(name), kind, key, value, entries))
}

/// Whether a pinned map is of this type, and has keys, values and as many entries of these sizes.
pub(super) fn has_shape(pin: &Path, kind: MapType, key: usize, value: usize, entries: usize) -> bool {
    MapInfo::from_pin(pin).is_ok_and(|info| {
        info.map_type().is_ok_and(|found| found == kind)
            && info.key_size() as usize == key
            && info.value_size() as usize == value
            && info.max_entries() as usize == entries
    })
}

fn wire<T>(value: &T) -> &Wire<T> {
    // SAFETY: `Wire` is transparent over its field.
    unsafe { &*std::ptr::from_ref(value).cast() }
}

/// Returns when every program run that may have read the old epoch is over.
pub(super) fn wait_for_running_programs() {
    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
    // MEMBARRIER_CMD_GLOBAL waits for an RCU grace period, and XDP programs run inside RCU read sections.
    // SAFETY: takes three integers and touches no memory of ours.
    let waited = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if waited != 0 {
        // Refused on nohz_full kernels. No run of a program lasts this long.
        tracing::debug!(error = %io::Error::last_os_error(), "membarrier refused, waiting instead");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}
