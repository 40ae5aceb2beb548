//! What the maps say, in the words of the API.

use std::collections::BTreeMap;

use aya::maps::MapError;
use ratelimit_common::{
    Address, Family, Parsed, Reason, ServiceId, Set, Tables as _,
    event::{Tally, tally_index},
    judge,
    limit::TICK_NS,
    limiter::owed_by,
};

use crate::{
    api::{BanView, Count, EntryView, LevelExplanation, ListMatch, ServiceExplanation, ServiceStatus},
    config::{Level, Limit, Network},
    events::{action_label, mode},
    plane::{LiveTables, Maps},
};

/// The counters of every service, and of what belongs to none.
pub fn count(set: &Set, tallies: &[Tally]) -> (Vec<ServiceStatus>, BTreeMap<String, Count>) {
    let services = set.services().map(|(id, service)| count_service(set, id, service.name(), tallies)).collect();
    (services, counts_of(None, tallies))
}

fn count_service(set: &Set, id: ServiceId, name: &str, tallies: &[Tally]) -> ServiceStatus {
    let counts = counts_of(Some(id), tallies);
    let sum = |wanted: fn(&Reason) -> bool, part: fn(&Count) -> u64| {
        let reasons = Reason::ALL.iter().filter(|reason| wanted(reason));
        reasons.filter_map(|reason| counts.get(reason.label())).map(part).sum()
    };
    ServiceStatus {
        name: name.to_owned(),
        ports: set.ports_of(id).collect(),
        mode: mode(set.mode(Some(id))),
        admitted: sum(|reason| reason.is_new_connection() && !reason.refuses(), |count| count.passed),
        refused: sum(|reason| reason.refuses(), |count| count.dropped),
        would_refuse: sum(|reason| reason.refuses(), |count| count.passed),
        counts,
    }
}

fn counts_of(service: Option<ServiceId>, tallies: &[Tally]) -> BTreeMap<String, Count> {
    let mut counts = BTreeMap::<String, Count>::new();
    for reason in Reason::ALL {
        for family in Family::ALL {
            let tally = tallies.get(tally_index(*reason, service, family) as usize).copied().unwrap_or_default();
            if tally != Tally::default() {
                let count = counts.entry(reason.label().to_owned()).or_default();
                count.passed += tally.passed;
                count.dropped += tally.dropped;
            }
        }
    }
    counts
}

/// What is known of an address besides the maps; empty where no controller runs.
#[derive(Debug, Default)]
pub struct Rules {
    pub entries: Vec<EntryView>,
    pub bans: Vec<BanView>,
    pub lists: Vec<ListMatch>,
}

/// Judges the next connection of an address to a service over the live maps. `None` if the service has no
/// address that it could be made to.
///
/// `limits` are the configured ones of a level, for display; where they are not known, none are shown.
pub fn explain(
    maps: &Maps,
    source: Address,
    id: ServiceId,
    limits: impl Fn(Level) -> Vec<Limit>,
    rules: Rules,
) -> Result<Option<ServiceExplanation>, MapError> {
    let tables = LiveTables::open(maps, source)?;
    let set = tables.set();
    let Some((destination, port)) = set.destination_of(id) else {
        return Ok(None);
    };
    let verdict = judge(&Parsed::connection(source, destination, port), &tables);
    Ok(Some(ServiceExplanation {
        service: set.service_at(id).name().to_owned(),
        mode: mode(verdict.mode),
        reason: verdict.reason.label().to_owned(),
        meaning: verdict.reason.meaning().to_owned(),
        refused: verdict.reason.refuses(),
        action: action_label(verdict.action()).to_owned(),
        entries: rules.entries,
        bans: rules.bans,
        lists: rules.lists,
        levels: levels(&tables, source, id, limits),
    }))
}

fn levels(
    tables: &LiveTables<'_>,
    source: Address,
    id: ServiceId,
    limits: impl Fn(Level) -> Vec<Limit>,
) -> Vec<LevelExplanation> {
    let service = tables.set().service_at(id);
    let (source_mask, network_mask) = service.masks(source);
    let now = tables.secret().ticks(tables.now());
    let [source_short, source_long, network_short, network_long] = &service.limits;
    let of_level = |level, mask, windows: [&ratelimit_common::Limit; 2]| {
        let counted = source.masked(mask);
        let hash = tables.secret().hash(counted);
        let configured = limits(level);
        let both = configured.into_iter().zip(windows).filter(|(_, window)| window.is_set());
        both.map(move |(limit, window)| {
            let owed = owed_by(tables, window, hash, now);
            LevelExplanation {
                level,
                counted: network(counted, mask),
                limit,
                used: f64::from(owed) / f64::from(window.increment),
                wait_ms: u64::from(owed.saturating_sub(window.tolerance)) * TICK_NS / 1_000_000,
            }
        })
        .collect::<Vec<_>>()
    };
    let mut all = of_level(Level::Source, source_mask, [source_short, source_long]);
    all.extend(of_level(Level::Network, network_mask, [network_short, network_long]));
    all
}

/// A masked address as a network.
fn network(address: Address, mask: Address) -> Network {
    let (high, low) = mask.words();
    let bits = (high.count_ones() + low.count_ones()) as u8;
    let prefix = if address.is_v4() { bits.saturating_sub(96) } else { bits };
    let ip = address.to_ip();
    Network::truncated(ip, prefix).unwrap_or(Network::host(ip))
}
