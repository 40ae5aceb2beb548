use std::fmt;
use std::str::FromStr;

use super::{GrammarError, decimal, serde_as_text, split_unit};

/// An amount of memory, written `32 MiB` or as a plain number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

/// Largest first: the first that divides an amount is the one it prints in.
const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

impl ByteSize {
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    pub const fn from_mib(mib: u32) -> Self {
        Self((mib as u64) << 20)
    }

    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = GrammarError;

    fn from_str(text: &str) -> Result<Self, GrammarError> {
        let (number, unit) = split_unit(text.trim());
        let factor = match unit {
            "" => 1,
            unit => {
                let known = UNITS.into_iter().find(|(name, _)| *name == unit);
                known.ok_or(GrammarError::ByteSize)?.1
            }
        };
        let number = decimal(number).ok_or(GrammarError::ByteSize)?;
        number.checked_mul(factor).map(Self).ok_or(GrammarError::ByteSizeTooLarge)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = |(_, factor): &(&str, u64)| self.0 > 0 && self.0.is_multiple_of(*factor);
        match UNITS.into_iter().find(exact) {
            Some((unit, factor)) => out.pad(&format!("{} {unit}", self.0 / factor)),
            None => out.pad(&self.0.to_string()),
        }
    }
}

serde_as_text!(ByteSize);
