//! What DNSBLs say, and how they are.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::config::{Mode, Verdict};

/// Reputation as a whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReputationView {
    /// `observe` counts what would have been refused and refuses nothing; without one the mode of the service holds.
    pub mode: Option<Mode>,
    pub threshold: i32,
    /// In the order of the configuration.
    pub zones: Vec<DnsblView>,
    /// Answers that are remembered, and how many there is room for.
    pub answers: u64,
    pub answers_most: u64,
    /// Sources that something follows from now, one for each service.
    pub in_force: u64,
    /// Completed handshakes of sources that could be asked about.
    pub handshakes: u64,
    /// Sources that were not asked about because too many were at once.
    pub not_asked: u64,
}

/// One zone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DnsblView {
    pub name: String,
    /// Without the key.
    pub zone: String,
    pub services: Vec<String>,
    /// Why it weighs nothing now; none if it is well.
    pub trouble: Option<String>,
    /// For how many seconds it has been as it is.
    pub since_s: u64,
    /// Questions, those about test entries included, and answers, since the controller started.
    pub queries: u64,
    pub listed: u64,
    pub unlisted: u64,
    pub failed: u64,
    /// Questions that a remembered answer saved.
    pub from_cache: u64,
    /// Sources not asked about because the budget was used up.
    pub over_budget: u64,
    pub spent_today: u64,
    /// None: as many as there are.
    pub per_day: Option<u64>,
    /// Milliseconds from question to answer.
    pub mean_ms: f64,
    pub slowest_ms: f64,
}

/// What follows from the listings of a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListingView {
    pub score: i32,
    pub threshold: i32,
    pub action: Verdict,
    /// Each zone, and what its codes mean.
    pub because: String,
    pub rest_s: u64,
}

/// What every zone says of an address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DnsblCheck {
    pub address: IpAddr,
    pub zones: Vec<DnsblAnswer>,
    /// What would follow, for services that zones are asked for.
    pub services: Vec<ServiceOutcome>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DnsblAnswer {
    pub name: String,
    /// None where there is no answer to believe.
    pub listed: Option<bool>,
    /// Each with its meaning.
    pub codes: Vec<String>,
    /// What the zone says of it.
    pub text: Option<String>,
    pub weight: i32,
    /// As the zone says.
    pub ttl_s: Option<u64>,
    pub took_ms: f64,
    pub problem: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceOutcome {
    pub service: String,
    pub score: i32,
    pub threshold: i32,
    /// None below the threshold.
    pub action: Option<Verdict>,
}
