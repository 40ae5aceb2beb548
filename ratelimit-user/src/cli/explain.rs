//! `explain`: the next connection of an address, judged by the gate itself, and what would change the verdict.

mod listing;
mod proof;
mod remedy;

use std::{net::IpAddr, process::ExitCode, time::Duration};

use clap::{Args, builder::NonEmptyStringValueParser};

use crate::{
    api::{BanView, EntryView, Explanation, ListMatch, ServiceExplanation},
    config::Network,
    offline,
};

use super::{
    ban,
    context::Context,
    entry, events, list as list_command,
    table::{Align, Table, indented, list, span},
};

/// An answer, but not the one the administrator hopes for.
const WOULD_BE_REFUSED: u8 = 3;

/// Show what would happen to the next connection of an address, why, and what would change it
#[derive(Args, Debug)]
#[command(
    after_help = "The answer is the decision of the filter itself over what is in force now. Ends with exit code 3 if any \
    service shown refuses the address, or would if it enforced; to be asked first whether one is alive is no refusal. \
    Works without a controller too.\n\n\
    Example:\n  ratelimit explain 192.0.2.4 --service smtp"
)]
pub(super) struct Explain {
    /// As in 192.0.2.4 or 2001:db8::4
    #[arg(value_parser = parse_address)]
    pub address: IpAddr,
    /// This service alone
    #[arg(long, value_name = "SERVICE", value_parser = NonEmptyStringValueParser::new())]
    pub service: Option<String>,
}

pub(super) fn parse_address(text: &str) -> Result<IpAddr, &'static str> {
    text.parse().map_err(|_| "write one address, as in 192.0.2.4 or 2001:db8::4")
}

impl Explain {
    pub fn run(&self, context: &Context<'_>) -> anyhow::Result<ExitCode> {
        let service = self.service.as_deref();
        let explanation = context.ask_or_offline(
            |client| client.explain(self.address, service),
            |paths| offline::explain(paths, self.address, service),
        )?;
        context.answer(&explanation, text)?;
        let refused = explanation.services.iter().any(|service| service.refused);
        Ok(if refused { ExitCode::from(WOULD_BE_REFUSED) } else { ExitCode::SUCCESS })
    }
}

pub(super) fn text(explanation: &Explanation) -> String {
    let mut out = format!("{}\n{}", headline(explanation), proof::proven(explanation));
    out.push_str(&format!("\n{}", verdicts(&explanation.services)));
    out.push_str(&listing::lines(explanation));
    out.push_str(&proof::asked(explanation));
    if let Some(limits) = limits(&explanation.services) {
        out.push_str(&format!("\n{limits}"));
    }
    let entries = entries(&explanation.services);
    if !entries.is_empty() {
        out.push_str(&format!("\n{}", entries.text()));
    }
    let bans = bans(&explanation.services);
    if !bans.is_empty() {
        out.push_str(&format!("\n{}", ban::table(&bans)));
    }
    let lists = lists(&explanation.services);
    if !lists.is_empty() {
        out.push_str(&format!("\n{}", list_command::lines(&lists)));
    }
    if explanation.controller {
        let remedies = remedy::remedies(explanation);
        if !remedies.is_empty() {
            out.push_str(&format!("\nwhat would change it\n{}", indented(&remedies.join("\n"), 2)));
        }
    } else {
        out.push_str("\nonly a running controller knows the limits and the entries behind this\n");
    }
    if !explanation.recent.is_empty() {
        let recent: String = explanation.recent.iter().map(events::line).collect();
        out.push_str(&format!("\nlatest sampled verdicts\n{}", indented(&recent, 2)));
    }
    out
}

fn headline(explanation: &Explanation) -> String {
    let Explanation { address, services, .. } = explanation;
    let names = |wanted: &dyn Fn(&ServiceExplanation) -> bool| {
        let names: Vec<&str> =
            services.iter().filter(|service| wanted(service)).map(|service| service.service.as_str()).collect();
        if names.len() > 1 && names.len() == services.len() { "every service".to_owned() } else { list(&names) }
    };
    let said = |what: &str, wanted: &dyn Fn(&ServiceExplanation) -> bool| {
        let names = names(wanted);
        (!names.is_empty()).then(|| format!("{what} on {names}"))
    };
    let is_done = |service: &ServiceExplanation| service.action != "pass";
    let refused = |service: &ServiceExplanation| service.refused && !listing::refuses(service);
    let now = [
        said("refused", &|service| refused(service) && is_done(service)),
        said("refused because DNSBLs list it", &|service| listing::refuses(service) && is_done(service)),
        said("asked first whether it is alive", &|service| proof::is_asked(service) && is_done(service)),
    ];
    let enforcing = [
        said("refuse it", &|service| refused(service) && !is_done(service)),
        said("refuse it because DNSBLs list it", &|service| listing::refuses(service) && !is_done(service)),
        said("ask it first", &|service| proof::is_asked(service) && !is_done(service)),
    ];
    let [now, enforcing] = [now, enforcing].map(|parts| parts.into_iter().flatten().collect::<Vec<_>>().join(", and "));
    match (now.as_str(), enforcing.as_str()) {
        ("", "") => format!("{address}: its next connection is let in to {}", names(&|_| true)),
        (now, "") => format!("{address}: its next connection is {now}"),
        ("", enforcing) => format!("{address}: its next connection is let in; enforcing would {enforcing}"),
        (now, enforcing) => format!("{address}: its next connection is {now}; enforcing would {enforcing}"),
    }
}

/// Each once, however many services it is about.
fn bans(services: &[ServiceExplanation]) -> Vec<BanView> {
    let mut bans: Vec<BanView> = Vec::new();
    for ban in services.iter().flat_map(|service| &service.bans) {
        if !bans.contains(ban) {
            bans.push(ban.clone());
        }
    }
    bans
}

/// Each once, however many services it is about.
fn lists(services: &[ServiceExplanation]) -> Vec<ListMatch> {
    let mut lists: Vec<ListMatch> = Vec::new();
    for found in services.iter().flat_map(|service| &service.lists) {
        if !lists.contains(found) {
            lists.push(found.clone());
        }
    }
    lists
}

fn verdicts(services: &[ServiceExplanation]) -> String {
    let mut table = Table::new(&[
        ("service", Align::Left),
        ("mode", Align::Left),
        ("verdict", Align::Left),
        ("reason", Align::Left),
        ("that is", Align::Left),
    ]);
    for service in services {
        let verdict = match (service.refused, proof::is_asked(service), service.action.as_str()) {
            (true, _, "pass") => "would be refused",
            (true, _, _) => "refused",
            (false, true, "pass") => "would be asked first",
            (false, true, _) => "asked first",
            (false, false, _) => "let in",
        };
        let ServiceExplanation { service, mode, reason, meaning, .. } = service;
        table.row([service.clone(), mode.to_string(), verdict.to_owned(), reason.clone(), meaning.clone()]);
    }
    table.text()
}

/// Of several services only what is used; of one everything.
fn limits(services: &[ServiceExplanation]) -> Option<String> {
    let mut table = Table::new(&[
        ("service", Align::Left),
        ("counted", Align::Left),
        ("of one", Align::Left),
        ("limit", Align::Left),
        ("used", Align::Right),
        ("next", Align::Left),
    ]);
    let is_shown = |is_used: bool| services.len() == 1 || is_used;
    for service in services {
        for level in service.levels.iter().filter(|level| is_shown(level.used > 0.0)) {
            let next = match level.wait_ms {
                0 => "now".to_owned(),
                wait => format!("in {}", span(Duration::from_millis(wait))),
            };
            table.row([
                service.service.clone(),
                plain(level.counted),
                level.level.to_string(),
                level.limit.to_string(),
                // Rounded down: one more is let in until the burst is used up to the last.
                format!("{} of {}", level.used as u64, level.limit.burst),
                next,
            ]);
        }
        if service.connections > 0 || is_shown(false) {
            table.rows(proof::connections(service));
        }
    }
    let counted =
        |service: &ServiceExplanation| service.levels.len() + usize::from(proof::connections(service).is_some());
    let levels: usize = services.iter().map(counted).sum();
    match (levels, table.len()) {
        (0, _) => None,
        (_, 0) => Some("nothing is used of any limit\n".to_owned()),
        (levels, shown) if shown < levels => Some(format!("{}nothing is used of the other limits\n", table.text())),
        (_, _) => Some(table.text()),
    }
}

/// Every entry once, though each service brings it along.
fn entries(services: &[ServiceExplanation]) -> Table {
    let mut distinct: Vec<&EntryView> = Vec::new();
    for entry in services.iter().flat_map(|service| &service.entries) {
        if !distinct.contains(&entry) {
            distinct.push(entry);
        }
    }
    let mut table = Table::new(&[
        ("entry", Align::Left),
        ("network", Align::Left),
        ("services", Align::Left),
        ("by", Align::Left),
        ("since", Align::Left),
        ("note", Align::Left),
    ]);
    for entry in distinct {
        table.row([
            entry.kind.to_string(),
            plain(entry.network),
            entry::services(entry),
            entry.by.clone(),
            entry.since.clone().unwrap_or_default(),
            entry.note.clone().unwrap_or_default(),
        ]);
    }
    table
}

/// A network as it would be typed: one address without its prefix.
pub(super) fn plain(network: Network) -> String {
    let whole = if network.is_ipv4() { 32 } else { 128 };
    if network.prefix_len() == whole { network.address().to_string() } else { network.to_string() }
}
