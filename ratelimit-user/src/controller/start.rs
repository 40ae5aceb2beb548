//! From nothing, or from what an earlier controller left in force, to a controller.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, RwLock},
    time::{Instant, SystemTime},
};

use anyhow::Context as _;
use ratelimit_common::Moment;
use tokio::sync::watch;

use super::{
    Controller, PathOverrides,
    bans::{in_kernel, spare},
    checked, find_interfaces,
    follow::never_block,
    hits::Hits,
    proof::{NEVER, keep_proven},
};
use crate::{
    bans::Book,
    changes::{Changes, seconds},
    compile::compile,
    config::{Config, ConfigErrors, DEFAULT_PATH, Interfaces, Loaded, Mode},
    events::Events,
    layout::Layout,
    lists::Roster,
    machine::Machine,
    plane::{Pins, Plan, Plane, clock_tick, now, open_watch, set_in_force},
    reputation::{Desk, Policy},
    ssh,
};

/// What the command line says; it goes before what the file says.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub config: Option<PathBuf>,
    /// Empty: as the file says. `auto`: those that hold a default route.
    pub interfaces: Vec<String>,
    pub mode: Option<Mode>,
    pub paths: PathOverrides,
    /// Leave the gate in force when a signal stops the controller.
    pub keep: bool,
}

impl Options {
    /// Reads the configuration as it is now.
    pub fn load(&self) -> Result<Loaded, ConfigErrors> {
        let path = self.config.as_deref().unwrap_or(Path::new(DEFAULT_PATH));
        let mut loaded = Config::load_for(path, clock_tick())?;
        let config = &mut loaded.config;
        match self.interfaces.as_slice() {
            [] => {}
            [auto] if auto == "auto" => config.interfaces = Interfaces::Auto,
            names => {
                let mut names = names.to_vec();
                names.sort();
                names.dedup();
                config.interfaces = Interfaces::Named(names);
            }
        }
        config.mode = self.mode.unwrap_or(config.mode);
        config.paths = self.paths.applied_to(&config.paths);
        Ok(loaded)
    }
}

impl Controller {
    /// Puts the gate in force, over what is pinned if anything is.
    pub fn start(options: Options) -> anyhow::Result<Self> {
        let loaded = options.load()?;
        let paths = loaded.config.paths.clone();
        let interfaces = find_interfaces(&loaded.config)?;
        let mut changes = Changes::load(&paths.state)?;
        changes.expire(SystemTime::now());
        let effective = checked(changes.applied_to(&loaded.config)).context(
            "changes made by command contradict the configuration file; undo one of them \
             (the changes are in changes.json in the state directory)",
        )?;
        let machine = Machine::look(&effective, &BTreeMap::new())?;
        let pins = Pins::at(&paths.pins);
        let layout = Layout::plan(&effective, set_in_force(&pins).as_deref());
        let mut book = Book::open(&paths.state)?;
        if let Some(Err(error)) = ssh::peer().map(|peer| book.note_peer(peer, SystemTime::now())) {
            tracing::warn!("where this SSH connection comes from is forgotten at the next start: {error}");
        }
        let never_block = never_block(&effective, &machine, &book.peers(SystemTime::now()));
        spare(&mut book, &never_block)?;
        let now_s = seconds(SystemTime::now());
        let roster = Roster::open(&effective, &paths.state, now_s)?;
        let weights = roster.weights(&effective, now_s);
        let (compiled, layers) = compile(&effective, &layout, &machine, &never_block, &weights, None)?;
        let told = now();
        let bans = in_kernel(&book, &layout);
        // The maps are made anew then, and what an earlier controller has not written down would be lost with them.
        if let Some(watch) =
            open_watch(&pins).ok().filter(|watch| watch.proven_most() != u64::from(effective.proof.sources))
            && let Err(error) = keep_proven(&watch, &mut book)
        {
            tracing::warn!("which sources are proven is not all written down: {error:#}");
        }
        let plane = Plane::raise(
            &pins,
            Plan {
                layout: &layout,
                compiled,
                interfaces: &interfaces,
                bans: &bans,
                proven_sources: effective.proof.sources,
            },
        )?;
        let events = Events::default();
        let policy = Policy::of(&effective, &layout, &never_block, None);
        let (desk, kills) = Desk::open(policy, plane.open_listed()?, events.clone(), &paths.state);
        for (network, time) in book.protections(SystemTime::now()) {
            desk.pardon(Some(network), Some(time));
        }
        let mut hits = Hits::open(&paths.state);
        hits.begin(plane.hits_before(), &effective);
        let set = Arc::from(plane.maps().active_set()?);
        let mut controller = Self {
            options,
            paths,
            loaded,
            changes,
            effective,
            machine,
            never_block,
            layout,
            layers,
            hits,
            roster,
            weights,
            interfaces,
            plane,
            set: Arc::new(RwLock::new(set)),
            events,
            desk,
            kills: Some(kills),
            bans: book,
            bans_told: told,
            older: 0,
            proven_noted: NEVER,
            hits_noted: Moment(0),
            plane_changed: watch::Sender::new(()),
            started: Instant::now(),
            config_error: None,
            export_error: None,
        };
        controller.begin_proof();
        Ok(controller)
    }
}
