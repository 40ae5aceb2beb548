//! From a configuration to what the gate reads: a [`Set`] and its entries.

use std::collections::BTreeMap;

use ratelimit_common::{
    Address, Entry, Limit, Mode, Service, ServiceId, Set, limit::TICK_NS, map::MAX_ENTRIES_PER_SET,
    set::TooManyDestinations,
};

use crate::{
    config::{self, Config, Destination, EntryKind, Network, Scope},
    layout::{Layout, Place},
    machine::Machine,
};

/// What one set of maps is filled with.
#[derive(Debug)]
pub struct Compiled {
    pub set: Box<Set>,
    /// Each with what holds for everything inside it: entries of wider networks are folded in, because the
    /// gate finds the narrowest only.
    pub entries: Vec<(Network, Entry)>,
}

/// Why a configuration that is right in itself does not fit into the maps.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    #[error("{0}: use wider networks in `to`, or name fewer services with `to = \"local\"`")]
    Destinations(TooManyDestinations),
    #[error("{0} networks in trust, allow and block, and the table holds {MAX_ENTRIES_PER_SET}: join neighbours")]
    Entries(usize),
}

/// Compiles a configuration for a machine.
pub fn compile(config: &Config, layout: &Layout, machine: &Machine) -> Result<Compiled, CompileError> {
    let mut set = bytemuck::zeroed_box::<Set>();
    set.event_interval_ns = event_interval_ns(config.events_per_second, machine.processors);
    set.set_mode(None, mode(config.mode));
    let mut local = 0;
    for (service, place) in config.services.iter().filter_map(|service| Some((service, layout.place(&service.name)?))) {
        set.put_service(place.id, compile_service(service, place, machine.processors), &service.ports);
        set.set_mode(Some(place.id), mode(config.mode_of(service)));
        match &service.to {
            Destination::Local => local |= place.id.bit(),
            Destination::Networks(networks) => {
                for network in networks {
                    let (address, prefix) = key(*network);
                    set.put_network(address, Address::mask(prefix), place.id.bit())
                        .map_err(CompileError::Destinations)?;
                }
            }
        }
    }
    let own: Vec<_> = match local {
        0 => Vec::new(),
        _ => machine.own_addresses.iter().map(|address| Address::from(*address)).collect(),
    };
    set.put_locals(&own, local).map_err(CompileError::Destinations)?;

    let entries = compile_entries(config, layout);
    if entries.len() > MAX_ENTRIES_PER_SET {
        return Err(CompileError::Entries(entries.len()));
    }
    set.entries = entries.len() as u32;
    Ok(Compiled { set, entries })
}

/// The kernel's side of a mode.
pub const fn mode(mode: config::Mode) -> Mode {
    match mode {
        config::Mode::Observe => Mode::Observe,
        config::Mode::Enforce => Mode::Enforce,
    }
}

/// A network as the gate compares it: a mapped address and the bits that count, 0 to 128.
pub fn key(network: Network) -> (Address, u8) {
    let prefix = if network.is_ipv4() { 96 + network.prefix_len() } else { network.prefix_len() };
    (Address::from(network.address()), prefix)
}

/// Every reason that makes events has an equal part of the budget on every processor.
fn event_interval_ns(events_per_second: u32, processors: u32) -> u64 {
    const SECOND_NS: u64 = 1_000_000_000;
    let reasons =
        ratelimit_common::Reason::ALL.iter().filter(|reason| reason.refuses() || reason.is_new_connection()).count()
            as u64;
    match events_per_second {
        0 => 0,
        some => SECOND_NS * reasons * u64::from(processors.max(1)) / u64::from(some),
    }
}

fn compile_service(service: &config::Service, place: &Place, processors: u32) -> Service {
    let windows = [service.source.first(), service.source.get(1), service.network.first(), service.network.get(1)];
    let mut limits = [Limit::NONE; 4];
    for ((limit, configured), region) in limits.iter_mut().zip(windows).zip(place.regions) {
        if let Some(configured) = configured {
            let increment = ticks(configured, 1);
            *limit = Limit {
                increment,
                tolerance: Limit::tolerance_of(increment, configured.burst.get()),
                first_cell: region.first_cell,
                cells: region.cells,
            };
        }
    }
    let batch = service.service.map_or(1, |limit| batch(&limit, processors));
    let whole = service.service.map_or(Limit::NONE, |limit| {
        let increment = ticks(&limit, batch);
        let batches = (limit.burst.get() / batch).max(1);
        Limit { increment, tolerance: Limit::tolerance_of(increment, batches), first_cell: place.whole_cell, cells: 1 }
    });
    let v4 = |prefix: u8| Address::mask(96 + prefix);
    let masks = [
        v4(service.source_prefix.v4),
        v4(service.network_prefix.v4),
        Address::mask(service.source_prefix.v6),
        Address::mask(service.network_prefix.v6),
    ];
    Service::new(&service.name, limits, whole, batch - 1, masks)
}

/// Ticks that `count` connections cost, rounded down: never stricter than configured.
fn ticks(limit: &config::Limit, count: u32) -> u32 {
    let ns = u128::from(limit.rate.period_ns()) * u128::from(count) / u128::from(limit.rate.count().max(1));
    u32::try_from(ns / u128::from(TICK_NS)).unwrap_or(u32::MAX).max(1)
}

/// Connections a processor counts before it charges the shared cell: a power of two, and all processors
/// together at most an eighth of the burst.
fn batch(limit: &config::Limit, processors: u32) -> u32 {
    let most = (limit.burst.get() / 8 / processors.max(1)).clamp(1, 64);
    1 << most.ilog2()
}

fn compile_entries(config: &Config, layout: &Layout) -> Vec<(Network, Entry)> {
    let mut by_network = BTreeMap::<(Address, u8), (Network, Entry)>::new();
    for kind in [EntryKind::Trust, EntryKind::Allow, EntryKind::Block] {
        for entry in config.entries(kind) {
            let services = bits(&entry.services, layout);
            let own = match kind {
                EntryKind::Trust => Entry::new(services, 0, 0),
                EntryKind::Allow => Entry::new(0, services, 0),
                EntryKind::Block => Entry::new(0, 0, services),
            };
            let place = by_network.entry(key(entry.network)).or_insert((entry.network, Entry::NONE));
            place.1 = place.1.union(own);
        }
    }
    fold_in_wider(by_network.into_iter().collect())
}

/// Adds to every network what the wider ones around it say. Ordered by address, then prefix, a network
/// comes behind everything that contains it, so a stack of open networks finds them all in one pass.
fn fold_in_wider(ordered: Vec<((Address, u8), (Network, Entry))>) -> Vec<(Network, Entry)> {
    let mut around: Vec<(Address, u8, Entry)> = Vec::new();
    ordered
        .into_iter()
        .map(|((address, prefix), (network, own))| {
            while let Some((wider, wider_prefix, _)) = around.last() {
                if address.masked(Address::mask(*wider_prefix)) == *wider {
                    break;
                }
                around.pop();
            }
            let entry = around.last().map_or(own, |(_, _, wider)| own.union(*wider));
            around.push((address, prefix, entry));
            (network, entry)
        })
        .collect()
}

fn bits(scope: &Scope, layout: &Layout) -> u16 {
    let bit = |id: ServiceId| id.bit();
    match scope {
        Scope::All => u16::MAX,
        Scope::Services(names) => {
            names.iter().filter_map(|name| layout.place(name)).map(|place| bit(place.id)).fold(0, |all, one| all | one)
        }
    }
}
