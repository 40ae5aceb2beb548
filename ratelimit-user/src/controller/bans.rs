//! Bans by command: the book, and its copy in the kernel.

use std::{net::IpAddr, time::SystemTime};

use ratelimit_common::ban::{Ban, BanKey};

use super::{Controller, Rejection, answer::rfc3339};
use crate::{
    api,
    bans::{BanError, Book, By, Record, check_length},
    changes::seconds,
    config::{Network, fold_address},
    guard,
    layout::Layout,
    plane::{BanMaps, now},
};

/// Every ban as the kernel holds it.
pub fn in_kernel(book: &Book, layout: &Layout) -> Vec<(BanKey, Ban)> {
    let now = now();
    book.all().map(|record| (record.key(), record.in_kernel(layout, now))).collect()
}

impl Controller {
    pub fn ban(&mut self, request: api::BanRequest) -> Result<api::BanView, Rejection> {
        let services = self.known_services(&request.services)?;
        check_length(request.network).map_err(refusal)?;
        guard::check(request.network, &self.effective, &self.machine).map_err(refusal)?;
        let at = SystemTime::now();
        let record = Record {
            network: request.network,
            services,
            by: By::Admin,
            note: request.note,
            since_s: seconds(at),
            until_s: seconds(at + request.for_.as_std()),
            hits: 0,
            last_hit_s: None,
        };
        self.bans.add(record.clone()).map_err(refusal)?;
        let in_kernel = [(record.key(), record.in_kernel(&self.layout, now()))];
        let count = self.bans.len() as u64;
        let maps = self.plane.maps_mut().bans_mut();
        maps.put(&in_kernel).and_then(|()| maps.set_count(count)).map_err(anyhow::Error::from)?;
        tracing::info!(network = %record.network, until = rfc3339(record.until_s), "banned by command");
        Ok(view(&record))
    }

    /// Ends bans of an address or of what lies inside a network, or all; those of one author alone, if one is named.
    pub fn unban(&mut self, request: &api::UnbanRequest) -> Result<api::Unbanned, Rejection> {
        self.note_ban_hits()?;
        let by = |record: &&Record| request.by.is_none_or(|by| by == record.by);
        let ended: Vec<Record> = match request.network {
            Some(network) => {
                let around = self.bans.around(network.address()).filter(|record| record.network.contains(network));
                let inside = self.bans.inside(network).filter(|record| record.network != network);
                around.chain(inside).filter(by).cloned().collect()
            }
            None => self.bans.all().filter(by).cloned().collect(),
        };
        let networks: Vec<Network> = ended.iter().map(|record| record.network).collect();
        self.bans.remove(&networks).map_err(anyhow::Error::from)?;
        if let (Some(network), Some(time)) = (request.network, request.protect) {
            self.bans.protect(network, time.as_std()).map_err(anyhow::Error::from)?;
        }
        self.remove_from_kernel(&networks)?;
        tracing::info!(bans = networks.len(), "unbanned by command");
        let still_refused = match request.network {
            Some(network) => {
                let explained = self.explain(network.address(), None)?.services;
                explained.into_iter().filter(|service| service.refused).collect()
            }
            None => Vec::new(),
        };
        Ok(api::Unbanned { ended: ended.iter().map(view).collect(), still_refused })
    }

    pub fn ban_views(&mut self) -> Result<Vec<api::BanView>, Rejection> {
        self.note_ban_hits()?;
        let now_s = seconds(SystemTime::now());
        Ok(self.bans.all().filter(|record| record.until_s > now_s).map(view).collect())
    }

    /// Strikes out bans that have run out. In the kernel they are over already.
    pub fn expire_bans(&mut self) -> Result<(), Rejection> {
        let over = self.bans.strike_out(SystemTime::now()).map_err(anyhow::Error::from)?;
        if over.is_empty() { Ok(()) } else { self.remove_from_kernel(&over) }
    }

    /// Writes down what bans have stopped, so that it is known after a restart too.
    pub fn note_ban_hits(&mut self) -> Result<(), Rejection> {
        let maps = self.plane.maps().bans();
        let mut counted = Vec::new();
        for record in self.bans.all() {
            if let Some(ban) = maps.get(&record.key()).map_err(anyhow::Error::from)? {
                counted.push((record.network, ban.hits, last_hit_s(&ban).or(record.last_hit_s)));
            }
        }
        Ok(self.bans.note_hits(&counted).map_err(anyhow::Error::from)?)
    }

    /// Bans that an address is under.
    pub(super) fn bans_around(&self, address: IpAddr, service: &str) -> Vec<api::BanView> {
        let now_s = seconds(SystemTime::now());
        let concerns = |record: &&Record| {
            let services = &record.services;
            record.until_s > now_s && (services.is_empty() || services.iter().any(|name| name == service))
        };
        self.bans.around(fold_address(address)).filter(concerns).map(view).collect()
    }

    fn remove_from_kernel(&mut self, networks: &[Network]) -> Result<(), Rejection> {
        let keys: Vec<BanKey> = self.bans.all().map(Record::key).collect();
        let maps: &mut BanMaps = self.plane.maps_mut().bans_mut();
        let mut remove = || {
            for network in networks {
                let (address, length) = crate::compile::key(*network);
                maps.remove(&BanKey::new(address, length))?;
            }
            maps.rebuild_filter(keys.iter());
            maps.set_count(keys.len() as u64)
        };
        Ok(remove().map_err(anyhow::Error::from)?)
    }
}

/// What a ban that cannot be is to whoever asked for it.
fn refusal(error: BanError) -> Rejection {
    match error {
        BanError::Length { .. } | BanError::Guarded { .. } | BanError::Protected { .. } | BanError::Full => {
            Rejection::Invalid(error.to_string())
        }
        BanError::Store(error) => Rejection::Failed(error.into()),
    }
}

fn last_hit_s(ban: &Ban) -> Option<u64> {
    let ago_s = now().0.saturating_sub(ban.last_hit_ns) / 1_000_000_000;
    (ban.last_hit_ns != 0).then(|| seconds(SystemTime::now()).saturating_sub(ago_s))
}

fn view(record: &Record) -> api::BanView {
    api::BanView {
        network: record.network,
        services: record.services.clone(),
        by: record.by,
        note: record.note.clone(),
        since: rfc3339(record.since_s),
        until: rfc3339(record.until_s),
        hits: record.hits,
        last_hit: record.last_hit_s.map(rfc3339),
    }
}
