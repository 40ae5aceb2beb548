//! `config check`: everything that is wrong, or what the configuration amounts to.

use std::{collections::BTreeMap, path::Path, process::ExitCode};

use serde::Serialize;

use crate::{
    config::{
        Challenge, Config, ConfigErrors, Connections, Destination, Diagnostic, Dnsbl, Entry, Interfaces, Level, Limit,
        List, ListProblem, Loaded, Mode, Namespaces, Network, Origin, Permit, Proof, Reputation, ReputationProblem,
        Service, Verdict,
    },
    guard::NeverBlock,
    interface::own_networks,
    layout::Layout,
    machine::Machine,
    reputation::policy::unreadable_keys,
};

use crate::cli::{
    context::Context,
    limit, output,
    table::{Align, Table, indented, list, number},
};

/// The answer in JSON, good or bad.
#[derive(Debug, Serialize)]
struct Report<'r> {
    file: &'r Path,
    /// False where there is no such file and the built-in defaults hold.
    exists: bool,
    good: bool,
    errors: Vec<&'r Diagnostic>,
    warnings: &'r [Diagnostic],
    memory_bytes: Option<u64>,
    proof: Option<Proof>,
    services: &'r [Service],
    collisions: Vec<Collisions<'r>>,
}

/// What a flood from random forged sources does to the honest sources of one limit.
#[derive(Debug, Serialize)]
struct Collisions<'r> {
    service: &'r str,
    level: Level,
    limit: Limit,
    cells: u64,
    /// Forged connections a second up to which an honest burst loses no more than one in a thousand.
    capacity_per_s: f64,
    /// The share of an honest burst that is refused at a million forged connections a second.
    refused_at_million: f64,
}

pub(super) fn run(file: &Path, context: &Context<'_>) -> anyhow::Result<ExitCode> {
    match Config::load(file) {
        Ok(mut loaded) => {
            loaded.warnings.extend(cut_off(file, &loaded.config, &own_networks().unwrap_or_default()));
            // What is not known of the machine is no reason to warn of.
            let machine = Machine::look(&loaded.config, &BTreeMap::new()).unwrap_or_default();
            let never_block = NeverBlock::of(&machine, &[], &loaded.config.never_block);
            loaded.warnings.extend(never_block.idle_blocks(&file.display().to_string(), &loaded.config));
            loaded.warnings.extend(keyless(file, &loaded.config));
            if context.global.json {
                output::write_json(&good(file, &loaded))?;
            } else {
                output::write(&text(file, &loaded))?;
            }
        }
        Err(errors) if context.global.json => {
            output::write_json(&bad(file, &errors))?;
            return Ok(ExitCode::FAILURE);
        }
        Err(errors) => return Err(errors.into()),
    }
    Ok(ExitCode::SUCCESS)
}

/// DNSBLs whose keys cannot be read, at least by whoever asks.
fn keyless<'c>(file: &Path, config: &'c Config) -> impl Iterator<Item = Diagnostic> + use<'c> {
    let file = file.display().to_string();
    unreadable_keys(&config.reputation).map(move |(index, error)| Diagnostic {
        file: file.clone(),
        position: None,
        key: format!("reputation.dnsbl[{index}].key_file"),
        problem: ReputationProblem::KeyUnreadable { error: error.to_string() }.into(),
    })
}

/// Networks of this machine that a restricted service would refuse. Where a list says who may connect, nobody knows here.
pub(in crate::cli) fn cut_off(file: &Path, config: &Config, own: &[Network]) -> Vec<Diagnostic> {
    let named = |service: &Service, network: Network| {
        let permits = |permit: &Permit| match permit {
            Permit::Network(permitted) => permitted.contains(network),
            Permit::List(_) => true,
        };
        let trusts = |entry: &Entry| entry.network.contains(network) && entry.services.includes(&service.name);
        service.only_from.iter().any(permits) || config.trust.iter().any(trusts)
    };
    let restricted = config.services.iter().filter(|service| !service.only_from.is_empty());
    let cut_off = restricted.flat_map(|service| {
        own.iter().filter(|network| !named(service, **network)).map(|network| Diagnostic {
            file: file.display().to_string(),
            position: None,
            key: format!("services.{}.only_from", service.name),
            problem: ListProblem::CutsOff { network: *network }.into(),
        })
    });
    cut_off.collect()
}

fn good<'r>(file: &'r Path, loaded: &'r Loaded) -> Report<'r> {
    Report {
        file,
        exists: loaded.origin != Origin::BuiltIn,
        good: true,
        errors: Vec::new(),
        warnings: &loaded.warnings,
        memory_bytes: Some(loaded.config.memory.bytes()),
        proof: Some(loaded.config.proof),
        services: &loaded.config.services,
        collisions: collisions(&loaded.config),
    }
}

fn bad<'r>(file: &'r Path, errors: &'r ConfigErrors) -> Report<'r> {
    let errors = errors.iter().collect();
    Report {
        file,
        exists: true,
        good: false,
        errors,
        warnings: &[],
        memory_bytes: None,
        proof: None,
        services: &[],
        collisions: Vec::new(),
    }
}

pub(in crate::cli) fn text(file: &Path, loaded: &Loaded) -> String {
    let Loaded { config, warnings, origin } = loaded;
    let file = file.display();
    let mut out = match (origin, warnings.len()) {
        (Origin::BuiltIn, _) => format!("{file} does not exist: the built-in defaults hold\n"),
        (Origin::File(_), 0) => format!("{file} is good\n"),
        (Origin::File(_), 1) => format!("{file} is good, with one warning\n"),
        (Origin::File(_), count) => format!("{file} is good, with {count} warnings\n"),
    };
    if !warnings.is_empty() {
        let warnings: Vec<String> = warnings.iter().map(Diagnostic::to_string).collect();
        out.push_str(&format!("\n{}", indented(&warnings.join("\n"), 2)));
    }
    out.push_str(&format!("\n{}\n{}\n{}", facts(config), services(config), capacities(&collisions(config))));
    if config.proof.challenge != Challenge::Off && !config.services.is_empty() {
        out.push_str(
            "With proof, a suspect service challenges forged connections and counts none of them; and who is over a limit by what \
             others may have sent is asked before it is refused.\n",
        );
    }
    out
}

fn facts(config: &Config) -> String {
    let interfaces = match &config.interfaces {
        Interfaces::Auto => "those that hold a default route".to_owned(),
        Interfaces::Named(names) => names.join(", "),
    };
    let mode = match config.mode {
        Mode::Observe => "observe: nothing is dropped",
        Mode::Enforce => "enforce",
    };
    let [trust, allow, block] = [config.trust.len(), config.allow.len(), config.block.len()];
    let mut facts = vec![
        ("interfaces", interfaces),
        ("mode", mode.to_owned()),
        ("entries", format!("trust {trust}, allow {allow}, block {block}")),
        ("lists", lists(config)),
        ("proof", proof(&config.proof)),
    ];
    facts.extend(unseen(config).map(|unseen| ("", unseen)));
    facts.extend(reputation(&config.reputation).map(|asked| ("reputation", asked)));
    facts.extend(config.export.path.as_ref().map(|path| ("export", format!("bans are written to {}", path.display()))));
    facts.push(("memory", format!("{}, whatever comes", config.memory)));
    facts.iter().map(|(name, value)| format!("{name:<10}  {value}\n")).collect()
}

/// Who is asked, and what is done by default; nothing where nobody is.
fn reputation(reputation: &Reputation) -> Option<String> {
    let asked = |dnsbl: &Dnsbl| format!("{} about sources of {}", dnsbl.name, dnsbl.services.join(", "));
    let asked: Vec<String> = reputation.dnsbl.iter().map(asked).collect();
    let Reputation { threshold, action, limit, mode, .. } = reputation;
    let observed = if *mode == Some(Mode::Observe) { ", observed alone" } else { "" };
    let action = match action {
        Verdict::Note => "told".to_owned(),
        Verdict::Limit => format!("limited to {limit}"),
        Verdict::Ban => "banned".to_owned(),
    };
    (!asked.is_empty())
        .then(|| format!("asked: {}; from score {threshold} on a source is {action}{observed}", asked.join("; ")))
}

fn proof(proof: &Proof) -> String {
    let Proof { challenge, challenge_rate, retry_rate, sources, namespaces } = proof;
    let challenge = match challenge {
        Challenge::Reset => format!(
            "suspects are challenged (at most {challenge_rate}) or repeat their SYN (at most {retry_rate} for each service)"
        ),
        Challenge::Retry => format!("suspects repeat their SYN (at most {retry_rate} for each service)"),
        Challenge::Off => "suspects are asked nothing: what is over its limit is dropped".to_owned(),
    };
    let namespaces = match namespaces {
        Namespaces::Host => "in this network namespace",
        Namespaces::All => "in all network namespaces",
    };
    let sources = number(u64::from(*sources));
    format!("{challenge}; handshakes are seen of listeners {namespaces}; up to {sources} proven sources")
}

/// Services of which nobody sees the handshakes.
fn unseen(config: &Config) -> Option<String> {
    let unseen = config.services.iter().filter(|service| service.listens_at().is_empty());
    let names: Vec<&str> = unseen.map(|service| service.name.as_str()).collect();
    (!names.is_empty())
        .then(|| format!("nobody is asked on {}, and no connection counted: `to` names networks", list(&names)))
}

fn lists(config: &Config) -> String {
    let shown = |list: &List| {
        let sources: Vec<String> = list.from.iter().map(ToString::to_string).collect();
        format!("{} ({}, from {})", list.name, list.action.name(), sources.join(" and "))
    };
    let lists: Vec<String> = config.lists.iter().map(shown).collect();
    if lists.is_empty() { "none".to_owned() } else { lists.join(", ") }
}

fn services(config: &Config) -> String {
    let mut table = Table::new(&[
        ("service", Align::Left),
        ("ports", Align::Left),
        ("to", Align::Left),
        ("mode", Align::Left),
        ("source", Align::Left),
        ("network", Align::Left),
        ("whole service", Align::Left),
        ("connections", Align::Right),
    ]);
    for service in &config.services {
        let whole: Vec<_> = service.service.into_iter().collect();
        table.row([
            service.name.clone(),
            ports(service),
            destination(&service.to),
            config.mode_of(service).to_string(),
            limit::windows(&service.source),
            limit::windows(&service.network),
            limit::windows(&whole),
            Connections::from(service.connections).to_string(),
        ]);
    }
    table.text()
}

/// With those of the listener where it has others.
fn ports(service: &Service) -> String {
    let joined = |ports: &[u16]| ports.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
    match service.listen_ports.as_slice() {
        [] => joined(&service.ports),
        listen => format!("{} -> {}", joined(&service.ports), joined(listen)),
    }
}

fn capacities(collisions: &[Collisions<'_>]) -> String {
    let mut table = Table::new(&[
        ("under forged sources", Align::Left),
        ("level", Align::Left),
        ("cells", Align::Right),
        ("absorbed/s", Align::Right),
        ("refused of an honest burst at 1,000,000/s", Align::Right),
    ]);
    let mut service = "";
    for of in collisions {
        let first = if of.service == service { "" } else { of.service };
        service = of.service;
        table.row([
            first.to_owned(),
            of.level.to_string(),
            number(of.cells),
            limit::rounded(of.capacity_per_s),
            percent(of.refused_at_million),
        ]);
    }
    if table.is_empty() {
        return String::new();
    }
    format!(
        "{}\nAbsorbed: forged connections a second up to which honest bursts lose at most 1 in 1,000.\n",
        table.text()
    )
}

fn percent(share: f64) -> String {
    match share * 100.0 {
        none if none < 0.0001 => "less than 0.0001 %".to_owned(),
        little if little < 1.0 => format!("{little:.4} %"),
        much => format!("{much:.0} %"),
    }
}

fn collisions(config: &Config) -> Vec<Collisions<'_>> {
    let layout = Layout::plan(config, None);
    let of_service = |service| {
        layout.crowded(service).into_iter().map(|(level, limit, region)| Collisions {
            service: &service.name,
            level,
            limit: *limit,
            cells: region.cells,
            capacity_per_s: region.capacity(),
            refused_at_million: region.refusal_burst(1e6),
        })
    };
    config.services.iter().flat_map(of_service).collect()
}

fn destination(to: &Destination) -> String {
    match to {
        Destination::Local => "local".to_owned(),
        Destination::Networks(networks) => networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
    }
}
