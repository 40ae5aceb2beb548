use std::cmp::Ordering;
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{GrammarError, decimal, serde_as_text};

/// So many events in a period, never zero. Exact: nothing is rounded to a second. Two rates are
/// equal when they mean the same, `60/min` and `1/s`, but each prints as it was written.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    count: NonZeroU32,
    period: Period,
}

/// What a rate is counted over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    Second,
    Minute,
    Hour,
    Day,
}

/// How many events may come at once, never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Burst(NonZeroU32);

impl Rate {
    /// `None` for a count of zero.
    pub const fn new(count: u32, period: Period) -> Option<Self> {
        match NonZeroU32::new(count) {
            Some(count) => Some(Self { count, period }),
            None => None,
        }
    }

    /// Events in one [`Rate::period_ns`].
    pub fn count(self) -> u64 {
        u64::from(self.count.get())
    }

    pub fn period_ns(self) -> u64 {
        self.period.ns()
    }

    pub fn period(self) -> Period {
        self.period
    }

    /// For sums that tolerate rounding, such as collision probabilities.
    pub fn per_second(self) -> f64 {
        f64::from(self.count.get()) / (self.period.ns() as f64 / 1e9)
    }
}

impl PartialEq for Rate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Rate {}

impl PartialOrd for Rate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Rate {
    fn cmp(&self, other: &Self) -> Ordering {
        let crosswise = |a: &Self, b: &Self| u128::from(a.count()) * u128::from(b.period_ns());
        crosswise(self, other).cmp(&crosswise(other, self))
    }
}

impl FromStr for Rate {
    type Err = GrammarError;

    fn from_str(text: &str) -> Result<Self, GrammarError> {
        let (count, period) = text.split_once('/').ok_or(GrammarError::Rate)?;
        let period = period.trim().parse()?;
        let count = decimal(count.trim()).ok_or(GrammarError::Rate)?;
        let count = u32::try_from(count).map_err(|_| GrammarError::RateTooLarge)?;
        Self::new(count, period).ok_or(GrammarError::RateZero)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(&format!("{}/{}", self.count, self.period))
    }
}

serde_as_text!(Rate);

impl Period {
    pub const fn ns(self) -> u64 {
        const SECOND_NS: u64 = 1_000_000_000;
        match self {
            Self::Second => SECOND_NS,
            Self::Minute => 60 * SECOND_NS,
            Self::Hour => 3_600 * SECOND_NS,
            Self::Day => 86_400 * SECOND_NS,
        }
    }
}

impl FromStr for Period {
    type Err = GrammarError;

    fn from_str(text: &str) -> Result<Self, GrammarError> {
        match text {
            "s" | "sec" | "second" => Ok(Self::Second),
            "m" | "min" | "minute" => Ok(Self::Minute),
            "h" | "hour" => Ok(Self::Hour),
            "d" | "day" => Ok(Self::Day),
            _ => Err(GrammarError::Rate),
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Second => "s",
            Self::Minute => "min",
            Self::Hour => "h",
            Self::Day => "day",
        })
    }
}

impl Burst {
    /// `None` for zero.
    pub const fn new(count: u32) -> Option<Self> {
        match NonZeroU32::new(count) {
            Some(count) => Some(Self(count)),
            None => None,
        }
    }

    pub fn get(self) -> u32 {
        self.0.get()
    }
}

impl TryFrom<u64> for Burst {
    type Error = GrammarError;

    fn try_from(count: u64) -> Result<Self, GrammarError> {
        let count = u32::try_from(count).map_err(|_| GrammarError::BurstTooLarge)?;
        Self::new(count).ok_or(GrammarError::BurstZero)
    }
}

impl FromStr for Burst {
    type Err = GrammarError;

    fn from_str(text: &str) -> Result<Self, GrammarError> {
        decimal(text.trim()).ok_or(GrammarError::Burst)?.try_into()
    }
}

impl fmt::Display for Burst {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, out)
    }
}
