//! What `status` says of DNSBLs: who of them weighs something, and first of all who does not.

use crate::{
    api::{DnsblView, ReputationView},
    cli::{
        dnsbl::{Standing, in_force, problem, unasked},
        table::number,
    },
    config::Mode,
};

pub(super) fn lines(view: &ReputationView) -> Vec<String> {
    let problems = view.zones.iter().filter_map(|zone| Some((Standing::of(zone), problem(zone)?)));
    let problems = problems.map(|(standing, problem)| match standing {
        Standing::InTrouble => format!("  TROUBLE {problem}"),
        Standing::Untested | Standing::Paused | Standing::Well => format!("  {problem}"),
    });
    let unasked = unasked(view).into_iter().map(|line| format!("  {line}"));
    [headline(view)].into_iter().chain(problems).chain(unasked).collect()
}

fn headline(view: &ReputationView) -> String {
    let with = |standing| view.zones.iter().filter(|zone: &&DnsblView| Standing::of(zone) == standing).count();
    let counted = [(Standing::InTrouble, "in trouble"), (Standing::Untested, "untested"), (Standing::Paused, "paused")];
    let counted = counted.map(|(standing, text)| (with(standing), text));
    let troubles: String =
        counted.iter().filter(|(count, _)| *count > 0).map(|(count, text)| format!(", {count} {text}")).collect();
    let well = with(Standing::Well);
    let well = match view.zones.len() {
        1 if well == 1 => "1 DNSBL well".to_owned(),
        1 => "no DNSBL well".to_owned(),
        all => format!("{} of {} DNSBLs well", number(well as u64), number(all as u64)),
    };
    let observes = if view.mode == Some(Mode::Observe) { "; observes: refuses nobody" } else { "" };
    format!("{well}{troubles}; {}{observes}", in_force(view))
}
