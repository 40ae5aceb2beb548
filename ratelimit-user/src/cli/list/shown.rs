//! What is known of lists, as text.

use crate::{
    api::{ListState, ListView},
    cli::{
        entry,
        table::{Align, Table, indented, number},
    },
};

/// A line a list.
pub(in crate::cli) fn table(lists: &[ListView]) -> String {
    let mut table = Table::new(&[
        ("list", Align::Left),
        ("action", Align::Left),
        ("services", Align::Left),
        ("state", Align::Left),
        ("entries", Align::Right),
        ("confirmed", Align::Left),
        ("next refresh", Align::Left),
        ("bad lines", Align::Right),
        ("refused", Align::Right),
        ("stopped", Align::Right),
        ("last", Align::Left),
    ]);
    for list in lists {
        let action = match list.mode {
            Some(mode) => format!("{} ({mode})", list.action.name()),
            None => list.action.name().to_owned(),
        };
        table.row([
            list.name.clone(),
            action,
            entry::scope(&list.services),
            state(list),
            number(list.entries),
            list.confirmed.clone().unwrap_or_default(),
            list.next_refresh.clone(),
            some(list.bad_lines),
            some(list.refused.count),
            number(list.hits),
            list.last_hit.clone().unwrap_or_default(),
        ]);
    }
    let mut out = table.text();
    let problems: String =
        lists.iter().filter_map(|list| Some(format!("{}: {}\n", list.name, list.problem.as_ref()?))).collect();
    if !problems.is_empty() {
        out.push_str(&format!("\n{problems}"));
    }
    out
}

/// Everything about one list.
pub(in crate::cli) fn one(list: &ListView) -> String {
    let mut facts: Vec<(&str, String)> = vec![("from", list.from.join(", "))];
    let mut fact = |name, value: Option<String>| facts.extend(value.map(|value| (name, value)));
    fact("preset", list.preset.clone());
    fact("format", (!list.formats.is_empty()).then(|| list.formats.join(", ")));
    fact("does", Some(format!("{} on {}", list.action.name(), entry::scope(&list.services))));
    fact("packets", list.all_packets.then(|| "those of open connections too".to_owned()));
    fact("mode", list.mode.map(|mode| mode.to_string()));
    fact("state", Some(state(list)));
    fact("entries", Some(format!("{} in {} networks", number(list.entries), number(list.networks))));
    fact("fetched", list.fetched.clone());
    fact("confirmed", list.confirmed.clone());
    fact("expires", list.expires.clone());
    fact("next refresh", Some(list.next_refresh.clone()));
    fact("stopped", Some(number(list.hits)));
    fact("last", list.last_hit.clone());
    fact("problem", list.problem.clone());
    let mut out = format!("{}\n\n", list.name);
    out.extend(facts.iter().map(|(name, value)| format!("{name:<12}  {value}\n")));
    if let Some(waiting) = &list.waiting {
        let seen = waiting.seen.join(", ");
        out.push_str(&format!(
            "\na copy of {} entries waits: {}\n  it came {seen}\n  `ratelimit list accept {}` takes it\n",
            number(waiting.entries),
            waiting.why,
            list.name
        ));
    }
    if list.refused.count > 0 {
        let lines: String = list.refused.shown.iter().map(|one| format!("{}  {}\n", one.network, one.why)).collect();
        out.push_str(&format!("\n{} refused or cut\n{}", number(list.refused.count), indented(&lines, 2)));
    }
    if list.bad_lines > 0 {
        let line = |bad: &crate::api::BadLine| format!("{}:{}: {}: {}\n", bad.file, bad.line, bad.problem, bad.text);
        let lines: String = list.bad.iter().map(line).collect();
        out.push_str(&format!("\n{} bad lines\n{}", number(list.bad_lines), indented(&lines, 2)));
    }
    if !list.notices.is_empty() {
        out.push_str(&format!("\nfrom the publisher\n{}", indented(&list.notices.join("\n"), 2)));
    }
    out
}

fn state(list: &ListView) -> String {
    match list.state {
        ListState::InForce => "in force",
        ListState::Expired => "too old, weighs nothing",
        ListState::Missing => "never read, weighs nothing",
    }
    .to_owned()
}

fn some(count: u64) -> String {
    if count == 0 { String::new() } else { number(count) }
}
