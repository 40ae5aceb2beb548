//! What only shows when the parts of a configuration are seen together.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use super::diagnostic::Lines;
use super::dnsbl_preset::Weight;
use super::limit::Limit;
use super::problem::{EntryProblem, LimitProblem, ListProblem, ReputationProblem, ServiceProblem};
use super::read::{DNSBL_ENTRIES, Draft, Findings, nearest, quoted};
use super::reputation::Dnsbl;
use super::service::SMTP_PORT;
use super::{Action, Config, Destination, Entry, EntryKind, List, Network, Permit, Scope, Service};

pub(super) fn check(draft: &Draft, lines: &Lines<'_>, findings: &mut Findings) {
    for service in &draft.config.services {
        ports(draft, lines, service, findings);
        listeners(draft, lines, service, findings);
        elsewhere(draft, service, findings);
        limits(draft, service, findings);
        permits(draft, service, findings);
    }
    for (index, list) in draft.config.lists.iter().enumerate() {
        list_scope(draft, index, list, findings);
    }
    reputation(draft, findings);
    let known = known_entries(draft, lines);
    for kind in EntryKind::ALL {
        for placed in placed_entries(draft, lines, kind) {
            scope(draft, &placed, findings);
            beside_others(&draft.config, &placed, &known, findings);
        }
    }
}

fn ports(draft: &Draft, lines: &Lines<'_>, service: &Service, findings: &mut Findings) {
    for port in &service.ports {
        let place_in = |name: &str| draft.ports_at.get(&(name.to_owned(), *port)).copied();
        let to_of = |name: &str| draft.place(&format!("services.{name}.to"));
        let Some(here) = place_in(&service.name).or_else(|| to_of(&service.name)) else { continue };
        for other in &draft.config.services {
            let clash = other.name != service.name && other.ports.contains(port) && other.to.overlaps(&service.to);
            let there = place_in(&other.name).or_else(|| to_of(&other.name));
            // Of two that the file writes, the later one is reported.
            if !clash || there.is_some_and(|there| there > here) {
                continue;
            }
            let line = there.map(|there| lines.position(there).line);
            let problem = ServiceProblem::PortTaken { port: *port, service: other.name.clone(), line };
            findings.error(here, format!("services.{}.ports", service.name), problem);
        }
    }
}

/// Connections are told apart by the port of their listener alone, wherever it is on the machine.
fn listeners(draft: &Draft, lines: &Lines<'_>, service: &Service, findings: &mut Findings) {
    let place_in = |service: &Service, port: u16| {
        let written = if service.listen_ports.is_empty() { &draft.ports_at } else { &draft.listen_ports_at };
        let to = || draft.place(&format!("services.{}.to", service.name));
        written.get(&(service.name.clone(), port)).copied().or_else(to)
    };
    for port in service.listens_at() {
        let Some(here) = place_in(service, *port) else { continue };
        for other in &draft.config.services {
            // Where neither says where it listens, their `ports` clash already.
            let is_said = !(service.listen_ports.is_empty() && other.listen_ports.is_empty());
            let clash = other.name != service.name && is_said && other.listens_at().contains(port);
            let there = place_in(other, *port);
            // Of two that the file writes, the later one is reported.
            if !clash || there.is_some_and(|there| there > here) {
                continue;
            }
            let line = there.map(|there| lines.position(there).line);
            let problem = ServiceProblem::ListenerTaken { port: *port, service: other.name.clone(), line };
            let key = if service.listen_ports.is_empty() { "ports" } else { "listen_ports" };
            findings.error(here, format!("services.{}.{key}", service.name), problem);
        }
    }
}

/// What is said of connections that perhaps nobody sees.
fn elsewhere(draft: &Draft, service: &Service, findings: &mut Findings) {
    if service.to == Destination::Local {
        return;
    }
    let said = [("connections", service.connections.is_some()), ("listen_ports", !service.listen_ports.is_empty())];
    for (key, _) in said.into_iter().filter(|(_, is_said)| *is_said) {
        let key = format!("services.{}.{key}", service.name);
        if let Some(at) = draft.place(&key) {
            findings.warning(at, key, ServiceProblem::ListenerElsewhere);
        }
    }
}

fn limits(draft: &Draft, service: &Service, findings: &mut Findings) {
    let place = |level: &str| {
        let key = format!("services.{}.{level}", service.name);
        draft.place(&key).map(|at| (at, key))
    };
    for (level, limits) in [("source", &service.source), ("network", &service.network)] {
        if let ([first, second], Some((at, key))) = (limits.as_slice(), place(level)) {
            let (loose, tight) = if first.is_within(second) { (*second, *first) } else { (*first, *second) };
            if tight.is_within(&loose) {
                findings.warning(at, key, LimitProblem::NeverActs { loose, tight });
            }
        }
    }
    if let (Some((network, source_limit)), Some((at, key))) =
        (smaller_network(service), place("network").or_else(|| place("source")))
    {
        findings.warning(at, key, LimitProblem::NetworkSmaller { network, source_limit });
    }
}

/// A network limit that one source within its own limits can exceed.
fn smaller_network(service: &Service) -> Option<(Limit, Limit)> {
    let pairs = service.network.iter().flat_map(|network| service.source.iter().map(move |source| (*network, *source)));
    let mut exceeding = pairs.filter(|(network, _)| {
        let slower = service.source.iter().all(|source| network.rate < source.rate);
        let shorter = service.source.iter().all(|source| network.burst < source.burst);
        slower || shorter
    });
    exceeding.next()
}

/// Lists that say who may connect must be there, and must not block whom they let in.
fn permits(draft: &Draft, service: &Service, findings: &mut Findings) {
    for (index, permit) in service.only_from.iter().enumerate() {
        let Permit::List(name) = permit else { continue };
        let key = format!("services.{}.only_from", service.name);
        let at = draft.place(&format!("{key}[{index}]")).unwrap_or(0);
        match draft.config.list(name) {
            Some(list) if list.action == Action::Allow => {}
            Some(_) => findings.error(at, key, ListProblem::NotAllowing { name: name.clone() }),
            None => {
                let nearest = nearest(name, draft.config.lists.iter().map(|list| list.name.clone()));
                findings.error(at, key, ListProblem::Unknown { value: quoted(name), nearest });
            }
        }
    }
}

fn list_scope(draft: &Draft, index: usize, list: &List, findings: &mut Findings) {
    let key = format!("lists[{index}]");
    let place = |of: &str| draft.place(&format!("{key}.{of}")).or_else(|| draft.place(&key)).unwrap_or(0);
    if list.all_packets && list.action == Action::Allow {
        findings.error(place("all_packets"), format!("{key}.all_packets"), ListProblem::AllPacketsOfAllow);
    }
    if let Scope::Services(names) = &list.services {
        unknown_services(draft, names, &format!("{key}.services"), place("services"), findings);
    }
    let for_smtp_alone = list.preset.is_some_and(|preset| !preset.facts().all_services);
    let on_others = |service: &&Service| service.name != "smtp" && list.services.includes(&service.name);
    if let (true, Some(service)) = (for_smtp_alone, draft.config.services.iter().find(on_others)) {
        let service = service.name.clone();
        findings.warning(place("services"), format!("{key}.services"), ListProblem::Customers { service });
    }
}

fn reputation(draft: &Draft, findings: &mut Findings) {
    let reputation = &draft.config.reputation;
    for (name, key, at) in &draft.reputation_services {
        unknown_service(draft, name, *at, key, findings);
    }
    let keys = draft.entry_keys.get(DNSBL_ENTRIES).map_or(&[][..], Vec::as_slice);
    for (index, (dnsbl, key)) in reputation.dnsbl.iter().zip(keys).enumerate() {
        let place = |of: &str| draft.place(&format!("{key}.{of}")).or_else(|| draft.place(key)).unwrap_or(0);
        let (services, services_at) = (format!("{key}.services"), place("services"));
        unknown_services(draft, &dnsbl.services, &services, services_at, findings);
        if let Some(problem) = port_25_alone(&draft.config, dnsbl) {
            findings.error(services_at, services, problem);
        }
        if let Some(problem) = against_good(dnsbl) {
            let of = if draft.place(&format!("{key}.codes")).is_some() { "codes" } else { "weight" };
            findings.error(place(of), format!("{key}.{of}"), problem);
        }
        let earlier = reputation.dnsbl[..index].iter();
        if let Some(problem) = earlier.filter_map(|other| same_data(other, dnsbl)).next() {
            findings.error(draft.place(key).unwrap_or(0), key, problem);
        }
    }
    never_reached(draft, keys, findings);
}

/// Lists of home connections may not act where customers connect.
fn port_25_alone(config: &Config, dnsbl: &Dnsbl) -> Option<ReputationProblem> {
    // Codes written by hand may take more of the combined zone than DROP.
    let takes_more = || SPAMHAUS_DATA.iter().any(|(_, answers)| dnsbl.scores_of_spamhaus(answers));
    let facts = dnsbl.facts().filter(|facts| !facts.all_services || takes_more())?;
    let ports = config.services.iter().filter(|service| dnsbl.is_asked_for(&service.name)).flat_map(|service| {
        let other = service.ports.iter().find(|port| **port != SMTP_PORT);
        other.map(|port| (service.name.clone(), *port))
    });
    let (service, port) = ports.into_iter().next()?;
    Some(ReputationProblem::Port25Alone { preset: facts.name, service, port })
}

fn against_good(dnsbl: &Dnsbl) -> Option<ReputationProblem> {
    let facts = dnsbl.facts().filter(|facts| facts.weight == Weight::Allow)?;
    let code = dnsbl.codes.iter().find(|code| code.weight > 0)?.clone();
    Some(ReputationProblem::AgainstGood { preset: facts.name, code })
}

/// Spamhaus' combined zone holds what its parts hold; whoever is there must not count twice.
fn same_data(other: &Dnsbl, dnsbl: &Dnsbl) -> Option<ReputationProblem> {
    let service = dnsbl.services.iter().find(|service| other.is_asked_for(service))?.clone();
    let is_scored = |answers: &[Ipv4Addr]| other.scores_of_spamhaus(answers) && dnsbl.scores_of_spamhaus(answers);
    let (data, _) = SPAMHAUS_DATA.into_iter().find(|(_, answers)| is_scored(answers))?;
    Some(ReputationProblem::SameData { other: other.name.clone(), data, service })
}

/// DROP is left out: it is in SBL as well, and asks the combined zone for itself alone.
const SPAMHAUS_DATA: [(&str, &[Ipv4Addr]); 3] = [
    ("SBL", &[Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3)]),
    ("XBL", &[Ipv4Addr::new(127, 0, 0, 4)]),
    ("PBL", &[Ipv4Addr::new(127, 0, 0, 10), Ipv4Addr::new(127, 0, 0, 11)]),
];

fn never_reached(draft: &Draft, keys: &[String], findings: &mut Findings) {
    let reputation = &draft.config.reputation;
    for service in &draft.config.services {
        let asked = || reputation.dnsbl.iter().zip(keys).filter(|(dnsbl, _)| dnsbl.is_asked_for(&service.name));
        let most = asked().map(|(dnsbl, _)| dnsbl.greatest_weight()).fold(0, i32::saturating_add);
        let threshold = reputation.threshold_of(&service.name);
        if let (Some((_, key)), true) = (asked().next(), most < threshold) {
            let problem = ReputationProblem::NeverReached { service: service.name.clone(), most, threshold };
            findings.warning(draft.place(key).unwrap_or(0), key, problem);
        }
    }
}

/// An entry and where it stands.
#[derive(Debug)]
struct Placed<'d> {
    kind: EntryKind,
    entry: &'d Entry,
    key: &'d str,
    at: usize,
    line: Option<usize>,
}

fn placed_entries<'d>(draft: &'d Draft, lines: &Lines<'_>, kind: EntryKind) -> Vec<Placed<'d>> {
    let keys = draft.entry_keys.get(kind.name()).map_or(&[][..], Vec::as_slice);
    let entries = draft.config.entries(kind).iter().zip(keys);
    let placed = entries.map(|(entry, key)| {
        let at = draft.place(&format!("{key}.network")).or_else(|| draft.place(key)).unwrap_or(0);
        Placed { kind, entry, key, at, line: Some(lines.position(at).line) }
    });
    placed.collect()
}

fn known_entries<'d>(draft: &'d Draft, lines: &Lines<'_>) -> HashMap<Network, Vec<Placed<'d>>> {
    let mut known: HashMap<Network, Vec<Placed<'d>>> = HashMap::new();
    for kind in EntryKind::ALL {
        for placed in placed_entries(draft, lines, kind) {
            known.entry(placed.entry.network).or_default().push(placed);
        }
    }
    known
}

fn scope(draft: &Draft, placed: &Placed<'_>, findings: &mut Findings) {
    let Scope::Services(names) = &placed.entry.services else { return };
    unknown_services(draft, names, &format!("{}.services", placed.key), placed.at, findings);
}

fn unknown_services(draft: &Draft, names: &[String], key: &str, otherwise: usize, findings: &mut Findings) {
    for (index, name) in names.iter().enumerate() {
        let at = draft.place(&format!("{key}[{index}]")).unwrap_or(otherwise);
        unknown_service(draft, name, at, key, findings);
    }
}

fn unknown_service(draft: &Draft, name: &str, at: usize, key: &str, findings: &mut Findings) {
    if draft.config.service(name).is_none() {
        let known: Vec<String> = draft.config.services.iter().map(|service| service.name.clone()).collect();
        let nearest = nearest(name, known.iter().cloned());
        findings.error(at, key, EntryProblem::UnknownService { value: quoted(name), nearest, known });
    }
}

/// Looks for entries of the same network and of networks around it. A network has at most 129
/// prefixes, so this stays linear however long the lists are.
fn beside_others(
    config: &Config,
    placed: &Placed<'_>,
    known: &HashMap<Network, Vec<Placed<'_>>>,
    findings: &mut Findings,
) {
    let network = placed.entry.network;
    if placed.kind == EntryKind::Block && network.is_everything() {
        findings.warning(placed.at, placed.key, EntryProblem::BlocksEverything { network });
    }
    let same = known.get(&network).into_iter().flatten().filter(|other| other.at < placed.at);
    let clashing = same.filter(|other| overlap(config, &other.entry.services, &placed.entry.services));
    // Of several the contradiction is worth more than the repetition.
    if let Some(other) = clashing.max_by_key(|other| other.kind != placed.kind) {
        let (kind, line) = (placed.kind, other.line);
        if other.kind == kind {
            findings.warning(placed.at, placed.key, EntryProblem::ListedTwice { kind, network, line });
        } else {
            let problem = EntryProblem::Contradiction { kind, network, other: other.kind, line };
            findings.error(placed.at, placed.key, problem);
        }
        return;
    }
    let around = (0..network.prefix_len()).filter_map(|len| known.get(&network.widened(len)));
    let covers = |other: &&Placed<'_>| {
        outranks(other.kind, placed.kind) && covers(config, &other.entry.services, &placed.entry.services)
    };
    if let Some(other) = around.flatten().find(covers) {
        let (kind, outer) = (placed.kind, other.entry.network);
        let problem = EntryProblem::NeverActs { kind, network, other: other.kind, outer, line: other.line };
        match kind {
            EntryKind::Trust | EntryKind::Allow => findings.warning(placed.at, placed.key, problem),
            EntryKind::Block => findings.error(placed.at, placed.key, problem),
        }
    }
}

/// Whether an address in `outer` is judged by it before `inner` is asked.
fn outranks(outer: EntryKind, inner: EntryKind) -> bool {
    match (outer, inner) {
        (EntryKind::Trust, EntryKind::Allow | EntryKind::Block) | (EntryKind::Allow, EntryKind::Block) => true,
        (EntryKind::Trust, EntryKind::Trust)
        | (EntryKind::Allow, EntryKind::Trust | EntryKind::Allow)
        | (EntryKind::Block, _) => false,
    }
}

fn overlap(config: &Config, a: &Scope, b: &Scope) -> bool {
    config.services.iter().any(|service| a.includes(&service.name) && b.includes(&service.name))
}

fn covers(config: &Config, outer: &Scope, inner: &Scope) -> bool {
    config.services.iter().all(|service| outer.includes(&service.name) || !inner.includes(&service.name))
}
