//! The gate in the kernel, run over single frames without being attached to anything.
//!
//! It is filled from the same [`World`] as the tables of the host, and says what it did by its return value and its
//! tallies.

use std::{borrow::BorrowMut, fmt};

use anyhow::{Context, Result, bail, ensure};
use aya::{
    Btf, Ebpf, EbpfLoader,
    maps::{Array, ArrayOfMaps, HashMap, Map, MapData, PerCpuArray, RingBuf},
    programs::{TestRun, TestRunOptions, Xdp},
};
use etherparse::{SlicedPacket, TransportSlice};
use nix::time::{ClockId, clock_gettime};
use ratelimit_common::{
    Action, Address, ClassId, Entry, Event, Moment, Secret, Set,
    ban::{Ban, BanKey, FilterLine},
    challenge::SLOTS,
    event::{Hits, TALLIES, Tally, place_of_class},
    limiter::complete,
    lookup::CLASSES,
    map::CELLS_PER_LINE,
    proof::{COMPLETED_LINES, Open, Proven, filter_place},
};
use ratelimit_user::{
    lists::table::{self, Table},
    plane::list_map,
};

use crate::{objects, tables::World};

mod cells;

pub(crate) use cells::Cells;

/// Shorter ones are refused by the kernel's test run, before any program sees them.
pub const SHORTEST_FRAME: usize = 14;
/// What a program that takes a frame in one piece is given at most: a page less headroom and tailroom. Cautious:
/// the kernel takes 3520 bytes (6.18).
pub const LONGEST_IN_ONE_PIECE: usize = 3400;

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;
/// Cells count from this long before the start, as in a gate just started.
const BASE_BEFORE_NOW_NS: u64 = 1_000_000_000;
const EPOCH: u32 = 0;

/// The gate's programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    Gate,
    /// The one that takes frames in several buffers.
    GateFrags,
}

impl Program {
    pub const ALL: [Self; 2] = [Self::Gate, Self::GateFrags];

    const fn name(self) -> &'static str {
        match self {
            Self::Gate => "gate",
            Self::GateFrags => "gate_frags",
        }
    }

    pub fn takes(self, frame: &[u8]) -> bool {
        let longest = match self {
            Self::Gate => LONGEST_IN_ONE_PIECE,
            Self::GateFrags => usize::MAX,
        };
        (SHORTEST_FRAME..=longest).contains(&frame.len())
    }
}

/// What is decided when the programs are loaded.
#[derive(Clone, Copy, Debug)]
pub struct Globals {
    pub sample_events: bool,
    pub log_diagnostics: bool,
}

impl Default for Globals {
    fn default() -> Self {
        Self { sample_events: true, log_diagnostics: false }
    }
}

/// One gate in the kernel, with maps of its own.
pub struct Kernel {
    ebpf: Ebpf,
    base_ns: u64,
    epoch: Array<MapData, u32>,
    sets: Array<MapData, [u8; size_of::<Set>()]>,
    lists: ArrayOfMaps<MapData, MapData>,
    bans: HashMap<MapData, [u64; 3], [u64; 4]>,
    ban_filter: Array<MapData, FilterLine>,
    ban_count: Array<MapData, u64>,
    entries: Array<MapData, RawEntry>,
    listed: HashMap<MapData, [u64; 3], [u64; 4]>,
    listed_filter: Array<MapData, u64>,
    secret: Array<MapData, [u8; size_of::<Secret>()]>,
    cells: Cells,
    completed: Cells,
    slots: Cells,
    proven: HashMap<MapData, [u64; 2], [u64; 2]>,
    proven_filter: Array<MapData, u64>,
    open: HashMap<MapData, [u64; 3], [u64; 2]>,
    /// What the services' lines are to say after they have been cleared.
    world: World,
    tallies: PerCpuArray<MapData, [u64; 2]>,
    hits: PerCpuArray<MapData, [u64; 2]>,
    events: RingBuf<MapData>,
}

impl Kernel {
    /// A gate that knows this world, in its first set.
    ///
    /// # Errors
    ///
    /// Not root, a kernel too old, or a program that the verifier refuses.
    pub fn load(globals: Globals, world: &World) -> Result<Self> {
        ensure!(nix::unistd::geteuid().is_root(), "programs in the kernel need root");
        let mut ebpf = load_object(globals, world)?;
        for program in Program::ALL {
            load_program(&mut ebpf, program)?;
        }
        let mut take = |name: &str| ebpf.take_map(name).with_context(|| format!("the gate has no map {name}"));
        let mut kernel = Self {
            base_ns: coarse_clock_ns()?.saturating_sub(BASE_BEFORE_NOW_NS),
            epoch: take("EPOCH")?.try_into()?,
            sets: take("SETS")?.try_into()?,
            lists: take("LISTS")?.try_into()?,
            bans: take("BANS")?.try_into()?,
            ban_filter: take("BAN_FILTER")?.try_into()?,
            ban_count: take("BAN_COUNT")?.try_into()?,
            entries: take("ENTRIES")?.try_into()?,
            listed: take("LISTED")?.try_into()?,
            listed_filter: take("LISTED_FILTER")?.try_into()?,
            secret: take("SECRET")?.try_into()?,
            cells: match take("CELLS")? {
                Map::Array(map) => Cells::of(&map, world.cells() as usize)?,
                other => bail!("the cells are {other:?}"),
            },
            completed: match take("COMPLETED")? {
                Map::Array(map) => Cells::of(&map, COMPLETED_LINES * CELLS_PER_LINE)?,
                other => bail!("the completed cells are {other:?}"),
            },
            slots: match take("SLOTS_OF")? {
                Map::Array(map) => Cells::of(&map, 2 * SLOTS)?,
                other => bail!("the slots are {other:?}"),
            },
            proven: take("PROVEN")?.try_into()?,
            proven_filter: take("PROVEN_FILTER")?.try_into()?,
            open: take("OPEN")?.try_into()?,
            world: world.clone(),
            tallies: take("TALLIES_OF")?.try_into()?,
            hits: take("CLASS_HITS")?.try_into()?,
            events: take("EVENTS")?.try_into()?,
            ebpf,
        };
        kernel.put(0, world)?;
        Ok(kernel)
    }

    /// Writes a world into a set (0 or 1). What is in force changes only if it is that one.
    pub fn put(&mut self, set: u32, world: &World) -> Result<()> {
        let filled = world.set();
        self.sets.set(set, <&[u8; size_of::<Set>()]>::try_from(bytemuck::bytes_of(&*filled))?, 0)?;
        self.secret.set(0, bytemuck::cast::<_, [u8; size_of::<Secret>()]>(world.secret(self.base_ns)), 0)?;
        self.put_bans(world)?;
        self.put_listed(world)?;
        self.put_proofs(world)?;
        self.put_lists(set, world)
    }

    /// Nor do proofs.
    fn put_proofs(&mut self, world: &World) -> Result<()> {
        for key in self.proven.keys().collect::<Result<Vec<_>, _>>()? {
            self.proven.remove(&key)?;
        }
        for key in self.open.keys().collect::<Result<Vec<_>, _>>()? {
            self.open.remove(&key)?;
        }
        for source in world.proven_sources() {
            let (word, bits) = filter_place(*source);
            self.proven_filter.set(word, self.proven_filter.get(&word, 0)? | bits, 0)?;
            let proven = Proven { last_ns: coarse_clock_ns()?, exchanged_ns: 0 };
            self.proven.insert(bytemuck::cast::<_, [u64; 2]>(*source), bytemuck::cast::<_, [u64; 2]>(proven), 0)?;
        }
        for (key, count) in world.open_connections() {
            let open = Open { count: *count, changed_ns: 0 };
            self.open.insert(bytemuck::cast::<_, [u64; 3]>(*key), bytemuck::cast::<_, [u64; 2]>(open), 0)?;
        }
        self.world = world.clone();
        Ok(())
    }

    /// Bans belong to no set.
    fn put_bans(&mut self, world: &World) -> Result<()> {
        let before: Vec<_> = self.bans.keys().collect::<Result<_, _>>()?;
        for key in before {
            self.bans.remove(&key)?;
        }
        for ban in world.bans() {
            let key = BanKey::new(ban.network, ban.prefix);
            let forever = Ban { until_ns: u64::MAX, services: u64::from(ban.entry.blocked()), ..Ban::default() };
            self.bans.insert(bytemuck::cast::<_, [u64; 3]>(key), bytemuck::cast::<_, [u64; 4]>(forever), 0)?;
            for line in key.filter_lines() {
                let mut words = self.ban_filter.get(&line, 0)?;
                let (word, bits) = key.filter_word();
                words[word as usize] |= bits;
                self.ban_filter.set(line, words, 0)?;
            }
        }
        Ok(self.ban_count.set(0, world.bans().count() as u64, 0)?)
    }

    /// Nor does what DNSBLs list.
    fn put_listed(&mut self, world: &World) -> Result<()> {
        for key in self.listed.keys().collect::<Result<Vec<_>, _>>()? {
            self.listed.remove(&key)?;
        }
        for (key, listed) in world.by_dnsbl() {
            self.listed.insert(bytemuck::cast::<_, [u64; 3]>(key), bytemuck::cast::<_, [u64; 4]>(listed), 0)?;
            let (word, bits) = filter_place(key.source());
            self.listed_filter.set(word, self.listed_filter.get(&word, 0)? | bits, 0)?;
        }
        Ok(())
    }

    fn put_lists(&mut self, set: u32, world: &World) -> Result<()> {
        let listed: Vec<_> = world.layers().collect();
        let layers: Vec<_> =
            listed.iter().map(|(networks, says)| table::Layer { networks, says: *says, shields: false }).collect();
        let table = table::build(&layers)?;
        self.lists.set(set, &list_map(&table)?, 0)?;
        put_classes(&mut self.entries, set, &table)
    }

    /// Puts a set in force.
    pub fn flip(&mut self, set: u32) -> Result<()> {
        Ok(self.epoch.set(EPOCH, set, 0)?)
    }

    /// Forgets every connection.
    ///
    /// # Errors
    ///
    /// No clock.
    pub fn reset(&mut self) -> Result<()> {
        self.cells.clear();
        self.completed.clear();
        self.slots.clear();
        let now = Moment(coarse_clock_ns()?).ticks_since(self.base_ns);
        self.world.press(&self.cells, now);
        Ok(())
    }

    /// A source has completed a handshake with a service.
    pub fn complete(&self, source: Address, service: &str) -> Result<()> {
        let now = Moment(coarse_clock_ns()?).ticks_since(self.base_ns);
        let (id, secret) = (self.world.id(service), self.world.secret(self.base_ns));
        complete(&self.completed, &secret, id, self.world.set().service_of(id), source, now);
        Ok(())
    }

    pub fn run(&self, program: Program, frame: &[u8]) -> Result<Action> {
        self.repeat(program, frame, 1)
    }

    /// Runs a program over the same frame again and again; the action is that of the last run.
    pub fn repeat(&self, program: Program, frame: &[u8], times: u32) -> Result<Action> {
        self.exchange(program, frame, times).map(|(action, _)| action)
    }

    /// The same, with the frame as it is afterwards.
    pub fn exchange(&self, program: Program, frame: &[u8], times: u32) -> Result<(Action, Vec<u8>)> {
        let xdp: &Xdp = self.ebpf.program(program.name()).context("loaded")?.try_into()?;
        let mut sent = vec![0; frame.len()];
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut sent),
            repeat: times,
            ..TestRunOptions::default()
        };
        let result = xdp.test_run(options)?;
        let action = match result.return_value {
            XDP_PASS => Action::Pass,
            XDP_DROP => Action::Drop,
            XDP_TX => {
                sent.truncate(result.data_size_out as usize);
                answer(&sent)?
            }
            other => bail!("{} returned {other}", program.name()),
        };
        Ok((action, sent))
    }

    /// What was counted in one place, all processors together.
    pub fn tally(&self, index: u32) -> Result<Tally> {
        let values = self.tallies.get(&index, 0)?;
        let sum = |column: usize| values.iter().map(|value| value[column]).sum();
        Ok(Tally { passed: sum(0), dropped: sum(1) })
    }

    /// What each class of a set (0 or 1) stopped, where it stopped anything: which lists say it, how often, and when
    /// last.
    pub fn hits(&self, set: u32) -> Result<Vec<(u64, Hits)>> {
        let mut stopped = Vec::new();
        for class in (0..CLASSES as u16).map(ClassId) {
            let place = place_of_class(set, class);
            let of_processors = self.hits.get(&place, 0)?;
            let one = |[hits, last_hit_ns]: &[u64; 2]| Hits { hits: *hits, last_hit_ns: *last_hit_ns };
            let hits = of_processors.iter().map(one).fold(Hits::default(), Hits::and);
            if hits != Hits::default() {
                let entry: Entry = bytemuck::cast(self.entries.get(&place, 0)?);
                stopped.push((entry.lists(), hits));
            }
        }
        Ok(stopped)
    }

    pub fn tallies(&self) -> Result<Vec<Tally>> {
        (0..TALLIES as u32).map(|index| self.tally(index)).collect()
    }

    /// The places of the cells that something was charged to.
    pub fn charged_cells(&self) -> Vec<u32> {
        self.cells.charged()
    }

    /// The events that wait, taken out.
    pub fn events(&mut self) -> Result<Vec<Event>> {
        let mut taken = Vec::new();
        while let Some(record) = self.events.next() {
            ensure!(record.len() == size_of::<Event>(), "an event of {} bytes", record.len());
            taken.push(bytemuck::pod_read_unaligned(&record));
        }
        Ok(taken)
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Kernel").field("base_ns", &self.base_ns).finish_non_exhaustive()
    }
}

/// What a frame that is sent back is.
fn answer(frame: &[u8]) -> Result<Action> {
    match SlicedPacket::from_ethernet(frame)?.transport {
        Some(TransportSlice::Tcp(tcp)) if tcp.rst() => Ok(Action::Reset),
        Some(TransportSlice::Tcp(tcp)) if tcp.ack() && !tcp.syn() => Ok(Action::Challenge),
        other => bail!("{other:?} was sent back"),
    }
}

/// What a class says, as a map holds it.
type RawEntry = [u8; size_of::<Entry>()];

/// Puts a table into a set of a gate that is loaded, and not yet used.
pub fn fill_lists(ebpf: &mut Ebpf, set: u32, table: &Table) -> Result<()> {
    let mut lists: ArrayOfMaps<_> = ebpf.map_mut("LISTS").context("no map LISTS")?.try_into()?;
    lists.set(set, &list_map(table)?, 0)?;
    let mut entries: Array<_, RawEntry> = ebpf.map_mut("ENTRIES").context("no map ENTRIES")?.try_into()?;
    put_classes(&mut entries, set, table)
}

fn put_classes<M: BorrowMut<MapData>>(entries: &mut Array<M, RawEntry>, set: u32, table: &Table) -> Result<()> {
    for (class, entry) in (0..).zip(table.classes()) {
        entries.set(set * CLASSES as u32 + class, bytemuck::cast::<_, RawEntry>(*entry), 0)?;
    }
    Ok(())
}

fn load_object(globals: Globals, world: &World) -> Result<Ebpf> {
    let types = Btf::from_sys_fs().context("this kernel gives no BTF")?;
    let (sample, log) = (u8::from(globals.sample_events), u8::from(globals.log_diagnostics));
    EbpfLoader::new()
        .btf(Some(&types))
        .override_global("SAMPLE_EVENTS", &sample, true)
        .override_global("LOG_DIAGNOSTICS", &log, true)
        .map_max_entries("CELLS", world.cells().div_ceil(CELLS_PER_LINE as u32))
        .load(objects::gate()?)
        .context("cannot load the gate's BPF object")
}

fn load_program(ebpf: &mut Ebpf, program: Program) -> Result<()> {
    let name = program.name();
    let xdp: &mut Xdp = ebpf.program_mut(name).with_context(|| format!("no program {name}"))?.try_into()?;
    xdp.load().with_context(|| format!("the kernel refuses {name}"))
}

/// The clock that the gate reads.
pub fn coarse_clock_ns() -> Result<u64> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE)?;
    Ok(u64::try_from(now.tv_sec())? * 1_000_000_000 + u64::try_from(now.tv_nsec())?)
}
