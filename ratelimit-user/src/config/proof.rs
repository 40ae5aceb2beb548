use serde::Serialize;

use super::grammar::{Period, Rate};

/// How sources show that they are real, and how many of them are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Proof {
    pub challenge: Challenge,
    /// The most answers sent, over all services and processors; none is longer than the SYN it answers.
    pub challenge_rate: Rate,
    /// The most repeated SYNs accepted, for each service.
    pub retry_rate: Rate,
    /// The most proven sources that are remembered.
    pub sources: u32,
    pub namespaces: Namespaces,
}

/// How a suspect source shows that it is alive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Challenge {
    /// An acknowledgement with a cookie, which a live host answers with a reset. Who does not answer but repeats
    /// its SYN is let in as with [`Challenge::Retry`].
    #[default]
    Reset,
    /// The first SYN is dropped, its repetition accepted.
    Retry,
    /// Nothing is asked: what is over its limit is dropped.
    Off,
}

/// Where listeners are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Namespaces {
    /// In the network namespace of the controller.
    #[default]
    Host,
    /// Anywhere on this machine: in containers too.
    All,
}

pub const FEWEST_PROVEN_SOURCES: u32 = 1 << 10;
pub const MOST_PROVEN_SOURCES: u32 = 1 << 24;
pub(super) const SLOWEST_RATE: Rate = per_second(1);
/// Above what 100 Gbit/s bring, 149 million SYNs a second.
pub(super) const FASTEST_CHALLENGE: Rate = per_second(200_000_000);
/// What one cell can still tell apart.
pub(super) const FASTEST_RETRY: Rate = per_second(10_000);

const CHALLENGE_RATE: Rate = per_second(2_000_000);
const RETRY_RATE: Rate = per_second(200);
const SOURCES: u32 = 1 << 18;

impl Default for Proof {
    fn default() -> Self {
        Self {
            challenge: Challenge::default(),
            challenge_rate: CHALLENGE_RATE,
            retry_rate: RETRY_RATE,
            sources: SOURCES,
            namespaces: Namespaces::default(),
        }
    }
}

impl Challenge {
    pub const ALL: [Self; 3] = [Self::Reset, Self::Retry, Self::Off];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::Retry => "retry",
            Self::Off => "off",
        }
    }
}

impl Namespaces {
    pub const ALL: [Self; 2] = [Self::Host, Self::All];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::All => "all",
        }
    }
}

/// For constants alone: a zero does not compile.
const fn per_second(count: u32) -> Rate {
    match Rate::new(count, Period::Second) {
        Some(rate) => rate,
        None => panic!("a rate of zero"),
    }
}
