//! What every DNSBL says of an address, as text.

use std::time::Duration;

use crate::{
    api::{DnsblAnswer, DnsblCheck, ServiceOutcome},
    cli::table::{Align, Table, harmless, milliseconds, span},
};

use super::{
    follows,
    shown::{NONE, several},
};

pub(in crate::cli) fn text(check: &DnsblCheck) -> String {
    let DnsblCheck { address, zones, services } = check;
    if zones.is_empty() {
        return NONE.to_owned();
    }
    let listed = zones.iter().filter(|zone| zone.listed == Some(true)).count();
    let mut out = match listed {
        0 => format!("{address} is listed by no DNSBL\n\n"),
        listed => format!("{address} is listed by {listed} of {}\n\n", several(zones.len() as u64, "DNSBL", "DNSBLs")),
    };
    out.push_str(&answers(zones));
    let words: String = zones.iter().flat_map(words).map(|line| format!("{line}\n")).collect();
    if !words.is_empty() {
        out.push_str(&format!("\n{words}"));
    }
    if !services.is_empty() {
        let outcomes: String = services.iter().map(|service| format!("{}\n", outcome(service))).collect();
        out.push_str(&format!("\n{outcomes}"));
    }
    out.push_str(&format!("\n`ratelimit explain {address}` says what is in force\n"));
    out
}

fn answers(zones: &[DnsblAnswer]) -> String {
    let mut table = Table::new(&[
        ("DNSBL", Align::Left),
        ("answer", Align::Left),
        ("weight", Align::Right),
        ("good for", Align::Right),
        ("took", Align::Right),
        ("codes", Align::Left),
    ]);
    for zone in zones {
        let is_listed = zone.listed == Some(true);
        let codes: Vec<String> = zone.codes.iter().map(|code| harmless(code)).collect();
        table.row([
            zone.name.clone(),
            answer(zone).to_owned(),
            if is_listed { zone.weight.to_string() } else { String::new() },
            zone.ttl_s.map(|seconds| span(Duration::from_secs(seconds))).unwrap_or_default(),
            if was_asked(zone) { milliseconds(zone.took_ms) } else { String::new() },
            codes.join(", "),
        ]);
    }
    table.text()
}

fn answer(zone: &DnsblAnswer) -> &'static str {
    match zone.listed {
        Some(true) => "listed",
        Some(false) => "not listed",
        None if was_asked(zone) => "no answer",
        None => "not asked",
    }
}

/// A question takes time, however little.
fn was_asked(zone: &DnsblAnswer) -> bool {
    zone.took_ms > 0.0
}

/// What a DNSBL says in words, or what is said of it.
fn words(zone: &DnsblAnswer) -> impl Iterator<Item = String> {
    let said = zone.text.as_deref().map(|text| format!("{} says: {}", zone.name, harmless(text)));
    let problem = zone.problem.as_deref().map(|problem| format!("{}: {}", zone.name, harmless(problem)));
    let is_ignored = zone.listed == Some(true) && !zone.counts;
    let ignored = is_ignored.then(|| format!("{0} weighs nothing now: `ratelimit dnsbl show {0}` says why", zone.name));
    said.into_iter().chain(problem).chain(ignored)
}

fn outcome(outcome: &ServiceOutcome) -> String {
    let ServiceOutcome { service, score, threshold, action } = outcome;
    match action {
        None => format!("{service}: score {score} is below the threshold {threshold}: nothing follows"),
        Some(action) => format!("{service}: score {score} reaches the threshold {threshold}: {}", follows(*action)),
    }
}
