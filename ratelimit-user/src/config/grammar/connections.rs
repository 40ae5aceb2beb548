use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{GrammarError, decimal};

/// How many connections one source may hold open, written as a number or `off`; so in JSON too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections(Option<NonZeroU32>);

impl Connections {
    pub const MOST: u32 = 1_000_000;
    pub const OFF: Self = Self(None);
    const OFF_WORD: &'static str = "off";

    /// None is `off`.
    pub fn most(self) -> Option<NonZeroU32> {
        self.0
    }
}

impl From<Option<NonZeroU32>> for Connections {
    fn from(most: Option<NonZeroU32>) -> Self {
        Self(most)
    }
}

impl TryFrom<u64> for Connections {
    type Error = GrammarError;

    fn try_from(count: u64) -> Result<Self, GrammarError> {
        let count = u32::try_from(count).ok().filter(|&count| count <= Self::MOST);
        let most = NonZeroU32::new(count.ok_or(GrammarError::ConnectionsTooMany)?);
        most.map(|most| Self(Some(most))).ok_or(GrammarError::ConnectionsZero)
    }
}

impl FromStr for Connections {
    type Err = GrammarError;

    fn from_str(text: &str) -> Result<Self, GrammarError> {
        match text.trim() {
            Self::OFF_WORD => Ok(Self::OFF),
            count => decimal(count).ok_or(GrammarError::Connections)?.try_into(),
        }
    }
}

impl fmt::Display for Connections {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(most) => fmt::Display::fmt(&most, out),
            None => out.pad(Self::OFF_WORD),
        }
    }
}

impl Serialize for Connections {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(most) => most.serialize(out),
            None => out.serialize_str(Self::OFF_WORD),
        }
    }
}

impl<'de> Deserialize<'de> for Connections {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Count(u64),
            Word(String),
        }
        let read = match Written::deserialize(input)? {
            Written::Count(count) => Self::try_from(count),
            Written::Word(word) => word.parse(),
        };
        read.map_err(de::Error::custom)
    }
}
