//! Whether the gate did what it promises.

use std::time::Duration;

use ipnet::Ipv4Net;
use ratelimit_user::config::{Config, Limit};

use super::Played;
use super::acts::Outcome;
use super::report::number;

/// Of the packets above the limits, how many must be dropped.
const REQUIRED: f64 = 0.999;
/// Of forged SYNs, how many may be let in.
const MOST_FORGED: f64 = 0.001;
/// What a coarse kernel clock may add to the time of a flood: a few ticks at 100 a second.
const CLOCK: Duration = Duration::from_millis(50);

/// One promise, and whether it was kept.
#[derive(Debug)]
pub(super) struct Finding {
    pub good: bool,
    pub text: String,
}

/// What the limits make of a flood.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Balance {
    /// Packets that the limits of all its sources and networks allow in its time.
    pub allowed: u64,
    /// Packets that came and are beyond that.
    pub above: u64,
    /// Those among them that were dropped.
    pub above_dropped: u64,
}

pub(super) fn judge(played: &Played) -> Vec<Finding> {
    let outcomes = &played.outcomes;
    vec![
        conversations(outcomes),
        delivery(played),
        harmless(outcomes),
        excess(outcomes),
        within_limits(outcomes),
        forged(outcomes),
        books(outcomes),
    ]
}

/// Over all floods.
pub(super) fn balance(outcomes: &[Outcome]) -> Balance {
    outcomes.iter().map(balance_of).fold(Balance::default(), |sum, one| Balance {
        allowed: sum.allowed + one.allowed,
        above: sum.above + one.above,
        above_dropped: sum.above_dropped + one.above_dropped,
    })
}

fn balance_of(outcome: &Outcome) -> Balance {
    // Whose limits would a forged flood be held against?
    let Some(flood) = outcome.flood.filter(|_| !outcome.is_forged) else {
        return Balance::default();
    };
    let allowed = allowed(&outcome.attackers, flood.elapsed + CLOCK);
    let above = outcome.arrived().saturating_sub(allowed);
    Balance { allowed, above, above_dropped: outcome.dropped().min(above) }
}

/// Connections to smtp that the built-in limits admit in a time: of each network what its sources may, together, but never
/// more than the network may.
fn allowed(networks: &[Ipv4Net], time: Duration) -> u64 {
    let config = Config::default();
    let Some(smtp) = config.service("smtp") else {
        return 0;
    };
    let of_network = |network: &Ipv4Net| {
        let sources = 2f64.powi(i32::from(network.max_prefix_len() - network.prefix_len()));
        (sources * admitted(&smtp.source, time)).min(admitted(&smtp.network, time))
    };
    networks.iter().map(of_network).sum::<f64>() as u64
}

/// GCRA admits its burst, and what its rate refills.
fn admitted(limits: &[Limit], time: Duration) -> f64 {
    let of_limit = |limit: &Limit| f64::from(limit.burst.get()) + limit.rate.per_second() * time.as_secs_f64();
    limits.iter().map(of_limit).fold(f64::INFINITY, f64::min)
}

fn conversations(outcomes: &[Outcome]) -> Finding {
    let attempts: u64 = outcomes.iter().map(|outcome| outcome.honest.attempts()).sum();
    let completed: u64 = outcomes.iter().map(|outcome| outcome.honest.completed()).sum();
    let mut text = format!("honest conversations completed: {} of {}", number(completed), number(attempts));
    let tallies = outcomes.iter().flat_map(|outcome| [&outcome.honest.smtp, &outcome.honest.imap]);
    for example in tallies.flat_map(|tally| &tally.examples) {
        text.push_str(&format!("\n  {example}"));
    }
    Finding { good: attempts > 0 && completed == attempts, text }
}

fn delivery(played: &Played) -> Finding {
    let sent: u64 = played.outcomes.iter().map(|outcome| outcome.honest.smtp.completed).sum();
    let text = format!("their messages in the mailbox: {} of {}", number(played.delivered), number(sent));
    Finding { good: played.delivered >= sent, text }
}

fn excess(outcomes: &[Outcome]) -> Finding {
    let Balance { above, above_dropped, .. } = balance(outcomes);
    let share = above_dropped as f64 / above.max(1) as f64;
    let text = format!(
        "dropped of what was above the limits: {} of {} packets, {:.3} % (required: {:.1} %)",
        number(above_dropped),
        number(above),
        share * 100.0,
        REQUIRED * 100.0
    );
    Finding { good: above > 0 && share >= REQUIRED, text }
}

/// Whoever is over a limit by SYNs alone is asked whether he is alive: refused is only what he completed himself, and nobody here
/// completes more than he may.
fn within_limits(outcomes: &[Outcome]) -> Finding {
    let refused: u64 = outcomes.iter().map(|outcome| outcome.change.over_limits()).sum();
    let text = format!(
        "packets refused for a limit, which nobody exceeded by what he completed: {}; the rest was challenged",
        number(refused)
    );
    Finding { good: refused == 0, text }
}

fn harmless(outcomes: &[Outcome]) -> Finding {
    let drops: u64 = outcomes.iter().map(|outcome| outcome.change.honest_drops).sum();
    let answers: u64 = outcomes.iter().map(|outcome| outcome.change.answers()).sum();
    let text = format!(
        "packets of the honest network that were dropped, by the driver's count: {}; besides {} answers to challenges",
        number(drops.saturating_sub(answers)),
        number(answers)
    );
    Finding { good: drops == answers, text }
}

/// Of forged SYNs hardly any reach the mail server: those that pass before the service is suspect, and those in the name of
/// who is proven, within his limits.
fn forged(outcomes: &[Outcome]) -> Finding {
    let forged = outcomes.iter().filter(|outcome| outcome.is_forged);
    let (arrived, let_in) =
        forged.fold((0, 0), |(arrived, let_in), outcome| (arrived + outcome.arrived(), let_in + outcome.let_in()));
    let share = let_in as f64 / arrived.max(1) as f64;
    let text = format!(
        "forged SYNs that reached the mail server: {} of {}, {:.3} % (at most {:.1} %)",
        number(let_in),
        number(arrived),
        share * 100.0,
        MOST_FORGED * 100.0
    );
    Finding { good: arrived > 0 && share <= MOST_FORGED, text }
}

/// Generator, gate and driver count independently of each other, and must agree to the packet.
fn books(outcomes: &[Outcome]) -> Finding {
    let mut good = true;
    let mut text = String::from("every packet is accounted for: sent = dropped + let in + lost before the gate");
    for outcome in outcomes.iter().filter(|outcome| outcome.flood.is_some()) {
        let (sent, judged, lost) = (outcome.sent(), outcome.judged(), outcome.change.lost);
        if sent != judged + lost {
            good = false;
            let judged = number(judged);
            text.push_str(&format!("\n  {} sent, but {judged} judged and {} lost", number(sent), number(lost)));
        }
        let (by_driver, by_gate) = (outcome.change.attack_drops + outcome.change.attack_asked, outcome.dropped());
        if by_driver != by_gate {
            good = false;
            let (by_gate, by_driver) = (number(by_gate), number(by_driver));
            text.push_str(&format!("\n  the gate counted {by_gate} drops and challenges, the driver {by_driver}"));
        }
    }
    Finding { good, text }
}

#[cfg(test)]
mod tests {
    use super::super::acts::Honest;
    use super::super::measure::Change;
    use super::*;
    use crate::flood::FloodReport;

    #[test]
    fn a_source_is_allowed_its_burst_and_its_rate() {
        let one = ["198.19.0.66/32".parse().unwrap()];
        assert_eq!(allowed(&one, Duration::ZERO), 300);
        assert_eq!(allowed(&one, Duration::from_secs(10)), 350);
    }

    #[test]
    fn a_network_is_allowed_no_more_than_its_own_limit() {
        let two = ["198.18.0.0/24".parse().unwrap(), "198.18.1.0/24".parse().unwrap()];
        assert_eq!(allowed(&two, Duration::from_secs(10)), 2 * 3500);
        let few = ["198.18.0.0/31".parse().unwrap()];
        assert_eq!(allowed(&few, Duration::ZERO), 600);
    }

    /// Ten seconds of a flood, in which nothing is counted yet.
    fn flooded(change: Change) -> Outcome {
        let elapsed = Duration::from_secs(10);
        Outcome {
            attackers: Vec::new(),
            is_forged: false,
            flood: Some(FloodReport { packets: 1_000_000, elapsed, work: Duration::from_secs(1), mpps: 0.1 }),
            change,
            elapsed,
            honest: Honest::default(),
            explanations: Vec::new(),
        }
    }

    /// A flood from one source, as it should be, and a forged one, in which an honest client was asked and answered.
    fn kept() -> Played {
        let mut shown = flooded(Change {
            drops: [("challenged".to_owned(), 999_550)].into(),
            judged: 999_910,
            honest_syns: 10,
            attack_asked: 999_550,
            lost: 100,
            ..Change::default()
        });
        shown.attackers = vec!["198.19.0.66/32".parse().unwrap()];
        for tally in [&mut shown.honest.smtp, &mut shown.honest.imap] {
            (tally.attempts, tally.completed) = (5, 5);
        }
        let mut forged = flooded(Change {
            drops: [("challenged".to_owned(), 999_901), ("answered".to_owned(), 1)].into(),
            judged: 1_000_002,
            honest_syns: 2,
            honest_drops: 1,
            honest_asked: 1,
            attack_asked: 999_900,
            ..Change::default()
        });
        forged.is_forged = true;
        Played { attach_mode: "native".to_owned(), delivered: 5, outcomes: vec![shown, forged] }
    }

    /// Which of the findings are bad.
    fn broken(change: impl FnOnce(&mut Played, &mut Outcome)) -> Vec<usize> {
        let mut played = kept();
        let mut outcome = played.outcomes.remove(0);
        change(&mut played, &mut outcome);
        played.outcomes.insert(0, outcome);
        let findings = judge(&played);
        (0..).zip(&findings).filter(|(_, finding)| !finding.good).map(|(index, _)| index).collect()
    }

    #[test]
    fn every_broken_promise_is_found() {
        assert!(broken(|_, _| {}).is_empty());
        assert_eq!(broken(|_, outcome| outcome.honest.imap.completed -= 1), [0]);
        assert_eq!(broken(|played, _| played.delivered -= 1), [1]);
        assert_eq!(broken(|_, outcome| outcome.change.honest_drops = 1), [2, 6]);
        // A thousandth more is let in, and counted correctly.
        let leak = |outcome: &mut Outcome, packets: u64| {
            *outcome.change.drops.entry("challenged".to_owned()).or_default() -= packets;
            outcome.change.attack_asked -= packets;
        };
        assert!(broken(|_, outcome| leak(outcome, 900)).is_empty());
        assert_eq!(broken(|_, outcome| leak(outcome, 1_100)), [3]);
        // One is refused and not asked, and counted correctly.
        let refuse = |outcome: &mut Outcome| {
            leak(outcome, 1);
            outcome.change.drops.insert("source_limit".to_owned(), 1);
            outcome.change.attack_drops = 1;
        };
        assert_eq!(broken(|_, outcome| refuse(outcome)), [4]);
        assert_eq!(broken(|played, _| refuse(&mut played.outcomes[0])), [4]);
        assert_eq!(broken(|_, outcome| outcome.change.lost = 99), [6]);
        assert_eq!(broken(|_, outcome| outcome.change.attack_asked -= 1), [6]);
        // One forged SYN in five hundred comes through.
        let flood_through = |played: &mut Played| {
            let change = &mut played.outcomes[0].change;
            change.drops.insert("challenged".to_owned(), 998_001);
            change.attack_asked = 998_000;
        };
        assert_eq!(broken(|played, _| flood_through(played)), [5]);
    }
}
