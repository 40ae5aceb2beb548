//! How long it takes from a list to a list that is enforced, in the gate's own maps.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ratelimit_common::Entry;
use ratelimit_user::compile::{Compiled, compile};
use ratelimit_user::config::{Config, List, Source};
use ratelimit_user::guard::NeverBlock;
use ratelimit_user::layout::Layout;
use ratelimit_user::lists::reading::{self, Read};
use ratelimit_user::lists::table::{self, Layer, Table};
use ratelimit_user::lists::{Networks, Weights, local};
use ratelimit_user::machine::Machine;
use ratelimit_user::plane::{Pins, Plan, Plane, list_map};

use super::corpus::Corpus;
use super::report::{Memory, Time};
use crate::bench::judgement::Spread;
use crate::bench::subject::MapSize;
use crate::netns::{Bpffs, Scratch};

pub(super) const PARSE: &str = "parse";
pub(super) const BUILD: &str = "build";
pub(super) const FILL: &str = "fill";
pub(super) const SWAP: &str = "swap";
pub(super) const FROM_ENTRIES: &str = "parsed entries to enforced";
pub(super) const FROM_FILE: &str = "file to enforced";
pub(super) const TRIE: &str = "fill an LPM_TRIE";
pub(super) const HASH: &str = "fill a HASH, hosts only";
pub(super) const NFT: &str = "nft -f";
/// Five million entries are larger than a list may be where nothing else is said.
const LARGER: u64 = 8;
pub(super) const IPSET: &str = "ipset restore";

/// A plane in force on no interface.
struct Gate {
    plane: Plane,
    layout: Layout,
    machine: Machine,
    config: Config,
    _pins: Bpffs,
}

impl Gate {
    fn raise() -> Result<Self> {
        let config = Config::default();
        let layout = Layout::plan(&config, None);
        let machine = Machine { processors: 1, ..Machine::default() };
        let pins = Bpffs::new()?;
        let compiled = compiled(&config, &layout, &machine)?;
        let plan = Plan { layout: &layout, compiled, interfaces: &[], bans: &[], proven_sources: 1024 };
        let plane = Plane::raise(&Pins::at(pins.path()), plan)?;
        Ok(Self { plane, layout, machine, config, _pins: pins })
    }

    /// What belongs to a table; it does not depend on the lists.
    fn around(&self, table: Table) -> Result<Compiled> {
        Ok(Compiled { table: Some(table), ..compiled(&self.config, &self.layout, &self.machine)? })
    }
}

/// A configuration without lists.
fn compiled(config: &Config, layout: &Layout, machine: &Machine) -> Result<Compiled> {
    let never_block = NeverBlock::of(machine, &[], &[]);
    let (compiled, _) = compile(config, layout, machine, &never_block, &Weights::default(), None)?;
    Ok(compiled)
}

/// Measures every list in turn, and the whole again.
pub(super) fn measure(corpora: &[Corpus], rounds: u32) -> Result<Vec<Time>> {
    let mut gate = Gate::raise()?;
    let directory = Scratch::new()?;
    let files = corpora.iter().enumerate().map(|(number, corpus)| {
        let path = directory.path().join(number.to_string());
        fs::write(&path, corpus.text()?).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    });
    let files = files.collect::<Result<Vec<PathBuf>>>()?;
    let mut samples: Vec<BTreeMap<&str, Vec<f64>>> = vec![BTreeMap::new(); corpora.len()];
    for _ in 0..rounds {
        for (file, samples) in files.iter().zip(&mut samples) {
            for (phase, ms) in one_round(&mut gate, file)? {
                samples.entry(phase).or_default().push(ms);
            }
        }
    }
    let times = corpora.iter().zip(samples).flat_map(|(corpus, samples)| {
        samples.into_iter().map(|(phase, samples)| time(phase, corpus, Spread::of(samples)))
    });
    Ok(times.collect())
}

fn time(what: &'static str, corpus: &Corpus, ms: Spread) -> Time {
    let Spread { median, lowest, highest } = ms;
    let (family, entries) = (corpus.family.label(), corpus.entries);
    Time { what, family, entries, ms: median, lowest_ms: lowest, highest_ms: highest }
}

/// What is measured but once.
pub(super) fn once(what: &'static str, corpus: &Corpus, ms: f64) -> Time {
    time(what, corpus, Spread::of(vec![ms]))
}

fn one_round(gate: &mut Gate, file: &Path) -> Result<[(&'static str, f64); 6]> {
    let (read, parse) = timed(|| read(file))?;
    let (table, build) = timed(|| build(&read.networks))?;
    let (map, fill) = timed(|| Ok(list_map(&table)?))?;
    drop(map);
    let compiled = gate.around(table)?;
    // Fills a map again: it is the controller's own function.
    let (_, put) = timed(|| Ok(gate.plane.put_in_force(compiled)?))?;
    let from_entries = build + put;
    Ok([
        (PARSE, parse),
        (BUILD, build),
        (FILL, fill),
        (SWAP, put - fill),
        (FROM_ENTRIES, from_entries),
        (FROM_FILE, parse + from_entries),
    ])
}

/// Reads a list as the controller does: recognised, parsed, sorted, and freed of what no list may hold.
fn read(file: &Path) -> Result<Read> {
    let list = List { private: true, ..List::new("bench", vec![Source::Path(file.to_owned())]) };
    let content = local::read(file, list.max_size.bytes() * LARGER)?;
    Ok(reading::read(&content, &list, Duration::ZERO)?)
}

/// One list that blocks smtp.
pub(super) fn build(networks: &Networks) -> Result<Table> {
    Ok(table::build(&[Layer { networks, says: Entry::new(0, 0, 1).by_lists(1), shields: false }])?)
}

/// What a list occupies in the kernel, and two of them while one takes the place of the other.
pub(super) fn memory(corpus: &Corpus) -> Result<Memory> {
    let table = build(&corpus.networks)?;
    let (old, new) = (list_map(&table)?, list_map(&table)?);
    let bytes = |map: &aya::maps::MapData| -> Result<u64> { Ok(MapSize::of(&map.info()?)?.memory_bytes) };
    Ok(Memory {
        family: corpus.family.label(),
        entries: corpus.entries,
        bytes: bytes(&new)?,
        swap_bytes: bytes(&old)? + bytes(&new)?,
    })
}

/// How many milliseconds it took.
pub(super) fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
    let start = Instant::now();
    let done = work()?;
    Ok((done, start.elapsed().as_secs_f64() * 1e3))
}
