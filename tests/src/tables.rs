//! The tables of the gate on the host: plain memory and a clock that stands until it is set.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use ratelimit_common::{
    Address, Cells, Entry, Moment, SERVICES, Secret, ServiceId, Set, SliceFrame, Tables, Verdict,
    address::Family,
    challenge::Slot,
    decide,
    limiter::complete,
    listed::{Listed, ListedKey, charged},
    lookup::ClassId,
    parse,
};

pub mod world;

pub use world::World;

/// What the clock shows at first: a second after the base of the cells, as in a gate just started.
pub const START_NS: u64 = 1_000_000_000;

/// As many challenges as this time allows may be sent at once.
const CHALLENGES_NS: u64 = 20_000_000;

/// The state of one gate. Shared between threads it is one gate on several processors, except that they count
/// admitted connections together.
#[derive(Debug)]
pub struct HostTables {
    set: Box<Set>,
    entries: Vec<world::Compiled>,
    bans: Vec<world::Compiled>,
    secret: Secret,
    now_ns: AtomicU64,
    cells: Vec<AtomicU32>,
    admitted: [AtomicU32; SERVICES],
    /// Until when the challenges are used up.
    challenges_spent_ns: AtomicU64,
    world: World,
    completed: Mutex<HashMap<u32, u32>>,
    slots: Mutex<HashMap<u32, Slot>>,
    listed: Mutex<HashMap<ListedKey, Listed>>,
}

/// What was decided about a frame, and of which family it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    pub verdict: Verdict,
    pub family: Family,
}

impl HostTables {
    pub fn new(world: &World) -> Self {
        Self::with_base(world, 0)
    }

    /// With cells that count from `base_ns`; the clock starts a second after it.
    pub fn with_base(world: &World, base_ns: u64) -> Self {
        let tables = Self {
            set: world.set(),
            entries: world.entries(),
            bans: world.bans().collect(),
            secret: world.secret(base_ns),
            now_ns: AtomicU64::new(base_ns + START_NS),
            cells: (0..world.cells()).map(|_| AtomicU32::new(0)).collect(),
            admitted: std::array::from_fn(|_| AtomicU32::new(0)),
            challenges_spent_ns: AtomicU64::new(0),
            world: world.clone(),
            completed: Mutex::default(),
            slots: Mutex::default(),
            listed: Mutex::new(world.by_dnsbl().collect()),
        };
        world.press(&tables, tables.secret.ticks(tables.now()));
        tables
    }

    pub fn judge(&self, frame: &[u8]) -> Judged {
        let frame = SliceFrame(frame);
        Judged { verdict: decide(&frame, self), family: parse(&frame).family }
    }

    /// The same cells and clock under other instructions.
    pub fn reconfigured(self, world: &World) -> Self {
        let listed = Mutex::new(world.by_dnsbl().collect());
        let (set, entries, bans) = (world.set(), world.entries(), world.bans().collect());
        Self { set, entries, bans, listed, world: world.clone(), ..self }
    }

    /// A source has completed a handshake with a service.
    pub fn complete(&self, source: Address, id: ServiceId) {
        let now = self.secret.ticks(self.now());
        complete(&CompletedCells(self), &self.secret, id, self.set.service_of(id), source, now);
    }

    pub fn set_clock(&self, now_ns: u64) {
        self.now_ns.store(now_ns, Ordering::Relaxed);
    }

    pub fn advance(&self, by_ns: u64) {
        self.now_ns.fetch_add(by_ns, Ordering::Relaxed);
    }

    pub fn cells(&self) -> &[AtomicU32] {
        &self.cells
    }

    /// The places of the cells that something was charged to.
    pub fn charged_cells(&self) -> Vec<u32> {
        let charged = |(index, cell): (usize, &AtomicU32)| (cell.load(Ordering::Relaxed) != 0).then_some(index as u32);
        self.cells.iter().enumerate().filter_map(charged).collect()
    }
}

impl Cells for HostTables {
    fn cell(&self, index: u32) -> Option<u32> {
        self.cells.get(index as usize).map(|cell| cell.load(Ordering::SeqCst))
    }

    fn replace_cell(&self, index: u32, seen: u32, new: u32) -> bool {
        match self.cells.get(index as usize) {
            Some(cell) => cell.compare_exchange(seen, new, Ordering::SeqCst, Ordering::SeqCst).is_ok(),
            None => true,
        }
    }
}

/// The cells that only completed handshakes charge.
struct CompletedCells<'a>(&'a HostTables);

impl Cells for CompletedCells<'_> {
    fn cell(&self, index: u32) -> Option<u32> {
        let cells = self.0.completed.lock().unwrap_or_else(PoisonError::into_inner);
        Some(cells.get(&index).copied().unwrap_or(0))
    }

    fn replace_cell(&self, index: u32, seen: u32, new: u32) -> bool {
        let mut cells = self.0.completed.lock().unwrap_or_else(PoisonError::into_inner);
        let cell = cells.entry(index).or_default();
        let unchanged = *cell == seen;
        if unchanged {
            *cell = new;
        }
        unchanged
    }
}

impl Tables for HostTables {
    fn set(&self) -> &Set {
        &self.set
    }

    /// Counted from 1 in the order of the entries: a model of its own, with classes of its own.
    fn class(&self, source: &Address) -> ClassId {
        let containing = self.entries.iter().enumerate().filter(|(_, entry)| entry.contains(*source));
        let longest = containing.max_by_key(|(_, entry)| entry.prefix);
        longest.map_or(ClassId::NONE, |(index, _)| ClassId(index as u16 + 1))
    }

    fn entry(&self, class: ClassId) -> Entry {
        let index = usize::from(class.0).checked_sub(1);
        index.and_then(|index| self.entries.get(index)).map_or(Entry::NONE, |compiled| compiled.entry)
    }

    fn is_banned(&self, source: &Address, service: ServiceId) -> bool {
        self.bans.iter().any(|ban| ban.contains(*source) && ban.entry.blocks(service))
    }

    fn is_over_listed(&self, source: &Address, service: ServiceId) -> bool {
        let mut all = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(listed) = all.get_mut(&ListedKey::new(*source, service)) else { return false };
        if !listed.is_in_force(self.now()) {
            return false;
        }
        let Set { listed_increment_ns, listed_tolerance_ns, .. } = *self.set;
        let charged = charged(listed.used_until_ns, listed_increment_ns, listed_tolerance_ns, self.now());
        listed.used_until_ns = charged.unwrap_or(listed.used_until_ns);
        charged.is_none()
    }

    fn secret(&self) -> &Secret {
        &self.secret
    }

    fn now(&self) -> Moment {
        Moment(self.now_ns.load(Ordering::Relaxed))
    }

    fn is_proven(&self, source: &Address) -> bool {
        self.world.is_proven(source)
    }

    fn open_connections(&self, source: &Address, service: ServiceId) -> u32 {
        let key = ratelimit_common::proof::OpenKey::new(*source, service);
        let open = self.world.open_connections().iter().filter(|(open, _)| *open == key);
        open.map(|(_, count)| *count as u32).sum()
    }

    fn completed_cell(&self, index: u32) -> Option<u32> {
        CompletedCells(self).cell(index)
    }

    fn slot(&self, place: u32) -> Slot {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.get(&place).copied().unwrap_or(Slot::EMPTY)
    }

    fn put_slot(&self, place: u32, slot: Slot) {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).insert(place, slot);
    }

    fn spend_challenge(&self) -> bool {
        let now = self.now().0;
        let start = self.challenges_spent_ns.load(Ordering::Relaxed).max(now);
        let has_room = start - now <= CHALLENGES_NS;
        if has_room {
            self.challenges_spent_ns.store(start + self.set.challenge_interval_ns, Ordering::Relaxed);
        }
        has_room
    }

    fn count_admitted(&self, service: ServiceId) -> u32 {
        self.admitted[service.index()].fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }
}
