//! The desk: takes handshakes, asks the zones about their sources, and lists in the kernel whom they speak against.

mod acting;
mod asking;
mod following;
mod keeping;
mod shown;
mod tests_of_zones;

use std::{
    collections::HashMap,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Instant, SystemTime},
};

use ratelimit_common::{Address, ServiceId};
use tokio::sync::mpsc;

use keeping::held;

use super::{
    Policy,
    answers::{AnswerKey, Answers},
    ask::{Asker, AskerError},
    crowds::Crowds,
    in_force::InForce,
    store::Store,
    zone::ZoneState,
};
use crate::{
    changes::seconds,
    config::{Network, fold_address},
    events::Events,
    plane::ListedMaps,
};

/// Sources that wait for their connections to be ended. More keep theirs.
const MOST_KILLS: usize = 1 << 16;

/// What every task of reputation shares.
#[derive(Clone, Debug)]
pub struct Desk(Arc<Mutex<State>>);

/// A source whose open connections are to end, and the service where that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kill {
    pub source: IpAddr,
    pub service: String,
}

#[derive(Debug)]
struct State {
    policy: Arc<Policy>,
    /// Counts changes of the zones: answers to questions from before one say nothing after it.
    generation: u64,
    asker: Result<Arc<Asker>, AskerError>,
    gate: ListedMaps,
    /// As in the policy.
    zones: Vec<ZoneState>,
    answers: Answers,
    crowds: Crowds,
    /// Sources that are being asked about, and for which services.
    in_flight: HashMap<IpAddr, Vec<ServiceId>>,
    in_force: InForce,
    /// Whom administrators let go, and until when.
    pardons: Vec<(Network, Instant)>,
    state_dir: PathBuf,
    store: Option<Arc<Mutex<Store>>>,
    /// Listings that are not written down yet.
    unwritten: Vec<AnswerKey>,
    filter_is_stale: bool,
    events: Events,
    kills: mpsc::Sender<Kill>,
    counts: Counts,
    told: Told,
}

/// What happened at the desk.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    handshakes: u64,
    not_asked: u64,
    no_room: u64,
}

/// What is not said again and again.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    no_room: bool,
    store: bool,
    /// Listings that were told in this second.
    listings: (u64, u32),
}

impl Desk {
    /// Also what tells the sources whose connections are to end.
    pub fn open(policy: Policy, gate: ListedMaps, events: Events, state_dir: &Path) -> (Self, mpsc::Receiver<Kill>) {
        let at = Instant::now();
        let (kills, killer) = mpsc::channel(MOST_KILLS);
        let mut state = State {
            asker: asker(&policy),
            zones: policy.zones.iter().map(|zone| ZoneState::new(&zone.dnsbl, at)).collect(),
            answers: Answers::new(policy.reputation.answers as usize),
            policy: Arc::new(policy),
            generation: 0,
            gate,
            crowds: Crowds::default(),
            in_flight: HashMap::new(),
            in_force: InForce::default(),
            pardons: Vec::new(),
            state_dir: state_dir.to_path_buf(),
            store: None,
            unwritten: Vec::new(),
            filter_is_stale: false,
            events,
            kills,
            counts: Counts::default(),
            told: Told::default(),
        };
        state.remember();
        (Self(Arc::new(Mutex::new(state))), killer)
    }

    /// A source has completed a handshake with a service.
    pub fn take_handshake(&self, source: Address, id: ServiceId) {
        let source = fold_address(source.to_ip());
        let mut state = self.lock();
        state.counts.handshakes += 1;
        if let Some(job) = state.begin(source, id) {
            drop(state);
            self.start(job);
        }
    }

    /// Asks about sources that waited for the budget, as far as it allows by now.
    pub fn ask_waiting(&self) {
        let jobs = self.lock().begin_waiting(seconds(SystemTime::now()));
        jobs.into_iter().for_each(|job| self.start(job));
    }

    /// Takes out what is over, and writes down what is new.
    pub fn tidy(&self) {
        let unwritten = {
            let mut state = self.lock();
            let at = Instant::now();
            state.answers.expire(at);
            state.crowds.expire(at);
            state.pardons.retain(|(_, until)| *until > at);
            state.end_what_is_over(at);
            state.take_unwritten()
        };
        // Nobody who comes waits for the disk. What it does not take is asked again after a restart.
        if let Some((store, listings)) = unwritten {
            let written = {
                let mut store = held(&store);
                store.put_listings(&listings).and_then(|()| store.expire(seconds(SystemTime::now())))
            };
            self.lock().try_store(written);
        }
    }

    /// Before the end of the controller: nothing that was leased and not asked is lost.
    pub fn settle(&self) {
        self.tidy();
        self.lock().settle_budgets();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_pardoned(&self, source: IpAddr) -> bool {
        let at = Instant::now();
        self.pardons.iter().any(|(network, until)| *until > at && network.contains_address(source))
    }
}

fn asker(policy: &Policy) -> Result<Arc<Asker>, AskerError> {
    let reputation = &policy.reputation;
    Asker::new(&reputation.resolvers, reputation.timeout.as_std()).map(Arc::new)
}
