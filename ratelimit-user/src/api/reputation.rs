//! What DNSBLs say, and how they are.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::config::{Duration, Mode, Verdict};

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
    /// Completed handshakes that the kernel could not tell because nobody read them in time.
    pub not_told: u64,
    /// Sources that the kernel's map had no room for: nothing follows for them.
    pub no_room: u64,
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
    /// Whether that is only that it was not tested yet.
    pub is_untested: bool,
    /// For how many seconds it has been well or in trouble.
    pub since_s: u64,
    /// That an administrator has it left alone; none if nobody has.
    pub paused: Option<Pause>,
    /// Questions, those about test entries included, and answers, since the controller started.
    pub queries: u64,
    pub listed: u64,
    pub unlisted: u64,
    pub failed: u64,
    /// Questions that a remembered answer saved.
    pub from_cache: u64,
    /// Sources that were not asked about at once because the budget did not allow it. Those that come most are asked about
    /// first when it does.
    pub over_budget: u64,
    /// Of these, those that still wait.
    pub waiting: u64,
    /// Sources that were not asked about because it answers too slowly for how many there are.
    pub too_busy: u64,
    /// Sources that were not asked about because too many of their IPv6 network were.
    pub of_one_network: u64,
    pub spent_today: u64,
    /// None: as many as there are.
    pub per_day: Option<u64>,
    /// Milliseconds from question to answer.
    pub mean_ms: f64,
    pub slowest_ms: f64,
}

/// A zone that is not asked and weighs nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// RFC 3339, UTC. None: until it is resumed.
    pub until: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseRequest {
    /// The name of the zone in the configuration.
    pub dnsbl: String,
    /// None: until it is resumed.
    #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
    pub for_: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumeRequest {
    pub dnsbl: String,
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
    /// Whether it counts: a zone in trouble does not.
    pub counts: bool,
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
