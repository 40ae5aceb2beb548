//! What a gate is told: services, own addresses, lists and limits, in the layouts of its maps.

use std::net::IpAddr;

use bytemuck::Zeroable;
use ipnet::IpNet;
use ratelimit_common::{
    Address, Cells, Challenge, Entry, Limit, Mode, SERVICES, Secret, Service, ServiceId, Set, Ticks,
    limit::TICK_NS,
    listed::{Listed as DnsblListed, ListedKey},
    map::CELLS_PER_LINE,
    proof::{OpenKey, proven_source},
    suspicion,
};
use ratelimit_user::{config::Network, lists::Networks};

/// Addresses of the gateway.
pub const OWN_V4: &str = "198.51.100.25";
pub const OWN_V6: &str = "2001:db8:25::25";
/// Networks behind the gateway, to which the service `relay` on port 2525 is restricted.
pub const BEHIND_V4: &str = "203.0.113.0/24";
pub const BEHIND_V6: &str = "2001:db8:113::/48";
pub const RELAY_PORT: u16 = 2525;

/// Cells of each limit of each service.
const REGION: u32 = 4096;
/// The services' own lines are before all regions.
const FIRST_CELL: u32 = (SERVICES * CELLS_PER_LINE) as u32;
/// Where a program that is run without being attached is told that its frames come from, and whom they are for.
const STATION: (u32, [u8; 6]) = (1, crate::packet::STATION);
/// What a listener can hold.
const BACKLOG: u32 = 128;
const KEY: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];

/// What DNSBLs leave to those whom they list: a connection so often, and so many at once.
pub const LISTED_INTERVAL_NS: u64 = 10_000_000_000;
pub const LISTED_BURST: u64 = 3;

/// Connections per period, and how many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub count: u32,
    pub period_ns: u64,
    pub burst: u32,
    /// Without the part of a connection that the tolerance holds above the burst.
    strict: bool,
}

impl Rate {
    pub const fn new(count: u32, period_ns: u64, burst: u32) -> Self {
        Self { count, period_ns, burst, strict: false }
    }

    pub const fn per_second(count: u32, burst: u32) -> Self {
        Self::new(count, 1_000_000_000, burst)
    }

    pub const fn per_minute(count: u32, burst: u32) -> Self {
        Self::new(count, 60_000_000_000, burst)
    }

    pub const fn per_hour(count: u32, burst: u32) -> Self {
        Self::new(count, 3_600_000_000_000, burst)
    }

    /// A burst, and not one more for an hour however the clock moves.
    pub const fn only(burst: u32) -> Self {
        Self { strict: true, ..Self::per_hour(1, burst) }
    }

    /// Ticks of one connection, rounded down: a limit may be a little wider than it says, never narrower.
    pub fn increment(self) -> u32 {
        u32::try_from(self.period_ns / u64::from(self.count) / TICK_NS).expect("a burst that drains within 24 h")
    }

    fn limit(self, first_cell: u32, cells: u32) -> Limit {
        let increment = self.increment();
        let tolerance = match self.strict {
            true => increment * (self.burst - 1),
            false => Limit::tolerance_of(increment, self.burst),
        };
        Limit { increment, tolerance, first_cell, cells }
    }
}

/// One service in words.
#[derive(Clone, Debug)]
struct Plan {
    name: &'static str,
    port: u16,
    /// Short and long window of a source, then of a network.
    limits: [Option<Rate>; 4],
    whole: Option<Rate>,
    batch_mask: u32,
    /// IPv4 source and network, IPv6 source and network.
    prefixes: [u8; 4],
    mode: Option<Mode>,
    /// 0 if there is no such limit.
    connections: u64,
    retry: Rate,
}

/// A network and what is said of it, before networks inside others inherit.
#[derive(Clone, Debug)]
struct Listed {
    network: IpNet,
    entry: Entry,
}

/// An entry of the naive model.
#[derive(Clone, Copy, Debug)]
pub struct Compiled {
    pub network: Address,
    /// In bits of the mapped address: an IPv4 /24 is 120.
    pub prefix: u8,
    pub entry: Entry,
}

impl Compiled {
    pub fn contains(&self, source: Address) -> bool {
        source.masked(Address::mask(self.prefix)) == self.network
    }
}

/// The default services on the gateway's own addresses, and `relay` for the networks behind it.
#[derive(Clone, Debug)]
pub struct World {
    plans: Vec<Plan>,
    listed: Vec<Listed>,
    banned: Vec<Listed>,
    /// What DNSBLs list, and whether anything is left to it.
    by_dnsbl: Vec<(ListedKey, bool)>,
    observes_listed: bool,
    /// Services with `only_from`, and those of them that answer with a reset.
    restricted: u16,
    resetting: u16,
    mode: Mode,
    event_interval_ns: u64,
    own: Vec<IpAddr>,
    /// Services whose handshakes are seen, and those of them that are suspect.
    proving: u16,
    suspect: u16,
    challenge: Challenge,
    challenge_interval_ns: u64,
    proven: Vec<Address>,
    open: Vec<(OpenKey, u64)>,
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    pub fn new() -> Self {
        const MAIL: [u8; 4] = [32, 24, 128, 64];
        const CLIENTS: [u8; 4] = [32, 24, 64, 48];
        let imap = (Rate::per_minute(240, 300), Rate::per_minute(2400, 5000));
        let others = (Rate::per_minute(120, 120), Rate::per_minute(1200, 2400));
        let sieve = (Rate::per_minute(60, 60), Rate::per_minute(240, 240));
        let smtp = (Rate::per_minute(300, 300), Rate::per_minute(3000, 3000));
        let plans = [
            ("smtp", 25, smtp, MAIL),
            ("submissions", 465, others, CLIENTS),
            ("submission", 587, others, CLIENTS),
            ("imap", 143, imap, CLIENTS),
            ("imaps", 993, imap, CLIENTS),
            ("pop3", 110, others, CLIENTS),
            ("pop3s", 995, others, CLIENTS),
            ("sieve", 4190, sieve, CLIENTS),
            ("relay", RELAY_PORT, smtp, MAIL),
        ]
        .map(|(name, port, (source, network), prefixes)| Plan {
            name,
            port,
            limits: [Some(source), None, Some(network), None],
            whole: Some(Rate::per_second(1000, 5000)),
            batch_mask: 0,
            prefixes,
            mode: None,
            connections: 0,
            retry: Rate::per_second(200, 200),
        });
        let own = [OWN_V4, OWN_V6].map(|address| address.parse().expect("an address")).to_vec();
        Self {
            plans: plans.to_vec(),
            listed: Vec::new(),
            banned: Vec::new(),
            by_dnsbl: Vec::new(),
            observes_listed: false,
            restricted: 0,
            resetting: 0,
            mode: Mode::Enforce,
            event_interval_ns: 0,
            own,
            proving: 0,
            suspect: 0,
            challenge: Challenge::Off,
            challenge_interval_ns: 0,
            proven: Vec::new(),
            open: Vec::new(),
        }
    }

    /// The default services, by name and port.
    pub fn default_services(&self) -> impl Iterator<Item = (&'static str, u16)> {
        self.plans.iter().map(|plan| (plan.name, plan.port)).filter(|(name, _)| *name != "relay")
    }

    /// Panics if there is no such service, as every method that takes a name.
    pub fn id(&self, service: &str) -> ServiceId {
        let index = self.plans.iter().position(|plan| plan.name == service);
        index.and_then(ServiceId::new).unwrap_or_else(|| panic!("no service {service}"))
    }

    pub fn mode(self, mode: Mode) -> Self {
        Self { mode, ..self }
    }

    pub fn mode_of(mut self, service: &str, mode: Mode) -> Self {
        self.plan(service).mode = Some(mode);
        self
    }

    pub fn events_every(self, event_interval_ns: u64) -> Self {
        Self { event_interval_ns, ..self }
    }

    pub fn trust(self, network: &str) -> Self {
        self.list(network, Entry::new(u16::MAX, 0, 0))
    }

    pub fn allow(self, network: &str) -> Self {
        self.list(network, Entry::new(0, u16::MAX, 0))
    }

    pub fn block(self, network: &str) -> Self {
        self.list(network, Entry::new(0, 0, u16::MAX))
    }

    pub fn block_for(self, service: &str, network: &str) -> Self {
        let services = self.id(service).bit();
        self.list(network, Entry::new(0, 0, services))
    }

    /// By a list that only observes.
    pub fn observe(self, network: &str) -> Self {
        self.list(network, Entry::NONE.observing(u16::MAX))
    }

    pub fn block_all_packets(self, network: &str) -> Self {
        self.list(network, Entry::new(0, 0, u16::MAX).blocking_all_packets(u16::MAX))
    }

    /// Everybody else is dropped, or answered with a reset.
    pub fn only_from(mut self, service: &str, network: &str, resets: bool) -> Self {
        let bit = self.id(service).bit();
        self.restricted |= bit;
        self.resetting |= if resets { bit } else { 0 };
        self.list(network, Entry::NONE.permitting(bit))
    }

    /// Of one of the prefix lengths that bans have.
    pub fn ban(mut self, service: &str, network: &str) -> Self {
        let entry = Entry::new(0, 0, self.id(service).bit());
        self.banned.push(Listed { network: parsed(network), entry });
        self
    }

    /// A source that DNSBLs list for a service.
    pub fn list_by_dnsbl(mut self, service: &str, source: &str, has_something_left: bool) -> Self {
        let source = Address::from(source.parse::<IpAddr>().expect("an address"));
        self.by_dnsbl.push((ListedKey::new(source, self.id(service)), has_something_left));
        self
    }

    /// What such sources would be refused is only counted.
    pub fn observe_listed(self) -> Self {
        Self { observes_listed: true, ..self }
    }

    /// Each network is a list of its own.
    fn list(mut self, network: &str, entry: Entry) -> Self {
        let entry = entry.by_lists(1 << (self.listed.len() as u32 % u64::BITS));
        self.listed.push(Listed { network: parsed(network), entry });
        self
    }

    pub fn source_limit(mut self, service: &str, rate: Rate) -> Self {
        self.plan(service).limits[0] = Some(rate);
        self
    }

    pub fn long_source_limit(mut self, service: &str, rate: Rate) -> Self {
        self.plan(service).limits[1] = Some(rate);
        self
    }

    pub fn network_limit(mut self, service: &str, rate: Rate) -> Self {
        self.plan(service).limits[2] = Some(rate);
        self
    }

    pub fn long_network_limit(mut self, service: &str, rate: Rate) -> Self {
        self.plan(service).limits[3] = Some(rate);
        self
    }

    /// `batch_mask` says how many connections a processor admits before it charges them.
    pub fn service_limit(mut self, service: &str, rate: Rate, batch_mask: u32) -> Self {
        let plan = self.plan(service);
        (plan.whole, plan.batch_mask) = (Some(rate), batch_mask);
        self
    }

    /// Handshakes of a service are seen, and its suspects are asked.
    pub fn proving(mut self, service: &str, challenge: Challenge) -> Self {
        self.proving |= self.id(service).bit();
        Self { challenge, ..self }
    }

    /// The same of one that is suspect itself.
    pub fn suspect(mut self, service: &str, challenge: Challenge) -> Self {
        self.suspect |= self.id(service).bit();
        self.proving(service, challenge)
    }

    /// At most one challenge on each processor in this time.
    pub fn challenge_every(self, challenge_interval_ns: u64) -> Self {
        Self { challenge_interval_ns, ..self }
    }

    /// How many repeated SYNs of suspects a service lets in.
    pub fn retries(mut self, service: &str, rate: Rate) -> Self {
        self.plan(service).retry = rate;
        self
    }

    /// The source has completed a handshake.
    pub fn proven(mut self, source: &str) -> Self {
        self.proven.push(proven_source(address(source)));
        self
    }

    /// A source, as its service masks it, has so many connections open.
    pub fn open(mut self, service: &str, source: &str, connections: u64) -> Self {
        self.open.push((OpenKey::new(address(source), self.id(service)), connections));
        self
    }

    /// How many connections a source of a service may have.
    pub fn connections(mut self, service: &str, most: u64) -> Self {
        self.plan(service).connections = most;
        self
    }

    /// Lists and bans that damaged sources fall into, and no limit that the number of frames would reach.
    pub fn for_mutations() -> Self {
        Self::new()
            .unlimited()
            .block("192.0.0.0/16")
            .allow("192.0.2.0/25")
            .trust("192.0.2.128/25")
            .block("2001:db8:6::/47")
            .allow("2001:db8:7::/49")
            .trust("2001:db8:7:8000::/49")
            .only_from("smtp", "192.0.0.0/8", true)
            .only_from("smtp", "2001:db8::/32", true)
            .ban("smtp", "192.1.0.0/16")
            .ban("smtp", "192.128.2.0/24")
            .ban("smtp", "192.2.2.7/32")
            .ban("smtp", "2001:db8:17::/48")
            .list_by_dnsbl("smtp", "192.16.2.7", false)
            .list_by_dnsbl("smtp", "192.32.2.7", true)
            .list_by_dnsbl("smtp", "2001:db8:37::7", false)
            .observe("192.4.0.0/16")
            .block_all_packets("192.8.0.0/16")
            .block_all_packets("2001:db8:27::/48")
    }

    /// Every limit of every service so wide that nothing reaches it.
    pub fn unlimited(mut self) -> Self {
        for plan in &mut self.plans {
            plan.limits = [Some(Rate::per_second(1000, 1_000_000)); 4];
            plan.whole = None;
        }
        self
    }

    fn plan(&mut self, service: &str) -> &mut Plan {
        let index = self.id(service).index();
        &mut self.plans[index]
    }
}

/// What the maps hold.
impl World {
    /// How many cells there are: a line for each service, then a region for each limit.
    pub fn cells(&self) -> u32 {
        FIRST_CELL + SERVICES as u32 * 4 * REGION
    }

    /// Puts into the lines of services what is known of them as a whole.
    pub fn press<C: Cells>(&self, cells: &C, now: Ticks) {
        for id in (0..SERVICES).filter_map(ServiceId::new) {
            if self.proving & id.bit() != 0 {
                suspicion::note_completes(cells, id);
            }
            if self.suspect & id.bit() != 0 {
                suspicion::suspect(cells, id, now);
            }
            if self.plans.get(id.index()).is_some_and(|plan| plan.connections != 0) {
                suspicion::set_capped(cells, id, true);
            }
        }
    }

    pub fn is_proven(&self, source: &Address) -> bool {
        self.proven.contains(&proven_source(*source))
    }

    pub fn proven_sources(&self) -> &[Address] {
        &self.proven
    }

    pub fn open_connections(&self) -> &[(OpenKey, u64)] {
        &self.open
    }

    pub fn secret(&self, base_ns: u64) -> Secret {
        Secret::new(KEY, base_ns)
    }

    pub fn set(&self) -> Box<Set> {
        let mut set: Box<Set> = Box::new(Zeroable::zeroed());
        set.generation = 1;
        set.entries = self.listed.len() as u32;
        set.event_interval_ns = self.event_interval_ns;
        (set.restricted, set.resetting) = (self.restricted, self.resetting);
        set.proving = self.proving;
        set.asking = self.by_dnsbl.iter().filter_map(|(key, _)| key.service()).fold(0, |all, id| all | id.bit());
        set.listed_increment_ns = LISTED_INTERVAL_NS;
        set.listed_tolerance_ns = LISTED_INTERVAL_NS * (LISTED_BURST - 1);
        set.set_observes_listed(self.observes_listed);
        set.set_challenge(self.challenge);
        set.challenge_interval_ns = self.challenge_interval_ns;
        set.put_stations([STATION]);
        set.all_packets = self.listed.iter().fold(0, |all, listed| all | listed.entry.of_all_packets());
        set.set_mode(None, self.mode);
        let mut local = 0;
        for (index, plan) in self.plans.iter().enumerate() {
            let id = ServiceId::new(index).expect("at most 16 services");
            set.put_service(id, plan.service(id), &[plan.port]);
            set.counting |= if plan.connections == 0 { 0 } else { id.bit() };
            set.set_mode(Some(id), plan.mode.unwrap_or(self.mode));
            if plan.name != "relay" {
                local |= id.bit();
            }
        }
        let own: Vec<_> = self.own.iter().map(|address| Address::from(*address)).collect();
        set.put_locals(&own, local).expect("few addresses");
        for behind in [BEHIND_V4, BEHIND_V6] {
            let (network, prefix) = mapped(behind.parse().expect("a network"));
            set.put_network(network, Address::mask(prefix), self.id("relay").bit()).expect("few networks");
        }
        set
    }

    /// What is listed, network by network.
    pub fn layers(&self) -> impl Iterator<Item = (Networks, Entry)> {
        let alone = |listed: &Listed| (std::iter::once(Network::from(listed.network)).collect(), listed.entry);
        self.listed.iter().map(alone)
    }

    /// What is banned, with the services as the block of an entry.
    pub fn bans(&self) -> impl Iterator<Item = Compiled> {
        self.banned.iter().map(|listed| {
            let (network, prefix) = mapped(listed.network);
            Compiled { network, prefix, entry: listed.entry }
        })
    }

    /// What DNSBLs list, for ever.
    pub fn by_dnsbl(&self) -> impl Iterator<Item = (ListedKey, DnsblListed)> {
        self.by_dnsbl.iter().map(|(key, has_something_left)| {
            let used_until_ns = if *has_something_left { 0 } else { u64::MAX };
            (*key, DnsblListed { until_ns: u64::MAX, used_until_ns, ..Zeroable::zeroed() })
        })
    }

    /// The naive model: the longest match alone answers, so an entry also says what the networks around it say.
    pub fn entries(&self) -> Vec<Compiled> {
        let around = |inner: &Listed| {
            let containing = self.listed.iter().filter(|outer| outer.network.contains(&inner.network));
            containing.fold(Entry::NONE, |entry, outer| entry.union(outer.entry))
        };
        let compile = |listed: &Listed| {
            let (network, prefix) = mapped(listed.network);
            Compiled { network, prefix, entry: around(listed) }
        };
        self.listed.iter().map(compile).collect()
    }
}

impl Plan {
    fn service(&self, id: ServiceId) -> Service {
        let index = id.index() as u32;
        let region = |level: usize| FIRST_CELL + (index * 4 + level as u32) * REGION;
        let limit = |level: usize| self.limits[level].map_or(Limit::NONE, |rate| rate.limit(region(level), REGION));
        let whole =
            self.whole.map_or(Limit::NONE, |rate| self.whole_limit(rate, suspicion::cell_of(id, suspicion::WHOLE)));
        let masks = [96 + self.prefixes[0], 96 + self.prefixes[1], self.prefixes[2], self.prefixes[3]];
        let mut service =
            Service::new(self.name, std::array::from_fn(limit), whole, self.batch_mask, masks.map(Address::mask));
        service.half_open = suspicion::half_open_limit(id, BACKLOG);
        service.retry = self.retry.limit(suspicion::retries_cell(id), 1);
        service.connections = self.connections;
        service
    }

    /// A batch is charged at once.
    fn whole_limit(&self, rate: Rate, cell: u32) -> Limit {
        let batch = self.batch_mask + 1;
        Rate { period_ns: rate.period_ns * u64::from(batch), burst: (rate.burst / batch).max(1), ..rate }.limit(cell, 1)
    }
}

fn address(text: &str) -> Address {
    let address: IpAddr = text.parse().unwrap_or_else(|_| panic!("{text} is no address"));
    Address::from(address)
}

fn parsed(network: &str) -> IpNet {
    network.parse().unwrap_or_else(|_| panic!("{network} is no network"))
}

fn mapped(network: IpNet) -> (Address, u8) {
    let prefix = match network {
        IpNet::V4(v4) => 96 + v4.prefix_len(),
        IpNet::V6(v6) => v6.prefix_len(),
    };
    (Address::from(network.network()).masked(Address::mask(prefix)), prefix)
}
