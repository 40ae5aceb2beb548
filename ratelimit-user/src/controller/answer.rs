//! What the controller answers when it is asked.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use ratelimit_common::{Address, map::LINE_BYTES};

use super::{Controller, Rejection, limits::limits_of, services_of};
use crate::{
    api,
    attach::{Attached, attached_mode},
    changes::{Changes, ModeChange},
    config::{Config, EntryKind, Loaded, Network, Origin, fold_address},
    machine::ephemeral_ports_warning,
    plane::Maps,
    view,
};

/// Events that `explain` shows.
const EXPLAINED_EVENTS: usize = 10;

impl Controller {
    pub fn status(&self) -> Result<api::Status, Rejection> {
        let maps = self.plane.maps();
        let set = maps.active_set().map_err(anyhow::Error::from)?;
        let view::Seen { services, other, proof } =
            view::look(maps, Some(self.plane.watch()), &set).map_err(anyhow::Error::from)?;
        let unwatched = self.plane.unwatched().map(ToString::to_string);
        let entries = |kind| self.effective.entries(kind).len();
        Ok(api::Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            controller: true,
            pid: Some(std::process::id()),
            uptime_s: Some(self.started.elapsed().as_secs()),
            mode: self.mode_view(),
            config: origin(&self.loaded),
            config_error: self.config_error.clone(),
            interfaces: self.interface_views(),
            services,
            other,
            memory_bytes: memory_bytes(maps),
            entries: api::EntryCounts {
                trust: entries(EntryKind::Trust),
                allow: entries(EntryKind::Allow),
                block: entries(EntryKind::Block),
                lists: self.layers.entries() as u64,
                bans: self.bans.len() as u64,
            },
            proof: api::ProofStatus { unwatched, ..proof },
            reputation: Some(self.reputation_view()?).filter(|view| !view.zones.is_empty()),
            generation: set.generation,
            warnings: self.warnings(),
        })
    }

    fn interface_views(&self) -> Vec<api::InterfaceStatus> {
        // As it is now: an interface may have been deleted since, or its program taken off.
        let mode = |name: &str| attached_mode(nix::net::if_::if_nametoindex(name).ok()?).ok()?;
        let view = |attached: &Attached| api::InterfaceStatus {
            name: attached.interface.clone(),
            attached: mode(&attached.interface).map(|mode| mode.to_string()),
            notes: attached.notes.clone(),
        };
        self.plane.attached().iter().map(view).collect()
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = self.file_warnings();
        warnings.extend(ephemeral_ports_warning(&self.effective));
        warnings.extend(self.list_warnings());
        warnings.extend(self.reputation_warnings());
        warnings.extend(self.export_error.clone());
        warnings
    }

    /// What the file says that works, but perhaps not as meant: on this machine, too.
    pub(super) fn file_warnings(&self) -> Vec<String> {
        let file = origin(&self.loaded).unwrap_or_default();
        let idle = self.never_block.idle_blocks(&file.display().to_string(), &self.loaded.config);
        self.loaded.warnings.iter().chain(&idle).map(ToString::to_string).collect()
    }

    pub fn mode_view(&self) -> api::ModeView {
        api::ModeView {
            mode: self.effective.mode,
            services: self
                .effective
                .services
                .iter()
                .filter_map(|service| Some((service.name.clone(), service.mode?)))
                .collect(),
            ends: mode_ends(&self.changes),
        }
    }

    pub fn entry_views(&self, kind: EntryKind) -> Vec<api::EntryView> {
        let spares = |network: Network| match kind {
            EntryKind::Trust | EntryKind::Allow => Vec::new(),
            EntryKind::Block => self.never_block.inside(network).map(ToString::to_string).collect(),
        };
        let from_file = self.loaded.config.entries(kind).iter().map(|entry| api::EntryView {
            kind,
            network: entry.network,
            services: services_of(&entry.services),
            note: entry.note.clone(),
            by: "config".to_owned(),
            since: None,
            spares: spares(entry.network),
        });
        let by_command = self.changes.entries.iter().filter(|added| added.kind == kind).map(|added| api::EntryView {
            kind,
            network: added.network,
            services: added.services.clone(),
            note: added.note.clone(),
            by: "command".to_owned(),
            since: Some(rfc3339(added.since_s)),
            spares: spares(added.network),
        });
        from_file.chain(by_command).collect()
    }

    pub fn config_view(&self) -> api::ConfigView {
        api::ConfigView {
            toml: self.effective.to_toml(),
            changed: self.effective.changed(),
            origin: origin(&self.loaded),
        }
    }

    /// What would happen to the next connection of an address.
    pub fn explain(&self, address: IpAddr, service: Option<&str>) -> Result<api::Explanation, Rejection> {
        let address = fold_address(address);
        let wanted = service.map(|name| self.known_service(name)).transpose()?;
        let mut services = Vec::new();
        for place in &self.layout.places {
            if wanted.as_ref().is_some_and(|name| *name != place.name) {
                continue;
            }
            let limits = |level| limits_of(&self.effective, &place.name, level);
            let rules = view::Rules {
                entries: self.entries_around(address, &place.name),
                bans: self.bans_around(address, &place.name),
                lists: self.lists_around(address, &place.name),
                listing: self.desk.explain(address, &place.name),
            };
            let explained = view::explain(
                self.plane.maps(),
                Some(self.plane.watch()),
                Address::from(address),
                place.id,
                limits,
                rules,
            );
            services.extend(explained.map_err(anyhow::Error::from)?);
        }
        let recent = self.events.of_source(address, EXPLAINED_EVENTS);
        let proven = view::proven(self.plane.watch(), Address::from(address)).map_err(anyhow::Error::from)?;
        Ok(api::Explanation { address, controller: true, services, proven, recent })
    }

    fn entries_around(&self, address: IpAddr, service: &str) -> Vec<api::EntryView> {
        let concerns = |entry: &api::EntryView| {
            entry.network.contains_address(address)
                && (entry.services.is_empty() || entry.services.iter().any(|name| name == service))
        };
        let kinds = [EntryKind::Trust, EntryKind::Allow, EntryKind::Block];
        kinds.into_iter().flat_map(|kind| self.entry_views(kind)).filter(concerns).collect()
    }
}

/// Changes of mode that end by themselves.
pub fn mode_ends(changes: &Changes) -> Vec<api::ModeEnd> {
    let end = |(scope, change): (&String, &ModeChange)| {
        Some(api::ModeEnd {
            service: (!scope.is_empty()).then(|| scope.clone()),
            until: rfc3339(change.until_s?),
            awaits_confirmation: change.awaits_confirmation,
        })
    };
    changes.modes.iter().filter_map(end).collect()
}

pub fn known_service(config: &Config, name: &str) -> Result<String, Rejection> {
    if config.service(name).is_some() {
        return Ok(name.to_owned());
    }
    let distance = |service: &&crate::config::Service| strsim::damerau_levenshtein(&service.name, name);
    let nearest = config.services.iter().min_by_key(distance).filter(|service| distance(service) <= 3);
    let names: Vec<&str> = config.services.iter().map(|service| service.name.as_str()).collect();
    let hint = nearest.map_or_else(String::new, |service| format!("; did you mean {}?", service.name));
    Err(Rejection::Unknown(format!("there is no service {name:?} ({}){hint}", names.join(", "))))
}

pub const fn kind_label(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::Trust => "trust",
        EntryKind::Allow => "allow",
        EntryKind::Block => "block",
    }
}

pub fn origin(loaded: &Loaded) -> Option<PathBuf> {
    match &loaded.origin {
        Origin::BuiltIn => None,
        Origin::File(path) => Some(path.clone()),
    }
}

/// What a change of configuration changed, a line each.
pub fn differences(before: &Config, after: &Config) -> Vec<String> {
    let mut lines = Vec::new();
    if before.mode != after.mode {
        lines.push(format!("mode: {} -> {}", before.mode, after.mode));
    }
    if before.interfaces != after.interfaces {
        lines.push("interfaces changed".to_owned());
    }
    if before.memory != after.memory {
        lines.push(format!("memory: {} -> {} (the cells start empty)", before.memory, after.memory));
    }
    if before.proof != after.proof {
        lines.push("proof: changed".to_owned());
    }
    if before.reputation != after.reputation {
        lines.push("reputation: changed".to_owned());
    }
    if before.export != after.export {
        lines.push("export: changed".to_owned());
    }
    let by_name = |config: &Config| -> BTreeMap<String, crate::config::Service> {
        config.services.iter().map(|service| (service.name.clone(), service.clone())).collect()
    };
    let (old, new) = (by_name(before), by_name(after));
    lines.extend(new.keys().filter(|name| !old.contains_key(*name)).map(|name| format!("service {name}: new")));
    lines.extend(old.keys().filter(|name| !new.contains_key(*name)).map(|name| format!("service {name}: gone")));
    let changed = |name: &&String| new.get(*name).is_some_and(|service| old.get(*name) != Some(service));
    lines.extend(old.keys().filter(changed).map(|name| format!("service {name}: changed")));
    let names = |config: &Config| config.lists.iter().map(|list| list.name.clone()).collect::<Vec<_>>();
    let (old, new) = (names(before), names(after));
    lines.extend(new.iter().filter(|name| !old.contains(name)).map(|name| format!("list {name}: new")));
    lines.extend(old.iter().filter(|name| !new.contains(name)).map(|name| format!("list {name}: gone")));
    let changed = |list: &&crate::config::List| after.list(&list.name).is_some_and(|new| new != *list);
    lines.extend(before.lists.iter().filter(changed).map(|list| format!("list {}: changed", list.name)));
    for kind in [EntryKind::Trust, EntryKind::Allow, EntryKind::Block] {
        let networks =
            |config: &Config| -> Vec<Network> { config.entries(kind).iter().map(|entry| entry.network).collect() };
        let (old, new) = (networks(before), networks(after));
        let label = kind_label(kind);
        lines
            .extend(new.iter().filter(|network| !old.contains(network)).map(|network| format!("{label}: + {network}")));
        lines
            .extend(old.iter().filter(|network| !new.contains(network)).map(|network| format!("{label}: - {network}")));
    }
    lines
}

/// Memory of the cells, which is the one that is configured.
pub fn memory_bytes(maps: &Maps) -> u64 {
    u64::from(maps.lines()) * LINE_BYTES as u64
}

pub fn rfc3339(since_1970_s: u64) -> String {
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(since_1970_s));
    humantime::format_rfc3339_seconds(time.unwrap_or(SystemTime::UNIX_EPOCH)).to_string()
}
