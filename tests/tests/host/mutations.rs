//! Random damage, ten million times: nothing panics, and what comes out makes sense.

use std::{thread, time::Instant};

use ratelimit_common::{Action, Kind, Mode, Reason};
use ratelimit_tests::{
    packet::mutate::Corpus,
    tables::{HostTables, Judged, World},
};

const MUTATIONS: u64 = 10_000_000;
const THREADS: u64 = 2;

type Counts = [u64; Reason::COUNT];

#[test]
fn ten_million_mutations() {
    let start = Instant::now();
    let worker = |thread: u64| thread::spawn(move || judge_every(thread));
    let workers: Vec<_> = (0..THREADS).map(worker).collect();
    let mut counts: Counts = [0; Reason::COUNT];
    for worker in workers {
        for (sum, count) in counts.iter_mut().zip(worker.join().expect("no mutation panics")) {
            *sum += count;
        }
    }
    println!("{MUTATIONS} mutations in {:.1} s", start.elapsed().as_secs_f64());
    for (reason, count) in Reason::ALL.iter().zip(counts) {
        println!("{:>16} {count}", reason.label());
    }
    assert_eq!(counts.iter().sum::<u64>(), MUTATIONS);
    for reason in Reason::ALL {
        let rare = matches!(reason, Reason::SourceLimit | Reason::NetworkLimit | Reason::ServiceLimit);
        assert!(
            rare || is_of_suspects(*reason) || counts[*reason as usize] > 0,
            "no mutation came to {}",
            reason.label()
        );
    }
}

/// Every second mutation before a gate that observes.
fn judge_every(thread: u64) -> Counts {
    let corpus = Corpus::new();
    let enforcing = HostTables::new(&World::for_mutations());
    let observing = HostTables::new(&World::for_mutations().mode(Mode::Observe));
    let mut frame = Vec::new();
    let mut counts = [0; Reason::COUNT];
    for number in (thread..MUTATIONS).step_by(THREADS as usize) {
        corpus.mutated(number, &mut frame);
        let tables = if (number / THREADS).is_multiple_of(2) { &enforcing } else { &observing };
        let judged = tables.judge(&frame);
        assert!(is_sensible(&judged), "mutation {number}: {judged:?}");
        counts[judged.verdict.reason as usize] += 1;
    }
    counts
}

/// Reasons that need a dialogue, or a service that watches its handshakes, which the mutations' world has not.
fn is_of_suspects(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Ticketed
            | Reason::Repeated
            | Reason::Challenged
            | Reason::Awaited
            | Reason::Answered
            | Reason::ConnectionCap
            | Reason::ChallengeRate
            | Reason::RetryRate
            | Reason::Stray
    )
}

fn is_sensible(judged: &Judged) -> bool {
    let verdict = judged.verdict;
    let dropped = verdict.action() != Action::Pass;
    let in_a_service = verdict.reason.is_new_connection() || verdict.reason == Reason::Established;
    dropped == (verdict.reason.kind() != Kind::Passes && verdict.mode == Mode::Enforce)
        && (!in_a_service || verdict.service.is_some())
        && (verdict.reason != Reason::NotServed || verdict.service.is_none())
}
