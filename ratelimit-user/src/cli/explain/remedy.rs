//! Which commands would change a verdict. Only such as do: `allow` lifts a block, but no limit.

use std::net::IpAddr;

use ratelimit_common::Reason;

use crate::{
    api::{EntryView, Explanation, LevelExplanation, ServiceExplanation},
    config::{Action, Burst, Connections, DEFAULT_CLOCK_TICK, EntryKind, Level, Limit, Network, Rate},
};

use super::plain;

type Remedy = (String, &'static str);

const OWN_MACHINES: &str = "for machines of your own: no limit, no list";

/// One a line, each with what it does.
pub(super) fn remedies(explanation: &Explanation) -> Vec<String> {
    let services = &explanation.services;
    let with = |reasons: &[Reason]| -> Vec<&ServiceExplanation> {
        let is_one = |service: &&ServiceExplanation| reasons.iter().any(|reason| reason.label() == service.reason);
        services.iter().filter(is_one).collect()
    };
    let blocked = with(&[Reason::Blocked]);
    let banned = with(&[Reason::Banned]);
    let restricted = with(&[Reason::Restricted]);
    let listed = with(&[Reason::ListedLimit]);
    let limited = with(&[Reason::SourceLimit, Reason::NetworkLimit]);
    let capped = with(&[Reason::ConnectionCap]);
    let asked = with(&[Reason::Challenged, Reason::Awaited]);
    let address = explanation.address;

    let mut commands = Vec::new();
    if !blocked.is_empty() {
        commands.extend(adding(EntryKind::Allow, address, &blocked, services, "lifts the block, limits stay"));
        commands.extend(unblocking(&blocked));
        let listed = blocked.iter().flat_map(|service| &service.lists).find(|found| found.action == Action::Block);
        commands.extend(listed.map(|found| (format!("ratelimit list show {}", found.list), "says whose list it is")));
    }
    if !banned.is_empty() {
        commands.push((format!("ratelimit unban {address}"), "ends the bans of this address"));
    }
    if !restricted.is_empty() {
        commands.extend(adding(EntryKind::Trust, address, &restricted, services, OWN_MACHINES));
        let add = |service: &&ServiceExplanation| {
            let name = &service.service;
            (format!("add {address} to services.{name}.only_from, then ratelimit reload"), "lets it in, limits stay")
        };
        commands.extend(restricted.iter().map(add));
    }
    if !listed.is_empty() {
        commands.push((
            format!("ratelimit dnsbl check {address}"),
            "shows which DNSBL says what, and often where to be taken off",
        ));
        commands.extend(adding(EntryKind::Allow, address, &listed, services, "lifts it, the other limits stay"));
        let pause = "ratelimit dnsbl pause NAME --for 2h".to_owned();
        commands.push((pause, "leaves the DNSBL of this name alone, for everyone"));
        commands.extend(adding(EntryKind::Trust, address, &listed, services, OWN_MACHINES));
    }
    if !limited.is_empty() {
        commands.extend(limited.iter().filter_map(|service| raising(service)));
        commands.extend(adding(EntryKind::Trust, address, &limited, services, OWN_MACHINES));
    }
    if !capped.is_empty() {
        commands.extend(capped.iter().filter_map(|service| more_connections(service)));
        let sources = "ratelimit sources --by connections".to_owned();
        commands.push((sources, "shows who else holds how many; one that is closed makes room for one"));
        commands.extend(adding(EntryKind::Trust, address, &capped, services, OWN_MACHINES));
    }
    if !asked.is_empty() {
        commands.extend(asked.iter().filter_map(|service| raising(service)));
        commands.extend(adding(EntryKind::Trust, address, &asked, services, "for machines of your own: never asked"));
    }
    if commands.is_empty() {
        commands.extend(refusing(address, services));
    }
    commands.extend(of_recent(explanation));
    let width = commands.iter().map(|(command, _)| command.chars().count()).max().unwrap_or(0);
    commands.iter().map(|(command, effect)| format!("{command:<width$}  {effect}")).collect()
}

/// Takes away the entries that block, where a command can.
fn unblocking(blocked: &[&ServiceExplanation]) -> Vec<Remedy> {
    let mut entries: Vec<&EntryView> = Vec::new();
    for entry in blocked.iter().flat_map(|service| &service.entries) {
        if entry.kind == EntryKind::Block && !entries.contains(&entry) {
            entries.push(entry);
        }
    }
    let remedy = |entry: &EntryView| {
        let network = plain(entry.network);
        if entry.by == "config" {
            (format!("remove {network} from `block` in the configuration, then ratelimit reload"), "ends the block")
        } else {
            (format!("ratelimit block remove {network}"), "ends the block, for all services of the entry")
        }
    };
    entries.into_iter().map(remedy).collect()
}

/// What only befalls a SYN amid a flood, and the next one perhaps not: the latest verdicts tell of it.
fn of_recent(explanation: &Explanation) -> Vec<Remedy> {
    let remedies = [
        (Reason::ChallengeRate, "raise challenge_rate", "asks more suspects in a second"),
        (Reason::RetryRate, "raise retry_rate", "lets in more repeated SYNs in a second"),
        (
            Reason::Stray,
            "write namespaces = \"all\"",
            "if its connections end in a container: looks for no strays then",
        ),
    ];
    let met = |reason: Reason| explanation.recent.iter().any(|event| event.reason == reason.label());
    let remedy =
        |(_, change, effect)| (format!("{change} under [proof] in the configuration, then ratelimit reload"), effect);
    remedies.into_iter().filter(|(reason, ..)| met(*reason)).map(remedy).collect()
}

/// Twice as many open connections.
fn more_connections(service: &ServiceExplanation) -> Option<Remedy> {
    let doubled = Connections::try_from(service.connections_most?.checked_mul(2)?).ok()?;
    let command = format!("ratelimit limit set {} --connections {doubled} --for 2h", service.service);
    Some((command, "doubles the number for everyone"))
}

/// Doubles the limit that its source is over. None where that is the long window, which no command changes, or where the
/// double would be no valid limit.
fn raising(service: &ServiceExplanation) -> Option<Remedy> {
    let exceeded =
        |level: &Level| service.levels.iter().any(|explained| explained.level == *level && explained.wait_ms > 0);
    let refusing = [(Reason::SourceLimit, Level::Source), (Reason::NetworkLimit, Level::Network)];
    let refusing = refusing.into_iter().find(|(reason, _)| reason.label() == service.reason).map(|(_, level)| level);
    // Of who is asked first it is not said by which limit.
    let level = refusing.or_else(|| [Level::Source, Level::Network].into_iter().find(exceeded))?;
    let mut at_level = service.levels.iter().filter(|explained| explained.level == level);
    let (LevelExplanation { limit, wait_ms, .. }, long) = (at_level.next()?, at_level.next());
    if long.is_some_and(|long| long.wait_ms > *wait_ms) {
        return None;
    }
    let doubled = Limit {
        rate: Rate::new(u32::try_from(limit.rate.count() * 2).ok()?, limit.rate.period())?,
        burst: Burst::new(limit.burst.get().checked_mul(2)?)?,
    };
    if doubled.problem(level, DEFAULT_CLOCK_TICK).is_some() {
        return None;
    }
    let Limit { rate, burst } = doubled;
    let name = &service.service;
    let command = format!("ratelimit limit set {name} --level {level} --rate {rate} --burst {burst} --for 2h");
    Some((command, "doubles the limit for everyone"))
}

/// Nothing refuses it: how to. An allowed or trusted address is not blocked by an entry more.
fn refusing(address: IpAddr, services: &[ServiceExplanation]) -> Option<Remedy> {
    let is_open = |service: &&ServiceExplanation| {
        !service.refused && service.entries.iter().all(|entry| entry.kind == EntryKind::Block)
    };
    let open: Vec<&ServiceExplanation> = services.iter().filter(is_open).collect();
    adding(EntryKind::Block, address, &open, services, "refuses its new connections")
}

/// Adds the address for some of the services. None where one of its own entries says otherwise: the controller
/// refuses the contradiction.
fn adding(
    kind: EntryKind,
    address: IpAddr,
    some: &[&ServiceExplanation],
    all: &[ServiceExplanation],
    effect: &'static str,
) -> Option<Remedy> {
    let own = Network::host(address);
    let contradicts = |entry: &EntryView| entry.network == own && entry.kind != kind;
    if some.is_empty() || some.iter().any(|service| service.entries.iter().any(contradicts)) {
        return None;
    }
    Some((format!("ratelimit {kind} add {address}{}", scope(some, all)), effect))
}

/// `--service` for each, or nothing if several were asked about and it is all of them.
fn scope(some: &[&ServiceExplanation], all: &[ServiceExplanation]) -> String {
    if all.len() > 1 && some.len() == all.len() {
        return String::new();
    }
    some.iter().map(|service| format!(" --service {}", service.service)).collect()
}
