//! What `status` says of proof: only what there is to say.

use crate::{
    api::{Challenges, Pressure, ProofStatus, ServiceStatus},
    cli::table::{list, number},
};

/// So many connections that are let in would have completed a handshake, if anybody saw it.
const ENOUGH_TO_TELL: u64 = 100;

/// Whether a service is suspect, and how near it is to that.
pub(super) fn state(pressure: &Pressure) -> String {
    let Pressure { suspect, half_open, half_open_most, .. } = *pressure;
    let waiting = format!("{} of {} half-open", number(half_open.into()), number(half_open_most.into()));
    let is_notable = pressure.watched && half_open > half_open_most / 2;
    match (suspect, is_notable) {
        (true, true) => format!("suspect, {waiting}"),
        (true, false) => "suspect".to_owned(),
        (false, true) => waiting,
        (false, false) => String::new(),
    }
}

/// Connections that are open, where they are seen.
pub(super) fn open(pressure: &Pressure) -> String {
    match (pressure.watched, pressure.connections) {
        (false, 0) => String::new(),
        (_, connections) => number(connections),
    }
}

pub(super) fn lines(proof: &ProofStatus, services: &[ServiceStatus]) -> Vec<String> {
    if let Some(why) = &proof.unwatched {
        return vec![
            "handshakes are NOT watched: nobody is asked to prove himself, no connection is counted".to_owned(),
            format!("  {why}"),
        ];
    }
    // Where no program that watches has left its maps.
    if proof.proven_most == 0 {
        return Vec::new();
    }
    let counted = [left_out(proof), unseen(services)].into_iter().flatten();
    [proven(proof)].into_iter().chain(counted).chain(challenges(&proof.challenges)).collect()
}

fn proven(proof: &ProofStatus) -> String {
    let ProofStatus { proven, proven_most, handshakes, connections, older, .. } = proof;
    let mut line = format!(
        "{} of {} sources proven, {} handshakes seen, {} connections open",
        number(*proven),
        number(*proven_most),
        number(*handshakes),
        number(*connections)
    );
    if *older > 0 {
        line.push_str(&format!(", {} of them older than the filter", number(*older)));
    }
    line
}

/// What there was no room for.
fn left_out(proof: &ProofStatus) -> Option<String> {
    let parts = [
        (proof.not_noted, "sources not noted as proven (`sources` under [proof])"),
        (proof.not_noted_of_site, "IPv6 /64 not noted as proven, because their /48 has enough"),
        (proof.not_counted, "connections not counted"),
    ];
    counted("no room: ", &parts)
}

/// Services of which no handshake is ever seen, although connections are let in.
fn unseen(services: &[ServiceStatus]) -> Option<String> {
    let is_unseen = |service: &&ServiceStatus| !service.pressure.watched && service.admitted >= ENOUGH_TO_TELL;
    let names: Vec<&str> = services.iter().filter(is_unseen).map(|service| service.name.as_str()).collect();
    (!names.is_empty()).then(|| {
        format!(
            "no handshake seen of {}: is its listener on this machine, and in this network namespace?",
            list(&names)
        )
    })
}

fn challenges(challenges: &Challenges) -> impl Iterator<Item = String> {
    let Challenges { sent, answered, unanswered, over_budget, awaited, .. } = *challenges;
    let Challenges { tickets, ticketed, repeated, retries_over_budget, strays, .. } = *challenges;
    let asked = [
        (sent, "sent"),
        (answered, "answered"),
        (unanswered, "not answered"),
        (over_budget, "not sent, being over challenge_rate"),
    ];
    let let_in = [
        (ticketed, "with a ticket"),
        (repeated, "for repeating their SYN"),
        (retries_over_budget, "not, being over retry_rate"),
    ];
    let total = |of: &str, count: u64| (count > 0).then(|| format!("{of}: {}", number(count)));
    let lines = [
        counted("challenges: ", &asked),
        total("SYNs dropped to see whether they are repeated", awaited),
        counted("let in: ", &let_in),
        total("tickets good now", tickets),
        total("packets of no connection dropped", strays),
    ];
    lines.into_iter().flatten()
}

/// Those parts of a line that are not zero; no line if none is left.
fn counted(of: &str, parts: &[(u64, &str)]) -> Option<String> {
    let some = parts.iter().filter(|(count, _)| *count > 0);
    let said: Vec<String> = some.map(|(count, text)| format!("{} {text}", number(*count))).collect();
    (!said.is_empty()).then(|| format!("{of}{}", said.join(", ")))
}
