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
    #[error("services.{0}.to: {1} would take in all of IPv4; write 2000::/3 for the IPv6 internet")]
    SpansV4(String, Network),
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
                    if spans_v4(*network) {
                        return Err(CompileError::SpansV4(service.name.clone(), *network));
                    }
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
    if by_network.values().any(|(network, _)| spans_v4(*network)) {
        by_network.entry(key(Network::ALL_V4)).or_insert((Network::ALL_V4, Entry::NONE));
    }
    fold_in_wider(by_network.into_iter().collect())
}

/// Whether an IPv6 network contains all of IPv4 as the gate compares addresses, which nobody means by it.
fn spans_v4(network: Network) -> bool {
    let ((all_v4, _), (address, prefix)) = (key(Network::ALL_V4), key(network));
    !network.is_ipv4() && all_v4.masked(Address::mask(prefix)) == address
}

/// Adds to every network what the wider ones around it say. Ordered by address, then prefix, a network
/// comes behind everything that contains it, so a stack of open networks finds them all in one pass.
/// Nothing is folded into all of IPv4: what contains that is an IPv6 network.
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
            let wider = around.last().filter(|_| network != Network::ALL_V4);
            let entry = wider.map_or(own, |(_, _, wider)| own.union(*wider));
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

#[cfg(test)]
mod tests {
    use super::*;
    use ratelimit_common::SERVICES;

    fn entries_of(text: &str) -> Vec<(String, Entry)> {
        let config = Config::parse(text, "test").unwrap().config;
        let entries = compile_entries(&config, &Layout::plan(&config, None));
        entries.into_iter().map(|(network, entry)| (network.to_string(), entry)).collect()
    }

    fn entry_of(entries: &[(String, Entry)], network: &str) -> Entry {
        entries.iter().find(|(name, _)| name == network).unwrap().1
    }

    #[test]
    fn a_network_says_what_the_wider_ones_say_too() {
        let entries = entries_of(
            r#"block = ["10.0.0.0/8", "192.0.2.0/24"]
               allow = ["10.1.0.0/16"]
               trust = ["10.1.2.3"]"#,
        );
        let all = u16::MAX;
        assert_eq!(entry_of(&entries, "10.0.0.0/8"), Entry::new(0, 0, all));
        assert_eq!(entry_of(&entries, "10.1.0.0/16"), Entry::new(0, all, all));
        assert_eq!(entry_of(&entries, "192.0.2.0/24"), Entry::new(0, 0, all));
        assert_eq!(entries.iter().find(|(name, _)| name.starts_with("10.1.2.3")).unwrap().1, Entry::new(all, all, all));
    }

    #[test]
    fn all_of_ipv6_says_nothing_of_ipv4() {
        let entries = entries_of(r#"block = ["::/0", "198.51.100.0/24"]"#);
        assert_eq!(entry_of(&entries, "0.0.0.0/0"), Entry::NONE);
        assert_eq!(entry_of(&entries, "198.51.100.0/24"), Entry::new(0, 0, u16::MAX));

        let entries = entries_of("trust = [\"::/0\"]\nblock = [\"0.0.0.0/0\"]");
        assert_eq!(entry_of(&entries, "0.0.0.0/0"), Entry::new(0, 0, u16::MAX));
        assert_eq!(entry_of(&entries, "::/0"), Entry::new(u16::MAX, 0, 0));
    }

    #[test]
    fn a_destination_that_takes_in_ipv4_by_accident_is_refused() {
        let config = Config::parse("[services.smtp]\nto = [\"::/0\"]", "test").unwrap().config;
        let machine = Machine { own_addresses: Vec::new(), processors: 1 };
        let error = compile(&config, &Layout::plan(&config, None), &machine).unwrap_err().to_string();
        assert!(error.contains("services.smtp.to") && error.contains("2000::/3"), "{error}");
    }

    #[test]
    fn limits_are_never_stricter_than_configured() {
        let config = Config::default();
        let layout = Layout::plan(&config, None);
        let machine = Machine { own_addresses: Vec::new(), processors: 2 };
        let compiled = compile(&config, &layout, &machine).unwrap();
        assert_eq!(compiled.set.services().count(), config.services.len());
        for service in &config.services {
            let place = layout.place(&service.name).unwrap();
            let compiled = compiled.set.service_at(place.id);
            let second_ticks = 1e9 / TICK_NS as f64;
            for (limit, configured) in
                [(compiled.limits[0], service.source[0]), (compiled.limits[2], service.network[0])]
            {
                let rate = second_ticks / f64::from(limit.increment);
                assert!(rate >= configured.rate.per_second() && rate < configured.rate.per_second() * 1.07);
                assert_eq!(limit.tolerance, limit.increment * configured.burst.get() - 1);
            }
            assert!(compiled.whole.is_set() && compiled.batch_mask < 64 && place.id.index() < SERVICES);
        }
    }
}
