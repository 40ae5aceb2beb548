//! What is known of DNSBLs, as text.

use std::time::Duration;

use crate::{
    api::{DnsblView, Pause, ReputationView},
    cli::table::{Align, Table, harmless, list, milliseconds, number, span},
    config::Mode,
};

pub(super) const NONE: &str = "no DNSBLs: the configuration names none. Nobody is looked up until it does, as with\n\n  \
    [[reputation.dnsbl]]\n  name = \"zen\"\n  preset = \"spamhaus-zen\"\n\n\
    in ratelimit.toml, and `ratelimit reload`\n";

/// Whether a DNSBL weighs anything now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Standing {
    Well,
    Untested,
    InTrouble,
    Paused,
}

impl Standing {
    pub fn of(zone: &DnsblView) -> Self {
        match (&zone.paused, &zone.trouble) {
            (Some(_), _) => Self::Paused,
            (None, None) => Self::Well,
            (None, Some(_)) if zone.is_untested => Self::Untested,
            (None, Some(_)) => Self::InTrouble,
        }
    }
}

/// A line a DNSBL, what is wrong with them, and what is known of them all.
pub(in crate::cli) fn all(view: &ReputationView) -> String {
    if view.zones.is_empty() {
        return NONE.to_owned();
    }
    let mut out = table(&view.zones);
    let problems: String = view.zones.iter().filter_map(problem).map(|problem| format!("{problem}\n")).collect();
    if !problems.is_empty() {
        out.push_str(&format!("\n{problems}"));
    }
    out.push_str(&format!("\n{}", whole(view)));
    out.extend(unasked(view).iter().map(|line| format!("{line}\n")));
    out
}

/// Everything about one DNSBL.
pub(in crate::cli) fn one(zone: &DnsblView) -> String {
    let since = match Standing::of(zone) {
        // How long it has been well or in trouble is about another question.
        Standing::Paused => String::new(),
        Standing::Well | Standing::Untested | Standing::InTrouble => {
            format!(" for {}", span(Duration::from_secs(zone.since_s)))
        }
    };
    let DnsblView { listed, unlisted, failed, .. } = *zone;
    let answers = format!("{} listed, {} not listed, {} failed", number(listed), number(unlisted), number(failed));
    let unlimited = if zone.per_day.is_none() { "unlimited, " } else { "" };
    let mut facts: Vec<(&str, String)> = vec![
        ("zone", zone.zone.clone()),
        ("asked for", zone.services.join(", ")),
        ("state", format!("{}{since}", state(zone))),
        ("queries", number(zone.queries)),
        ("answers", answers),
        ("from cache", from_cache(zone)),
        ("budget", format!("{unlimited}{} spent today", spent(zone))),
        ("mean", milliseconds(zone.mean_ms)),
        ("slowest", milliseconds(zone.slowest_ms)),
    ];
    facts.extend(zone.trouble.as_deref().map(|trouble| ("trouble", harmless(trouble))));
    facts.extend(unasked_of(zone).into_iter().map(|sentence| ("not asked", sentence)));
    let lines: String = facts.iter().map(|(name, value)| format!("{name:<10}  {value}\n")).collect();
    format!("{}\n\n{lines}", zone.name)
}

fn table(zones: &[DnsblView]) -> String {
    let mut table = Table::new(&[
        ("DNSBL", Align::Left),
        ("services", Align::Left),
        ("state", Align::Left),
        ("queries", Align::Right),
        ("listed", Align::Right),
        ("unlisted", Align::Right),
        ("failed", Align::Right),
        ("from cache", Align::Right),
        ("spent today", Align::Right),
        ("mean", Align::Right),
        ("slowest", Align::Right),
    ]);
    for zone in zones {
        table.row([
            zone.name.clone(),
            zone.services.join(", "),
            state(zone),
            number(zone.queries),
            number(zone.listed),
            number(zone.unlisted),
            number(zone.failed),
            from_cache(zone),
            spent(zone),
            milliseconds(zone.mean_ms),
            milliseconds(zone.slowest_ms),
        ]);
    }
    table.text()
}

fn state(zone: &DnsblView) -> String {
    match (Standing::of(zone), &zone.paused) {
        (Standing::Paused, Some(Pause { until: Some(until) })) => format!("paused until {until}"),
        (Standing::Paused, _) => "paused".to_owned(),
        (Standing::Well, _) => "well".to_owned(),
        (Standing::Untested, _) => "untested".to_owned(),
        (Standing::InTrouble, _) => "in trouble".to_owned(),
    }
}

/// Why it weighs nothing, if it does.
pub(in crate::cli) fn problem(zone: &DnsblView) -> Option<String> {
    let DnsblView { name, paused, trouble, since_s, .. } = zone;
    if let Some(Pause { until }) = paused {
        let until = until.clone().unwrap_or_else(|| format!("`ratelimit dnsbl resume {name}`"));
        return Some(format!("{name} is not asked and weighs nothing until {until}"));
    }
    let trouble = harmless(trouble.as_deref()?);
    Some(format!("{name}: weighs nothing for {} now: {trouble}", span(Duration::from_secs(*since_s))))
}

/// And its share of all that there was to ask.
fn from_cache(zone: &DnsblView) -> String {
    let all = zone.from_cache.saturating_add(zone.queries);
    if zone.from_cache == 0 {
        return "0".to_owned();
    }
    format!("{} ({:.0} %)", number(zone.from_cache), zone.from_cache as f64 * 100.0 / all as f64)
}

fn spent(zone: &DnsblView) -> String {
    let of = zone.per_day.map(|per_day| format!(" of {}", number(per_day)));
    format!("{}{}", number(zone.spent_today), of.unwrap_or_default())
}

fn whole(view: &ReputationView) -> String {
    let mode = match view.mode {
        Some(Mode::Observe) => "observe: refusals for listings are counted, not carried out",
        Some(Mode::Enforce) => "enforce, where the gate and the service do",
        None => "the mode of each service holds",
    };
    format!(
        "{mode}; threshold {}; {} of {} answers remembered; {}; {} seen\n",
        view.threshold,
        number(view.answers),
        number(view.answers_most),
        in_force(view),
        several(view.handshakes, "handshake", "handshakes")
    )
}

/// How many sources something follows from.
pub(in crate::cli) fn in_force(view: &ReputationView) -> String {
    several(view.in_force, "listed source in force", "listed sources in force")
}

/// What there was to ask and was not, and what came of it; nothing where all was asked.
pub(in crate::cli) fn unasked(view: &ReputationView) -> Vec<String> {
    let of_zone = |zone: &DnsblView| {
        let sentences = unasked_of(zone);
        (!sentences.is_empty()).then(|| format!("not asked of {}: {}", zone.name, list(&sentences)))
    };
    let sources = |count| several(count, "source", "sources");
    let told = |count: u64, text: String| (count > 0).then_some(text);
    let of_all = [
        told(
            view.not_asked,
            format!("not asked at all: {}, because too many were asked about at once", sources(view.not_asked)),
        ),
        told(
            view.not_told,
            format!(
                "not looked at: {} that came faster than they were read",
                several(view.not_told, "handshake", "handshakes")
            ),
        ),
        told(view.no_room, format!("no room: {} listed, and nothing follows", sources(view.no_room))),
    ];
    view.zones.iter().filter_map(of_zone).chain(of_all.into_iter().flatten()).collect()
}

fn unasked_of(zone: &DnsblView) -> Vec<String> {
    let DnsblView { over_budget, waiting, too_busy, of_one_network, .. } = *zone;
    let sources = |count| several(count, "source", "sources");
    let waiting = match (over_budget, waiting) {
        (0, _) | (_, 0) => String::new(),
        (_, waiting) => format!(" ({} still waiting)", number(waiting)),
    };
    let parts = [
        (over_budget, format!("{} over the budget{waiting}", sources(over_budget))),
        (too_busy, format!("{} for which it is too slow", sources(too_busy))),
        (of_one_network, format!("{} of which the network had its share", sources(of_one_network))),
    ];
    parts.into_iter().filter(|(count, _)| *count > 0).map(|(_, text)| text).collect()
}

pub(super) fn several(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", number(count), if count == 1 { one } else { many })
}
