use std::process::ExitCode;

use clap::{Args, Subcommand, builder::NonEmptyStringValueParser};

use crate::{
    api::{EntryRequest, EntryView},
    config::{EntryKind, Network},
};

use super::{
    context::Context,
    table::{Align, Table, indented, number},
};

/// What `trust`, `allow` and `block` have in common.
#[derive(Debug, Subcommand)]
pub(super) enum EntryCommand {
    /// Add an address or a network; an earlier `add` of the same network is replaced
    #[command(after_help = "Examples:\n  \
        ratelimit trust add 10.0.0.0/24 --note webmail\n  \
        ratelimit block add 198.51.100.0/24 --service smtp")]
    Add(Add),
    /// Remove what was added by command
    #[command(after_help = "Example:\n  ratelimit block remove 198.51.100.0/24")]
    Remove(Remove),
    /// Show all entries, those of the configuration too
    #[command(after_help = "Example:\n  ratelimit block show --service smtp")]
    Show(Show),
}

#[derive(Args, Debug)]
pub(super) struct Add {
    /// As in 192.0.2.4, 10.0.0.0/8, 2001:db8::/32
    pub network: Network,
    #[command(flatten)]
    pub scope: Scope,
    /// Why, for whoever reads it later
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
}

#[derive(Args, Debug)]
pub(super) struct Remove {
    /// As it was added; for all services it was added for
    pub network: Network,
}

#[derive(Args, Debug)]
pub(super) struct Show {
    #[command(flatten)]
    pub scope: Scope,
}

#[derive(Args, Debug)]
pub(super) struct Scope {
    /// For this service alone; may be repeated
    #[arg(long = "service", value_name = "SERVICE", value_parser = NonEmptyStringValueParser::new())]
    pub services: Vec<String>,
}

impl EntryCommand {
    pub fn run(&self, kind: EntryKind, context: &Context<'_>) -> anyhow::Result<ExitCode> {
        let client = context.client()?;
        match self {
            Self::Add(Add { network, scope, note }) => {
                let services = scope.services.clone();
                let entry = EntryRequest { network: *network, services, note: note.clone() };
                let entries = client.add_entry(kind, &entry)?;
                context.answer(&entries, |entries| changed(kind, *network, "added", entries))?;
            }
            Self::Remove(Remove { network }) => {
                let entry = EntryRequest { network: *network, services: Vec::new(), note: None };
                let entries = client.remove_entry(kind, &entry)?;
                context.answer(&entries, |entries| changed(kind, *network, "removed", entries))?;
            }
            Self::Show(Show { scope }) => {
                let mut entries = client.entries(kind)?;
                entries.retain(|entry| concerns(entry, &scope.services));
                context.answer(&entries, |entries| shown(kind, entries))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn concerns(entry: &EntryView, services: &[String]) -> bool {
    let named = || services.iter().any(|service| entry.services.contains(service));
    services.is_empty() || entry.services.is_empty() || named()
}

pub(super) fn shown(kind: EntryKind, entries: &[EntryView]) -> String {
    if entries.is_empty() { format!("{kind}: no entries\n") } else { table(entries) }
}

/// What a change did, and what there is about the network now; the rest may be thousands.
pub(super) fn changed(kind: EntryKind, network: Network, done: &str, entries: &[EntryView]) -> String {
    let count = match entries.len() {
        1 => "1 entry".to_owned(),
        several => format!("{} entries", number(several as u64)),
    };
    let mut out = format!("{network} {done}; {kind} has {count} now\n");
    let about: Vec<EntryView> = entries.iter().filter(|entry| entry.network == network).cloned().collect();
    if !about.is_empty() {
        out.push_str(&format!("\n{}", table(&about)));
    }
    let spares: Vec<&str> = about.iter().flat_map(|entry| &entry.spares).map(String::as_str).collect();
    if !spares.is_empty() {
        out.push_str(&format!("\nin it, and never blocked\n{}", indented(&spares.join("\n"), 2)));
    }
    out
}

fn table(entries: &[EntryView]) -> String {
    let mut table = Table::new(&COLUMNS);
    for entry in entries {
        table.row(cells(entry));
    }
    table.text()
}

const COLUMNS: [(&str, Align); 5] = [
    ("network", Align::Left),
    ("services", Align::Left),
    ("by", Align::Left),
    ("since", Align::Left),
    ("note", Align::Left),
];

fn cells(entry: &EntryView) -> [String; 5] {
    [
        entry.network.to_string(),
        services(entry),
        entry.by.clone(),
        entry.since.clone().unwrap_or_default(),
        entry.note.clone().unwrap_or_default(),
    ]
}

pub(super) fn services(entry: &EntryView) -> String {
    scope(&entry.services)
}

/// None means all.
pub(super) fn scope(services: &[String]) -> String {
    if services.is_empty() { "all".to_owned() } else { services.join(", ") }
}
