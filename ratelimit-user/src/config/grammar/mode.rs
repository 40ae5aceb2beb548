use std::fmt;
use std::str::FromStr;

use super::{GrammarError, serde_as_text};

/// Whether the gate only judges and counts, or also drops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    #[default]
    Observe,
    Enforce,
}

impl Mode {
    /// Two levels together: `observe` at any level wins.
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Enforce, Self::Enforce) => Self::Enforce,
            (Self::Observe, _) | (_, Self::Observe) => Self::Observe,
        }
    }
}

impl FromStr for Mode {
    type Err = GrammarError;

    fn from_str(text: &str) -> Result<Self, GrammarError> {
        match text {
            "observe" => Ok(Self::Observe),
            "enforce" => Ok(Self::Enforce),
            _ => Err(GrammarError::Mode),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Observe => "observe",
            Self::Enforce => "enforce",
        })
    }
}

serde_as_text!(Mode);
