//! What is known of one zone at the moment.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;

use super::{ask::Answer, budget::Budget, health::Health, waiting::Waiting};
use crate::config::{Dnsbl, Reading};

/// Where a zone does not say how long it is good that there is no record.
const NEGATIVE: Duration = Duration::from_secs(300);

#[derive(Debug)]
pub struct ZoneState {
    pub health: Health,
    pub tested: Option<Instant>,
    /// When it was asked last about what no list may hold, along with a source.
    pub controlled: Option<Instant>,
    pub budget: Budget,
    /// A turn for each question that may wait for its answer.
    pub turns: Arc<Semaphore>,
    pub waiting: Waiting,
    pub counts: ZoneCounts,
}

/// What happened since the controller started.
#[derive(Clone, Copy, Debug, Default)]
pub struct ZoneCounts {
    pub queries: u64,
    pub listed: u64,
    pub unlisted: u64,
    pub failed: u64,
    pub from_cache: u64,
    pub over_budget: u64,
    pub too_busy: u64,
    pub of_one_network: u64,
    /// All answers together, for the mean.
    pub latency: Duration,
    pub slowest: Duration,
}

impl ZoneState {
    pub fn new(dnsbl: &Dnsbl, at: Instant) -> Self {
        Self {
            health: Health::new(!dnsbl.tests.is_none(), at),
            tested: None,
            controlled: None,
            budget: Budget::new(dnsbl.queries_per_day),
            turns: Arc::new(Semaphore::new(dnsbl.concurrency as usize)),
            waiting: Waiting::default(),
            counts: ZoneCounts::default(),
        }
    }

    /// Goes by another configuration of the same zone.
    pub fn follow(&mut self, before: &Dnsbl, after: &Dnsbl, at: Instant) {
        self.budget = Budget::new(after.queries_per_day).after(self.budget.latest());
        if before.concurrency != after.concurrency {
            self.turns = Arc::new(Semaphore::new(after.concurrency as usize));
        }
        // What happened while it was left alone, nobody knows.
        if before.tests != after.tests || before.is_paused != after.is_paused {
            (self.health, self.tested) = (Health::new(!after.tests.is_none(), at), None);
        }
    }

    pub fn is_distrusted(&self) -> bool {
        self.health.trouble().is_some_and(super::health::Trouble::is_distrust)
    }

    /// Counts an answer and what it says of the zone. Returns what it says of the source, and for how long.
    pub fn note(&mut self, dnsbl: &Dnsbl, answer: &Answer, took: Duration, at: Instant) -> Option<(Reading, Duration)> {
        self.counts.latency += took;
        self.counts.slowest = self.counts.slowest.max(took);
        let (reading, ttl) = match answer {
            Answer::Records { records, ttl } => (dnsbl.read(records), *ttl),
            Answer::Nothing { ttl } => (Reading::Unlisted, ttl.unwrap_or(NEGATIVE)),
            Answer::Failed(failure) => {
                self.counts.failed += 1;
                self.health.note_failure(failure.clone(), at);
                return None;
            }
        };
        match &reading {
            Reading::Listed(_) => self.counts.listed += 1,
            Reading::Unlisted => self.counts.unlisted += 1,
            Reading::Faulty(fault) => {
                self.counts.failed += 1;
                self.health.note_fault(*fault, at);
                return None;
            }
        }
        self.health.note_answer(matches!(reading, Reading::Listed(_)), at);
        // What came from a zone that just fell is not believed.
        self.health.trouble().is_none().then_some((reading, ttl))
    }
}
