//! What works on the pins alone, when no controller runs.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use anyhow::{Context as _, bail};
use ratelimit_common::{Address, ServiceId, Set, map::LINE_BYTES};

use crate::{
    api,
    bans::Book,
    changes::{Changes, Ending},
    compile,
    config::{Mode, Paths, fold_address},
    controller::{answer::mode_ends, keep_proven},
    events,
    lock::Lock,
    plane::{Maps, Pins, open_in_force, open_watch, take_down},
    view,
};

pub fn status(paths: &Paths) -> anyhow::Result<api::Status> {
    let pins = Pins::at(&paths.pins);
    let maps = open_in_force(&pins)?;
    let set = maps.active_set()?;
    let watch = open_watch(&pins).ok();
    let view::Seen { services, other, proof } = view::look(&maps, watch.as_ref(), &set)?;
    let interfaces = pins.linked_interfaces().context("listing the links")?;
    let attached = |name: &String| {
        let index = nix::net::if_::if_nametoindex(name.as_str()).ok()?;
        Some(crate::attach::attached_mode(index).ok()??.to_string())
    };
    Ok(api::Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        controller: false,
        pid: None,
        uptime_s: None,
        mode: mode_view(&set),
        config: None,
        config_error: None,
        interfaces: interfaces
            .iter()
            .map(|name| api::InterfaceStatus { name: name.clone(), attached: attached(name), notes: Vec::new() })
            .collect(),
        services,
        other,
        memory_bytes: u64::from(maps.lines()) * LINE_BYTES as u64,
        entries: api::EntryCounts {
            lists: set.entries.into(),
            bans: maps.bans().count()?,
            ..api::EntryCounts::default()
        },
        reputation: None,
        proof,
        generation: set.generation,
        warnings: vec!["no controller runs: the gate judges on by what was last in force".to_owned()],
    })
}

pub fn explain(paths: &Paths, address: IpAddr, service: Option<&str>) -> anyhow::Result<api::Explanation> {
    let pins = Pins::at(&paths.pins);
    let (maps, watch) = (open_in_force(&pins)?, open_watch(&pins).ok());
    let set = maps.active_set()?;
    let wanted = service.map(|name| place_of(&set, name)).transpose()?;
    let address = fold_address(address);
    let mut services = Vec::new();
    for (id, _) in set.services().filter(|(id, _)| wanted.is_none_or(|wanted| wanted == *id)) {
        let (source, rules) = (Address::from(address), view::Rules::default());
        services.extend(view::explain(&maps, watch.as_ref(), source, id, |_| Vec::new(), rules)?);
    }
    let proven = watch.map(|watch| view::proven(&watch, Address::from(address))).transpose()?.flatten();
    Ok(api::Explanation { address, controller: false, services, proven, recent: Vec::new() })
}

/// Sources by their open connections: events are kept by the controller alone.
pub fn sources(paths: &Paths, by: api::SourcesBy, most: u32) -> anyhow::Result<Vec<api::SourceView>> {
    if by != api::SourcesBy::Connections {
        bail!(
            "only a controller keeps the events that `--by {}` is about; `--by connections` works without",
            by.name()
        );
    }
    let pins = Pins::at(&paths.pins);
    let (set, watch) = (open_in_force(&pins)?.active_set()?, open_watch(&pins)?);
    Ok(view::sources(&watch, &set, &[], by, most as usize)?)
}

/// Changes the mode in the pinned maps, and remembers it for the next controller.
///
/// What ends by itself ends when a controller runs again, and not before its time.
pub fn set_mode(
    paths: &Paths,
    mode: Mode,
    service: Option<&str>,
    time: Option<Duration>,
) -> anyhow::Result<api::ModeView> {
    let _lock = Lock::take(&paths.socket)?;
    let mut maps = open_in_force(&Pins::at(&paths.pins))?;
    let set = maps.active_set()?;
    let id = service.map(|name| place_of(&set, name)).transpose()?;
    let mut changes = Changes::load(&paths.state)?;
    changes.set_mode(service.unwrap_or_default(), mode, time.map(Ending::After));
    changes.save(&paths.state)?;
    change_mode(&mut maps, mode, id)?;
    Ok(api::ModeView { ends: mode_ends(&changes), ..mode_view(&*maps.active_set()?) })
}

/// A service's own mode cannot be told apart from the gate's in the maps, so a change of the gate changes
/// them all; a controller that starts again puts each service's own mode back.
fn change_mode(maps: &mut Maps, mode: Mode, id: Option<ServiceId>) -> anyhow::Result<()> {
    let mode = compile::mode(mode);
    maps.change_active(|set| match id {
        Some(id) => set.set_mode(Some(id), mode),
        None => {
            let ids: Vec<ServiceId> = set.services().map(|(id, _)| id).collect();
            for id in ids.into_iter().map(Some).chain([None]) {
                set.set_mode(id, mode);
            }
        }
    })?;
    Ok(())
}

pub fn detach(paths: &Paths) -> anyhow::Result<api::Detached> {
    let _lock = Lock::take(&paths.socket)?;
    let pins = Pins::at(&paths.pins);
    if let Ok(watch) = open_watch(&pins) {
        keep_proven(&watch, &mut Book::open(&paths.state)?)?;
    }
    Ok(api::Detached { interfaces: take_down(&pins)? })
}

fn mode_view(set: &Set) -> api::ModeView {
    let gate = events::mode(set.mode(None));
    let own = |(id, service): (ServiceId, &ratelimit_common::Service)| {
        let mode = events::mode(set.mode(Some(id)));
        (mode != gate).then(|| (service.name().to_owned(), mode))
    };
    let services: BTreeMap<String, Mode> = set.services().filter_map(own).collect();
    api::ModeView { mode: gate, services, ends: Vec::new() }
}

fn place_of(set: &Set, name: &str) -> anyhow::Result<ServiceId> {
    let Some((id, _)) = set.services().find(|(_, service)| service.name() == name) else {
        let names: Vec<&str> = set.services().map(|(_, service)| service.name()).collect();
        bail!("there is no service {name:?} ({})", names.join(", "));
    };
    Ok(id)
}
