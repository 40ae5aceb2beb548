//! Proof and connections: what the kernel notes of them is kept on disk, what it cannot see is told to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use anyhow::Context as _;
use aya::maps::MapError;
use ratelimit_common::{
    Address, Moment, ServiceId, Set,
    proof::{OpenKey, Proven},
    suspicion::{may_be_capped, set_capped},
};

use super::{Controller, Rejection, bans::LONGEST_RUN_NS};
use crate::{
    api,
    bans::{Book, Proof},
    config::{self, Network, fold_address},
    plane::{WatchMaps, now},
    sock_diag::{self, Connection, NamespaceError, SockDiagError, in_namespaces},
};

/// An entry of a source without connections is taken out when it has been so for this long.
const IDLE_NS: u64 = 60_000_000_000;
/// Sources that are written down at once; the controller does other work in between.
const AT_ONCE: usize = 4_000;

/// Writes down which sources are proven, so that it is known after a reboot. Those that are too old go.
pub fn note_proven(controller: &Mutex<Controller>) -> Result<(), Rejection> {
    let lock = || controller.lock().unwrap_or_else(PoisonError::into_inner);
    let (start, seen) = {
        let controller = lock();
        let since = controller.proven_noted;
        (now(), controller.plane.watch().proven_since(since.0).context("reading the proven sources")?)
    };
    for some in seen.chunks(AT_ONCE) {
        lock().note_proven_of(some)?;
        // Whoever waits for the controller gets it first.
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let mut controller = lock();
    controller.proven_noted = Moment(start.0.saturating_sub(LONGEST_RUN_NS));
    controller.forget_proven()
}

/// Writes down what the kernel knows of proven sources, before its maps go and where no controller does it.
pub fn keep_proven(watch: &WatchMaps, book: &mut Book) -> anyhow::Result<()> {
    let all = watch.all_proven().context("reading the proven sources")?;
    Ok(book.note_proven(&all, now(), SystemTime::now())?)
}

/// The connections of this machine's listeners, as the configuration says where those are.
fn connections(
    which: config::Namespaces,
    ports: &[u16],
    marks: Option<std::os::fd::BorrowedFd<'_>>,
) -> Result<Vec<Connection>, SockDiagError> {
    let all = in_namespaces(which, || sock_diag::connections(ports, marks))?;
    Ok(all.answers.into_iter().flatten().collect())
}

impl Controller {
    /// Makes the kernel know again who is proven, and what was open before anybody counted.
    pub(super) fn begin_proof(&mut self) {
        self.restore_proven();
        if let Err(error) = self.count_older().and_then(|()| self.find_capped(true)) {
            tracing::warn!("connections that are older than the gate are not counted: {error}");
        }
    }

    pub(super) fn restore_proven(&mut self) {
        let (now, at) = (now(), SystemTime::now());
        let restored = self.bans.proven(now, at).map_err(anyhow::Error::from).and_then(|known| {
            let count = known.len();
            self.plane.watch_mut().restore_proven(&known)?;
            Ok(count)
        });
        match restored {
            Ok(count) => tracing::debug!(count, "proven sources are known again"),
            Err(error) => tracing::warn!("which sources are proven is not known from before: {error:#}"),
        }
    }

    fn note_proven_of(&mut self, sources: &[(Address, Proven)]) -> Result<(), Rejection> {
        Ok(self.bans.note_proven(sources, now(), SystemTime::now()).map_err(anyhow::Error::from)?)
    }

    fn forget_proven(&mut self) -> Result<(), Rejection> {
        let now = now();
        let all = self.plane.watch().all_proven().context("reading the proven sources")?;
        let old: Vec<Address> =
            all.into_iter().filter(|(_, proven)| !proven.is_good(now.0)).map(|(source, _)| source).collect();
        self.plane.watch_mut().forget_proven(&old).map_err(anyhow::Error::from)?;
        Ok(self.bans.forget_proven(SystemTime::now()).map_err(anyhow::Error::from)?)
    }

    /// Writes down all that is known of proven sources, before the kernel forgets it.
    pub(super) fn keep_proven(&mut self) -> Result<(), Rejection> {
        let seen = self.plane.watch().proven_since(self.proven_noted.0).context("reading the proven sources")?;
        self.note_proven_of(&seen)
    }

    /// Counts connections that were open before anybody counted, as long as there are any.
    pub fn follow_older(&mut self) -> Result<(), Rejection> {
        if self.older > 0 {
            self.count_older()?;
        }
        self.find_capped(false)
    }

    /// What every minute brings: older connections are looked for anew, entries without connections go.
    pub fn tidy_connections(&mut self) -> Result<(), Rejection> {
        self.count_older()?;
        let before = now().0.saturating_sub(IDLE_NS);
        Ok(self.plane.watch_mut().prune_open(before).map_err(anyhow::Error::from)?)
    }

    pub(super) fn count_older(&mut self) -> Result<(), Rejection> {
        let set = self.plane.maps().active_set().map_err(anyhow::Error::from)?;
        let ports: Vec<u16> = set.listeners().collect();
        let mut older = BTreeMap::<OpenKey, u64>::new();
        if self.plane.unwatched().is_none() && !ports.is_empty() {
            let marks = self.plane.watch().marks();
            let all = connections(self.effective.proof.namespaces, &ports, Some(marks)).map_err(anyhow::Error::from)?;
            for connection in all.iter().filter(|connection| !connection.is_marked) {
                if let Some(key) = key_of(&set, connection) {
                    *older.entry(key).or_default() += 1;
                }
            }
        }
        self.plane.watch_mut().put_older(&older).map_err(anyhow::Error::from)?;
        self.older = older.values().sum();
        Ok(())
    }

    /// Tells the gate for which services some source has as many connections as it may. The program that watches says so by
    /// itself; only the controller takes it back, and finds out what a change of configuration brings.
    pub(super) fn find_capped(&mut self, after_change: bool) -> Result<(), Rejection> {
        let maps = self.plane.maps();
        let set = maps.active_set().map_err(anyhow::Error::from)?;
        let hinted: Vec<ServiceId> =
            set.services().map(|(id, _)| id).filter(|id| after_change || may_be_capped(maps.cells(), *id)).collect();
        if hinted.is_empty() {
            return Ok(());
        }
        let capped = self.capped(&set)?;
        for id in &hinted {
            set_capped(maps.cells(), *id, capped.contains(id));
        }
        // Whoever came to his cap in between found the hint there, which is gone now.
        for id in self.capped(&set)? {
            set_capped(maps.cells(), id, true);
        }
        Ok(())
    }

    fn capped(&self, set: &Set) -> Result<BTreeSet<ServiceId>, Rejection> {
        let open = self.plane.watch().all_connections().map_err(anyhow::Error::from)?;
        let is_full = |(key, count): (OpenKey, u64)| {
            let id = key.service()?;
            let most = set.service_at(id).connections;
            (most != 0 && count >= most).then_some(id)
        };
        Ok(open.into_iter().filter_map(is_full).collect())
    }

    /// That an address is a source that has proved itself and said something, if it is.
    pub fn proof_of(&self, address: IpAddr) -> Result<Option<Proof>, Rejection> {
        let address = fold_address(address);
        let noted = self.plane.watch().proven(Address::from(address)).map_err(anyhow::Error::from)?;
        if let Some(proof) = noted.and_then(|proven| Proof::of(address, &proven, now().0)) {
            return Ok(Some(proof));
        }
        // What is still open has not been noted yet.
        let set = self.plane.maps().active_set().map_err(anyhow::Error::from)?;
        let ports: Vec<u16> = set.listeners().collect();
        let open = connections(self.effective.proof.namespaces, &ports, None).map_err(anyhow::Error::from)?;
        let of_source = open.iter().filter(|connection| connection.remote.ip() == address);
        Ok(of_source.filter_map(|open| Proof::of_connection(address, open.bytes_received, open.bytes_acked)).next())
    }

    /// Ends open connections of a network to services, all if none is named, except those of sources that are allowed there.
    /// What was ended before something fails stays ended.
    pub(super) fn kill(&self, network: Network, services: &[String]) -> Killed {
        self.kill_of(|source| network.contains_address(source), services)
    }

    /// The same of every source that is concerned.
    pub(super) fn kill_of(&self, is_concerned: impl Fn(IpAddr) -> bool + Sync, services: &[String]) -> Killed {
        let ended = AtomicU64::new(0);
        let failed = self.try_kill(is_concerned, services, &ended).err();
        Killed { ended: ended.into_inner(), failed: failed.map(|error| format!("{error:#}")) }
    }

    fn try_kill(
        &self,
        is_concerned: impl Fn(IpAddr) -> bool + Sync,
        services: &[String],
        ended: &AtomicU64,
    ) -> anyhow::Result<()> {
        let concerned = self.effective.services.iter();
        let concerned = concerned.filter(|service| services.is_empty() || services.contains(&service.name));
        let ports: Vec<u16> = concerned.flat_map(|service| service.listens_at()).copied().collect();
        let maps = self.plane.maps();
        let set = maps.active_set()?;
        let is_allowed = |connection: &Connection| -> Result<bool, MapError> {
            let Some(id) = set.listener(connection.local.port()) else { return Ok(false) };
            Ok(maps.entry(maps.class(Address::from(connection.remote.ip()))?)?.allows(id))
        };
        let end = || -> Result<(), KillError> {
            let is_concerned = |connection: &&Connection| is_concerned(connection.remote.ip());
            for connection in sock_diag::connections(&ports, None)?.iter().filter(is_concerned) {
                if !is_allowed(connection)? && sock_diag::destroy(connection)? {
                    ended.fetch_add(1, Ordering::Relaxed);
                }
            }
            Ok(())
        };
        let hidden = in_namespaces(self.effective.proof.namespaces, end)?.hidden;
        anyhow::ensure!(
            hidden.is_empty(),
            "the network namespaces of {} processes may not be looked at: run as root, or with CAP_SYS_PTRACE",
            hidden.len()
        );
        Ok(())
    }

    /// Sources, by what is asked for.
    pub fn sources(&self, by: api::SourcesBy, most: usize) -> Result<Vec<api::SourceView>, Rejection> {
        let set = self.plane.maps().active_set().map_err(anyhow::Error::from)?;
        let events = self.events.recent(usize::MAX);
        Ok(crate::view::sources(self.plane.watch(), &set, &events, by, most).map_err(anyhow::Error::from)?)
    }
}

/// What became of the open connections of a network.
#[derive(Debug)]
pub(super) struct Killed {
    pub ended: u64,
    /// Why some may be left.
    pub failed: Option<String>,
}

#[derive(Debug, thiserror::Error)]
enum KillError {
    #[error(transparent)]
    Sockets(#[from] SockDiagError),
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    #[error("the gate's maps: {}", crate::describe(.0))]
    Map(#[from] MapError),
}

/// Where the kernel would have counted a connection.
fn key_of(set: &Set, connection: &Connection) -> Option<OpenKey> {
    let id = set.listener(connection.local.port())?;
    let source = Address::from(connection.remote.ip());
    let (mask, _) = set.service_at(id).masks(source);
    Some(OpenKey::new(source.masked(mask), id))
}

/// Where nothing has been written down yet.
pub(super) const NEVER: Moment = Moment(0);
