//! The controller: what is configured, what commands changed, and the plane that carries it out.
//!
//! Every change takes the same way: the configuration with the changes on top is checked, compiled, put in
//! force in one step, and only then remembered. Whatever fails on that way leaves everything as it was.

pub(crate) mod answer;
mod bans;
mod export;
mod follow;
mod hits;
mod limits;
mod lists;
mod proof;
mod reputation;
mod start;

use std::{
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::{Instant, SystemTime},
};

use ratelimit_common::{Moment, Set};
use tokio::sync::{mpsc, watch};

use crate::{
    api,
    bans::Book,
    changes::{AddedEntry, Changes, Ending, seconds},
    compile::{Compiled, compile},
    config::{Config, ConfigErrors, Entry, EntryKind, Interfaces, Loaded, Mode, Network, Paths, Scope},
    events::Events,
    guard::NeverBlock,
    interface::{Interface, default_route_interfaces},
    layout::Layout,
    lists::{Layers, Roster, Weights},
    machine::Machine,
    plane::{ListHits, Pins, Plan, Plane, PlaneError, ProgramLog, clock_tick, take_down},
    reputation::{Desk, Kill, Policy},
};

pub use bans::note_ban_hits;
pub use export::export;
pub use proof::{keep_proven, note_proven};
pub use start::Options;

/// Why a request was not carried out. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum Rejection {
    /// The request is wrong.
    #[error("{0}")]
    Invalid(String),
    /// What it names does not exist.
    #[error("{0}")]
    Unknown(String),
    /// The request is right and the machine failed.
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
}

/// The set in force, for those who name the services in events.
pub type SharedSet = Arc<RwLock<Arc<Set>>>;

#[derive(Debug)]
pub struct Controller {
    options: Options,
    paths: Paths,
    /// As the file says, flags included.
    loaded: Loaded,
    changes: Changes,
    /// What is in force.
    effective: Config,
    machine: Machine,
    /// What lists and bans in force spare.
    never_block: NeverBlock,
    layout: Layout,
    layers: Layers,
    roster: Roster,
    /// What lists weigh with in what is in force.
    weights: Weights,
    hits: hits::Hits,
    interfaces: Vec<Interface>,
    plane: Plane,
    set: SharedSet,
    events: Events,
    desk: Desk,
    /// Until whoever ends connections takes it.
    kills: Option<mpsc::Receiver<Kill>>,
    bans: Book,
    /// When the kernel was last told what turns by itself.
    bans_told: Moment,
    /// Up to when what bans stopped has been noted.
    hits_noted: Moment,
    /// Connections that were open before anybody counted.
    older: u64,
    /// Up to when proven sources have been written down.
    proven_noted: Moment,
    /// Told when the maps are made anew.
    plane_changed: watch::Sender<()>,
    started: Instant,
    /// The latest reload that was refused.
    config_error: Option<String>,
    /// Why bans are not exported, where they should be.
    export_error: Option<String>,
}

impl Controller {
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// Where sources are looked up in DNSBLs.
    pub fn desk(&self) -> Desk {
        self.desk.clone()
    }

    /// Sources whose connections are to end. There is one who listens.
    pub fn take_kills(&mut self) -> Option<mpsc::Receiver<Kill>> {
        self.kills.take()
    }

    pub fn shared_set(&self) -> SharedSet {
        Arc::clone(&self.set)
    }

    pub fn plane(&self) -> &Plane {
        &self.plane
    }

    pub fn take_program_log(&mut self) -> Option<ProgramLog> {
        self.plane.take_log()
    }

    /// Wakes when the maps are made anew.
    pub fn plane_changes(&self) -> watch::Receiver<()> {
        self.plane_changed.subscribe()
    }

    /// Brings cells that owe nothing up to date, before their time wraps.
    pub fn sweep(&self, now: Moment) -> Result<(), Rejection> {
        let maps = self.plane.maps();
        let secret = maps.secret().map_err(anyhow::Error::from)?;
        let swept = maps.sweep(secret.ticks(now));
        tracing::debug!(swept, "cells swept");
        Ok(())
    }

    pub fn set_mode(&mut self, request: &api::SetMode) -> Result<api::ModeView, Rejection> {
        let scope = match &request.service {
            Some(service) => self.known_service(service)?,
            None => String::new(),
        };
        let ends = match (request.for_, request.confirm) {
            (None, None) => None,
            (Some(time), None) => Some(Ending::After(time.as_std())),
            (None, Some(time)) => Some(Ending::UnlessConfirmed(time.as_std())),
            (Some(_), Some(_)) => {
                return Err(Rejection::Invalid(
                    "--for and --confirm exclude each other: a confirmed mode stays".into(),
                ));
            }
        };
        self.change(|changes| changes.set_mode(&scope, request.mode, ends))?;
        tracing::info!(service = request.service, mode = %request.mode, "the mode was changed by command");
        Ok(self.mode_view())
    }

    pub fn confirm(&mut self) -> Result<api::ModeView, Rejection> {
        let mut waiting = self.changes.clone();
        if !waiting.confirm() {
            return Err(Rejection::Invalid("nothing waits for a confirmation".into()));
        }
        self.change(|changes| *changes = waiting)?;
        tracing::info!("the mode was confirmed by command");
        Ok(self.mode_view())
    }

    pub fn add_entry(&mut self, kind: EntryKind, request: api::EntryRequest) -> Result<Vec<api::EntryView>, Rejection> {
        let services = self.known_services(&request.services)?;
        if let (EntryKind::Block, Some(guarded)) = (kind, self.never_block_on(&self.machine).around(request.network)) {
            let network = request.network;
            return Err(Rejection::Invalid(format!("{network} lies in {guarded}: that is never blocked")));
        }
        let since_s = seconds(SystemTime::now());
        self.change(|changes| {
            changes.entries.retain(|added| (added.kind, added.network) != (kind, request.network));
            changes.entries.push(AddedEntry { kind, network: request.network, services, note: request.note, since_s });
        })?;
        tracing::info!(list = answer::kind_label(kind), network = %request.network, "added by command");
        Ok(self.entry_views(kind))
    }

    pub fn remove_entry(&mut self, kind: EntryKind, network: Network) -> Result<Vec<api::EntryView>, Rejection> {
        let is_it = |added: &AddedEntry| (added.kind, added.network) == (kind, network);
        if self.changes.entries.iter().any(is_it) {
            self.change(|changes| changes.entries.retain(|added| !is_it(added)))?;
            tracing::info!(list = answer::kind_label(kind), %network, "removed by command");
            return Ok(self.entry_views(kind));
        }
        let kind_name = answer::kind_label(kind);
        let in_file = |entry: &Entry| entry.network == network;
        Err(if self.loaded.config.entries(kind).iter().any(in_file) {
            Rejection::Invalid(format!(
                "{network} is in {kind_name} by the configuration{}: remove it there, then `ratelimit reload`",
                answer::origin(&self.loaded).map_or_else(String::new, |file| format!(" file {}", file.display()))
            ))
        } else {
            Rejection::Unknown(format!("{network} is not in {kind_name}; `ratelimit {kind_name} show` lists what is"))
        })
    }

    /// Reads the configuration anew. What is refused leaves everything in force, and is remembered.
    pub fn reload(&mut self) -> Result<api::Reloaded, Rejection> {
        let reloaded = self.try_reload();
        self.config_error = reloaded.as_ref().err().map(ToString::to_string);
        reloaded
    }

    fn try_reload(&mut self) -> Result<api::Reloaded, Rejection> {
        let loaded = self.options.load().map_err(|errors| Rejection::Invalid(errors.to_string()))?;
        let before = self.effective.clone();
        let interfaces = find_interfaces(&loaded.config)?;
        let changes = self.changes.clone();
        self.put_in_force(loaded, changes, interfaces)?;
        Ok(api::Reloaded { changes: answer::differences(&before, &self.effective), warnings: self.file_warnings() })
    }

    /// Ends changes that have run out.
    pub fn expire(&mut self) -> Result<(), Rejection> {
        let mut changes = self.changes.clone();
        if changes.expire(SystemTime::now()) {
            tracing::info!("a change by command has run out");
            self.change(|current| *current = changes)?;
        }
        self.weigh_lists()?;
        self.expire_bans()
    }

    /// Takes the gate off every interface. The controller is of no use afterwards.
    pub fn detach(&mut self) -> Result<api::Detached, Rejection> {
        if let Err(error) = self.keep_proven() {
            tracing::warn!("which sources are proven is not all written down: {error}");
        }
        let interfaces = take_down(&Pins::at(&self.paths.pins)).map_err(anyhow::Error::from)?;
        Ok(api::Detached { interfaces })
    }

    fn change(&mut self, change: impl FnOnce(&mut Changes)) -> Result<(), Rejection> {
        let mut changes = self.changes.clone();
        change(&mut changes);
        changes.modes.retain(|scope, change| change.until_s.is_some() || self.file_says(scope) != Some(change.mode));
        self.put_in_force(self.loaded.clone(), changes, self.interfaces.clone())
    }

    /// The mode of the gate or of a service without changes by command.
    fn file_says(&self, scope: &str) -> Option<Mode> {
        match scope {
            "" => Some(self.loaded.config.mode),
            service => self.loaded.config.service(service)?.mode,
        }
    }

    fn put_in_force(&mut self, loaded: Loaded, changes: Changes, interfaces: Vec<Interface>) -> Result<(), Rejection> {
        let effective = checked(changes.applied_to(&loaded.config))?;
        let machine = Machine::look(&effective, &self.machine.backlogs)?;
        let never_block = self.never_block_by(&effective, &machine);
        let in_force = self.plane.maps().active_set().map_err(anyhow::Error::from)?;
        let layout = Layout::plan(&effective, Some(&in_force));
        let same_plane = layout.fits(&in_force)
            && layout.lines == self.plane.maps().lines()
            && interfaces == self.interfaces
            && effective.proof.sources == self.effective.proof.sources;
        let policy = Policy::of(&effective, &layout, &never_block, Some(&self.desk.policy()));
        let weights = self.roster.weights(&effective, seconds(SystemTime::now()));
        let known = same_plane.then_some(&self.layers);
        let (compiled, layers) = compile(&effective, &layout, &machine, &never_block, &weights, known)
            .map_err(|error| Rejection::Invalid(error.to_string()))?;
        // Remembered first: what is in force but forgotten would be gone after a restart. Lists change nothing about it, and
        // must come into force when the disk is full.
        let is_changed = changes != self.changes;
        if is_changed {
            changes.save(&self.paths.state).map_err(anyhow::Error::from)?;
        }
        let put = match same_plane {
            true => self.plane.put_in_force(compiled),
            false => self.raise(&effective, &layout, compiled, &interfaces),
        };
        match put {
            Ok(ended) => self.hits.begin(&ended, &effective),
            Err(error) => {
                if is_changed {
                    self.changes.save(&self.paths.state).map_err(anyhow::Error::from)?;
                }
                return Err(anyhow::Error::from(error).into());
            }
        }
        self.desk.follow(policy);
        if !same_plane {
            self.desk.move_to(self.plane.open_listed().map_err(anyhow::Error::from)?);
        }
        let set = self.plane.maps().active_set().map_err(anyhow::Error::from)?;
        *self.set.write().unwrap_or_else(PoisonError::into_inner) = Arc::from(set);
        (self.loaded, self.changes, self.effective) = (loaded, changes, effective);
        (self.machine, self.layout, self.interfaces) = (machine, layout, interfaces);
        (self.layers, self.weights) = (layers, weights);
        if !self.roster.all().map(|list| &list.config).eq(&self.effective.lists) {
            self.roster.follow(&self.effective, seconds(SystemTime::now()));
        }
        if std::mem::replace(&mut self.never_block, never_block) != self.never_block {
            self.spare_guarded();
        }
        if let Err(error) = self.count_older().and_then(|()| self.find_capped(true)) {
            tracing::warn!("who has as many connections as he may is not known anew: {error}");
        }
        Ok(())
    }

    /// Puts in force what the maps of the plane have no room for. Returns what the lists that went out of force stopped.
    fn raise(
        &mut self,
        effective: &Config,
        layout: &Layout,
        compiled: Compiled,
        interfaces: &[Interface],
    ) -> Result<ListHits, PlaneError> {
        let proven_sources = effective.proof.sources;
        let is_other_room = proven_sources != self.effective.proof.sources;
        if is_other_room && let Err(error) = self.keep_proven() {
            tracing::warn!("which sources are proven is not all written down: {error}");
        }
        let bans = bans::in_kernel(&self.bans, layout);
        let plan = Plan { layout, compiled, interfaces, bans: &bans, proven_sources };
        self.plane = Plane::raise(&Pins::at(&self.paths.pins), plan)?;
        self.plane_changed.send_replace(());
        if is_other_room {
            self.restore_proven();
        }
        Ok(self.plane.hits_before().clone())
    }

    fn known_service(&self, name: &str) -> Result<String, Rejection> {
        answer::known_service(&self.effective, name)
    }

    fn known_services(&self, names: &[String]) -> Result<Vec<String>, Rejection> {
        names.iter().map(|name| self.known_service(name)).collect()
    }
}

/// Holds a changed configuration against the rules of a configuration file, so that no command can do what
/// a file could not.
fn checked(config: Config) -> Result<Config, Rejection> {
    let loaded = Config::parse_for(&config.to_toml(), "with this change", clock_tick());
    loaded.map(|_| config).map_err(|errors: ConfigErrors| {
        let problems = errors.iter().map(|error| error.problem.clone().without_line());
        let lines: Vec<String> = problems.map(|problem| format!("{problem}; {}", problem.remedy())).collect();
        Rejection::Invalid(lines.join("\n"))
    })
}

/// The interfaces of a configuration.
fn find_interfaces(config: &Config) -> Result<Vec<Interface>, Rejection> {
    let names = match &config.interfaces {
        Interfaces::Auto => default_route_interfaces().map_err(anyhow::Error::from)?,
        Interfaces::Named(names) => names.clone(),
    };
    names.iter().map(|name| Interface::find(name).map_err(|error| Rejection::Failed(error.into()))).collect()
}

fn services_of(scope: &Scope) -> Vec<String> {
    match scope {
        Scope::All => Vec::new(),
        Scope::Services(names) => names.clone(),
    }
}

/// The paths of a configuration with those given on the command line.
#[derive(Clone, Debug, Default)]
pub struct PathOverrides {
    pub socket: Option<PathBuf>,
    pub pins: Option<PathBuf>,
    pub state: Option<PathBuf>,
}

impl PathOverrides {
    pub fn applied_to(&self, paths: &Paths) -> Paths {
        Paths {
            socket: self.socket.clone().unwrap_or_else(|| paths.socket.clone()),
            pins: self.pins.clone().unwrap_or_else(|| paths.pins.clone()),
            state: self.state.clone().unwrap_or_else(|| paths.state.clone()),
        }
    }
}
