//! What the maps say, in the words of the API.

use std::{cmp::Reverse, collections::BTreeMap, time::SystemTime};

use aya::maps::MapError;
use ratelimit_common::{
    Address, Family, Kind, Parsed, Reason, SERVICES, ServiceId, Set, Tables as _,
    event::{Tally, tally_index},
    judge,
    limit::TICK_NS,
    limiter::owed_by,
    proof::OpenKey,
    suspicion,
};

use crate::{
    api::{
        BanView, Challenges, Count, EntryView, Event, LevelExplanation, ListMatch, ListingView, Pressure, ProofStatus,
        ProvenView, ServiceExplanation, ServiceStatus, SourceView, SourcesBy,
    },
    bans::ProvenSource,
    config::{Level, Limit, Network},
    controller::answer::rfc3339,
    events::{action_label, mode, reason_of},
    plane::{LiveTables, Maps, WatchMaps, now},
};

/// What the maps say of the gate as a whole, at one moment.
#[derive(Debug)]
pub struct Seen {
    pub services: Vec<ServiceStatus>,
    /// Frames that belong to no service, by reason.
    pub other: BTreeMap<String, Count>,
    pub proof: ProofStatus,
}

/// Reads each map once.
pub fn look(maps: &Maps, watch: Option<&WatchMaps>, set: &Set) -> Result<Seen, MapError> {
    let tallies = maps.tallies()?;
    let connections = watch.map(WatchMaps::all_connections).transpose()?.unwrap_or_default();
    let pressure = pressure(maps, &connections, set)?;
    let services = set.services().map(|(id, service)| {
        let pressure = pressure.get(id.index()).copied().unwrap_or_default();
        ServiceStatus { pressure, ..count_service(set, id, service.name(), &tallies) }
    });
    Ok(Seen {
        services: services.collect(),
        other: counts_of(None, &tallies),
        proof: ProofStatus {
            connections: connections.values().sum(),
            challenges: challenges(maps, set, &tallies)?,
            ..watch.map(proof).transpose()?.unwrap_or_default()
        },
    })
}

/// Of every place.
fn pressure(maps: &Maps, connections: &BTreeMap<OpenKey, u64>, set: &Set) -> Result<[Pressure; SERVICES], MapError> {
    let now = maps.secret()?.ticks(now());
    let mut all = [Pressure::default(); SERVICES];
    for (id, service) in set.services() {
        let limit = &service.half_open;
        all[id.index()] = Pressure {
            watched: suspicion::completes(maps.cells(), id),
            suspect: set.proves(id) && suspicion::is_suspect(maps.cells(), id, now),
            half_open: suspicion::half_open(maps.cells(), service, now),
            half_open_most: limit.tolerance.checked_div(limit.increment).unwrap_or(0),
            connections: 0,
        };
    }
    for (key, count) in connections {
        if let Some(id) = key.service() {
            all[id.index()].connections += count;
        }
    }
    Ok(all)
}

/// What the program that watches sockets knows of sources.
fn proof(watch: &WatchMaps) -> Result<ProofStatus, MapError> {
    let watched = watch.watched()?;
    Ok(ProofStatus {
        proven: watch.all_proven().map_err(MapError::IoError)?.len() as u64,
        proven_most: watch.proven_most(),
        not_noted: watched.not_noted,
        not_noted_of_site: watched.not_noted_of_site,
        handshakes: watched.handshakes,
        older: watch.older()?,
        not_counted: watched.not_counted,
        ..ProofStatus::default()
    })
}

/// What suspects were asked.
fn challenges(maps: &Maps, set: &Set, tallies: &[Tally]) -> Result<Challenges, MapError> {
    let sum = |reason: Reason, part: fn(&Tally) -> u64| -> u64 {
        let services = set.services().map(|(id, _)| id);
        let places = services.flat_map(|id| Family::ALL.map(|family| tally_index(reason, Some(id), family)));
        places.filter_map(|place| tallies.get(place as usize)).map(part).sum()
    };
    let (sent, answered) =
        (sum(Reason::Challenged, |tally| tally.dropped), sum(Reason::Answered, |tally| tally.dropped));
    Ok(Challenges {
        sent,
        answered,
        unanswered: sent.saturating_sub(answered),
        over_budget: sum(Reason::ChallengeRate, |tally| tally.dropped),
        awaited: sum(Reason::Awaited, |tally| tally.dropped),
        tickets: maps.tickets(maps.secret()?.ticks(now())) as u64,
        ticketed: sum(Reason::Ticketed, |tally| tally.passed),
        repeated: sum(Reason::Repeated, |tally| tally.passed),
        retries_over_budget: sum(Reason::RetryRate, |tally| tally.dropped),
        strays: sum(Reason::Stray, |tally| tally.dropped),
    })
}

/// What a source has shown.
pub fn proven(watch: &WatchMaps, source: Address) -> Result<Option<ProvenView>, MapError> {
    let now = now();
    let noted = watch.proven(source)?.filter(|proven| proven.is_good(now.0));
    Ok(noted.map(|proven| {
        let noted = ProvenSource::noted(source, &proven, now, SystemTime::now());
        ProvenView { last: rfc3339(noted.last_s), exchanged: noted.exchanged_s.map(rfc3339) }
    }))
}

/// Sources, by what is asked for; at most so many.
pub fn sources(
    watch: &WatchMaps,
    set: &Set,
    events: &[Event],
    by: SourcesBy,
    most: usize,
) -> Result<Vec<SourceView>, MapError> {
    let mut all = BTreeMap::<OpenKey, SourceView>::new();
    for (key, count) in watch.all_connections()? {
        if let Some(id) = key.service() {
            all.entry(key).or_insert_with(|| nobody(set, &key, id)).connections += count;
        }
    }
    let places: BTreeMap<&str, ServiceId> = set.services().map(|(id, service)| (service.name(), id)).collect();
    for event in events {
        let (Some(source), Some(id)) = (event.source, event.service.as_deref().and_then(|name| places.get(name)))
        else {
            continue;
        };
        let source = Address::from(source);
        let key = OpenKey::new(source.masked(set.service_at(*id).masks(source).0), *id);
        let view = all.entry(key).or_insert_with(|| nobody(set, &key, *id));
        view.drops += u64::from(reason_of(&event.reason).is_some_and(Reason::refuses));
        (view.last, view.reason) = (Some(event.at.clone()), Some(event.reason.clone()));
    }
    let mut all: Vec<(OpenKey, SourceView)> = all.into_iter().collect();
    all.retain(|(_, view)| match by {
        SourcesBy::Connections => view.connections > 0,
        SourcesBy::Drops => view.drops > 0,
        SourcesBy::Last => view.last.is_some(),
    });
    match by {
        SourcesBy::Connections => all.sort_by_key(|(_, view)| Reverse(view.connections)),
        SourcesBy::Drops => all.sort_by_key(|(_, view)| Reverse(view.drops)),
        SourcesBy::Last => all.sort_by(|(_, one), (_, other)| other.last.cmp(&one.last)),
    }
    all.truncate(most);
    let now = now();
    let shown = all.into_iter().map(|(key, view)| {
        let proven = watch.proven(key.source())?.is_some_and(|proven| proven.is_good(now.0));
        Ok(SourceView { proven, ..view })
    });
    shown.collect()
}

/// A source of which nothing is known yet.
fn nobody(set: &Set, key: &OpenKey, id: ServiceId) -> SourceView {
    let service = set.service_at(id);
    SourceView {
        source: network(key.source(), service.masks(key.source()).0),
        service: service.name().to_owned(),
        connections: 0,
        most: (service.connections != 0).then_some(service.connections),
        drops: 0,
        last: None,
        reason: None,
        proven: false,
    }
}

fn count_service(set: &Set, id: ServiceId, name: &str, tallies: &[Tally]) -> ServiceStatus {
    let counts = counts_of(Some(id), tallies);
    let sum = |kind: Kind, part: fn(&Count) -> u64| {
        let reasons = Reason::ALL.iter().filter(|reason| reason.kind() == kind);
        // Of what passes only new connections are worth a sum.
        let reasons = reasons.filter(|reason| kind != Kind::Passes || reason.is_new_connection());
        reasons.filter_map(|reason| counts.get(reason.label())).map(part).sum()
    };
    ServiceStatus {
        name: name.to_owned(),
        ports: set.ports_of(id).collect(),
        mode: mode(set.mode(Some(id))),
        admitted: sum(Kind::Passes, |count| count.passed),
        asked: sum(Kind::Asks, |count| count.passed.saturating_add(count.dropped)),
        refused: sum(Kind::Refuses, |count| count.dropped),
        would_refuse: sum(Kind::Refuses, |count| count.passed),
        pressure: Pressure::default(),
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
    pub listing: Option<ListingView>,
}

/// Judges the next connection of an address to a service over the live maps. `None` if the service has no
/// address that it could be made to.
///
/// `limits` are the configured ones of a level, for display; where they are not known, none are shown.
pub fn explain(
    maps: &Maps,
    watch: Option<&WatchMaps>,
    source: Address,
    id: ServiceId,
    limits: impl Fn(Level) -> Vec<Limit>,
    rules: Rules,
) -> Result<Option<ServiceExplanation>, MapError> {
    let tables = LiveTables::open(maps, watch, source)?;
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
        listing: rules.listing,
        levels: levels(&tables, source, id, limits),
        connections: tables.open_connections(&source, id).into(),
        connections_most: (set.service_at(id).connections != 0).then_some(set.service_at(id).connections),
        suspect: set.proves(id) && suspicion::is_suspect(&tables, id, tables.secret().ticks(tables.now())),
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
