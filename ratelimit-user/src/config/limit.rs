use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::grammar::{Burst, GrammarError, Rate};
use super::problem::LimitProblem;

/// A rate and how far above it a source may go at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    pub rate: Rate,
    pub burst: Burst,
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Source,
    Network,
    Service,
}

/// A limit keeps its time in units of 65.5 µs: above this rate two events are closer than 15 units
/// and the rounding of one shows.
pub const FASTEST_CELL_PER_SECOND: u32 = 1_000;
/// A whole service is one cell, kept in nanoseconds.
pub const FASTEST_SERVICE_PER_SECOND: u32 = 1_000_000;
/// An arrival time in 32 bits of 65.5 µs wraps after 78 h; half of that is what can be compared.
pub const LONGEST_DRAIN: Duration = Duration::from_secs(24 * 3_600);

impl Limit {
    /// What keeps this limit from working at this level, on a kernel whose coarse
    /// clock advances every `clock_tick`.
    pub fn problem(&self, level: Level, clock_tick: Duration) -> Option<LimitProblem> {
        level.rate_problem(self.rate, clock_tick).or_else(|| self.burst_problem(clock_tick))
    }

    fn burst_problem(&self, clock_tick: Duration) -> Option<LimitProblem> {
        let (smallest, largest) = (smallest_burst(self.rate, clock_tick), largest_burst(self.rate));
        let burst = u64::from(self.burst.get());
        if burst < smallest {
            Some(LimitProblem::BurstTooSmall { limit: *self, clock_tick, smallest })
        } else if burst > largest {
            Some(LimitProblem::DrainTooLong { limit: *self, largest })
        } else {
            None
        }
    }

    /// The time in which a full burst is forgotten.
    pub fn drain(&self) -> Duration {
        let ns = u128::from(self.burst.get()) * u128::from(self.rate.period_ns()) / u128::from(self.rate.count());
        Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
    }

    /// Whether whatever this limit lets through passes `other` as well.
    pub fn is_within(&self, other: &Self) -> bool {
        self.rate <= other.rate && self.burst <= other.burst
    }
}

/// What can arrive between two ticks of the clock looks simultaneous to the gate.
fn smallest_burst(rate: Rate, clock_tick: Duration) -> u64 {
    let events = u128::from(rate.count()) * clock_tick.as_nanos();
    let in_a_tick = events.div_ceil(u128::from(rate.period_ns()));
    u64::try_from(in_a_tick).unwrap_or(u64::MAX).saturating_add(1)
}

fn largest_burst(rate: Rate) -> u64 {
    let events = LONGEST_DRAIN.as_nanos() * u128::from(rate.count());
    u64::try_from(events / u128::from(rate.period_ns())).unwrap_or(u64::MAX)
}

fn exceeds(rate: Rate, per_second: u32) -> bool {
    const SECOND_NS: u128 = 1_000_000_000;
    u128::from(rate.count()) * SECOND_NS > u128::from(per_second) * u128::from(rate.period_ns())
}

impl fmt::Display for Limit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} burst {}", self.rate, self.burst)
    }
}

impl Level {
    /// What keeps any limit of this rate from working at this level.
    pub fn rate_problem(self, rate: Rate, clock_tick: Duration) -> Option<LimitProblem> {
        let fastest = self.fastest_per_second();
        if exceeds(rate, fastest) {
            Some(LimitProblem::TooFast { rate, level: self, fastest })
        } else if smallest_burst(rate, clock_tick) > largest_burst(rate) {
            Some(LimitProblem::TooSlow { rate })
        } else {
            None
        }
    }

    pub fn fastest_per_second(self) -> u32 {
        match self {
            Self::Source | Self::Network => FASTEST_CELL_PER_SECOND,
            Self::Service => FASTEST_SERVICE_PER_SECOND,
        }
    }

    /// How many limits the level may hold.
    pub fn most_limits(self) -> usize {
        match self {
            Self::Source | Self::Network => 2,
            Self::Service => 1,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Network => "network",
            Self::Service => "service",
        }
    }
}

impl FromStr for Level {
    type Err = GrammarError;

    fn from_str(text: &str) -> Result<Self, GrammarError> {
        match text {
            "source" => Ok(Self::Source),
            "network" => Ok(Self::Network),
            "service" => Ok(Self::Service),
            _ => Err(GrammarError::Level),
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.name())
    }
}
