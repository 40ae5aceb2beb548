//! What is known of sources, and what suspects were asked.

use serde::{Deserialize, Serialize};

use crate::config::Network;

/// How hard pressed a service is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pressure {
    /// Whether completed handshakes of it were ever seen; without, it is suspect for nothing but its own limit.
    pub watched: bool,
    /// Whether unproven sources are challenged.
    pub suspect: bool,
    /// Connections that wait for their handshake, estimated.
    pub half_open: u32,
    /// How many of them make it suspect: half of what its listener can hold.
    pub half_open_most: u32,
    /// Connections that are open, of all sources.
    pub connections: u64,
}

/// What is known of sources, and what suspects were asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProofStatus {
    /// Why handshakes are not watched, where they should be.
    pub unwatched: Option<String>,
    /// Sources that completed a handshake in the last 30 days: IPv4 addresses and IPv6 /64s.
    pub proven: u64,
    /// How many there is room for.
    pub proven_most: u64,
    /// Sources that were not noted as proven: no room, or too many of their /48.
    pub not_noted: u64,
    pub not_noted_of_site: u64,
    /// Handshakes seen since the filter was first loaded.
    pub handshakes: u64,
    /// Connections that are open now, and those of them that are older than the filter.
    pub connections: u64,
    pub older: u64,
    /// Connections that were not counted: no room.
    pub not_counted: u64,
    pub challenges: Challenges,
}

/// What suspects were asked, since the filter was first loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenges {
    pub sent: u64,
    pub answered: u64,
    /// Sent and not answered (yet).
    pub unanswered: u64,
    /// Suspects that could not be asked (`challenge_rate`).
    pub over_budget: u64,
    /// First SYNs that were dropped to see whether they are repeated.
    pub awaited: u64,
    /// Tickets that are good now.
    pub tickets: u64,
    /// Connections let in with a ticket, and as repetitions.
    pub ticketed: u64,
    pub repeated: u64,
    /// Repetitions that were not let in (`retry_rate`).
    pub retries_over_budget: u64,
    /// Packets of no connection that were dropped.
    pub strays: u64,
}

/// By what sources are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum SourcesBy {
    /// Those with the most open connections
    #[default]
    Connections,
    /// Those with the most refusals among the latest sampled events
    Drops,
    /// Those of the latest sampled events
    Last,
}

impl SourcesBy {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Drops => "drops",
            Self::Last => "last",
        }
    }
}

/// A source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceView {
    pub source: Network,
    pub service: String,
    /// Connections that are open now, and how many may be.
    pub connections: u64,
    pub most: Option<u64>,
    /// Sampled events in which it was refused: at any rate only some of the refusals.
    pub drops: u64,
    /// The latest sampled event: when (RFC 3339), and its reason.
    pub last: Option<String>,
    pub reason: Option<String>,
    pub proven: bool,
}

/// What a source has shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvenView {
    /// RFC 3339: its last handshake.
    pub last: String,
    /// RFC 3339: when a connection ended in which both sides said something.
    pub exchanged: Option<String>,
}
