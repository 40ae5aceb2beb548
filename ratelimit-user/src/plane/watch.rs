//! What outlives planes: the program that watches sockets, and the maps of what it saw.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
};

use aya::{
    Ebpf,
    maps::{HashMap, Map, MapData, MapError, MapType, PerCpuArray},
    programs::SockOps,
};
use ratelimit_common::{
    Address,
    proof::{self, Mark, OLDER_SOURCES, OPEN_SOURCES, Open, OpenKey, Proven, SITES, Watched},
};

use super::{batch::Batch, cgroup, filter::Filter, is_missing, maps::has_shape, pins::Pins, wire::Wire};
use crate::attach::SocketLink;

/// Why handshakes are not watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    #[error("the control groups cannot be reached: {0}")]
    ControlGroups(io::Error),
    #[error("the kernel refuses the program that watches sockets: {}", crate::describe(.0))]
    Program(#[from] aya::programs::ProgramError),
    #[error("this binary's object has no program that watches sockets")]
    Missing,
    #[error("{}: {source}", path.display())]
    Link { path: PathBuf, source: io::Error },
}

/// Makes sure that the pinned maps that outlive planes are those of this program: others are let go, and what they hold is
/// lost to the kernel.
pub fn prepare(pins: &Pins, proven_sources: u32) -> io::Result<()> {
    let directory = pins.watch();
    if directory.exists() && !shapes_match(&directory, proven_sources) {
        tracing::warn!("what is known of proven sources and open connections has another shape, and starts anew");
        pins.remove_watch()?;
    }
    Ok(())
}

fn shapes_match(directory: &Path, proven_sources: u32) -> bool {
    use MapType::{Array, Hash, PerCpuArray, SkStorage};
    let (address, key) = (size_of::<Address>(), size_of::<OpenKey>());
    [
        ("PROVEN", Hash, address, size_of::<Proven>(), proven_sources as usize),
        ("PROVEN_FILTER", Array, size_of::<u32>(), size_of::<u64>(), proof::FILTER_WORDS),
        ("PROVEN_OF_SITE", Hash, size_of::<u64>(), size_of::<u64>(), SITES),
        ("OPEN", Hash, key, size_of::<Open>(), OPEN_SOURCES),
        ("OLDER", Hash, key, size_of::<u64>(), OLDER_SOURCES),
        ("MARKS", SkStorage, size_of::<u32>(), size_of::<Mark>(), 0),
        ("WATCHED", PerCpuArray, size_of::<u32>(), size_of::<Watched>(), 1),
    ]
    .into_iter()
    .all(|(name, kind, key, value, entries)| has_shape(&directory.join(name), kind, key, value, entries))
}

/// Attaches the program of a plane, or puts it in the place of the one before.
pub fn attach(programs: &mut Ebpf, pins: &Pins) -> Result<(), WatchError> {
    let program: &mut SockOps = programs.program_mut("watch_sockets").ok_or(WatchError::Missing)?.try_into()?;
    program.load()?;
    let program = program.fd()?.as_fd();
    let path = pins.watch_link();
    let at = |source| WatchError::Link { path: path.clone(), source };
    match SocketLink::open(&path) {
        Ok(Some(link)) => return link.replace(program).map_err(at),
        Ok(None) => fs::remove_file(&path).map_err(at)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(at(error)),
    }
    let root: File = cgroup::root().map_err(WatchError::ControlGroups)?;
    SocketLink::create(program, root.as_fd()).and_then(|link| link.pin(&path)).map_err(at)
}

/// The maps.
pub struct WatchMaps {
    proven: HashMap<MapData, Wire<Address>, Wire<Proven>>,
    all_proven: Batch<Address, Proven>,
    filter: Filter,
    sites: HashMap<MapData, u64, u64>,
    open: HashMap<MapData, Wire<OpenKey>, Wire<Open>>,
    all_open: Batch<OpenKey, Open>,
    older: HashMap<MapData, Wire<OpenKey>, u64>,
    watched: PerCpuArray<MapData, Wire<Watched>>,
    marks: MapData,
    proven_most: u64,
}

impl WatchMaps {
    pub fn open(directory: &Path) -> Result<Self, MapError> {
        let map = |name| MapData::from_pin(directory.join(name));
        let (proven, open) = (map("PROVEN")?, map("OPEN")?);
        Ok(Self {
            proven_most: proven.info()?.max_entries().into(),
            all_proven: Batch::of(proven.fd().as_fd()).map_err(MapError::IoError)?,
            proven: HashMap::try_from(Map::HashMap(proven))?,
            filter: Filter::map(&map("PROVEN_FILTER")?, proof::FILTER_WORDS).map_err(MapError::IoError)?,
            sites: HashMap::try_from(Map::HashMap(map("PROVEN_OF_SITE")?))?,
            all_open: Batch::of(open.fd().as_fd()).map_err(MapError::IoError)?,
            open: HashMap::try_from(Map::HashMap(open))?,
            older: HashMap::try_from(Map::HashMap(map("OLDER")?))?,
            watched: PerCpuArray::try_from(Map::PerCpuArray(map("WATCHED")?))?,
            marks: map("MARKS")?,
        })
    }

    pub fn proven(&self, source: Address) -> Result<Option<Proven>, MapError> {
        found(self.proven.get(&Wire(proof::proven_source(source)), 0)).map(|found| found.map(|Wire(proven)| proven))
    }

    /// All proven sources.
    pub fn all_proven(&self) -> io::Result<Vec<(Address, Proven)>> {
        self.all_proven.read(|_| true)
    }

    /// Those with a handshake or an exchange at this moment or later.
    pub fn proven_since(&self, since_ns: u64) -> io::Result<Vec<(Address, Proven)>> {
        self.all_proven.read(|proven| proven.is_seen_since(since_ns))
    }

    /// Makes sources be proven that are not yet, and counts them for their networks.
    pub fn restore_proven(&mut self, sources: &[(Address, Proven)]) -> Result<(), MapError> {
        const NOT_THERE_YET: u64 = 1;
        let mut of_sites = BTreeMap::<u64, u64>::new();
        for (source, proven) in sources {
            let (word, bits) = proof::filter_place(*source);
            self.filter.add(word as usize, bits);
            match self.proven.insert(Wire(*source), Wire(*proven), NOT_THERE_YET) {
                Ok(()) => {
                    if let Some(site) = proof::site(*source) {
                        *of_sites.entry(site.words().0).or_default() += 1;
                    }
                }
                // It is proven already, or there is no room for more.
                Err(error) => tracing::trace!(%error, "a proven source is not restored"),
            }
        }
        of_sites.into_iter().try_for_each(|(site, more)| self.change_site(site, |count| count + more))
    }

    /// Forgets sources.
    pub fn forget_proven(&mut self, sources: &[Address]) -> Result<(), MapError> {
        for source in sources {
            match self.proven.remove(&Wire(*source)) {
                Ok(()) => {
                    if let Some(site) = proof::site(*source) {
                        self.change_site(site.words().0, |count| count.saturating_sub(1))?;
                    }
                }
                Err(error) if !is_missing(&error) => return Err(error),
                Err(_) => {}
            }
        }
        if !sources.is_empty() {
            self.rebuild_filter().map_err(MapError::IoError)?;
        }
        Ok(())
    }

    /// Takes bits of sources that went out of the filter. Who proves himself meanwhile may lose his until his next handshake.
    fn rebuild_filter(&self) -> io::Result<()> {
        let mut words = vec![0u64; proof::FILTER_WORDS];
        for (source, _) in self.all_proven()? {
            let (word, bits) = proof::filter_place(source);
            words[word as usize] |= bits;
        }
        self.filter.put(&words);
        Ok(())
    }

    /// What the kernel counts of the same network between the two system calls is lost.
    fn change_site(&mut self, site: u64, change: impl Fn(u64) -> u64) -> Result<(), MapError> {
        match change(found(self.sites.get(&site, 0))?.unwrap_or(0)) {
            0 => found(self.sites.remove(&site)).map(drop),
            count => self.sites.insert(site, count, 0),
        }
    }

    /// Connections that a source has open, older ones included.
    pub fn connections(&self, key: &OpenKey) -> Result<u64, MapError> {
        let open = found(self.open.get(&Wire(*key), 0))?.map_or(0, |Wire(open)| open.count);
        Ok(open + found(self.older.get(&Wire(*key), 0))?.unwrap_or(0))
    }

    /// Sources with open connections, older ones included.
    pub fn all_connections(&self) -> Result<BTreeMap<OpenKey, u64>, MapError> {
        let open = self.all_open.read(|open| open.count > 0).map_err(MapError::IoError)?;
        let mut all: BTreeMap<OpenKey, u64> = open.into_iter().map(|(key, open)| (key, open.count)).collect();
        for older in self.older.iter() {
            let (Wire(key), count) = older?;
            *all.entry(key).or_default() += count;
        }
        Ok(all)
    }

    /// Takes out entries that have had no connection for long.
    pub fn prune_open(&mut self, before_ns: u64) -> Result<(), MapError> {
        let idle =
            self.all_open.read(|open| open.count == 0 && open.changed_ns < before_ns).map_err(MapError::IoError)?;
        for (key, _) in idle {
            let taken = self.all_open.take(&key).map_err(MapError::IoError)?;
            // A connection came in between.
            if let Some(open) = taken.filter(|open| open.count > 0) {
                self.open.insert(Wire(key), Wire(open), 0)?;
            }
        }
        Ok(())
    }

    /// Says how many connections are open that nobody counted when they were made.
    pub fn put_older(&mut self, older: &BTreeMap<OpenKey, u64>) -> Result<(), MapError> {
        let before = self.older.keys().collect::<Result<Vec<_>, _>>()?;
        for Wire(key) in before.into_iter().filter(|Wire(key)| !older.contains_key(key)) {
            found(self.older.remove(&Wire(key)))?;
        }
        older.iter().try_for_each(|(key, count)| self.older.insert(Wire(*key), count, 0))
    }

    pub fn watched(&self) -> Result<Watched, MapError> {
        let values = self.watched.get(&0, 0)?;
        Ok(values.iter().fold(Watched::default(), |sum, Wire(one)| Watched {
            handshakes: sum.handshakes + one.handshakes,
            not_noted: sum.not_noted + one.not_noted,
            not_noted_of_site: sum.not_noted_of_site + one.not_noted_of_site,
            not_counted: sum.not_counted + one.not_counted,
            not_told: sum.not_told + one.not_told,
        }))
    }

    /// How many proven sources there is room for.
    pub fn proven_most(&self) -> u64 {
        self.proven_most
    }

    /// Connections that are older than whoever counts.
    pub fn older(&self) -> Result<u64, MapError> {
        self.older.iter().map(|older| older.map(|(_, count)| count)).sum()
    }

    /// The storage that counted sockets have.
    pub fn marks(&self) -> BorrowedFd<'_> {
        self.marks.fd().as_fd()
    }
}

fn found<T>(answer: Result<T, MapError>) -> Result<Option<T>, MapError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

impl std::fmt::Debug for WatchMaps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WatchMaps").finish_non_exhaustive()
    }
}
