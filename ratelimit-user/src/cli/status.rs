//! `status`: what is in force and what it has done.

mod proof;
mod reputation;

use std::{collections::BTreeMap, process::ExitCode, time::Duration};

use clap::Args;
use ratelimit_common::{Kind, Reason};

use crate::{
    api::{Count, InterfaceStatus, ServiceStatus, Status},
    client::Client,
    config::ByteSize,
    events::reason_of,
    offline,
};

use super::{
    context::Context,
    mode,
    table::{Align, Table, indented, number, span},
};

/// Show what is in force and what it has done; works without a controller too
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  ratelimit status")]
pub(super) struct Show {}

impl Show {
    pub fn run(&self, context: &Context<'_>) -> anyhow::Result<ExitCode> {
        let status = context.ask_or_offline(Client::status, offline::status)?;
        context.answer(&status, text)?;
        Ok(ExitCode::SUCCESS)
    }
}

pub(super) fn text(status: &Status) -> String {
    let mut out = format!("{}\n", mode::headline(&status.mode));
    out.push_str(&mode::endings(&status.mode));
    out.push_str(&format!("\n{}", facts(status)));
    if let Some(error) = &status.config_error {
        let heading = "the configuration is broken; the last good one stays in force";
        out.push_str(&format!("\n{heading}\n{}", indented(error, 2)));
    }
    if !status.warnings.is_empty() {
        out.push_str(&format!("\nwarnings\n{}", indented(&status.warnings.join("\n"), 2)));
    }
    out.push_str(&format!("\n{}", services(&status.services)));
    if !status.other.is_empty() {
        out.push_str(&format!("\n{}", other(&status.other)));
    }
    out.push_str("\nnew connections and frames since the filter was first loaded\n");
    out
}

fn facts(status: &Status) -> String {
    let mut facts = vec![("controller", controller(status))];
    // The pins do not tell where what they hold came from.
    if status.controller {
        let config = status.config.as_ref().map_or("built-in defaults".to_owned(), |path| path.display().to_string());
        let entries = &status.entries;
        facts.push(("configuration", config));
        facts.push((
            "lists",
            format!(
                "trust {}, allow {}, block {}; networks in all {}; bans {}",
                entries.trust,
                entries.allow,
                entries.block,
                number(entries.lists),
                number(entries.bans)
            ),
        ));
    }
    match status.interfaces.as_slice() {
        [] => facts.push(("attached", "to nothing: nothing is filtered".to_owned())),
        interfaces => {
            for (index, interface) in interfaces.iter().enumerate() {
                facts.push((if index == 0 { "attached" } else { "" }, attached(interface, status.controller)));
                facts.extend(interface.notes.iter().map(|note| ("", format!("  {note}"))));
            }
        }
    }
    for (index, line) in proof::lines(&status.proof, &status.services).into_iter().enumerate() {
        facts.push((if index == 0 { "proof" } else { "" }, line));
    }
    let of_dnsbls = status.reputation.as_ref().map(reputation::lines).unwrap_or_default();
    for (index, line) in of_dnsbls.into_iter().enumerate() {
        facts.push((if index == 0 { "reputation" } else { "" }, line));
    }
    facts.push(("memory", format!("{}, whatever comes", ByteSize::from_bytes(status.memory_bytes))));
    facts.iter().map(|(name, value)| format!("{name:<13}  {value}\n")).collect()
}

fn controller(status: &Status) -> String {
    if !status.controller {
        return "not running; what is in force stays in force".to_owned();
    }
    let since = status.uptime_s.map(|seconds| format!(" for {}", span(Duration::from_secs(seconds))));
    let pid = status.pid.map(|pid| format!(", process {pid}"));
    format!("running{}{}, version {}", since.unwrap_or_default(), pid.unwrap_or_default(), status.version)
}

fn attached(interface: &InterfaceStatus, by_controller: bool) -> String {
    let how = match interface.attached.as_deref() {
        None if by_controller => "NOT attached, nothing is filtered here",
        // What is pinned for an interface of another network namespace filters there.
        None => "pinned, but cannot be seen from here",
        Some("native_frags") => "native, large frames too",
        Some("generic") => "generic, much slower than native",
        Some(other) => other,
    };
    format!("{}: {how}", interface.name)
}

fn services(services: &[ServiceStatus]) -> String {
    let mut table = Table::new(&[
        ("service", Align::Left),
        ("ports", Align::Left),
        ("mode", Align::Left),
        ("state", Align::Left),
        ("open now", Align::Right),
        ("admitted", Align::Right),
        ("asked", Align::Right),
        ("would be dropped", Align::Right),
        ("dropped", Align::Right),
        ("mostly for", Align::Left),
    ]);
    let sum = |value: fn(&ServiceStatus) -> u64| services.iter().map(value).fold(0, u64::saturating_add);
    // On a quiet day nobody is asked.
    let asked = |asked: u64| if sum(|service| service.asked) == 0 { String::new() } else { number(asked) };
    for service in services {
        let ports: Vec<String> = service.ports.iter().map(u16::to_string).collect();
        table.row([
            service.name.clone(),
            ports.join(","),
            service.mode.to_string(),
            proof::state(&service.pressure),
            proof::open(&service.pressure),
            number(service.admitted),
            asked(service.asked),
            number(service.would_refuse),
            number(service.refused),
            top_reasons(&service.counts),
        ]);
    }
    if services.len() > 1 {
        let open = if services.iter().any(|service| !proof::open(&service.pressure).is_empty()) {
            number(sum(|service| service.pressure.connections))
        } else {
            String::new()
        };
        table.row([
            "all".to_owned(),
            String::new(),
            String::new(),
            String::new(),
            open,
            number(sum(|service| service.admitted)),
            asked(sum(|service| service.asked)),
            number(sum(|service| service.would_refuse)),
            number(sum(|service| service.refused)),
            String::new(),
        ]);
    }
    table.text()
}

/// What somebody may have to look into, the most frequent first.
fn top_reasons(counts: &BTreeMap<String, Count>) -> String {
    const SHOWN: usize = 3;
    // Who is asked has a column of its own.
    let is_ordinary = |reason: Reason| match reason.kind() {
        Kind::Refuses => false,
        Kind::Passes => reason != Reason::ServiceLimit,
        Kind::Asks | Kind::Absorbs => true,
    };
    let mut notable: Vec<(&str, u64)> = counts
        .iter()
        .filter(|(label, _)| !reason_of(label).is_some_and(is_ordinary))
        .map(|(label, count)| (label.as_str(), count.passed.saturating_add(count.dropped)))
        .filter(|(_, frames)| *frames > 0)
        .collect();
    notable.sort_by_key(|(_, frames)| std::cmp::Reverse(*frames));
    let top: Vec<String> =
        notable.iter().take(SHOWN).map(|(label, frames)| format!("{label} {}", number(*frames))).collect();
    top.join(", ")
}

fn other(counts: &BTreeMap<String, Count>) -> String {
    let mut table = Table::new(&[
        ("other frames", Align::Left),
        ("passed", Align::Right),
        ("would be dropped", Align::Right),
        ("dropped", Align::Right),
        ("that is", Align::Left),
    ]);
    for (label, count) in counts {
        let reason = reason_of(label);
        let refuses = reason.is_some_and(Reason::refuses);
        let (passed, would_drop) = if refuses { (0, count.passed) } else { (count.passed, 0) };
        table.row([
            label.clone(),
            number(passed),
            number(would_drop),
            number(count.dropped),
            reason.map(Reason::meaning).unwrap_or_default().to_owned(),
        ]);
    }
    table.text()
}
