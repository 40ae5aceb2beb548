//! From a configuration to what the gate reads: a [`Set`] and its entries.

use std::sync::Arc;

use ratelimit_common::{
    Address, Challenge, Limit, Mode, Service, Set,
    limit::TICK_NS,
    set::TooManyDestinations,
    suspicion::{half_open_limit, retries_cell},
};

use crate::{
    config::{self, Config, Deny, Destination, Network},
    guard::NeverBlock,
    layout::{Layout, Place},
    lists::{
        Layers, Weights,
        table::{Table, TooManyClasses},
    },
    machine::Machine,
};

/// What one set of maps is filled with.
#[derive(Debug)]
pub struct Compiled {
    pub set: Box<Set>,
    /// `None` where the one in force says the same.
    pub table: Option<Table>,
}

/// Why a configuration that is right in itself does not fit into the maps.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    #[error("{0}: use wider networks in `to`, or name fewer services with `to = \"local\"`")]
    Destinations(TooManyDestinations),
    #[error("services.{0}.to: {1} would take in all of IPv4; write 2000::/3 for the IPv6 internet")]
    SpansV4(String, Network),
    #[error(transparent)]
    TooManyClasses(#[from] TooManyClasses),
}

/// Compiles a configuration for a machine. The table is left out where these layers are in force already.
pub fn compile(
    config: &Config,
    layout: &Layout,
    machine: &Machine,
    never_block: &NeverBlock,
    lists: &Weights,
    in_force: Option<&Layers>,
) -> Result<(Compiled, Layers), CompileError> {
    let mut set = compile_set(config, layout, machine, lists)?;
    let own = machine.own_addresses.iter().map(|address| Network::host(*address)).collect();
    let layers = Layers::of(config, layout, &Arc::new(own), never_block, lists);
    set.all_packets = layers.of_all_packets();
    set.entries = u32::try_from(layers.entries()).unwrap_or(u32::MAX);
    let table = match in_force {
        Some(in_force) if *in_force == layers => None,
        Some(_) | None => Some(layers.build()?),
    };
    Ok((Compiled { set, table }, layers))
}

fn compile_set(config: &Config, layout: &Layout, machine: &Machine, lists: &Weights) -> Result<Box<Set>, CompileError> {
    let mut set = bytemuck::zeroed_box::<Set>();
    set.event_interval_ns = event_interval_ns(config.events_per_second, machine.processors);
    set.set_mode(None, mode(config.mode));
    let mut local = 0;
    for (service, place) in placed(config, layout) {
        let mut compiled = compile_service(service, place, machine.processors);
        compile_suspicion(&mut compiled, service, place, config, machine);
        set.put_service(place.id, compiled, &service.ports);
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
    set.restricted = layout.bits_of(config, |service| lists.restrict(config, service));
    set.resetting = layout.bits_of(config, |service| service.deny == Deny::Reset);
    set.reset_interval_ns = interval_ns(RESETS_PER_SECOND, machine.processors);
    compile_proof(&mut set, config, layout, machine);
    compile_reputation(&mut set, config, layout);
    Ok(set)
}

/// What is watched and whom is challenged. Handshakes are seen where the listener is on this machine.
fn compile_proof(set: &mut Set, config: &Config, layout: &Layout, machine: &Machine) {
    let proof = &config.proof;
    let is_watched = |service: &config::Service| !service.listens_at().is_empty();
    set.set_challenge(match proof.challenge {
        config::Challenge::Reset => Challenge::Reset,
        config::Challenge::Retry => Challenge::Retry,
        config::Challenge::Off => Challenge::Off,
    });
    set.proving = match proof.challenge {
        config::Challenge::Reset | config::Challenge::Retry => layout.bits_of(config, is_watched),
        config::Challenge::Off => 0,
    };
    set.counting = layout.bits_of(config, |service| is_watched(service) && service.connections.is_some());
    // A socket in another namespace is not found by a packet that passes this one.
    set.stray_seeking = match proof.namespaces {
        config::Namespaces::Host => {
            layout.bits_of(config, |service| is_watched(service) && service.listen_ports.is_empty())
        }
        config::Namespaces::All => 0,
    };
    set.namespace = match proof.namespaces {
        config::Namespaces::Host => machine.namespace,
        config::Namespaces::All => 0,
    };
    set.challenge_interval_ns = interval_ns(rate_per_s(proof.challenge_rate), machine.processors);
    set.put_stations(machine.stations.iter().copied());
    for (service, place) in placed(config, layout) {
        for port in service.listens_at() {
            if !set.put_listener(*port, place.id) {
                tracing::warn!(service = service.name, port, "too many ports of listeners: this one is not watched");
            }
        }
    }
}

/// Whose sources are looked up in DNSBLs, and what is left to those that are listed.
fn compile_reputation(set: &mut Set, config: &Config, layout: &Layout) {
    let reputation = &config.reputation;
    let is_asked = |service: &config::Service| {
        let is_watched = !service.listens_at().is_empty();
        is_watched && reputation.dnsbl.iter().any(|dnsbl| dnsbl.is_asked_for(&service.name))
    };
    set.asking = layout.bits_of(config, is_asked);
    set.set_observes_listed(reputation.mode == Some(config::Mode::Observe));
    let interval_ns = (SECOND_NS as f64 / reputation.limit.rate.per_second()) as u64;
    set.listed_increment_ns = interval_ns;
    set.listed_tolerance_ns = interval_ns.saturating_mul(u64::from(reputation.limit.burst.get()).saturating_sub(1));
}

/// Services with their places.
fn placed<'a>(config: &'a Config, layout: &'a Layout) -> impl Iterator<Item = (&'a config::Service, &'a Place)> {
    config.services.iter().filter_map(|service| Some((service, layout.place(&service.name)?)))
}

/// Of which every processor has an equal part.
fn interval_ns(per_s: u64, processors: u32) -> u64 {
    SECOND_NS * u64::from(processors.max(1)) / per_s.max(1)
}

fn rate_per_s(rate: config::Rate) -> u64 {
    (rate.per_second() as u64).max(1)
}

const SECOND_NS: u64 = 1_000_000_000;
/// All services and processors together.
const RESETS_PER_SECOND: u64 = 1000;

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

/// When a service is suspect, and what its suspects may do.
fn compile_suspicion(
    compiled: &mut Service,
    service: &config::Service,
    place: &Place,
    config: &Config,
    machine: &Machine,
) {
    let backlog = service.listens_at().iter().filter_map(|port| machine.backlogs.get(port)).min();
    let backlog = backlog.copied().unwrap_or(UNKNOWN_BACKLOG);
    compiled.half_open = half_open_limit(place.id, backlog);
    // All processors together wait with at most an eighth of what makes the service suspect.
    let most = (backlog / 16 / machine.processors.max(1)).clamp(1, 16);
    compiled.half_open_mask = (1 << most.ilog2()) - 1;
    let per_s = rate_per_s(config.proof.retry_rate);
    let increment = u32::try_from(SECOND_NS / TICK_NS / per_s).unwrap_or(u32::MAX).max(1);
    let burst = u32::try_from(per_s).unwrap_or(u32::MAX);
    compiled.retry = Limit {
        increment,
        tolerance: Limit::tolerance_of(increment, burst),
        first_cell: retries_cell(place.id),
        cells: 1,
    };
    compiled.connections = service.connections.map_or(0, |most| u64::from(most.get()));
}

/// What a listener can hold where that is not known.
pub const UNKNOWN_BACKLOG: u32 = 128;

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

/// Whether a network contains all of IPv4 as the gate compares addresses, which nobody means by it.
fn spans_v4(network: Network) -> bool {
    let ((all_v4, _), (address, prefix)) = (key(Network::ALL_V4), key(network));
    !network.is_ipv4() && all_v4.masked(Address::mask(prefix)) == address
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratelimit_common::SERVICES;

    #[test]
    fn a_destination_that_takes_in_ipv4_by_accident_is_refused() {
        let config = Config::parse("[services.smtp]\nto = [\"::/0\"]", "test").unwrap().config;
        let machine = Machine { processors: 1, ..Machine::default() };
        let never_block = NeverBlock::of(&machine, &[], &[]);
        let layout = Layout::plan(&config, None);
        let error =
            compile(&config, &layout, &machine, &never_block, &Weights::default(), None).unwrap_err().to_string();
        assert!(error.contains("services.smtp.to") && error.contains("2000::/3"), "{error}");
    }

    #[test]
    fn limits_are_never_stricter_than_configured() {
        let config = Config::default();
        let layout = Layout::plan(&config, None);
        let machine = Machine { processors: 2, ..Machine::default() };
        let never_block = NeverBlock::of(&machine, &[], &[]);
        let (compiled, _) = compile(&config, &layout, &machine, &never_block, &Weights::default(), None).unwrap();
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
