use std::fmt;
use std::str::FromStr;

use super::{GrammarError, decimal, serde_as_text, split_unit};

/// A span of time in whole milliseconds, written `500ms`, `90s`, `10m`, `1h`, `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration {
    milliseconds: u64,
}

/// Largest first: the first that divides a duration is the one it prints in.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl Duration {
    /// A century, so that adding a duration to a clock in nanoseconds never overflows.
    pub(super) const LONGEST_DAYS: u64 = 36_500;

    pub const fn seconds(seconds: u64) -> Self {
        Self { milliseconds: seconds.saturating_mul(1_000) }
    }

    pub const fn hours(hours: u64) -> Self {
        Self { milliseconds: hours.saturating_mul(3_600_000) }
    }

    pub fn as_std(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.milliseconds)
    }
}

impl From<Duration> for std::time::Duration {
    fn from(duration: Duration) -> Self {
        duration.as_std()
    }
}

impl FromStr for Duration {
    type Err = GrammarError;

    fn from_str(text: &str) -> Result<Self, GrammarError> {
        let (number, unit) = split_unit(text.trim());
        let (_, factor) = UNITS.into_iter().find(|(name, _)| *name == unit).ok_or(GrammarError::Duration)?;
        decimal(number)
            .ok_or(GrammarError::Duration)?
            .checked_mul(factor)
            .filter(|&milliseconds| milliseconds <= Self::LONGEST_DAYS * 86_400_000)
            .map(|milliseconds| Self { milliseconds })
            .ok_or(GrammarError::DurationTooLong)
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = |(_, factor): &(&str, u64)| self.milliseconds.is_multiple_of(*factor);
        match UNITS.into_iter().find(exact) {
            Some((unit, factor)) if self.milliseconds > 0 => out.pad(&format!("{}{unit}", self.milliseconds / factor)),
            _ => out.pad("0s"),
        }
    }
}

serde_as_text!(Duration);
