//! Whether a zone can be believed.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use super::ask::Failure;
use crate::config::Fault;

/// Questions in a row without an answer after which a zone is not asked for a while.
const FAILURES: u32 = 5;
/// The latest answers, and how many there must have been before them to compare with.
const WINDOW: u32 = 64;
const BEFORE: u64 = 256;
/// Percent of the latest answers that are listings, and how many points more than before that must be, for a jump.
const JUMP_PERCENT: f64 = 90.0;
const JUMP_POINTS: f64 = 40.0;
/// How long nobody believes a zone after a jump, if its test entries are right.
const AFTER_JUMP: Duration = Duration::from_secs(600);
/// How long a zone without test entries is left alone before it is tried again.
const UNTESTED: Duration = Duration::from_secs(60);
/// How often a zone in trouble is tested.
pub const IN_TROUBLE: Duration = Duration::from_secs(10);

/// What is wrong with a zone.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Trouble {
    #[error("its test entries have not answered yet")]
    Untested,
    /// Where to ask, or under which key, is not known.
    #[error("{0}")]
    CannotAsk(String),
    #[error("{0}")]
    NoAnswer(Failure),
    #[error("{0}")]
    Faulty(Fault),
    #[error("its test entry {0} is not listed: the zone is empty, expired, or not the one that is meant")]
    Empty(IpAddr),
    #[error("it lists {0}, which no list may: it lists everything")]
    ListsEverything(IpAddr),
    #[error("{percent:.0} % of its latest answers are listings, {before:.0} % before: too sudden to be believed")]
    Jump { percent: f64, before: f64 },
}

impl Trouble {
    /// Whether what the zone said before is not believed any more either. A zone that cannot be reached was right before.
    pub const fn is_distrust(&self) -> bool {
        match self {
            Self::Untested | Self::CannotAsk(_) | Self::NoAnswer(_) | Self::Faulty(Fault::Refused(_)) => false,
            Self::Faulty(Fault::Outside(_) | Fault::TooMany(_))
            | Self::Empty(_)
            | Self::ListsEverything(_)
            | Self::Jump { .. } => true,
        }
    }
}

/// The state of a zone.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    trouble: Option<Trouble>,
    since: Instant,
    has_tests: bool,
    failures: u32,
    ratio: Ratio,
}

/// How many of the answers are listings.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Ratio {
    latest: u64,
    count: u32,
    /// Of all before the latest ones, falling off slowly.
    before: f64,
    seen: u64,
}

impl Health {
    /// A zone with test entries is believed when they have answered.
    pub fn new(has_tests: bool, at: Instant) -> Self {
        let trouble = has_tests.then_some(Trouble::Untested);
        Self { trouble, since: at, has_tests, failures: 0, ratio: Ratio::default() }
    }

    /// What is wrong, if anything. What is wrong weighs nothing.
    pub const fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref()
    }

    pub const fn since(&self) -> Instant {
        self.since
    }

    /// When it should be tested next.
    pub fn next_test(&self, tested: Instant, every: Duration) -> Instant {
        tested + if self.trouble.is_some() { every.min(IN_TROUBLE) } else { every }
    }

    /// Notes a good answer.
    pub fn note_answer(&mut self, is_listing: bool, at: Instant) {
        self.failures = 0;
        if let (Some(jump), None) = (self.ratio.note(is_listing), &self.trouble) {
            self.fall(jump, at);
        }
    }

    pub fn note_failure(&mut self, failure: Failure, at: Instant) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= FAILURES && self.trouble.is_none() {
            self.fall(Trouble::NoAnswer(failure), at);
        }
    }

    /// An answer that no working zone gives.
    pub fn note_fault(&mut self, fault: Fault, at: Instant) {
        if self.trouble.is_none() {
            self.fall(Trouble::Faulty(fault), at);
        }
    }

    /// What the test entries said.
    pub fn note_tests(&mut self, found: Result<(), Trouble>, at: Instant) {
        match found {
            Err(trouble) if self.trouble.as_ref() != Some(&trouble) => self.fall(trouble, at),
            Err(_) => {}
            Ok(()) if self.may_rise(at) => self.rise(at),
            Ok(()) => {}
        }
    }

    /// Whether enough time went by to believe it again.
    fn may_rise(&self, at: Instant) -> bool {
        let rest = match &self.trouble {
            None => return false,
            Some(Trouble::Jump { .. }) => AFTER_JUMP,
            Some(Trouble::Untested | Trouble::CannotAsk(_)) => Duration::ZERO,
            Some(_) if self.has_tests => Duration::ZERO,
            Some(_) => UNTESTED,
        };
        at.duration_since(self.since) >= rest
    }

    fn fall(&mut self, trouble: Trouble, at: Instant) {
        (self.trouble, self.since) = (Some(trouble), at);
    }

    fn rise(&mut self, at: Instant) {
        (self.trouble, self.since, self.failures) = (None, at, 0);
        // What it lists now is what it is compared with from now on.
        self.ratio = Ratio::default();
    }
}

impl Ratio {
    /// Notes one more answer, and says if that makes a jump.
    fn note(&mut self, is_listing: bool) -> Option<Trouble> {
        if self.count == WINDOW {
            let oldest = self.latest >> (WINDOW - 1) & 1;
            self.seen += 1;
            let weight = 1.0 / self.seen.min(BEFORE * 2) as f64;
            self.before += (oldest as f64 * 100.0 - self.before) * weight;
        }
        self.latest = self.latest << 1 | u64::from(is_listing);
        self.count = (self.count + 1).min(WINDOW);
        let percent = f64::from(self.latest.count_ones()) * 100.0 / f64::from(WINDOW);
        let is_jump = self.seen >= BEFORE && percent >= JUMP_PERCENT && percent - self.before >= JUMP_POINTS;
        is_jump.then_some(Trouble::Jump { percent, before: self.before })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_believed_when_its_test_entries_are_right_and_not_before() {
        let start = Instant::now();
        let mut zone = Health::new(true, start);
        assert_eq!(zone.trouble(), Some(&Trouble::Untested));
        zone.note_tests(Ok(()), start);
        assert_eq!(zone.trouble(), None);
        let listed = IpAddr::from([127, 0, 0, 1]);
        zone.note_tests(Err(Trouble::ListsEverything(listed)), start);
        assert!(zone.trouble().is_some_and(Trouble::is_distrust));
        zone.note_tests(Ok(()), start);
        assert_eq!(zone.trouble(), None);
    }

    #[test]
    fn five_questions_in_a_row_without_an_answer_are_too_many() {
        let start = Instant::now();
        let mut zone = Health::new(false, start);
        for _ in 0..3 {
            (0..4).for_each(|_| zone.note_failure(Failure::ServFail, start));
            zone.note_answer(false, start);
        }
        assert_eq!(zone.trouble(), None);
        (0..5).for_each(|_| zone.note_failure(Failure::ServFail, start));
        assert!(zone.trouble().is_some_and(|trouble| !trouble.is_distrust()));
        zone.note_tests(Ok(()), start + UNTESTED / 2);
        assert!(zone.trouble().is_some(), "it has no test entries: time alone shows nothing");
        zone.note_tests(Ok(()), start + UNTESTED);
        assert_eq!(zone.trouble(), None);
    }

    #[test]
    fn a_sudden_jump_of_listings_is_not_believed_and_a_high_ratio_from_the_start_is() {
        let start = Instant::now();
        let mut zone = Health::new(false, start);
        (0..1000).for_each(|_| zone.note_answer(true, start));
        assert_eq!(zone.trouble(), None, "most who come are listed, and were from the start");
        let mut zone = Health::new(false, start);
        (0..1000).for_each(|number| zone.note_answer(number % 5 == 0, start));
        assert_eq!(zone.trouble(), None);
        (0..WINDOW).for_each(|_| zone.note_answer(true, start));
        assert!(matches!(zone.trouble(), Some(Trouble::Jump { .. })), "{:?}", zone.trouble());
        zone.note_tests(Ok(()), start + AFTER_JUMP);
        assert_eq!(zone.trouble(), None);
    }
}
