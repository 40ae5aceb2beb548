//! One ban.

use std::time::{Duration, SystemTime};

use ratelimit_common::{Moment, ban::BanKey};
use serde::{Deserialize, Serialize};

use super::{BanError, Ground};
use crate::{changes::seconds, compile::key, config::Network, plane::now};

/// Prefix lengths that bans may have.
pub const V4_LENGTHS: [u8; 3] = [32, 24, 16];
pub const V6_LENGTHS: [u8; 4] = [128, 64, 56, 48];

/// Who banned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum By {
    Admin,
    Dnsbl,
    Log,
}

impl By {
    pub const ALL: [Self; 3] = [Self::Admin, Self::Dnsbl, Self::Log];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Dnsbl => "dnsbl",
            Self::Log => "log",
        }
    }
}

/// What there is one ban of: a network and its services.
pub type Id = (Network, Vec<String>);

/// One ban. Times in seconds are since 1970, so that they mean the same after a reboot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub network: Network,
    /// Sorted, each once; empty means all services.
    pub services: Vec<String>,
    pub by: By,
    pub note: Option<String>,
    pub since_s: u64,
    pub until_s: u64,
    /// The same by the kernel's clock, reckoned when it was banned or read from disk: setting the wall clock back later
    /// makes no ban longer.
    pub until: Moment,
    /// As last read from the kernel.
    pub hits: u64,
    pub last_hit_s: Option<u64>,
}

impl Record {
    /// A ban that begins now.
    ///
    /// # Errors
    ///
    /// [`BanError::Unproven`] where the ground does not carry it.
    pub fn new(
        network: Network,
        services: Vec<String>,
        ground: &Ground,
        note: Option<String>,
        time: Duration,
    ) -> Result<Self, BanError> {
        if !ground.carries(network) {
            return Err(BanError::Unproven { network });
        }
        let at = SystemTime::now();
        let (since_s, until_s) = (seconds(at), seconds(at + time));
        Ok(Self::kept(network, services, ground.by(), note, since_s, until_s))
    }

    /// A ban that began already.
    pub(super) fn kept(
        network: Network,
        mut services: Vec<String>,
        by: By,
        note: Option<String>,
        since_s: u64,
        until_s: u64,
    ) -> Self {
        services.sort_unstable();
        services.dedup();
        Self { network, services, by, note, since_s, until_s, until: moment_of(until_s), hits: 0, last_hit_s: None }
    }

    pub fn id(&self) -> Id {
        (self.network, self.services.clone())
    }

    pub fn key(&self) -> BanKey {
        key_of(self.network)
    }

    pub fn concerns(&self, service: &str) -> bool {
        self.services.is_empty() || self.services.iter().any(|name| name == service)
    }

    /// Whether it has not run out, by neither clock.
    pub fn is_in_force(&self) -> bool {
        self.until > now() && self.until_s > seconds(SystemTime::now())
    }
}

/// A network as the kernel's bans name it.
pub fn key_of(network: Network) -> BanKey {
    let (address, length) = key(network);
    BanKey::new(address, length)
}

/// Rounding a network would ban somebody else too, or too few.
pub fn check_length(network: Network) -> Result<(), BanError> {
    let lengths: &[u8] = if network.is_ipv4() { &V4_LENGTHS } else { &V6_LENGTHS };
    match lengths.contains(&network.prefix_len()) {
        true => Ok(()),
        false => Err(BanError::Length { network }),
    }
}

pub(super) fn lengths(lengths: &[u8]) -> String {
    lengths.iter().map(|length| format!("/{length}")).collect::<Vec<_>>().join(", ")
}

/// A time of the wall clock by the kernel's clock, as the two stand now.
fn moment_of(at_s: u64) -> Moment {
    let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(at_s));
    let rest = at.and_then(|at| at.duration_since(SystemTime::now()).ok()).unwrap_or_default();
    Moment(now().0.saturating_add(u64::try_from(rest.as_nanos()).unwrap_or(u64::MAX)))
}
