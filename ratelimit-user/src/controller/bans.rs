//! Bans by command: the book, and its copy in the kernel.

use std::{
    net::IpAddr,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use aya::maps::MapError;
use ratelimit_common::{
    Moment,
    ban::{Ban, BanKey},
};

use super::{Controller, Rejection, answer::rfc3339, proof::Killed};
use crate::{
    api,
    bans::{BanError, Book, By, Ground, Id, Record, check_length, key_of},
    changes::seconds,
    config::{Entry, EntryKind, Network, fold_address},
    guard::NeverBlock,
    layout::Layout,
    plane::{BanMaps, now},
};

/// Bans that are struck out or read at once; the controller does other work in between.
const AT_ONCE: usize = 4_000;
/// Runs of the program that began before a reading and ended after it are read again: none lasts that long.
pub(super) const LONGEST_RUN_NS: u64 = 1_000_000_000;

/// Every network as the kernel holds it.
pub fn in_kernel(book: &Book, layout: &Layout) -> Vec<(BanKey, Ban)> {
    let now = now();
    book.networks().filter_map(|network| book.in_kernel(network, layout, now)).collect()
}

/// Ends what was banned before it came to be needed, in the book alone.
pub fn spare(book: &mut Book, never_block: &NeverBlock) -> anyhow::Result<Vec<Network>> {
    let mut ids: Vec<Id> = Vec::new();
    for record in book.all() {
        if let Some(guarded) = never_block.meeting(record.network) {
            tracing::warn!(network = %record.network, "ended a ban: it holds {guarded}, which is never banned");
            ids.push(record.id());
        }
    }
    book.remove(&ids)?;
    Ok(ids.into_iter().map(|(network, _)| network).collect())
}

/// Writes down what bans have stopped, so that it is known after a restart too. The maps are read without the controller,
/// and what has changed is noted some at a time: a million bans hold nobody up.
pub fn note_ban_hits(controller: &Mutex<Controller>) -> Result<(), Rejection> {
    let lock = || controller.lock().unwrap_or_else(PoisonError::into_inner);
    let (reader, since) = {
        let controller = lock();
        (controller.plane.maps().bans().reader().map_err(anyhow::Error::from)?, controller.hits_noted)
    };
    let start = now();
    let hit = reader.hit_since(since).context("reading the bans")?;
    for some in hit.chunks(AT_ONCE) {
        lock().note_hits_of(some)?;
        // Whoever waits for the controller gets it first.
        thread::sleep(Duration::from_millis(1));
    }
    lock().hits_noted = Moment(start.0.saturating_sub(LONGEST_RUN_NS));
    Ok(())
}

impl Controller {
    pub fn ban(&mut self, request: api::BanRequest) -> Result<api::Banned, Rejection> {
        let services = self.known_services(&request.services)?;
        let network = request.network;
        check_length(network).map_err(refusal)?;
        self.check_guarded(network).map_err(refusal)?;
        let spares = self.check_allowed(network, &services).map_err(refusal)?;
        self.note_hits_of(&[key_of(network)])?;
        let record = Record::new(network, services.clone(), &Ground::Word, request.note, request.for_.as_std());
        let record = record.map_err(refusal)?;
        let mut answer = api::Banned { ban: view(&record), spares, killed: None, kill_failed: None };
        let (maps, layout) = (self.plane.maps_mut().bans_mut(), &self.layout);
        let banned = self.bans.ban(record, |book| tell(maps, book, layout, &[network]));
        if let Err(error) = banned {
            self.repair(&[network]);
            return Err(refusal(error));
        }
        tracing::info!(%network, until = answer.ban.until, "banned by command");
        if request.kill {
            let Killed { ended, failed } = self.kill(network, &services);
            tracing::info!(%network, connections = ended, failed, "open connections were ended by command");
            (answer.killed, answer.kill_failed) = (Some(ended), failed);
        }
        Ok(answer)
    }

    /// Ends bans of an address or of what lies inside a network, or all; those of one author alone, if one is named.
    pub fn unban(&mut self, request: &api::UnbanRequest) -> Result<api::Unbanned, Rejection> {
        let by = |record: &&Record| request.by.is_none_or(|by| by == record.by);
        let ids: Vec<Id> = match request.network {
            Some(network) => {
                let around = self.bans.around(network.address()).filter(|record| record.network.contains(network));
                let inside = self.bans.inside(network).filter(|record| record.network != network);
                around.chain(inside).filter(by).map(Record::id).collect()
            }
            None => self.bans.all().filter(by).map(Record::id).collect(),
        };
        let networks: Vec<Network> = ids.iter().map(|(network, _)| *network).collect();
        let ended = self.bans.remove(&ids).map_err(anyhow::Error::from)?;
        if let Err(error) = self.tell_kernel(&networks) {
            // What is in force and not in the book could not be ended by a second attempt.
            self.bans.put_back(ended).map_err(anyhow::Error::from)?;
            self.repair(&networks);
            return Err(error.into());
        }
        if let (Some(network), Some(time)) = (request.network, request.protect) {
            self.bans.protect(network, time.as_std()).map_err(anyhow::Error::from)?;
        }
        tracing::info!(bans = ended.len(), "unbanned by command");
        let mut let_go = 0;
        let mut ended: Vec<api::BanView> = ended.iter().map(view).collect();
        if request.by.is_none_or(|by| by == By::Dnsbl) {
            let (bans, others) = self.desk.pardon(request.network, request.protect.map(|time| time.as_std()));
            ended.extend(bans);
            let_go = others;
        }
        let still_refused = match request.network {
            Some(network) => {
                let explained = self.explain(network.address(), None)?.services;
                explained.into_iter().filter(|service| service.refused).collect()
            }
            None => Vec::new(),
        };
        Ok(api::Unbanned { ended, let_go, still_refused })
    }

    /// What they stopped is as [`note_ban_hits`] left it.
    pub fn ban_views(&self) -> Vec<api::BanView> {
        let in_book = self.bans.all().filter(|record| record.is_in_force()).map(view);
        in_book.chain(self.desk.bans()).collect()
    }

    /// Strikes out bans that have run out; in the kernel they are over already. Where other bans of the same network go on,
    /// its entry is made anew.
    pub(super) fn expire_bans(&mut self) -> Result<(), Rejection> {
        let (told, at) = (now(), SystemTime::now());
        let over = self.bans.over(at, AT_ONCE);
        let mut networks: Vec<Network> = over.iter().map(|(network, _)| *network).collect();
        networks.extend(self.bans.turned(&self.layout, self.bans_told, told));
        let shared = networks.iter().filter(|network| self.bans.is_shared(**network));
        let keys: Vec<BanKey> = shared.map(|network| key_of(*network)).collect();
        self.note_hits_of(&keys)?;
        self.bans.remove(&over).map_err(anyhow::Error::from)?;
        self.bans.forget_protections(at).map_err(anyhow::Error::from)?;
        self.tell_kernel(&networks)?;
        self.bans_told = told;
        Ok(())
    }

    /// Ends bans of what may never be blocked as things are now.
    pub(super) fn spare_guarded(&mut self) {
        let spared = spare(&mut self.bans, &self.never_block).and_then(|networks| self.tell_kernel(&networks));
        if let Err(error) = spared {
            tracing::error!("bans of what is never banned could not be ended: {error:#}");
        }
    }

    /// Bans that an address is under.
    pub(super) fn bans_around(&self, address: IpAddr, service: &str) -> Vec<api::BanView> {
        let concerns = |record: &&Record| record.is_in_force() && record.concerns(service);
        self.bans.around(fold_address(address)).filter(concerns).map(view).collect()
    }

    fn check_guarded(&self, network: Network) -> Result<(), BanError> {
        let guarded = |guarded, what| Err(BanError::Guarded { network, guarded, what });
        if let Some(found) = self.never_block_on(&self.machine).meeting(network) {
            return guarded(found.network, found.what.to_string());
        }
        match self.effective.trust.iter().find(|entry| entry.network.overlaps(network)) {
            Some(entry) => guarded(entry.network, "a trusted network".to_owned()),
            None => Ok(()),
        }
    }

    /// What a ban would let pass all the same because it is allowed. Refuses a ban that would do nothing at all.
    fn check_allowed(&self, network: Network, services: &[String]) -> Result<Vec<String>, BanError> {
        let (allow, lists) = (&self.effective.allow, self.allowing_around(network));
        let all = self.effective.services.iter().map(|service| &service.name);
        let concerned: Vec<&String> = all.filter(|name| services.is_empty() || services.contains(name)).collect();
        let around =
            |name: &str| allow.iter().find(|entry| entry.network.contains(network) && entry.services.includes(name));
        let open: Vec<(&&String, &Entry)> = concerned.iter().filter_map(|name| Some((name, around(name)?))).collect();
        if let (Some((_, entry)), true) = (open.first(), open.len() == concerned.len()) {
            let remedy = self.remedy_of_allow(entry.network);
            return Err(BanError::Allowed { network, allowed: entry.network, remedy });
        }
        for (list, allowed) in &lists {
            if !concerned.is_empty() && concerned.iter().all(|name| list.services.includes(name)) {
                let remedy = format!("take it out of the list {}, which allows it, first", list.name);
                return Err(BanError::Allowed { network, allowed: *allowed, remedy });
            }
        }
        let mut spares: Vec<String> = open
            .iter()
            .map(|(name, entry)| format!("{name}: {network} lies in {}, which is allowed", entry.network))
            .collect();
        for (list, allowed) in &lists {
            let names: Vec<&str> =
                concerned.iter().map(|name| name.as_str()).filter(|name| list.services.includes(name)).collect();
            if !names.is_empty() {
                spares.push(format!(
                    "{}: {network} lies in {allowed}, which the list {} allows",
                    names.join(", "),
                    list.name
                ));
            }
        }
        let is_inside = |entry: &&Entry| network.contains(entry.network) && entry.network != network;
        for entry in allow.iter().filter(is_inside) {
            let names: Vec<&str> =
                concerned.iter().map(|name| name.as_str()).filter(|name| entry.services.includes(name)).collect();
            if !names.is_empty() {
                spares.push(format!("{}: {} is allowed", names.join(", "), entry.network));
            }
        }
        Ok(spares)
    }

    fn remedy_of_allow(&self, network: Network) -> String {
        let by_command =
            |added: &crate::changes::AddedEntry| (added.kind, added.network) == (EntryKind::Allow, network);
        match self.changes.entries.iter().any(by_command) {
            true => format!("`ratelimit allow remove {network}` first"),
            false => format!("remove {network} from `allow` in the configuration and `ratelimit reload` first"),
        }
    }

    /// Notes what the kernel has counted of these.
    fn note_hits_of(&mut self, keys: &[BanKey]) -> Result<(), Rejection> {
        let maps = self.plane.maps().bans();
        let mut counted = Vec::with_capacity(keys.len());
        for key in keys {
            if let Some(ban) = maps.get(key).map_err(anyhow::Error::from)? {
                counted.push((network_of(key), ban.hits, last_hit_s(&ban)));
            }
        }
        Ok(self.bans.note_hits(&counted).map_err(anyhow::Error::from)?)
    }

    /// After a change that failed half-way and was undone in the book: what the kernel has taken of it goes too.
    fn repair(&mut self, networks: &[Network]) {
        if let Err(error) = self.tell_kernel(networks) {
            tracing::warn!("the kernel holds other bans than the book until the next start: {error:#}");
        }
    }

    fn tell_kernel(&mut self, networks: &[Network]) -> anyhow::Result<()> {
        if networks.is_empty() {
            return Ok(());
        }
        tell(self.plane.maps_mut().bans_mut(), &self.bans, &self.layout, networks)
            .context("changing bans in the kernel")
    }
}

/// Makes the kernel's entries of networks be what the book says.
fn tell(maps: &mut BanMaps, book: &Book, layout: &Layout, networks: &[Network]) -> Result<(), MapError> {
    let now = now();
    let mut there = Vec::new();
    let mut is_any_gone = false;
    for network in networks {
        match book.in_kernel(*network, layout, now) {
            Some(entry) => there.push(entry),
            None => {
                maps.remove(&key_of(*network))?;
                is_any_gone = true;
            }
        }
    }
    maps.put(&there)?;
    if is_any_gone {
        maps.rebuild_filter(book.networks().map(key_of));
    }
    maps.set_count(book.len() as u64)
}

/// What a ban that cannot be is to whoever asked for it.
fn refusal(error: BanError) -> Rejection {
    match error {
        BanError::Length { .. }
        | BanError::Guarded { .. }
        | BanError::Allowed { .. }
        | BanError::Protected { .. }
        | BanError::Unproven { .. }
        | BanError::Full => Rejection::Invalid(error.to_string()),
        BanError::Kernel { .. } | BanError::HalfDone { .. } | BanError::Store(_) => {
            Rejection::Failed(anyhow::Error::msg(error.to_string()))
        }
    }
}

fn network_of(key: &BanKey) -> Network {
    let (address, length) = (key.network(), key.length());
    let length = if address.is_v4() { length.saturating_sub(96) } else { length };
    Network::truncated(address.to_ip(), length).unwrap_or(Network::host(address.to_ip()))
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
