//! What the desk goes by: the configuration of reputation as it is in force.

use std::{fs, net::IpAddr, path::Path, sync::Arc};

use ratelimit_common::ServiceId;

use crate::{
    config::{Config, Dnsbl, Mode, Network, Reputation},
    guard::NeverBlock,
    layout::Layout,
};

/// A configuration with the keys it names, for one layout of services.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    pub reputation: Reputation,
    pub zones: Vec<Zone>,
    pub services: Vec<Service>,
    /// Whom nothing blocks is nobody a DNSBL is asked about.
    never_block: NeverBlock,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub name: String,
    pub id: ServiceId,
    /// Nothing is refused that reputation would refuse.
    pub is_observed: bool,
}

/// A zone as it is asked.
#[derive(Clone, PartialEq, Eq)]
pub struct Zone {
    pub dnsbl: Dnsbl,
    asked: Result<Arc<str>, KeyError>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its key cannot be read: {0}")]
pub struct KeyError(String);

const LONGEST_KEY: usize = 63;

impl Policy {
    /// A key that cannot be read now is what it was `before`.
    pub fn of(config: &Config, layout: &Layout, never_block: &NeverBlock, before: Option<&Self>) -> Self {
        let zones = config.reputation.dnsbl.iter().map(|dnsbl| {
            let known = before.and_then(|before| before.zones.iter().find(|zone| zone.has_key_of(dnsbl)));
            Zone::open(dnsbl, known)
        });
        let zones = zones.collect();
        let of_reputation = config.reputation.mode.unwrap_or(Mode::Enforce);
        let services = config.services.iter().filter_map(|service| {
            let id = layout.place(&service.name)?.id;
            let is_observed = config.mode_of(service).and(of_reputation) == Mode::Observe;
            Some(Service { name: service.name.clone(), id, is_observed })
        });
        let services = services.collect();
        Self { reputation: config.reputation.clone(), zones, services, never_block: never_block.clone() }
    }

    pub fn service(&self, id: ServiceId) -> Option<&Service> {
        self.services.iter().find(|service| service.id == id)
    }

    pub fn zone(&self, index: u16) -> Option<&Zone> {
        self.zones.get(usize::from(index))
    }

    /// The zones that are asked about sources of a service, with their places.
    pub fn zones_of<'a>(&'a self, service: &'a str) -> impl Iterator<Item = (u16, &'a Zone)> {
        let all = self.zones.iter().enumerate();
        let is_asked = |zone: &Zone| !zone.dnsbl.is_paused && zone.dnsbl.is_asked_for(service);
        all.filter(move |(_, zone)| is_asked(zone)).map(|(index, zone)| (index as u16, zone))
    }

    pub fn spares(&self, source: IpAddr) -> bool {
        self.never_block.around(Network::host(source)).is_some()
    }

    /// Reads keys again that could not be read; true if one can be now.
    pub fn read_keys_again(&mut self) -> bool {
        let missing = self.zones.iter_mut().filter(|zone| zone.asked.is_err());
        missing.fold(false, |found, zone| {
            *zone = Zone::open(&zone.dnsbl, None);
            found | zone.asked.is_ok()
        })
    }
}

/// Keys that cannot be read, by the places of their DNSBLs.
pub fn unreadable_keys(reputation: &Reputation) -> impl Iterator<Item = (usize, KeyError)> {
    let all = reputation.dnsbl.iter().enumerate();
    all.filter_map(|(index, dnsbl)| Some((index, read_key(dnsbl.key_file.as_deref()?).err()?)))
}

impl Zone {
    fn open(dnsbl: &Dnsbl, known: Option<&Self>) -> Self {
        let asked = match dnsbl.key_file.as_deref().map(read_key).transpose() {
            Ok(key) => Ok(dnsbl.zone_with_key(key.as_deref()).into()),
            Err(error) => match known.map(|known| known.asked.clone()) {
                Some(Ok(asked)) => {
                    tracing::warn!(dnsbl = dnsbl.name, "the key that was read before stays in use: {error}");
                    Ok(asked)
                }
                Some(Err(_)) | None => Err(error),
            },
        };
        Self { dnsbl: dnsbl.clone(), asked }
    }

    fn has_key_of(&self, dnsbl: &Dnsbl) -> bool {
        let identity = |dnsbl: &Dnsbl| (dnsbl.name.clone(), dnsbl.zone.clone(), dnsbl.key_file.clone());
        self.asked.is_ok() && identity(&self.dnsbl) == identity(dnsbl)
    }

    /// Whether its answers are to the same questions.
    pub fn is_same_as(&self, other: &Self) -> bool {
        (&self.dnsbl.name, &self.asked) == (&other.dnsbl.name, &other.asked)
    }

    /// The name below which addresses are asked about. It may hold a key, so it is shown to nobody.
    pub const fn asked(&self) -> Result<&Arc<str>, &KeyError> {
        self.asked.as_ref()
    }
}

fn read_key(path: &Path) -> Result<String, KeyError> {
    let text = fs::read_to_string(path);
    let text = text.map_err(|source| {
        KeyError(format!("{}: {source}; check the path of key_file and who may read it", path.display()))
    })?;
    let key = text.trim();
    let is_key = (1..=LONGEST_KEY).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_alphanumeric());
    match is_key {
        true => Ok(key.to_ascii_lowercase()),
        false => Err(KeyError(format!("{}: write the key alone into it, letters and digits", path.display()))),
    }
}

impl std::fmt::Debug for Zone {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Zone").field("dnsbl", &self.dnsbl).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_key(path: &Path) -> Dnsbl {
        Dnsbl { key_file: Some(path.to_path_buf()), ..Dnsbl::new("own", "bl.example") }
    }

    #[test]
    fn a_key_goes_into_the_question_and_into_nothing_that_is_shown() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join("key");
        fs::write(&path, "Abc123secret\n").unwrap();
        let zone = Zone::open(&with_key(&path), None);
        assert_eq!(zone.asked().unwrap().as_ref(), "abc123secret.bl.example");
        assert!(!format!("{zone:?}").contains("secret"), "{zone:?}");
    }

    #[test]
    fn a_file_that_holds_no_key_names_the_remedy_and_a_key_known_before_stays() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join("key");
        for (text, wanted) in [(None, "check the path"), (Some(""), "alone"), (Some("two words"), "alone")] {
            drop(fs::remove_file(&path));
            if let Some(text) = text {
                fs::write(&path, text).unwrap();
            }
            let error = Zone::open(&with_key(&path), None).asked().unwrap_err().to_string();
            assert!(error.contains(wanted) && error.contains(&path.display().to_string()), "{error}");
        }
        fs::write(&path, "abc").unwrap();
        let known = Zone::open(&with_key(&path), None);
        fs::remove_file(&path).unwrap();
        assert!(known.has_key_of(&with_key(&path)));
        assert_eq!(Zone::open(&with_key(&path), Some(&known)).asked().unwrap().as_ref(), "abc.bl.example");
    }
}
