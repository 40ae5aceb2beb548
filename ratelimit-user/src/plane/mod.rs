//! The data plane: the program, its maps, its links, all pinned, so that they outlive the controller.

mod bans;
mod batch;
mod carry;
mod cells;
mod cgroup;
mod filter;
mod hits;
mod listed;
mod lists;
mod live;
mod maps;
mod object;
mod pins;
mod shared;
mod watch;
mod wire;

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{MapData, MapError, RingBuf},
};
use aya_log::EbpfLogger;
use ratelimit_common::{
    Moment, Secret, Set,
    ban::{Ban, BanKey},
};

use crate::{
    attach::{AttachError, Attached, attach, detach},
    compile::Compiled,
    interface::{Interface, InterfaceError},
    layout::Layout,
};

pub use bans::{BanMaps, BanReader};
use carry::CarryOver;
pub use cells::Cells;
pub use hits::{LISTS, ListHits};
pub use listed::ListedMaps;
pub use lists::make as list_map;
pub use live::LiveTables;
pub use maps::Maps;
pub use pins::Pins;
pub use watch::{WatchError, WatchMaps};

/// Messages of the program, on their way to the log.
pub type ProgramLog = EbpfLogger<&'static dyn log::Log>;

#[derive(Debug, thiserror::Error)]
pub enum PlaneError {
    #[error("this binary was built without its eBPF object: build it with `cargo xtask build`")]
    NoObject,
    #[error("nothing is pinned at {}: no gate is in force there", .0.display())]
    NothingPinned(PathBuf),
    #[error("{}: {source}", path.display())]
    Pins { path: PathBuf, source: io::Error },
    #[error("loading the gate: {}", crate::describe(.0))]
    Load(#[from] aya::EbpfError),
    #[error("the gate's maps: {}", crate::describe(.0))]
    Map(#[from] MapError),
    #[error(transparent)]
    Interface(#[from] InterfaceError),
    #[error(transparent)]
    Attach(#[from] AttachError),
    #[error("no random numbers for the secret: {0}")]
    Random(io::Error),
}

/// A plane in force, with what is attached.
#[derive(Debug)]
pub struct Plane {
    pins: Pins,
    number: u64,
    maps: Maps,
    attached: Vec<Attached>,
    programs: Ebpf,
    hits_before: ListHits,
    watch: WatchMaps,
    /// Why handshakes are not watched, where they should be.
    unwatched: Option<WatchError>,
}

/// What a plane is raised from.
#[derive(Debug)]
pub struct Plan<'a> {
    pub layout: &'a Layout,
    pub compiled: Compiled,
    pub interfaces: &'a [Interface],
    pub bans: &'a [(BanKey, Ban)],
    /// Proven sources that there is room for.
    pub proven_sources: u32,
}

impl Plane {
    /// Puts a plan in force: over the maps that are pinned if they fit, else over new ones. Either way the
    /// program is replaced in its link, so that no packet passes unjudged.
    pub fn raise(pins: &Pins, plan: Plan<'_>) -> Result<Self, PlaneError> {
        let before = pins.in_force().map_err(|source| at(pins.root(), source))?;
        let kept = before.filter(|number| {
            let plane = pins.plane(*number);
            maps::shapes_match(&plane, plan.layout.lines)
                && Maps::open(&plane)
                    .and_then(|maps| maps.active_set())
                    .is_ok_and(|set| set.generation == 0 || plan.layout.fits(&set))
        });
        let number = match kept {
            Some(number) => number,
            None => {
                let newest = pins.planes().map_err(|source| at(pins.root(), source))?.last().copied();
                newest.unwrap_or(0) + 1
            }
        };
        let directory = pins.plane(number);
        make_directory(&directory)?;
        make_directory(&pins.links())?;
        watch::prepare(pins, plan.proven_sources).map_err(|source| at(&pins.watch(), source))?;
        make_directory(&pins.watch())?;
        let mut programs = load(pins, &directory, &plan)?;
        let mut maps = Maps::open(&directory)?;
        let mut carried = None;
        let mut hits_before = ListHits::default();
        if kept.is_none() {
            maps.put_secret(new_secret()?)?;
            carried = before.map(|older| CarryOver::begin(&pins.plane(older), &mut maps, &plan));
        }
        maps.bans_mut().restore(plan.bans)?;
        // What cannot be attached must change nothing: maps that are in use get their contents last.
        let attached = match kept {
            Some(_) => attach_all(&mut programs, pins, plan.interfaces).and_then(|attached| {
                hits_before = maps.put_in_force(plan.compiled)?;
                Ok(attached)
            }),
            None => {
                maps.put_in_force(plan.compiled)?;
                attach_all(&mut programs, pins, plan.interfaces)
            }
        };
        match carried.map(|carried| carried?.finish(&mut maps, plan.bans)) {
            Some(Ok(hits)) => hits_before = hits,
            Some(Err(error)) => {
                tracing::warn!(error = %crate::describe(&error), "counters of the replaced gate are lost");
            }
            None => {}
        }
        if attached.is_err() && kept.is_none() {
            remove_unused(pins, number).map_err(|source| at(pins.root(), source))?;
            if before.is_none() {
                pins.remove_watch().map_err(|source| at(&pins.watch(), source))?;
            }
        }
        let attached = attached?;
        // After the gates, so that a plane that cannot be attached changes nothing here either.
        let unwatched = watch::attach(&mut programs, pins).err();
        if let Some(error) = &unwatched {
            tracing::warn!(%error, "handshakes are not watched: no source can be challenged, no connection counted");
            maps.change_active(Set::unwatch)?;
        }
        let watch = WatchMaps::open(&pins.watch())?;
        let plane = Self { pins: pins.clone(), number, maps, attached, programs, hits_before, watch, unwatched };
        plane.remove_leftovers(plan.interfaces)?;
        Ok(plane)
    }

    /// What the program says of itself; it speaks only if it was loaded while debug messages were wanted.
    pub fn take_log(&mut self) -> Option<ProgramLog> {
        match tracing::enabled!(tracing::Level::DEBUG) {
            true => EbpfLogger::init(&mut self.programs).ok(),
            false => None,
        }
    }

    /// Puts a set in force in the same maps. The layout must be the one the plane was raised with. Returns what the lists
    /// of the set that went out of force stopped, by their bits in that set.
    pub fn put_in_force(&mut self, mut compiled: Compiled) -> Result<ListHits, PlaneError> {
        if self.unwatched.is_some() {
            compiled.set.unwatch();
        }
        Ok(self.maps.put_in_force(compiled)?)
    }

    /// What the lists of the set stopped that raising this plane put out of force, by their bits in that set.
    pub fn hits_before(&self) -> &ListHits {
        &self.hits_before
    }

    /// What the program that watches sockets has seen.
    pub fn watch(&self) -> &WatchMaps {
        &self.watch
    }

    pub fn watch_mut(&mut self) -> &mut WatchMaps {
        &mut self.watch
    }

    /// Why handshakes are not watched, where they should be.
    pub fn unwatched(&self) -> Option<&WatchError> {
        self.unwatched.as_ref()
    }

    pub fn maps(&self) -> &Maps {
        &self.maps
    }

    pub fn maps_mut(&mut self) -> &mut Maps {
        &mut self.maps
    }

    pub fn attached(&self) -> &[Attached] {
        &self.attached
    }

    pub fn open_events(&self) -> Result<RingBuf<MapData>, PlaneError> {
        Ok(Maps::open_events(&self.pins.plane(self.number))?)
    }

    /// Handshakes after which sources are looked up.
    pub fn open_handshakes(&self) -> Result<RingBuf<MapData>, PlaneError> {
        Ok(ListedMaps::open_handshakes(&self.pins.plane(self.number))?)
    }

    /// The map of sources that DNSBLs list.
    pub fn open_listed(&self) -> Result<ListedMaps, PlaneError> {
        Ok(ListedMaps::open(&self.pins.plane(self.number))?)
    }

    /// Links of interfaces that are no longer wanted, and planes that are no longer used.
    fn remove_leftovers(&self, wanted: &[Interface]) -> Result<(), PlaneError> {
        let list = |source| at(self.pins.root(), source);
        for name in self.pins.linked_interfaces().map_err(list)? {
            if !wanted.iter().any(|interface| interface.name == name) {
                detach(&self.pins.link(&name))?;
            }
        }
        for number in self.pins.planes().map_err(list)? {
            if number != self.number {
                self.pins.remove_plane(number).map_err(list)?;
            }
        }
        Ok(())
    }
}

/// Takes the gate off every interface and removes all pins. Returns the interfaces.
pub fn take_down(pins: &Pins) -> Result<Vec<String>, PlaneError> {
    let list = |source| at(pins.root(), source);
    let interfaces = pins.linked_interfaces().map_err(list)?;
    let planes = pins.planes().map_err(list)?;
    if interfaces.is_empty() && planes.is_empty() {
        return Err(PlaneError::NothingPinned(pins.root().to_path_buf()));
    }
    for interface in &interfaces {
        detach(&pins.link(interface))?;
    }
    for number in planes {
        pins.remove_plane(number).map_err(list)?;
    }
    pins.remove_watch().map_err(list)?;
    match fs::remove_dir(pins.links()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(&pins.links(), error)),
        Ok(()) | Err(_) => Ok(interfaces),
    }
}

/// What the program that watches sockets has seen, for when no controller runs.
pub fn open_watch(pins: &Pins) -> Result<WatchMaps, PlaneError> {
    Ok(WatchMaps::open(&pins.watch())?)
}

/// The maps in force, for when no controller runs.
pub fn open_in_force(pins: &Pins) -> Result<Maps, PlaneError> {
    let number = pins.in_force().map_err(|source| at(pins.root(), source))?;
    let number = number.ok_or_else(|| PlaneError::NothingPinned(pins.root().to_path_buf()))?;
    Ok(Maps::open(&pins.plane(number))?)
}

/// The set in force, if any: what a new layout has to respect.
pub fn set_in_force(pins: &Pins) -> Option<Box<Set>> {
    let set = open_in_force(pins).ok()?.active_set().ok()?;
    (set.generation > 0).then_some(set)
}

/// The time the kernel's cells and events are told in.
pub fn now() -> Moment {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec; the clock exists on every kernel that runs the gate, so it cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &mut time) };
    Moment(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// The step in which that time advances.
pub fn clock_tick() -> std::time::Duration {
    let mut step = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec; the clock exists on every kernel that runs the gate, so it cannot fail.
    unsafe { libc::clock_getres(libc::CLOCK_MONOTONIC_COARSE, &mut step) };
    std::time::Duration::new(step.tv_sec as u64, step.tv_nsec as u32)
}

/// Whether an error says that a key is not there. aya says so in its own words where it looks one up, and in the kernel's where
/// it removes one.
fn is_missing(error: &MapError) -> bool {
    match error {
        MapError::KeyNotFound => true,
        MapError::SyscallError(error) => error.io_error.kind() == io::ErrorKind::NotFound,
        _ => false,
    }
}

/// Attaches to every interface, those last whose link is there already: they hardly fail, and what was in force
/// before stays in force until then. If one fails, those attached anew are let go.
fn attach_all(programs: &mut Ebpf, pins: &Pins, interfaces: &[Interface]) -> Result<Vec<Attached>, PlaneError> {
    let mut in_order: Vec<&Interface> = interfaces.iter().collect();
    in_order.sort_by_key(|interface| pins.link(&interface.name).exists());
    let mut attached: Vec<Attached> = Vec::new();
    for interface in in_order {
        match attach(programs, interface, &pins.link(&interface.name)) {
            Ok(one) => attached.push(one),
            Err(error) => {
                for new in attached.iter().filter(|one| !one.replaced) {
                    detach(&pins.link(&new.interface))?;
                }
                return Err(error.into());
            }
        }
    }
    attached.sort_by(|one, other| one.interface.cmp(&other.interface));
    Ok(attached)
}

/// Leaves nothing of a plane that could not be attached anywhere.
fn remove_unused(pins: &Pins, number: u64) -> io::Result<()> {
    if pins.is_in_use(number)? {
        return Ok(());
    }
    pins.remove_plane(number)?;
    // Fails where an older gate has its links.
    let _ = fs::remove_dir(pins.links());
    Ok(())
}

fn load(pins: &Pins, directory: &Path, plan: &Plan<'_>) -> Result<Ebpf, PlaneError> {
    let mut loader = EbpfLoader::new();
    loader.map_max_entries("CELLS", plan.layout.lines);
    loader.map_max_entries("PROVEN", plan.proven_sources);
    let diagnostics = u8::from(tracing::enabled!(tracing::Level::DEBUG));
    loader.override_global("LOG_DIAGNOSTICS", &diagnostics, true);
    for map in pins::MAPS {
        loader.map_pin_path(map, directory.join(map));
    }
    for map in pins::LASTING {
        loader.map_pin_path(map, pins.watch().join(map));
    }
    Ok(loader.load(object::bytes()?)?)
}

/// Cells count from a second ago, so that fresh ones lie in the past for every processor.
fn new_secret() -> Result<Secret, PlaneError> {
    let mut key = [0u64; 2];
    let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut key);
    // SAFETY: `bytes` is writable for its whole length.
    let filled = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if filled != bytes.len() as isize {
        return Err(PlaneError::Random(io::Error::last_os_error()));
    }
    Ok(Secret::new(key, now().0.saturating_sub(1_000_000_000)))
}

fn make_directory(path: &Path) -> Result<(), PlaneError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|source| at(path, source))
}

fn at(path: &Path, source: io::Error) -> PlaneError {
    PlaneError::Pins { path: path.to_path_buf(), source }
}
