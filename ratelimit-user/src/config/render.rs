//! A configuration as TOML that reads back as the same configuration.

use std::fmt::{self, Display, Write};
use std::num::NonZeroU32;

use super::export::Export;
use super::limit::Limit;
use super::list::{Change, Format, List, Source};
use super::proof::Proof;
use super::reputation::{Dnsbl, Reputation, Tests};
use super::service::{DEFAULT_SERVICES, Destination, Prefix, Service};
use super::{Config, Entry, EntryKind, Interfaces, Scope};

pub(super) fn whole(config: &Config) -> String {
    render(config, Extent::Whole)
}

pub(super) fn changed(config: &Config) -> String {
    render(config, Extent::Changed)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    Whole,
    /// Only what reading would not fill in by itself.
    Changed,
}

/// The lines under one table header; a table without lines is left out.
#[derive(Debug)]
struct Section {
    extent: Extent,
    lines: String,
}

impl Section {
    fn new(extent: Extent) -> Self {
        Self { extent, lines: String::new() }
    }

    fn set(&mut self, key: &str, value: impl Display) {
        self.lines.push_str(&format!("{key} = {value}\n"));
    }

    fn set_unless_default<T: PartialEq>(&mut self, key: &str, value: &T, default: &T, text: impl Display) {
        if self.extent == Extent::Whole || value != default {
            self.set(key, text);
        }
    }

    fn append_to(self, out: &mut String, header: &str) {
        if self.lines.is_empty() {
            return;
        }
        if !out.is_empty() {
            out.push('\n');
        }
        if !header.is_empty() {
            out.push_str(&format!("[{header}]\n"));
        }
        out.push_str(&self.lines);
    }
}

fn render(config: &Config, extent: Extent) -> String {
    let mut out = String::new();
    let default = Config::default();
    let mut top = Section::new(extent);
    let interfaces = interfaces(&config.interfaces);
    top.set_unless_default("interfaces", &config.interfaces, &default.interfaces, interfaces);
    top.set_unless_default("mode", &config.mode, &default.mode, Text(config.mode));
    top.set_unless_default("memory", &config.memory, &default.memory, Text(config.memory));
    let events = config.events_per_second;
    top.set_unless_default("events_per_second", &events, &default.events_per_second, events);
    for kind in EntryKind::ALL {
        let entries = config.entries(kind);
        top.set_unless_default(kind.name(), &entries, &default.entries(kind), entry_list(entries));
    }
    let never = &config.never_block;
    top.set_unless_default("never_block", never, &default.never_block, texts(never));
    top.append_to(&mut out, "");

    let mut paths = Section::new(extent);
    let (ours, theirs) = (&config.paths, &default.paths);
    for (key, path, default) in [
        ("socket", &ours.socket, &theirs.socket),
        ("pins", &ours.pins, &theirs.pins),
        ("state", &ours.state, &theirs.state),
    ] {
        paths.set_unless_default(key, path, default, Text(path.display()));
    }
    paths.append_to(&mut out, "paths");
    proof_section(&config.proof, extent).append_to(&mut out, "proof");
    export_section(&config.export, extent).append_to(&mut out, "export");
    append_reputation(&mut out, &config.reputation, extent);

    for list in &config.lists {
        list_section(list, extent).append_to(&mut out, "[lists]");
    }
    for (name, _) in DEFAULT_SERVICES {
        if config.service(name).is_none() {
            let mut absent = Section::new(extent);
            absent.set("enabled", false);
            absent.append_to(&mut out, &format!("services.{name}"));
        }
    }
    for service in &config.services {
        service_section(service, extent).append_to(&mut out, &format!("services.{}", service.name));
    }
    out
}

fn proof_section(proof: &Proof, extent: Extent) -> Section {
    let mut section = Section::new(extent);
    let base = Proof::default();
    section.set_unless_default("challenge", &proof.challenge, &base.challenge, Text(proof.challenge.name()));
    let (ours, theirs) = (proof.challenge_rate, base.challenge_rate);
    section.set_unless_default("challenge_rate", &ours, &theirs, Text(ours));
    let (ours, theirs) = (proof.retry_rate, base.retry_rate);
    section.set_unless_default("retry_rate", &ours, &theirs, Text(ours));
    section.set_unless_default("sources", &proof.sources, &base.sources, proof.sources);
    section.set_unless_default("namespaces", &proof.namespaces, &base.namespaces, Text(proof.namespaces.name()));
    section
}

fn export_section(export: &Export, extent: Extent) -> Section {
    let mut section = Section::new(extent);
    let base = Export::default();
    if let Some(path) = &export.path {
        section.set("path", Text(path.display()));
    }
    if !export.contact.is_empty() {
        section.set("contact", Text(&export.contact));
    }
    let third = export.include_third_party;
    section.set_unless_default("include_third_party", &third, &base.include_third_party, third);
    section.set_unless_default("ttl_max", &export.ttl_max, &base.ttl_max, Text(export.ttl_max));
    section
}

fn list_section(list: &List, extent: Extent) -> Section {
    let mut section = Section::new(extent);
    let base = match list.preset {
        Some(preset) => List::of_preset(&list.name, preset),
        None => List::new(&list.name, list.from.clone()),
    };
    section.set("name", Text(&list.name));
    if let Some(preset) = list.preset {
        section.set("preset", Text(preset));
    }
    if list.preset.is_none() || list.from != base.from {
        section.set("from", sources(&list.from));
    }
    let format = |list: &List| Text(list.format.map_or("auto", Format::name)).to_string();
    section.set_unless_default("format", &list.format, &base.format, format(list));
    section.set_unless_default("refresh", &list.refresh, &base.refresh, Text(list.refresh));
    section.set_unless_default("services", &list.services, &base.services, scope(&list.services));
    section.set_unless_default("action", &list.action, &base.action, Text(list.action.name()));
    section.set_unless_default("all_packets", &list.all_packets, &base.all_packets, list.all_packets);
    if let Some(mode) = list.mode {
        section.set("mode", Text(mode));
    }
    section.set_unless_default("max_age", &list.max_age, &base.max_age, Text(list.max_age));
    section.set_unless_default("min_count", &list.min_count, &base.min_count, list.min_count);
    section.set_unless_default("private", &list.private, &base.private, list.private);
    let Change { lost_percent, grown_times } = list.change;
    let change = format!("{{ lost_percent = {lost_percent}, grown_times = {grown_times} }}");
    section.set_unless_default("change", &list.change, &base.change, change);
    section.set_unless_default("timeout", &list.timeout, &base.timeout, Text(list.timeout));
    section.set_unless_default("max_size", &list.max_size, &base.max_size, Text(list.max_size));
    section
}

fn append_reputation(out: &mut String, reputation: &Reputation, extent: Extent) {
    reputation_section(reputation, extent).append_to(out, "reputation");
    for (name, service) in &reputation.services {
        let mut section = Section::new(extent);
        if let Some(threshold) = service.threshold {
            section.set("threshold", threshold);
        }
        if let Some(action) = service.action {
            section.set("action", Text(action.name()));
        }
        section.append_to(out, &format!("reputation.services.{name}"));
    }
    for dnsbl in &reputation.dnsbl {
        dnsbl_section(dnsbl, extent).append_to(out, "[reputation.dnsbl]");
    }
}

fn reputation_section(reputation: &Reputation, extent: Extent) -> Section {
    let mut section = Section::new(extent);
    let base = Reputation::default();
    section.set_unless_default("threshold", &reputation.threshold, &base.threshold, reputation.threshold);
    section.set_unless_default("action", &reputation.action, &base.action, Text(reputation.action.name()));
    if let Some(mode) = reputation.mode {
        section.set("mode", Text(mode));
    }
    section.set_unless_default("limit", &reputation.limit, &base.limit, limits(&[reputation.limit]));
    let (min, max) = (reputation.ttl_min, reputation.ttl_max);
    let ttl = format!("{{ min = {}, max = {} }}", Text(min), Text(max));
    section.set_unless_default("ttl", &(min, max), &(base.ttl_min, base.ttl_max), ttl);
    section.set_unless_default("kill", &reputation.kill, &base.kill, reputation.kill);
    section.set_unless_default("timeout", &reputation.timeout, &base.timeout, Text(reputation.timeout));
    section.set_unless_default("test_every", &reputation.test_every, &base.test_every, Text(reputation.test_every));
    section.set_unless_default("resolvers", &reputation.resolvers, &base.resolvers, texts(&reputation.resolvers));
    section.set_unless_default("answers", &reputation.answers, &base.answers, reputation.answers);
    section
}

/// With the path of the key, not the key: nobody here knows it.
fn dnsbl_section(dnsbl: &Dnsbl, extent: Extent) -> Section {
    let mut section = Section::new(extent);
    let base = match dnsbl.preset {
        Some(preset) => Dnsbl::of_preset(&dnsbl.name, preset),
        None => Dnsbl::new(&dnsbl.name, &dnsbl.zone),
    };
    section.set("name", Text(&dnsbl.name));
    if let Some(preset) = dnsbl.preset {
        section.set("preset", Text(preset));
    }
    if dnsbl.preset.is_none() || dnsbl.zone != base.zone {
        section.set("zone", Text(&dnsbl.zone));
    }
    if let Some(path) = &dnsbl.key_file {
        section.set("key_file", Text(path.display()));
    }
    section.set_unless_default("codes", &dnsbl.codes, &base.codes, texts(&dnsbl.codes));
    section.set_unless_default("services", &dnsbl.services, &base.services, texts(&dnsbl.services));
    section.set_unless_default("test", &dnsbl.tests, &base.tests, tests(&dnsbl.tests));
    let queries = dnsbl.queries_per_day.map_or_else(|| Text("unlimited").to_string(), |queries| queries.to_string());
    section.set_unless_default("queries_per_day", &dnsbl.queries_per_day, &base.queries_per_day, queries);
    section.set_unless_default("concurrency", &dnsbl.concurrency, &base.concurrency, dnsbl.concurrency);
    section.set_unless_default("force_ban", &dnsbl.force_ban, &base.force_ban, dnsbl.force_ban);
    section
}

fn tests(tests: &Tests) -> String {
    if tests.is_none() {
        return Text("none").to_string();
    }
    format!("{{ listed = {}, unlisted = {} }}", texts(&tests.listed), texts(&tests.unlisted))
}

/// As written: with whatever secret a URL holds.
fn sources(sources: &[Source]) -> String {
    let written = |source: &Source| match source {
        Source::Path(path) => path.display().to_string(),
        Source::Url(url) => url.to_string(),
    };
    match sources {
        [one] => Text(written(one)).to_string(),
        several => texts(&several.iter().map(written).collect::<Vec<_>>()),
    }
}

fn scope(scope: &Scope) -> String {
    match scope {
        Scope::All => Text("all").to_string(),
        Scope::Services(names) => texts(names),
    }
}

fn service_section(service: &Service, extent: Extent) -> Section {
    let mut section = Section::new(extent);
    let built_in = Service::built_in(&service.name);
    let is_new = built_in.is_none();
    let base = built_in.unwrap_or_else(|| Service::starting_point(&service.name, service.ports.clone()));
    let ports = Array(&service.ports);
    if is_new {
        section.set("ports", ports);
    } else {
        section.set_unless_default("ports", &service.ports, &base.ports, ports);
    }
    // Without them there is no such list: the listener has the ports of the service.
    if !service.listen_ports.is_empty() {
        section.set("listen_ports", Array(&service.listen_ports));
    }
    section.set_unless_default("to", &service.to, &base.to, destination(&service.to));
    let base = base.with_destination(service.to.clone());
    if let Some(mode) = service.mode {
        section.set("mode", Text(mode));
    }
    section.set_unless_default("source", &service.source, &base.source, limits(&service.source));
    section.set_unless_default("network", &service.network, &base.network, limits(&service.network));
    let whole: Vec<Limit> = service.service.into_iter().collect();
    section.set_unless_default("service", &service.service, &base.service, limits(&whole));
    let connections = service.connections;
    section.set_unless_default("connections", &connections, &base.connections, most_connections(connections));
    let (ours, theirs) = (service.source_prefix, base.source_prefix);
    section.set_unless_default("source_prefix", &ours, &theirs, prefix(ours));
    let (ours, theirs) = (service.network_prefix, base.network_prefix);
    section.set_unless_default("network_prefix", &ours, &theirs, prefix(ours));
    // Without restriction there is no such list: an empty one would let in nobody.
    if !service.only_from.is_empty() {
        section.set("only_from", texts(&service.only_from));
    }
    section.set_unless_default("deny", &service.deny, &base.deny, Text(service.deny.name()));
    section
}

fn interfaces(interfaces: &Interfaces) -> String {
    match interfaces {
        Interfaces::Auto => Text("auto").to_string(),
        Interfaces::Named(names) => texts(names),
    }
}

fn destination(to: &Destination) -> String {
    match to {
        Destination::Local => Text("local").to_string(),
        Destination::Networks(networks) => texts(networks),
    }
}

fn limits(limits: &[Limit]) -> String {
    let table = |limit: &Limit| format!("{{ rate = {}, burst = {} }}", Text(limit.rate), limit.burst);
    match limits {
        [] => Text("off").to_string(),
        [one] => table(one),
        several => Array(&several.iter().map(table).collect::<Vec<_>>()).to_string(),
    }
}

fn most_connections(most: Option<NonZeroU32>) -> String {
    most.map_or_else(|| Text("off").to_string(), |most| most.to_string())
}

fn prefix(prefix: Prefix) -> String {
    format!("{{ v4 = {}, v6 = {} }}", prefix.v4, prefix.v6)
}

/// One entry a line where there are any: lists grow, and a line is what people compare.
fn entry_list(entries: &[Entry]) -> String {
    if entries.is_empty() {
        return "[]".into();
    }
    let mut out = String::from("[\n");
    for entry in entries {
        out.push_str(&format!("    {},\n", entry_value(entry)));
    }
    out.push(']');
    out
}

fn entry_value(entry: &Entry) -> String {
    let mut value = Text(entry.network).to_string();
    if entry.services == Scope::All && entry.note.is_none() {
        return value;
    }
    value.insert_str(0, "{ network = ");
    if let Scope::Services(names) = &entry.services {
        value.push_str(&format!(", services = {}", texts(names)));
    }
    if let Some(note) = &entry.note {
        value.push_str(&format!(", note = {}", Text(note)));
    }
    value.push_str(" }");
    value
}

fn texts<T: Display>(items: &[T]) -> String {
    Array(&items.iter().map(Text).collect::<Vec<_>>()).to_string()
}

#[derive(Debug)]
struct Array<'a, T>(&'a [T]);

impl<T: Display> Display for Array<'_, T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_char('[')?;
        for (index, item) in self.0.iter().enumerate() {
            let separator = if index > 0 { ", " } else { "" };
            write!(out, "{separator}{item}")?;
        }
        out.write_char(']')
    }
}

/// A TOML basic string.
#[derive(Debug)]
struct Text<T>(T);

impl<T: Display> Display for Text<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_char('"')?;
        for character in self.0.to_string().chars() {
            match character {
                '"' | '\\' => write!(out, "\\{character}")?,
                control if control.is_control() => write!(out, "\\u{:04X}", u32::from(control))?,
                other => out.write_char(other)?,
            }
        }
        out.write_char('"')
    }
}
