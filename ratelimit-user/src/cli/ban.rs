use std::process::ExitCode;

use clap::{ArgGroup, Args, builder::NonEmptyStringValueParser};

use crate::{
    api::{BanRequest, BanView, Banned, ServiceExplanation, UnbanRequest, Unbanned},
    bans::By,
    config::{Action, Duration, Network, Verdict},
};

use super::{
    context::Context,
    table::{Align, Table, harmless, indented, number},
};

/// Refuse all new connections of a source or a network for a time
#[derive(Args, Debug)]
#[command(after_help = "A network is a /24 or /16, of IPv6 a /64, /56 or /48. A newer ban of the same network \
        for the same services replaces the older. Open connections go on, unless --kill is given. Nothing bans by itself \
        what a SYN claims to be: that can be forged.\n\n\
        Examples:\n  \
        ratelimit ban 198.51.100.7 --for 1h\n  \
        ratelimit ban 198.51.100.7 --for 1h --kill\n  \
        ratelimit ban 198.51.100.0/24 --for 1d --service imaps --note passwords")]
pub(super) struct Ban {
    /// As in 192.0.2.4, 192.0.2.0/24, 2001:db8:7::/64
    pub network: Network,
    /// For how long, as in 90s, 1h, 7d
    #[arg(long = "for", value_name = "TIME")]
    pub for_: Duration,
    /// For this service alone; may be repeated
    #[arg(long = "service", value_name = "SERVICE", value_parser = NonEmptyStringValueParser::new())]
    pub services: Vec<String>,
    /// Why, for whoever reads it later
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
    /// End the network's open connections to these services too (SOCK_DESTROY), but not those of sources that are allowed.
    /// Done at once, in observe too, where they may come back
    #[arg(long)]
    pub kill: bool,
}

/// End bans, and say what still refuses the address
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("which").args(["network", "all"]).required(true)))]
#[command(after_help = "Examples:\n  \
    ratelimit unban 198.51.100.7\n  \
    ratelimit unban --all --by log")]
pub(super) struct Unban {
    /// The bans that this address or network is under, and those of what lies inside it
    pub network: Option<Network>,
    /// Every ban
    #[arg(long)]
    pub all: bool,
    /// Only those of this author
    #[arg(long, value_name = "admin|dnsbl|log")]
    pub by: Option<By>,
    /// Keep automatic bans off the address for this time
    #[arg(long, value_name = "TIME", default_value = "24h", conflicts_with = "all")]
    pub protect: Duration,
}

/// Show the bans in force
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  ratelimit bans --service imaps")]
pub(super) struct Bans {
    /// Those about this service alone
    #[arg(long, value_name = "SERVICE", value_parser = NonEmptyStringValueParser::new())]
    pub service: Option<String>,
}

impl Ban {
    pub fn run(&self, context: &Context<'_>) -> anyhow::Result<ExitCode> {
        let Self { network, for_, services, note, kill } = self;
        let (services, note) = (services.clone(), note.clone());
        let request = BanRequest { network: *network, for_: *for_, services, note, kill: *kill };
        let ban = context.client()?.ban(&request)?;
        context.answer(&ban, banned)?;
        Ok(if ban.kill_failed.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

impl Unban {
    pub fn run(&self, context: &Context<'_>) -> anyhow::Result<ExitCode> {
        let protect = self.network.map(|_| self.protect);
        let request = UnbanRequest { network: self.network, by: self.by, protect };
        let unbanned = context.client()?.unban(&request)?;
        context.answer(&unbanned, |unbanned| ended(self.network, unbanned))?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Bans {
    pub fn run(&self, context: &Context<'_>) -> anyhow::Result<ExitCode> {
        let mut bans = context.client()?.bans()?;
        let concerns = |ban: &BanView| {
            let about = |service: &String| ban.services.is_empty() || ban.services.contains(service);
            self.service.as_ref().is_none_or(about)
        };
        bans.retain(concerns);
        context.answer(&bans, |bans| if bans.is_empty() { "no bans\n".to_owned() } else { table(bans) })?;
        Ok(ExitCode::SUCCESS)
    }
}

pub(super) fn banned(Banned { ban, spares, killed, kill_failed }: &Banned) -> String {
    let mut out = format!("{} banned for {} until {}\n", ban.network, of(&ban.services), ban.until);
    match (killed, kill_failed) {
        (Some(0), None) => out.push_str("it had no open connection to end\n"),
        (Some(1), _) => out.push_str("1 open connection of it ended\n"),
        (Some(0), Some(_)) | (None, _) => {}
        (Some(several), _) => out.push_str(&format!("{} open connections of it ended\n", number(*several))),
    }
    if let Some(why) = kill_failed {
        out.push_str(&format!("\nthe ban is in force, but connections may be left open\n{}", indented(why, 2)));
    }
    if !spares.is_empty() {
        out.push_str(&format!("\nnot banned, because it is allowed\n{}", indented(&spares.join("\n"), 2)));
    }
    out
}

pub(super) fn ended(network: Option<Network>, unbanned: &Unbanned) -> String {
    let mut out = match unbanned.ended.len() {
        0 if unbanned.let_go > 0 => String::new(),
        0 => "no ban ended: there was none\n".to_owned(),
        1 => "1 ban ended\n".to_owned(),
        several => format!("{} bans ended\n", number(several as u64)),
    };
    match unbanned.let_go {
        0 => {}
        1 => out.push_str("1 listing ended: what DNSBLs say of it is not held against it\n"),
        several => {
            out.push_str(&format!("{} listings ended: what DNSBLs say is not held against them\n", number(several)))
        }
    }
    if !unbanned.ended.is_empty() {
        out.push_str(&format!("\n{}", table(&unbanned.ended)));
    }
    if let (Some(network), false) = (network, unbanned.still_refused.is_empty()) {
        out.push_str(&format!("\nstill refused: {}\n", network.address()));
        let mut table = Table::new(&[("service", Align::Left), ("reason", Align::Left), ("by", Align::Left)]);
        for service in &unbanned.still_refused {
            table.row([service.service.clone(), service.reason.clone(), rules(service)]);
        }
        out.push_str(&table.text());
        out.push_str(&format!("\n`ratelimit explain {}` says what would change it\n", network.address()));
    }
    out
}

/// The rules that an address is under, as far as they have a name.
fn rules(service: &ServiceExplanation) -> String {
    let entries = service.entries.iter().map(|entry| format!("{} {}", entry.kind, entry.network));
    let bans = service.bans.iter().map(|ban| format!("ban {} until {}", ban.network, ban.until));
    let line = |found: &crate::api::ListMatch| match (&found.file, found.line) {
        (Some(file), Some(line)) => format!("list {} ({file}:{line})", found.list),
        (_, _) => format!("list {}", found.list),
    };
    let blocks = |found: &&crate::api::ListMatch| found.action == Action::Block && !found.excludes;
    let lists = service.lists.iter().filter(blocks).map(line);
    let listing = service.listing.iter().filter(|listing| listing.action != Verdict::Note);
    let listing = listing.map(|listing| format!("DNSBLs: {}", harmless(&listing.because)));
    entries.chain(bans).chain(lists).chain(listing).collect::<Vec<_>>().join(", ")
}

pub(super) fn table(bans: &[BanView]) -> String {
    let mut table = Table::new(&[
        ("network", Align::Left),
        ("services", Align::Left),
        ("since", Align::Left),
        ("until", Align::Left),
        ("by", Align::Left),
        ("stopped", Align::Right),
        ("last", Align::Left),
        ("note", Align::Left),
    ]);
    for ban in bans {
        table.row([
            ban.network.to_string(),
            of(&ban.services),
            ban.since.clone(),
            ban.until.clone(),
            ban.by.name().to_owned(),
            number(ban.hits),
            ban.last_hit.clone().unwrap_or_default(),
            ban.note.clone().unwrap_or_default(),
        ]);
    }
    table.text()
}

fn of(services: &[String]) -> String {
    if services.is_empty() { "all".to_owned() } else { services.join(", ") }
}
