//! The desk: takes handshakes, asks the zones about their sources, and lists in the kernel whom they speak against.

mod shown;
mod tests_of_zones;

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use futures_util::future::join_all;
use ratelimit_common::{
    Address, Moment, ServiceId,
    listed::{Listed, ListedKey},
};
use tokio::sync::Semaphore;

use super::{
    Policy,
    answers::{Answers, Kept},
    ask::{Answer, Asker, AskerError},
    budget::Budget,
    health::Health,
    name::query_name,
    score::{Judgement, Opinion, judge},
};
use crate::{
    api,
    changes::seconds,
    config::{Dnsbl, Reading, Verdict, fold_address},
    events::Events,
    plane::{ListedMaps, now},
};

/// Answers that nothing is said of are good for so long at most.
const LONGEST_NEGATIVE: Duration = Duration::from_secs(3600);
/// Where a zone does not say how long it is good that there is no record.
const NEGATIVE: Duration = Duration::from_secs(300);
/// Sources that are asked about at the same time; the others are not asked about.
const MOST_IN_FLIGHT: usize = 50_000;

/// What every task of reputation shares.
#[derive(Clone, Debug)]
pub struct Desk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    policy: Arc<Policy>,
    asker: Option<Arc<Asker>>,
    gate: ListedMaps,
    zones: Vec<ZoneState>,
    answers: Answers,
    /// Sources that are being asked about, and for which services.
    in_flight: HashMap<IpAddr, Vec<ServiceId>>,
    in_force: HashMap<(IpAddr, ServiceId), Judgement>,
    events: Events,
    counts: Counts,
}

/// What happened at the desk.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    handshakes: u64,
    overflow: u64,
}

/// What is known of a zone.
#[derive(Debug)]
struct ZoneState {
    health: Health,
    tested: Option<Instant>,
    budget: Budget,
    at_once: Arc<Semaphore>,
    counts: ZoneCounts,
}

#[derive(Clone, Copy, Debug, Default)]
struct ZoneCounts {
    queries: u64,
    listed: u64,
    unlisted: u64,
    failed: u64,
    from_cache: u64,
    /// Sources that were not asked about because the budget was used up.
    over_budget: u64,
    /// All answers together, for the mean.
    latency: Duration,
    slowest: Duration,
}

/// One question that is due.
struct Question {
    zone: u16,
    name: String,
    at_once: Arc<Semaphore>,
}

impl Desk {
    pub fn open(policy: Policy, gate: ListedMaps, events: Events) -> Result<Self, AskerError> {
        let at = Instant::now();
        let zones = policy.zones.iter().map(|zone| ZoneState::new(&zone.dnsbl, at)).collect();
        let answers = Answers::new(policy.reputation.sources as usize);
        let mut state = State {
            asker: asker(&policy)?,
            policy: Arc::new(policy),
            gate,
            zones,
            answers,
            in_flight: HashMap::new(),
            in_force: HashMap::new(),
            events,
            counts: Counts::default(),
        };
        // What an earlier controller put there rests on answers that nobody here has.
        state.empty_gate();
        Ok(Self(Arc::new(Mutex::new(state))))
    }

    /// Goes by another policy from now on, and lists in these maps. What was answered under other zones is forgotten.
    pub fn follow(&self, policy: Policy, gate: ListedMaps) -> Result<(), AskerError> {
        let is_same = self.lock().policy.reputation == policy.reputation;
        let asker = asker(&policy)?;
        let mut state = self.lock();
        state.gate = gate;
        state.asker = asker;
        let before = std::mem::replace(&mut state.policy, Arc::new(policy));
        if !is_same {
            state.begin_anew(&before);
        }
        state.put_again();
        Ok(())
    }

    /// A source has completed a handshake with a service.
    pub fn take_handshake(&self, source: Address, id: ServiceId) {
        let source = fold_address(source.to_ip());
        let mut state = self.lock();
        state.counts.handshakes += 1;
        if let Some(job) = state.begin(source, id) {
            drop(state);
            let desk = self.clone();
            tokio::spawn(async move { desk.finish(job).await });
        }
    }

    /// Asks, and acts on what came back.
    async fn finish(&self, job: Job) {
        let Job { source, questions, asker, timeout } = job;
        let answers = join_all(questions.iter().map(|question| answer(&asker, question, timeout))).await;
        let mut state = self.lock();
        for (question, (answer, took)) in questions.iter().zip(answers) {
            if let Some(answer) = answer {
                state.note(question.zone, source, answer, took);
            }
        }
        let mut services = state.in_flight.remove(&source).unwrap_or_default().into_iter();
        if let Some(id) = services.next() {
            state.act(source, id);
        }
        drop(state);
        // Other services have other zones.
        services.for_each(|id| self.take_handshake(Address::from(source), id));
    }

    /// Takes out what is over.
    pub fn tidy(&self) {
        let mut state = self.lock();
        let at = Instant::now();
        state.answers.expire(at);
        state.in_force.retain(|_, judgement| judgement.until > at);
        state.tidy_gate();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Questions about a source.
struct Job {
    source: IpAddr,
    questions: Vec<Question>,
    asker: Arc<Asker>,
    timeout: Duration,
}

/// `None` where its turn did not come in time.
async fn answer(asker: &Asker, question: &Question, timeout: Duration) -> (Option<Answer>, Duration) {
    let Ok(Ok(_turn)) = tokio::time::timeout(timeout, question.at_once.acquire()).await else {
        return (None, timeout);
    };
    let begun = Instant::now();
    (Some(asker.ask(&question.name).await), begun.elapsed())
}

impl State {
    /// What is to be asked about a source, if anything; what is known already is acted on at once.
    fn begin(&mut self, source: IpAddr, id: ServiceId) -> Option<Job> {
        let policy = Arc::clone(&self.policy);
        let service = policy.service(id)?;
        if policy.never_block.around(crate::config::Network::host(source)).is_some() {
            return None;
        }
        if let Some(waiting) = self.in_flight.get_mut(&source) {
            if !waiting.contains(&id) {
                waiting.push(id);
            }
            return None;
        }
        let asker = Arc::clone(self.asker.as_ref()?);
        let (at, now_s) = (Instant::now(), seconds(SystemTime::now()));
        let mut questions = Vec::new();
        for (index, zone) in policy.zones_of(service) {
            let Some(state) = self.zones.get_mut(usize::from(index)) else { continue };
            if self.answers.get(&(index, source), at).is_some() {
                state.counts.from_cache += 1;
            } else if state.health.trouble().is_some() {
                continue;
            } else if state.budget.take(now_s) {
                state.counts.queries += 1;
                let name = query_name(source, zone.asked());
                questions.push(Question { zone: index, name, at_once: Arc::clone(&state.at_once) });
            } else {
                state.counts.over_budget += 1;
            }
        }
        if questions.is_empty() {
            self.act(source, id);
            return None;
        }
        if self.in_flight.len() >= MOST_IN_FLIGHT {
            self.counts.overflow += 1;
            return None;
        }
        self.in_flight.insert(source, vec![id]);
        Some(Job { source, questions, asker, timeout: policy.reputation.timeout.as_std() })
    }

    /// Writes down what a zone said of a source.
    fn note(&mut self, index: u16, source: IpAddr, answer: Answer, took: Duration) {
        let policy = Arc::clone(&self.policy);
        let (Some(zone), Some(state)) = (policy.zones.get(usize::from(index)), self.zones.get_mut(usize::from(index)))
        else {
            return;
        };
        let at = Instant::now();
        let was_distrusted = state.is_distrusted();
        if let Some((reading, ttl)) = state.note(&zone.dnsbl, answer, took, at) {
            let (least, most) = (policy.reputation.ttl_min.as_std(), policy.reputation.ttl_max.as_std());
            let most = if reading == Reading::Unlisted { most.min(LONGEST_NEGATIVE) } else { most };
            let until = at + ttl.min(most).max(least.min(most));
            self.answers.put((index, source), Kept { reading, until });
        }
        let is_distrusted = self.zones.get(usize::from(index)).is_some_and(ZoneState::is_distrusted);
        if is_distrusted && !was_distrusted {
            self.distrust(index);
        }
    }

    /// Whatever a zone said counts no more, and what rested on it is judged anew.
    fn distrust(&mut self, index: u16) {
        self.answers.forget_zone(index);
        let rested = |judgement: &Judgement| judgement.because.iter().any(|(zone, _)| *zone == index);
        let concerned: Vec<(IpAddr, ServiceId)> =
            self.in_force.iter().filter(|(_, judgement)| rested(judgement)).map(|(key, _)| *key).collect();
        for (source, id) in concerned {
            self.act(source, id);
        }
    }

    /// Makes the kernel hold what follows from what is known of a source.
    fn act(&mut self, source: IpAddr, id: ServiceId) {
        let judgement = self.judgement(source, id);
        let before = self.in_force.get(&(source, id));
        if before == judgement.as_ref() {
            return;
        }
        let key = ListedKey::new(Address::from(source), id);
        let put = match judgement.as_ref().filter(|judgement| judgement.action != Verdict::Note) {
            Some(judgement) => {
                let listed = self.listed(&key, judgement);
                self.gate.put(key, listed)
            }
            None => self.gate.remove(&key),
        };
        if let Err(error) = put {
            tracing::error!(%source, "the kernel does not take what DNSBLs say of a source: {}", crate::describe(&error));
            return;
        }
        match judgement {
            Some(judgement) => {
                if before.is_none() {
                    self.tell(source, id, &judgement);
                }
                self.in_force.insert((source, id), judgement);
            }
            None => drop(self.in_force.remove(&(source, id))),
        }
    }

    fn judgement(&self, source: IpAddr, id: ServiceId) -> Option<Judgement> {
        let service = self.policy.service(id)?;
        let opinions = self.opinions(source, service, Instant::now());
        let reputation = &self.policy.reputation;
        judge(&opinions, reputation.threshold_of(service), reputation.action_of(service))
    }

    fn opinions(&self, source: IpAddr, service: &str, at: Instant) -> Vec<Opinion> {
        let kept = self.policy.zones_of(service).filter_map(|(zone, _)| {
            let kept = self.answers.get(&(zone, source), at)?;
            match &kept.reading {
                Reading::Listed(listed) => Some(Opinion { zone, listed: listed.clone(), until: kept.until }),
                Reading::Unlisted | Reading::Faulty(_) => None,
            }
        });
        kept.collect()
    }

    /// The entry of a source; what it has used up stays used up.
    fn listed(&self, key: &ListedKey, judgement: &Judgement) -> Listed {
        let before = self.gate.get(key).ok().flatten().unwrap_or_default();
        let used_until_ns = match judgement.action {
            Verdict::Ban => u64::MAX,
            Verdict::Limit | Verdict::Note if before.used_until_ns == u64::MAX => 0,
            Verdict::Limit | Verdict::Note => before.used_until_ns,
        };
        Listed { until_ns: moment_of(judgement.until).0, used_until_ns, ..before }
    }

    fn tell(&self, source: IpAddr, id: ServiceId, judgement: &Judgement) {
        let service = self.policy.service(id).unwrap_or_default();
        let because = self.because(judgement);
        tracing::debug!(%source, service, score = judgement.score, "listed: {because}");
        let mode = self.policy.reputation.mode.unwrap_or(crate::config::Mode::Enforce);
        self.events.tell(api::Event::of_listing(source, service, judgement.action, mode, because));
    }

    /// What the zones say, in a line.
    fn because(&self, judgement: &Judgement) -> String {
        let said = judgement.because.iter().filter_map(|(index, codes)| {
            let zone = self.policy.zones.get(usize::from(*index))?;
            let codes: Vec<String> = codes.iter().map(|code| code_text(&zone.dnsbl, *code)).collect();
            Some(format!("{} {}", zone.dnsbl.name, codes.join(", ")))
        });
        said.collect::<Vec<_>>().join("; ")
    }

    fn begin_anew(&mut self, before: &Policy) {
        let at = Instant::now();
        let mut old: HashMap<&str, Budget> = before
            .zones
            .iter()
            .zip(&self.zones)
            .map(|(zone, state)| (zone.dnsbl.name.as_str(), state.budget))
            .collect();
        let fresh = |zone: &super::policy::Zone| {
            let budget = old.remove(zone.dnsbl.name.as_str());
            let state = ZoneState::new(&zone.dnsbl, at);
            let budget = budget.map_or(state.budget, |budget| budget.with_limit(zone.dnsbl.queries_per_day));
            ZoneState { budget, ..state }
        };
        self.zones = self.policy.zones.iter().map(fresh).collect();
        self.answers = Answers::new(self.policy.reputation.sources as usize);
        self.in_force.clear();
    }

    /// After a change of the maps, of the services' places, or of whom nothing may block.
    fn put_again(&mut self) {
        self.empty_gate();
        let policy = Arc::clone(&self.policy);
        let is_spared = |source: IpAddr| policy.never_block.around(crate::config::Network::host(source)).is_some();
        let before = std::mem::take(&mut self.in_force);
        for (source, id) in before.into_keys().filter(|(source, _)| !is_spared(*source)) {
            self.act(source, id);
        }
    }

    fn empty_gate(&mut self) {
        let gone = self.gate.all().and_then(|all| {
            all.iter().try_for_each(|(key, _)| self.gate.remove(key))?;
            self.gate.rebuild_filter(std::iter::empty());
            Ok(())
        });
        if let Err(error) = gone {
            tracing::warn!("sources that were listed before stay so until they end: {}", crate::describe(&error));
        }
    }

    fn tidy_gate(&mut self) {
        let now = now();
        let Ok(all) = self.gate.all() else { return };
        let (good, over): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, listed)| listed.is_in_force(now));
        if over.is_empty() {
            return;
        }
        for (key, _) in &over {
            if let Err(error) = self.gate.remove(key) {
                tracing::debug!("a listed source that is over stays in the map: {}", crate::describe(&error));
            }
        }
        self.gate.rebuild_filter(good.into_iter().map(|(key, _)| key));
    }
}

impl ZoneState {
    fn new(dnsbl: &Dnsbl, at: Instant) -> Self {
        let has_tests = !dnsbl.tests.is_none();
        Self {
            health: Health::new(has_tests, at),
            tested: None,
            budget: Budget::new(dnsbl.queries_per_day),
            at_once: Arc::new(Semaphore::new(dnsbl.concurrency as usize)),
            counts: ZoneCounts::default(),
        }
    }

    fn is_distrusted(&self) -> bool {
        self.health.trouble().is_some_and(super::health::Trouble::is_distrust)
    }

    /// Counts an answer and what it says of the zone. Returns what it says of the source, and for how long.
    fn note(&mut self, dnsbl: &Dnsbl, answer: Answer, took: Duration, at: Instant) -> Option<(Reading, Duration)> {
        self.counts.latency += took;
        self.counts.slowest = self.counts.slowest.max(took);
        let (reading, ttl) = match answer {
            Answer::Records { records, ttl } => (dnsbl.read(&records), ttl),
            Answer::Nothing { ttl } => (Reading::Unlisted, ttl.unwrap_or(NEGATIVE)),
            Answer::Failed(failure) => {
                self.counts.failed += 1;
                self.health.note_failure(failure, at);
                return None;
            }
        };
        match &reading {
            Reading::Listed(_) => self.counts.listed += 1,
            Reading::Unlisted => self.counts.unlisted += 1,
            Reading::Faulty(fault) => {
                self.counts.failed += 1;
                self.health.note_fault(*fault, at);
                return None;
            }
        }
        self.health.note_answer(matches!(reading, Reading::Listed(_)), at);
        // What came from a zone that just fell is not believed.
        self.health.trouble().is_none().then_some((reading, ttl))
    }
}

fn code_text(dnsbl: &Dnsbl, code: Ipv4Addr) -> String {
    dnsbl.meaning(code).map_or_else(|| code.to_string(), |meaning| format!("{meaning} ({code})"))
}

/// Nobody to ask where nothing is to be asked.
fn asker(policy: &Policy) -> Result<Option<Arc<Asker>>, AskerError> {
    if policy.zones.is_empty() {
        return Ok(None);
    }
    let reputation = &policy.reputation;
    Asker::new(&reputation.resolvers, reputation.timeout.as_std()).map(|asker| Some(Arc::new(asker)))
}

/// A moment by the kernel's clock.
fn moment_of(at: Instant) -> Moment {
    let rest = at.saturating_duration_since(Instant::now());
    Moment(now().0.saturating_add(u64::try_from(rest.as_nanos()).unwrap_or(u64::MAX)))
}
