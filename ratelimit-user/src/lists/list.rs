//! One list as it lives: its last good copy, the copy that waits to be believed, and when it is looked at next.
//!
//! Nothing here reads a clock, a disk or a socket; times are seconds since 1970.

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use super::{
    Networks,
    change::{self, Suspicion},
    content::Validators,
    reading::Read,
};
use crate::config;

/// A copy that differs suddenly is believed when it came so often, over so long.
const SIGHTINGS: usize = 3;
const SIGHTINGS_SPAN_S: u64 = 24 * 3600;
/// The first retry after a failure; each further one waits twice as long.
const RETRY_S: u64 = 60;
const MOST_DOUBLINGS: u32 = 10;

/// The state of a configured list.
#[derive(Debug)]
pub struct List {
    pub config: config::List,
    pub good: Option<Good>,
    pub candidate: Option<Candidate>,
    /// Why the latest attempt brought nothing new into force.
    pub problem: Option<String>,
    /// When its sources were asked last.
    pub asked_s: Option<u64>,
    pub next_s: u64,
    pub is_busy: bool,
    /// Whether it is configured to be read in another way than its copy was.
    pub reads_otherwise: bool,
    failures: u32,
    /// Whether an administrator accepts whatever comes next.
    accepts: bool,
    /// Whether the copy on disk is not the one in force, or does not read as it is configured now.
    cannot_reread: bool,
}

/// A copy that was believed.
#[derive(Clone, Debug, Default)]
pub struct Good {
    pub read: Read,
    pub origin: Origin,
    pub fetched_s: u64,
    pub confirmed_s: u64,
}

/// Where a copy is from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The marks of its sources.
    pub from: Vec<String>,
    pub digest: String,
    /// Of each piece.
    pub validators: Vec<Validators>,
}

/// A copy that differs too much from the last good one.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub read: Read,
    pub origin: Origin,
    pub why: String,
    /// Every time that it, or one much like it, came.
    pub seen_s: Vec<u64>,
}

/// What is made of a copy that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Belief {
    Good,
    Waits,
}

impl List {
    pub fn new(config: config::List) -> Self {
        Self {
            config,
            good: None,
            candidate: None,
            problem: None,
            asked_s: None,
            next_s: 0,
            is_busy: false,
            reads_otherwise: false,
            failures: 0,
            accepts: false,
            cannot_reread: false,
        }
    }

    /// The networks it weighs with; none while it has no copy, or one that is too old. A list that says who alone may
    /// connect never gets too old: without it nobody could.
    pub fn weight(&self, now_s: u64, is_permit: bool) -> Option<&Arc<Networks>> {
        let good = self.good.as_ref()?;
        (is_permit || !self.is_too_old(now_s)).then_some(&good.read.networks)
    }

    pub fn is_too_old(&self, now_s: u64) -> bool {
        self.expires_s().is_some_and(|expires_s| expires_s <= now_s)
    }

    /// When its copy weighs nothing any more.
    pub fn expires_s(&self) -> Option<u64> {
        Some(self.good.as_ref()?.confirmed_s.saturating_add(self.config.max_age.as_std().as_secs()))
    }

    pub fn is_due(&self, now_s: u64) -> bool {
        !self.is_busy && now_s >= self.next_s
    }

    /// Whether its copy is to be read again: entries have ended since, or it is to be read in another way.
    pub fn is_to_be_reread(&self, now_s: u64) -> bool {
        let ended = |good: &Good| {
            let end = good.read.next_end.map(|end| good.fetched_s.saturating_add(end.as_secs()));
            end.is_some_and(|end| end <= now_s)
        };
        let wants = |good: &Good| self.reads_otherwise || ended(good);
        !self.is_busy && !self.cannot_reread && self.good.as_ref().is_some_and(wants)
    }

    /// The earliest time at which its sources are asked again in their turn.
    pub fn not_before_s(&self) -> u64 {
        self.after_asking(self.config.least_refresh())
    }

    /// The earliest time at which somebody may have its sources asked again: who has mended a server need not wait, unless
    /// the publisher bars who asks too often.
    pub fn not_by_command_before_s(&self) -> u64 {
        self.after_asking(self.config.publisher_limit())
    }

    fn after_asking(&self, pause: Duration) -> u64 {
        match self.asked_s {
            Some(asked_s) if self.config.is_remote() => asked_s.saturating_add(pause.as_secs()),
            Some(_) | None => 0,
        }
    }

    /// Its sources must not say that nothing is new: they are to give again what is in force.
    pub fn bring_again(&mut self) {
        if let Some(good) = &mut self.good {
            good.origin.digest.clear();
            good.origin.validators.clear();
        }
    }

    /// Whatever comes next is believed.
    pub fn accept_next(&mut self) {
        self.accepts = true;
    }

    /// Judges a copy that came; a strange one becomes the candidate. The caller puts a good one in force and calls
    /// [`Self::take`].
    pub fn judge(&mut self, read: &Read, origin: &Origin, now_s: u64) -> Belief {
        let before = self.good.as_ref().filter(|good| good.origin.from == origin.from);
        let suspicion = match before {
            Some(good) if !self.accepts => change::judge(&good.read.networks, &read.networks, self.config.change).err(),
            Some(_) | None => None,
        };
        let Some(suspicion) = suspicion else {
            return Belief::Good;
        };
        let candidate = self.candidate_of(read, origin, &suspicion, now_s);
        if candidate.is_confirmed() {
            return Belief::Good;
        }
        self.problem = Some(format!(
            "the last good copy stays in force: {suspicion}; `ratelimit list accept {}` takes the new one, and so does \
             its coming {SIGHTINGS} times over {} h",
            self.config.name,
            SIGHTINGS_SPAN_S / 3600,
        ));
        self.candidate = Some(candidate);
        Belief::Waits
    }

    /// The copy that waits, or this one if it is a stranger to that too.
    fn candidate_of(&self, read: &Read, origin: &Origin, suspicion: &Suspicion, now_s: u64) -> Candidate {
        let is_like = |candidate: &&Candidate| {
            candidate.origin.from == origin.from
                && change::judge(&candidate.read.networks, &read.networks, self.config.change).is_ok()
        };
        let mut seen_s = self.candidate.as_ref().filter(is_like).map_or(Vec::new(), |known| known.seen_s.clone());
        seen_s.push(now_s);
        // The first sighting counts for the span, the latest for the number.
        if seen_s.len() > SIGHTINGS + 1 {
            seen_s.remove(1);
        }
        Candidate { read: read.clone(), origin: origin.clone(), why: suspicion.to_string(), seen_s }
    }

    /// Its copy was read again. Returns what it held before.
    pub fn reread(&mut self, read: Read) -> Option<Good> {
        self.is_busy = false;
        let before = self.good.clone();
        if let Some(good) = &mut self.good {
            good.read = read;
        }
        before
    }

    /// Its copy could not be read again: only its sources can help, and are asked as soon as they may be.
    pub fn fail_to_reread(&mut self, problem: String) {
        self.problem = Some(problem);
        self.cannot_reread = true;
        self.bring_again();
        self.is_busy = false;
        self.next_s = self.not_before_s();
    }

    /// Notes that a good copy is in force.
    pub fn take(&mut self, good: Good, now_s: u64) -> Option<Good> {
        self.accepts = false;
        self.cannot_reread = false;
        self.candidate = None;
        self.succeeded(now_s);
        self.good.replace(good)
    }

    /// The sources hold what they held. Where that was asked of sources that are no longer configured, the new ones are asked.
    pub fn confirm(&mut self, now_s: u64) {
        if self.good.as_ref().is_some_and(|good| good.origin.digest.is_empty()) {
            return self.ask_anew(now_s);
        }
        if let Some(good) = &mut self.good {
            good.confirmed_s = now_s;
        }
        self.candidate = None;
        self.succeeded(now_s);
    }

    /// A copy waits: the sources were asked and answered.
    pub fn wait(&mut self, now_s: u64) {
        self.failures = 0;
        self.asked(now_s);
        self.next_s = now_s.saturating_add(jittered(self.config.refresh.as_std().as_secs()));
    }

    fn succeeded(&mut self, now_s: u64) {
        self.problem = None;
        self.wait(now_s);
    }

    /// What came is of sources that are no longer configured.
    pub fn ask_anew(&mut self, now_s: u64) {
        self.is_busy = false;
        self.next_s = now_s;
    }

    /// Nothing came. `retry_after` is what the server asks for.
    pub fn fail(&mut self, problem: String, retry_after: Option<Duration>, now_s: u64) {
        self.problem = Some(problem);
        self.accepts = false;
        self.asked(now_s);
        let backoff_s = RETRY_S << self.failures.min(MOST_DOUBLINGS);
        self.failures += 1;
        let wait_s = backoff_s.min(self.config.refresh.as_std().as_secs());
        let asked_for_s = retry_after.map_or(0, |after| after.as_secs());
        self.next_s = now_s.saturating_add(jittered(wait_s).max(asked_for_s)).max(self.not_before_s());
    }

    fn asked(&mut self, now_s: u64) {
        self.asked_s = Some(now_s);
        self.is_busy = false;
    }
}

impl Candidate {
    fn is_confirmed(&self) -> bool {
        let span_s = match (self.seen_s.first(), self.seen_s.last()) {
            (Some(first), Some(last)) => last.saturating_sub(*first),
            _ => 0,
        };
        self.seen_s.len() >= SIGHTINGS && span_s >= SIGHTINGS_SPAN_S
    }
}

/// Within a tenth of it, so that gateways that were started together do not ask together.
fn jittered(seconds: u64) -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    let random = RandomState::new().hash_one(seconds);
    let tenth = seconds / 10;
    seconds - tenth + random % (2 * tenth + 1)
}
