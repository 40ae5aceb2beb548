//! What the desk goes by: the configuration of reputation as it is in force.

use std::{fs, path::PathBuf, sync::Arc};

use ratelimit_common::ServiceId;

use crate::{
    config::{Config, Dnsbl, Mode, Reputation},
    guard::NeverBlock,
    layout::Layout,
};

/// A configuration with the keys it names, for one layout of services.
#[derive(Clone, Debug)]
pub struct Policy {
    pub reputation: Reputation,
    pub zones: Vec<Zone>,
    /// Services with their places.
    pub services: Vec<(String, ServiceId)>,
    /// Whom nothing blocks is nobody a DNSBL is asked about.
    pub never_block: NeverBlock,
}

/// A zone as it is asked.
#[derive(Clone)]
pub struct Zone {
    pub dnsbl: Dnsbl,
    /// With the key in it, if there is one; shown to nobody.
    asked: Arc<str>,
}

#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error("reputation.dnsbl {zone}: the key in {} cannot be read: {source}; check the path and its permissions", path.display())]
    Key { zone: String, path: PathBuf, source: std::io::Error },
    #[error("reputation.dnsbl {zone}: {} holds no key: write the key alone into it, letters and digits", path.display())]
    NoKey { zone: String, path: PathBuf },
}

const LONGEST_KEY: usize = 63;

impl Policy {
    pub fn of(config: &Config, layout: &Layout, never_block: &NeverBlock) -> Result<Self, PolicyError> {
        let zones = config.reputation.dnsbl.iter().map(Zone::open).collect::<Result<_, _>>()?;
        let services = layout.places.iter().map(|place| (place.name.clone(), place.id)).collect();
        Ok(Self { reputation: config.reputation.clone(), zones, services, never_block: never_block.clone() })
    }

    pub fn is_observed(&self) -> bool {
        self.reputation.mode == Some(Mode::Observe)
    }

    pub fn service(&self, id: ServiceId) -> Option<&str> {
        self.services.iter().find(|(_, place)| *place == id).map(|(name, _)| name.as_str())
    }

    /// The zones that are asked about sources of a service, with their places.
    pub fn zones_of<'a>(&'a self, service: &'a str) -> impl Iterator<Item = (u16, &'a Zone)> {
        let all = self.zones.iter().enumerate();
        all.filter(|(_, zone)| zone.dnsbl.is_asked_for(service)).map(|(index, zone)| (index as u16, zone))
    }
}

impl Zone {
    fn open(dnsbl: &Dnsbl) -> Result<Self, PolicyError> {
        let key = dnsbl.key_file.as_ref().map(|path| read_key(&dnsbl.name, path)).transpose()?;
        Ok(Self { dnsbl: dnsbl.clone(), asked: dnsbl.zone_with_key(key.as_deref()).into() })
    }

    /// The name below which addresses are asked about. It may hold a key.
    pub fn asked(&self) -> &Arc<str> {
        &self.asked
    }
}

fn read_key(zone: &str, path: &PathBuf) -> Result<String, PolicyError> {
    let text = fs::read_to_string(path);
    let text = text.map_err(|source| PolicyError::Key { zone: zone.to_owned(), path: path.clone(), source })?;
    let key = text.trim();
    let is_key = (1..=LONGEST_KEY).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_alphanumeric());
    match is_key {
        true => Ok(key.to_ascii_lowercase()),
        false => Err(PolicyError::NoKey { zone: zone.to_owned(), path: path.clone() }),
    }
}

impl std::fmt::Debug for Zone {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Zone").field("dnsbl", &self.dnsbl).finish_non_exhaustive()
    }
}
