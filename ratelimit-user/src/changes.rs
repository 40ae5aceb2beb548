//! What commands changed on top of the configuration file, kept on disk so that a restart forgets nothing.

use std::{
    collections::BTreeMap,
    fs, io,
    io::Write as _,
    num::NonZeroU32,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use crate::config::{Config, Entry, EntryKind, Level, Limit, Mode, Network, Scope};

/// Changes by command. Times are seconds since 1970, so that they mean the same after a reboot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// The latest change of each scope; a service's name, or empty for the gate as a whole.
    #[serde(default)]
    pub modes: BTreeMap<String, ModeChange>,
    #[serde(default)]
    pub limits: Vec<LimitChange>,
    #[serde(default)]
    pub connections: Vec<ConnectionsChange>,
    #[serde(default)]
    pub entries: Vec<AddedEntry>,
    #[serde(default)]
    pub pauses: Vec<DnsblPause>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModeChange {
    pub mode: Mode,
    /// When it ends.
    pub until_s: Option<u64>,
    /// Whether `ratelimit confirm` makes it stay.
    pub awaits_confirmation: bool,
    /// What holds again when it ends; nothing means what the file says.
    pub before: Option<Mode>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitChange {
    pub service: String,
    pub level: Level,
    pub limits: Vec<Limit>,
    pub until_s: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionsChange {
    pub service: String,
    /// None is `off`.
    pub connections: Option<NonZeroU32>,
    pub until_s: Option<u64>,
}

/// A DNSBL that is not asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsblPause {
    pub dnsbl: String,
    pub until_s: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddedEntry {
    pub kind: EntryKind,
    pub network: Network,
    /// Empty means all services.
    pub services: Vec<String>,
    pub note: Option<String>,
    pub since_s: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum ChangesError {
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error(
        "{}: not what ratelimit wrote ({source}); the changes by command in it are not in force. Move it away to start without them",
        path.display()
    )]
    Garbled { path: PathBuf, source: serde_json::Error },
}

impl Changes {
    const FILE: &'static str = "changes.json";

    pub fn load(state: &Path) -> Result<Self, ChangesError> {
        let path = state.join(Self::FILE);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|source| ChangesError::Garbled { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(ChangesError::File { path, source }),
        }
    }

    /// Replaces the file as a whole: after a crash it holds the old or the new changes, never half of them.
    pub fn save(&self, state: &Path) -> Result<(), ChangesError> {
        let path = state.join(Self::FILE);
        let new = state.join(".changes.json.new");
        let write = || {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(state)?;
            let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(&serde_json::to_vec_pretty(self)?)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            fs::File::open(state)?.sync_all()
        };
        write().map_err(|source| ChangesError::File { path: path.clone(), source })
    }

    /// The configuration with the changes on top.
    pub fn applied_to(&self, config: &Config) -> Config {
        let mut effective = config.clone();
        for (scope, change) in &self.modes {
            if scope.is_empty() {
                effective.mode = change.mode;
            } else if let Some(service) = effective.services.iter_mut().find(|service| service.name == *scope) {
                service.mode = Some(change.mode);
            }
        }
        for change in &self.limits {
            let Some(service) = effective.services.iter_mut().find(|service| service.name == change.service) else {
                continue;
            };
            match change.level {
                Level::Source => service.source.clone_from(&change.limits),
                Level::Network => service.network.clone_from(&change.limits),
                Level::Service => service.service = change.limits.first().copied(),
            }
        }
        for change in &self.connections {
            if let Some(service) = effective.services.iter_mut().find(|service| service.name == change.service) {
                service.connections = change.connections;
            }
        }
        for dnsbl in &mut effective.reputation.dnsbl {
            dnsbl.is_paused = self.pause_of(&dnsbl.name).is_some();
        }
        for added in &self.entries {
            let Some(services) = scope_of(&added.services, config) else {
                continue;
            };
            let entry = Entry { network: added.network, services, note: added.note.clone() };
            match added.kind {
                EntryKind::Trust => effective.trust.push(entry),
                EntryKind::Allow => effective.allow.push(entry),
                EntryKind::Block => effective.block.push(entry),
            }
        }
        effective
    }

    /// Ends what has run out; true if anything had.
    pub fn expire(&mut self, now: SystemTime) -> bool {
        let now_s = seconds(now);
        let over = |until_s: Option<u64>| until_s.is_some_and(|until_s| until_s <= now_s);
        let before = self.clone();
        self.limits.retain(|change| !over(change.until_s));
        self.connections.retain(|change| !over(change.until_s));
        self.pauses.retain(|pause| !over(pause.until_s));
        let ended: Vec<String> =
            self.modes.iter().filter(|(_, change)| over(change.until_s)).map(|(scope, _)| scope.clone()).collect();
        for scope in ended {
            if let Some(mode) = self.modes.remove(&scope).and_then(|change| change.before) {
                self.modes.insert(scope, ModeChange { mode, until_s: None, awaits_confirmation: false, before: None });
            }
        }
        *self != before
    }

    pub fn pause_of(&self, dnsbl: &str) -> Option<&DnsblPause> {
        self.pauses.iter().find(|pause| pause.dnsbl == dnsbl)
    }

    /// Has a DNSBL left alone, for a time or until it is resumed.
    pub fn pause(&mut self, dnsbl: &str, time: Option<Duration>) {
        self.resume(dnsbl);
        let until_s = time.map(|time| seconds(SystemTime::now() + time));
        self.pauses.push(DnsblPause { dnsbl: dnsbl.to_owned(), until_s });
    }

    /// False if it was not left alone.
    pub fn resume(&mut self, dnsbl: &str) -> bool {
        let before = self.pauses.len();
        self.pauses.retain(|pause| pause.dnsbl != dnsbl);
        self.pauses.len() != before
    }

    /// Changes the mode of the gate or of a service, for a time or for good.
    pub fn set_mode(&mut self, scope: &str, mode: Mode, ends: Option<Ending>) {
        // A change that was to end anyway does not become what comes back.
        let before = self.modes.get(scope).and_then(|change| match change.until_s {
            Some(_) => change.before,
            None => Some(change.mode),
        });
        let (until_s, awaits_confirmation) = match ends {
            None => (None, false),
            Some(Ending::After(time)) => (Some(seconds(SystemTime::now() + time)), false),
            Some(Ending::UnlessConfirmed(time)) => (Some(seconds(SystemTime::now() + time)), true),
        };
        let before = before.filter(|_| until_s.is_some());
        self.modes.insert(scope.to_owned(), ModeChange { mode, until_s, awaits_confirmation, before });
    }

    /// Makes changes stay that wait for it; false if none does.
    pub fn confirm(&mut self) -> bool {
        let mut confirmed = false;
        for change in self.modes.values_mut().filter(|change| change.awaits_confirmation) {
            *change = ModeChange { mode: change.mode, until_s: None, awaits_confirmation: false, before: None };
            confirmed = true;
        }
        confirmed
    }
}

/// How a change ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    After(Duration),
    UnlessConfirmed(Duration),
}

/// Seconds since 1970.
pub fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// `None` if none of the services exists any more.
fn scope_of(services: &[String], config: &Config) -> Option<Scope> {
    if services.is_empty() {
        return Some(Scope::All);
    }
    let known: Vec<String> = services.iter().filter(|name| config.service(name).is_some()).cloned().collect();
    (!known.is_empty()).then_some(Scope::Services(known))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Dnsbl;

    fn config() -> Config {
        Config::default()
    }

    #[test]
    fn a_mode_for_a_time_goes_back_to_what_was_before() {
        let mut changes = Changes::default();
        changes.set_mode("", Mode::Enforce, None);
        changes.set_mode("", Mode::Observe, Some(Ending::After(Duration::from_secs(60))));
        assert_eq!(changes.applied_to(&config()).mode, Mode::Observe);
        assert!(!changes.expire(SystemTime::now()));
        assert!(changes.expire(SystemTime::now() + Duration::from_secs(61)));
        assert_eq!(changes.applied_to(&config()).mode, Mode::Enforce);
    }

    #[test]
    fn an_unconfirmed_mode_goes_back_to_the_file_and_a_confirmed_one_stays() {
        for confirm in [false, true] {
            let mut changes = Changes::default();
            changes.set_mode("smtp", Mode::Enforce, Some(Ending::UnlessConfirmed(Duration::from_secs(60))));
            if confirm {
                assert!(changes.confirm());
                assert!(!changes.confirm());
            }
            changes.expire(SystemTime::now() + Duration::from_secs(3600));
            assert_eq!(changes.modes.contains_key("smtp"), confirm);
        }
    }

    #[test]
    fn connections_for_a_time_go_back_to_the_file() {
        let change = |service: &str, connections, until_s| ConnectionsChange {
            service: service.into(),
            connections: NonZeroU32::new(connections),
            until_s,
        };
        let soon = seconds(SystemTime::now()) + 60;
        let connections = vec![change("smtp", 7, Some(soon)), change("imap", 0, None), change("gone", 1, None)];
        let mut changes = Changes { connections, ..Changes::default() };
        let of = |changes: &Changes, name: &str| changes.applied_to(&config()).service(name).unwrap().connections;
        assert_eq!(of(&changes, "smtp"), NonZeroU32::new(7));
        assert_eq!(of(&changes, "imap"), None);
        assert_eq!(of(&changes, "pop3"), NonZeroU32::new(60));
        assert!(!changes.expire(SystemTime::now()));
        assert!(changes.expire(SystemTime::now() + Duration::from_secs(61)));
        assert_eq!(of(&changes, "smtp"), NonZeroU32::new(50));
        assert_eq!(of(&changes, "imap"), None, "what has no end stays");
    }

    #[test]
    fn a_dnsbl_is_left_alone_for_its_time_or_until_it_is_resumed() {
        let mut config = config();
        config.reputation.dnsbl = ["one", "two"].map(|name| Dnsbl::new(name, "bl.example")).to_vec();
        let paused = |changes: &Changes| {
            changes.applied_to(&config).reputation.dnsbl.iter().map(|dnsbl| dnsbl.is_paused).collect::<Vec<_>>()
        };
        let mut changes = Changes::default();
        changes.pause("one", None);
        changes.pause("one", Some(Duration::from_secs(60)));
        changes.pause("two", None);
        assert_eq!(paused(&changes), [true, true]);
        changes.expire(SystemTime::now() + Duration::from_secs(61));
        assert_eq!(paused(&changes), [false, true]);
        assert!(changes.resume("two") && !changes.resume("two"));
        assert_eq!(paused(&changes), [false, false]);
    }

    #[test]
    fn changes_from_before_connections_could_be_set_are_read() {
        let state = tempfile::tempdir().unwrap();
        fs::write(state.path().join("changes.json"), r#"{"modes": {}, "limits": [], "entries": []}"#).unwrap();
        assert_eq!(Changes::load(state.path()).unwrap(), Changes::default());
    }

    #[test]
    fn what_is_saved_is_loaded_and_garbage_is_named() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(Changes::load(state.path()).unwrap(), Changes::default());
        let mut changes = Changes::default();
        changes.set_mode("", Mode::Enforce, None);
        changes.entries.push(AddedEntry {
            kind: EntryKind::Trust,
            network: "10.0.0.0/8".parse().unwrap(),
            services: vec!["smtp".into(), "gone".into()],
            note: Some("webmail".into()),
            since_s: 1,
        });
        changes.connections.push(ConnectionsChange { service: "smtp".into(), connections: None, until_s: Some(9) });
        changes.save(state.path()).unwrap();
        assert_eq!(Changes::load(state.path()).unwrap(), changes);
        assert_eq!(changes.applied_to(&config()).trust[0].services, Scope::Services(vec!["smtp".into()]));

        fs::write(state.path().join("changes.json"), "{").unwrap();
        let error = Changes::load(state.path()).unwrap_err().to_string();
        assert!(error.contains("changes.json") && error.contains("Move it away"), "{error}");
    }
}
