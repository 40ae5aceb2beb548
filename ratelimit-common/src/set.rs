//! One set of configuration: what the gate is told, in the layout of its map.
//!
//! There are two sets. The epoch says which one is in force; the controller fills the other one and flips.

use bytemuck::{Pod, Zeroable};

use crate::{
    address::{Address, Mask},
    bound::opaque,
    limit::Limit,
    reason::Mode,
};

/// The most services a gate can hold; a set of them is a 16-bit word.
pub const SERVICES: usize = 16;
/// Own addresses are kept in buckets of this size.
pub const BUCKET: usize = 2;
/// Number of buckets of own addresses.
pub const BUCKETS: usize = 512;
/// Networks that services name as destinations, all services together.
pub const DESTINATION_NETWORKS: usize = 32;
pub const NAME_LEN: usize = 32;

/// The place of a service in every table, below [`SERVICES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceId(u8);

impl ServiceId {
    pub const fn new(index: usize) -> Option<Self> {
        if index < SERVICES { Some(Self(index as u8)) } else { None }
    }

    #[inline(always)]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    #[inline(always)]
    pub const fn bit(self) -> u16 {
        1 << self.0
    }
}

/// The place of the lowest service of a set, in the lower four bits.
///
/// BPF cannot count zeros, and what LLVM makes of `trailing_zeros` costs a tenth of a packet of an open connection.
/// Multiplied with a de Bruijn sequence, each single bit leaves other four bits on top, and a table names the bit.
#[inline(always)]
const fn place_of_lowest(services: u16) -> u64 {
    const SEQUENCE: u64 = 0x09af;
    const PLACES: u64 = 0xcd7e_a84f_b693_5210;
    let lowest = (services & services.wrapping_neg()) as u64;
    PLACES >> (((lowest * SEQUENCE) >> 12 & 0xf) * 4)
}

/// A named set of ports and destinations with its limits.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Service {
    /// Short and long window of a source, then of a network.
    pub limits: [Limit; 4],
    /// The whole service; its increment is that of a batch.
    pub whole: Limit,
    /// A processor charges the whole-service cell when its count has none of these bits.
    pub batch_mask: u32,
    /// The same for half-open connections.
    pub half_open_mask: u32,
    /// How many connections may wait for their handshake before the service is suspect.
    pub half_open: Limit,
    /// How many repeated SYNs of suspects are let in.
    pub retry: Limit,
    /// Open connections that a source may have; 0 if there is no such limit.
    pub connections: u64,
    /// IPv4 source and network, IPv6 source and network.
    masks: [Mask; 4],
    name: [u8; NAME_LEN],
}

impl Service {
    /// `masks` are those of an IPv4 source and network, then of an IPv6 source and network. A name longer
    /// than [`NAME_LEN`] is cut.
    pub fn new(name: &str, limits: [Limit; 4], whole: Limit, batch_mask: u32, masks: [Mask; 4]) -> Self {
        let mut bytes = [0; NAME_LEN];
        for (slot, byte) in bytes.iter_mut().zip(name.bytes()) {
            *slot = byte;
        }
        Self {
            limits,
            whole,
            batch_mask,
            half_open_mask: 0,
            half_open: Limit::NONE,
            retry: Limit::NONE,
            connections: 0,
            masks,
            name: bytes,
        }
    }

    pub fn name(&self) -> &str {
        let len = self.name.iter().position(|byte| *byte == 0).unwrap_or(NAME_LEN);
        core::str::from_utf8(&self.name[..len]).unwrap_or("")
    }

    /// The masks of a source and of its network.
    #[inline(always)]
    pub const fn masks(&self, source: Address) -> (Mask, Mask) {
        if source.is_v4() { (self.masks[0], self.masks[1]) } else { (self.masks[2], self.masks[3]) }
    }
}

/// An own address and the services that listen on it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
struct Local {
    address: Address,
    services: u64,
}

/// A network that services name as their destination.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
struct DestinationNetwork {
    network: Address,
    mask: Mask,
    services: u64,
}

/// A port that a listener has, and the service it belongs to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
struct Listening {
    port: u16,
    /// One bit; 0 where the place is free.
    service: u16,
}

/// An interface and its hardware address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Station {
    /// 0 where the place is free.
    pub interface: u32,
    pub mac: [u8; 6],
    padding: u16,
}

/// How suspects are asked to prove that they are alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Challenge {
    /// They are not.
    Off = 0,
    /// By a cookie, which a live source sends back in a reset.
    Reset = 1,
    /// By dropping the first SYN: who means it repeats it.
    Retry = 2,
}

/// Ports of listeners, all services together.
pub const LISTENING: usize = 256;
/// Interfaces whose frames are answered.
pub const STATIONS: usize = 32;

/// Everything a decision needs to know that does not grow.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Set {
    /// Counts the sets ever put in force, from 1.
    pub generation: u64,
    /// Networks of all lists in this set, those of trust, allow and block included.
    pub entries: u32,
    destination_networks: u32,
    /// Least time between two events of one reason on one processor; 0 means no events.
    pub event_interval_ns: u64,
    /// Least time between two resets on one processor; see [`Set::resets`].
    pub reset_interval_ns: u64,
    bucket_seed: u64,
    /// Services that only those permitted may reach (`only_from`).
    pub restricted: u16,
    /// Of those, the ones that answer everybody else with a reset.
    pub resetting: u16,
    /// Services for which some list blocks packets of open connections too.
    pub all_packets: u16,
    /// Services whose handshakes are seen, so that suspects can be told to prove themselves.
    pub proving: u16,
    /// Services that hold a source to a number of open connections.
    pub counting: u16,
    /// Services for which packets that belong to no connection are looked for.
    pub stray_seeking: u16,
    /// Services whose sources are looked up in DNSBLs.
    pub asking: u16,
    /// A [`Challenge`].
    challenge: u8,
    /// Whether refusals of listed sources are only counted.
    observes_listed: u8,
    /// Least time between two challenges on one processor.
    pub challenge_interval_ns: u64,
    /// What one connection of a listed source costs it, and how much it may owe before the next one is refused.
    pub listed_increment_ns: u64,
    pub listed_tolerance_ns: u64,
    /// The network namespace whose sockets are watched, by its cookie; 0 for all.
    pub namespace: u64,
    /// Ports of listeners, and whose they are.
    listening: [Listening; LISTENING],
    /// The hardware addresses under which frames for this machine come in.
    stations: [Station; STATIONS],
    /// Classes of the lists, the one that says nothing included.
    pub classes: u32,
    padding_of_classes: u32,
    /// Of each service, and last of what belongs to none.
    modes: [u8; 24],
    services: [Service; SERVICES],
    networks: [DestinationNetwork; DESTINATION_NETWORKS],
    locals: [[Local; BUCKET]; BUCKETS],
    /// The services on each port, one bit each.
    ports: [u16; 65536],
}

const _: () = assert!(size_of::<Limit>() == 16);
const _: () = assert!(size_of::<Service>() == 224);
const _: () = assert!(size_of::<Local>() == 24);

impl Set {
    /// The service that claims a port of an address.
    #[inline(always)]
    pub fn service(&self, destination: Address, port: u16) -> Option<(ServiceId, &Service)> {
        let on_port = self.ports[opaque(port.into()) as usize & 0xffff];
        if on_port == 0 {
            return None;
        }
        let claiming = on_port & self.services_at(destination, on_port);
        if claiming == 0 {
            return None;
        }
        let index = opaque(place_of_lowest(claiming)) as usize & (SERVICES - 1);
        Some((ServiceId(index as u8), &self.services[index]))
    }

    /// Whether any service claims an address.
    #[inline(always)]
    pub fn serves(&self, destination: Address) -> bool {
        self.services_at(destination, u16::MAX) != 0
    }

    /// Those of the wanted services that claim an address, by being its own or by a network.
    #[inline(always)]
    fn services_at(&self, destination: Address, wanted: u16) -> u16 {
        let mut found = 0;
        for local in &self.locals[self.bucket(destination)] {
            if local.address == destination {
                found |= local.services as u16;
            }
        }
        if self.destination_networks != 0 && found & wanted == 0 {
            found = self.services_of_networks(destination);
        }
        found & wanted
    }

    /// Without a branch: the verifier would follow every combination of them.
    #[inline(always)]
    fn services_of_networks(&self, destination: Address) -> u16 {
        let (high, low) = destination.words();
        let mut found = 0;
        for place in &self.networks {
            let ((mask_high, mask_low), (network_high, network_low)) = (place.mask.words(), place.network.words());
            let differs = opaque(((high & mask_high) ^ network_high) | ((low & mask_low) ^ network_low));
            let all_ones_if_equal = ((differs | differs.wrapping_neg()) >> 63).wrapping_sub(1);
            found |= place.services & all_ones_if_equal;
        }
        found as u16
    }

    #[inline(always)]
    fn bucket(&self, address: Address) -> usize {
        let (high, low) = address.words();
        let mixed = (high.rotate_left(29) ^ low).wrapping_mul(self.bucket_seed);
        opaque(mixed >> 32) as usize & (BUCKETS - 1)
    }

    #[inline(always)]
    pub const fn has_entries(&self) -> bool {
        self.entries != 0
    }

    /// Whether only those permitted may reach a service.
    #[inline(always)]
    pub const fn restricts(&self, id: ServiceId) -> bool {
        self.restricted & id.bit() != 0
    }

    /// Whether a service answers with a reset those who may not reach it: a mail server that went astray then
    /// tries the next exchanger at once and not for days.
    #[inline(always)]
    pub const fn resets(&self, id: ServiceId) -> bool {
        self.resetting & id.bit() != 0
    }

    /// Whether suspects of a service can be told to prove themselves.
    #[inline(always)]
    pub const fn proves(&self, id: ServiceId) -> bool {
        self.proving & id.bit() != 0
    }

    /// Whether there may be something about a service that asks for a closer look: suspicion, or a source with as many
    /// connections as it may have.
    #[inline(always)]
    pub const fn is_watched(&self, id: ServiceId) -> bool {
        (self.proving | self.counting) & id.bit() != 0
    }

    #[inline(always)]
    pub const fn seeks_strays(&self, id: ServiceId) -> bool {
        self.stray_seeking & id.bit() != 0
    }

    /// Whether refusals of sources that DNSBLs list are only counted.
    #[inline(always)]
    pub const fn observes_listed(&self) -> bool {
        self.observes_listed != 0
    }

    pub fn set_observes_listed(&mut self, observes: bool) {
        self.observes_listed = observes.into();
    }

    /// Whether sources of a service are looked up in DNSBLs.
    #[inline(always)]
    pub const fn asks(&self, id: ServiceId) -> bool {
        self.asking & id.bit() != 0
    }

    #[inline(always)]
    pub const fn challenge(&self) -> Challenge {
        match self.challenge {
            1 => Challenge::Reset,
            2 => Challenge::Retry,
            _ => Challenge::Off,
        }
    }

    pub fn set_challenge(&mut self, challenge: Challenge) {
        self.challenge = challenge as u8;
    }

    /// Takes back what only works where handshakes are watched.
    pub fn unwatch(&mut self) {
        self.proving = 0;
        self.counting = 0;
        self.asking = 0;
    }

    /// The service that a listener's port belongs to.
    #[inline(always)]
    pub fn listener(&self, port: u16) -> Option<ServiceId> {
        let mut found = 0;
        for place in &self.listening {
            found |= if place.port == port { place.service } else { 0 };
        }
        if found == 0 { None } else { Some(ServiceId(place_of_lowest(found) as u8 & (SERVICES as u8 - 1))) }
    }

    /// Says whose a listener's port is; false if there is no room for it.
    pub fn put_listener(&mut self, port: u16, id: ServiceId) -> bool {
        let free = self.listening.iter_mut().find(|place| place.service == 0);
        free.map(|place| *place = Listening { port, service: id.bit() }).is_some()
    }

    /// The ports of listeners.
    pub fn listeners(&self) -> impl Iterator<Item = u16> {
        self.listening.iter().filter(|place| place.service != 0).map(|place| place.port)
    }

    /// Whether an interface has a hardware address.
    #[inline(always)]
    pub fn is_station(&self, interface: u32, mac: [u8; 6]) -> bool {
        let wanted = word_of(mac);
        let is_it = |station: &Station| station.interface == interface && word_of(station.mac) == wanted;
        let [first, second] = places_of(interface);
        is_it(&self.stations[opaque(first as u64) as usize % STATIONS])
            || is_it(&self.stations[opaque(second as u64) as usize % STATIONS])
    }

    /// Says which hardware addresses are this machine's. What does not fit is not answered.
    pub fn put_stations(&mut self, stations: impl IntoIterator<Item = (u32, [u8; 6])>) {
        for (interface, mac) in stations {
            let free = places_of(interface).into_iter().find(|place| self.stations[*place].interface == 0);
            if let Some(place) = free {
                self.stations[place] = Station { interface, mac, padding: 0 };
            }
        }
    }

    /// A service by a place of any origin.
    #[inline(always)]
    pub fn service_of(&self, id: ServiceId) -> &Service {
        &self.services[opaque(id.0.into()) as usize & (SERVICES - 1)]
    }

    /// Whether packets of open connections to a service meet lists.
    #[inline(always)]
    pub const fn judges_all_packets(&self, id: ServiceId) -> bool {
        self.all_packets & id.bit() != 0
    }

    /// The mode of a service, or of what belongs to none.
    #[inline(always)]
    pub fn mode(&self, id: Option<ServiceId>) -> Mode {
        let index = match id {
            Some(id) => opaque(id.0.into()) as usize & (SERVICES - 1),
            None => SERVICES,
        };
        Mode::from_raw(self.modes[index])
    }

    pub fn set_mode(&mut self, id: Option<ServiceId>, mode: Mode) {
        self.modes[id.map_or(SERVICES, ServiceId::index)] = mode as u8;
    }

    /// Puts a service in its place, on its ports.
    pub fn put_service(&mut self, id: ServiceId, service: Service, ports: &[u16]) {
        self.services[id.index()] = service;
        for port in ports {
            self.ports[usize::from(*port)] |= id.bit();
        }
    }

    /// A service by its place; one that was never put has an empty name.
    pub fn service_at(&self, id: ServiceId) -> &Service {
        &self.services[id.index()]
    }

    /// The services that are there, with their places.
    pub fn services(&self) -> impl Iterator<Item = (ServiceId, &Service)> {
        (0..SERVICES)
            .filter_map(ServiceId::new)
            .map(|id| (id, self.service_at(id)))
            .filter(|(_, service)| service.name[0] != 0)
    }

    /// The ports of a service, ascending.
    pub fn ports_of(&self, id: ServiceId) -> impl Iterator<Item = u16> {
        (0..=u16::MAX).filter(move |port| self.ports[usize::from(*port)] & id.bit() != 0)
    }

    /// An address and a port that a service claims: where a connection to it would go.
    pub fn destination_of(&self, id: ServiceId) -> Option<(Address, u16)> {
        let claims = |services: u64| services & u64::from(id.bit()) != 0;
        let local = self.locals.iter().flatten().find(|local| claims(local.services)).map(|local| local.address);
        let network = || self.networks.iter().find(|place| claims(place.services)).map(|place| place.network);
        Some((local.or_else(network)?, self.ports_of(id).next()?))
    }

    /// Sets what services own addresses belong to.
    ///
    /// # Errors
    ///
    /// [`TooManyDestinations`] if the addresses do not fit.
    pub fn put_locals(&mut self, addresses: &[Address], services: u16) -> Result<(), TooManyDestinations> {
        // An odd multiplier for each attempt. A table that is a quarter full takes some 1,700 on average.
        for attempt in 1..=SEEDS {
            self.bucket_seed = attempt.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            if self.try_locals(addresses, services) {
                return Ok(());
            }
        }
        Err(TooManyDestinations)
    }

    fn try_locals(&mut self, addresses: &[Address], services: u16) -> bool {
        self.locals = Zeroable::zeroed();
        for address in addresses {
            let bucket = self.bucket(*address);
            let Some(place) =
                self.locals[bucket].iter_mut().find(|local| local.services == 0 || local.address == *address)
            else {
                return false;
            };
            *place = Local { address: *address, services: services.into() };
        }
        true
    }

    /// Adds a network that services name as their destination.
    ///
    /// # Errors
    ///
    /// [`TooManyDestinations`] beyond [`DESTINATION_NETWORKS`].
    pub fn put_network(&mut self, network: Address, mask: Mask, services: u16) -> Result<(), TooManyDestinations> {
        let next = self.destination_networks as usize;
        let place = self.networks.get_mut(next).ok_or(TooManyDestinations)?;
        *place = DestinationNetwork { network: network.masked(mask), mask, services: services.into() };
        self.destination_networks += 1;
        Ok(())
    }
}

/// Where an interface may stand among the stations: the kernel numbers them one after the other.
#[inline(always)]
const fn places_of(interface: u32) -> [usize; 2] {
    [interface as usize % STATIONS, (interface as usize + 1) % STATIONS]
}

#[inline(always)]
const fn word_of([a, b, c, d, e, f]: [u8; 6]) -> u64 {
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

const SEEDS: u64 = 100_000;

/// More own addresses or destination networks than a set holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyDestinations;

impl core::fmt::Display for TooManyDestinations {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "more than {} own addresses or {DESTINATION_NETWORKS} destination networks", BUCKETS * BUCKET / 4)
    }
}

impl core::error::Error for TooManyDestinations {}

impl core::fmt::Debug for Set {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Set")
            .field("generation", &self.generation)
            .field("entries", &self.entries)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stations_are_found_by_interface_and_address() {
        extern crate std;
        let mut set = std::boxed::Box::new(Set::zeroed());
        let mac = |last| [2, 0, 0, 0, 0, last];
        // Two that want the same place, and one that finds neither free.
        set.put_stations([(1, mac(1)), (2, mac(2)), (33, mac(3)), (34, mac(4))]);
        assert!(set.is_station(1, mac(1)) && set.is_station(2, mac(2)));
        assert!(!set.is_station(33, mac(3)), "its two places are taken");
        assert!(set.is_station(34, mac(4)));
        assert!(!set.is_station(1, mac(2)) && !set.is_station(5, mac(1)) && !set.is_station(0, mac(0)));
    }

    #[test]
    fn the_lowest_of_any_set_of_services_is_found() {
        for services in 1..=u16::MAX {
            assert_eq!(place_of_lowest(services) & 0xf, u64::from(services.trailing_zeros()), "{services:#018b}");
        }
    }
}
