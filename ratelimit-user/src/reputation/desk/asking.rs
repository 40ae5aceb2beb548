//! From a handshake to questions and back to answers.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use futures_util::future::join_all;
use ratelimit_common::ServiceId;
use tokio::{sync::Semaphore, time::timeout_at};

use super::{Desk, State};
use crate::{
    changes::seconds,
    config::Reading,
    reputation::{
        answers::Kept,
        ask::{Answer, Asker},
        health::Trouble,
        name::query_name,
        zone::ZoneState,
    },
};

/// That a source is not listed is remembered for so long at most.
const LONGEST_NEGATIVE: Duration = Duration::from_secs(3600);
/// Sources that are asked about at the same time, some 5 KiB each; others are not asked about.
const MOST_IN_FLIGHT: usize = 16_384;

/// How often a zone is asked about what no list may hold while sources come.
const CONTROL_EVERY: Duration = Duration::from_secs(10);

/// Questions about a source.
pub(super) struct Job {
    source: IpAddr,
    questions: Vec<Question>,
    asker: Arc<Asker>,
    timeout: Duration,
    generation: u64,
}

struct Question {
    zone: u16,
    about: About,
    name: String,
    turns: Arc<Semaphore>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    Source,
    /// What no list may hold: a zone that lists it is not believed when it lists the source.
    Control(IpAddr),
}

/// What became of a question. Its turn may not have come in time.
type Outcome = Option<(Answer, Duration)>;

impl Desk {
    pub(super) fn start(&self, job: Job) {
        let desk = self.clone();
        tokio::spawn(async move {
            let Job { source, questions, asker, timeout, generation } = job;
            // One deadline for all zones, waiting for a turn included.
            let deadline = Instant::now() + timeout;
            let outcomes = join_all(questions.iter().map(|question| outcome(&asker, question, deadline))).await;
            let asked = questions.iter().map(|question| (question.zone, question.about)).zip(outcomes);
            desk.finish(source, generation, asked.collect());
        });
    }

    /// Acts on what came back.
    fn finish(&self, source: IpAddr, generation: u64, asked: Vec<((u16, About), Outcome)>) {
        let mut state = self.lock();
        let zones: Vec<u16> = asked.iter().map(|((zone, _), _)| *zone).collect();
        let (controls, sources): (Vec<_>, Vec<_>) =
            asked.into_iter().partition(|((_, about), _)| *about != About::Source);
        let is_same = generation == state.generation;
        for ((zone, about), outcome) in controls.into_iter().chain(sources).filter(|_| is_same) {
            match about {
                About::Source => state.note(zone, source, outcome),
                About::Control(address) => state.note_control(zone, address, outcome),
            }
        }
        let mut services = state.in_flight.remove(&source).unwrap_or_default().into_iter();
        if let Some(id) = services.next() {
            state.act(source, id);
        }
        // Other services may have other zones. What did not answer just now is not asked again.
        let jobs: Vec<Job> = services.filter_map(|id| state.begin_without(source, id, &zones)).collect();
        drop(state);
        jobs.into_iter().for_each(|job| self.start(job));
    }
}

async fn outcome(asker: &Asker, question: &Question, deadline: Instant) -> Outcome {
    let Ok(Ok(_turn)) = timeout_at(deadline.into(), question.turns.acquire()).await else {
        return None;
    };
    let begun = Instant::now();
    let answer = asker.ask_by(&question.name, deadline).await;
    Some((answer, begun.elapsed()))
}

impl State {
    /// What is to be asked about a source that came, if anything; what is known already is acted on at once.
    pub(super) fn begin(&mut self, source: IpAddr, id: ServiceId) -> Option<Job> {
        let (policy, at) = (Arc::clone(&self.policy), Instant::now());
        for (index, _) in policy.zones_of(&policy.service(id)?.name) {
            let is_known = self.answers.get(&(index, source), at).is_some();
            if let Some(state) = self.zones.get_mut(usize::from(index)).filter(|_| is_known) {
                state.counts.from_cache += 1;
            }
        }
        self.begin_without(source, id, &[])
    }

    /// The same without some of the zones.
    fn begin_without(&mut self, source: IpAddr, id: ServiceId, without: &[u16]) -> Option<Job> {
        let policy = Arc::clone(&self.policy);
        let service = policy.service(id)?.name.as_str();
        if policy.spares(source) || self.is_pardoned(source) {
            return None;
        }
        if let Some(waiting) = self.in_flight.get_mut(&source) {
            if !waiting.contains(&id) {
                waiting.push(id);
            }
            return None;
        }
        let at = Instant::now();
        let mut zones: Vec<u16> = policy.zones_of(service).map(|(index, _)| index).collect();
        zones.retain(|index| {
            let is_well = self.zones.get(usize::from(*index)).is_some_and(|state| state.health.trouble().is_none());
            is_well && !without.contains(index) && self.answers.get(&(*index, source), at).is_none()
        });
        let questions = self.questions(&zones, source, id, at);
        self.job(source, id, questions).or_else(|| {
            self.act(source, id);
            None
        })
    }

    /// Questions about the busiest of those that wait.
    pub(super) fn begin_waiting(&mut self, now_s: u64) -> Vec<Job> {
        let at = Instant::now();
        let mut jobs = Vec::new();
        for index in 0..self.zones.len() {
            let Some(state) = self.zones.get_mut(index).filter(|state| !state.waiting.is_empty()) else { continue };
            let left = usize::try_from(state.budget.left(now_s).unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
            let is_well = state.health.trouble().is_none();
            let busiest = state.waiting.take_busiest(if is_well { left } else { 0 }, at);
            let index = index as u16;
            for (source, id) in busiest {
                let is_known = self.answers.get(&(index, source), at).is_some();
                if !is_known && !self.in_flight.contains_key(&source) && self.take(index, 1, now_s) {
                    let question = self.question_of(index, source, About::Source);
                    jobs.extend(self.job(source, id, question.into_iter().collect()));
                }
            }
        }
        jobs
    }

    fn job(&mut self, source: IpAddr, id: ServiceId, questions: Vec<Question>) -> Option<Job> {
        let asker = Arc::clone(self.asker.as_ref().ok()?);
        if questions.is_empty() {
            return None;
        }
        self.in_flight.insert(source, vec![id]);
        let timeout = self.policy.reputation.timeout.as_std();
        Some(Job { source, questions, asker, timeout, generation: self.generation })
    }

    /// Questions to zones, as far as they may be asked.
    fn questions(&mut self, zones: &[u16], source: IpAddr, id: ServiceId, at: Instant) -> Vec<Question> {
        if zones.is_empty() || self.asker.is_err() {
            return Vec::new();
        }
        if self.in_flight.len() >= MOST_IN_FLIGHT {
            self.counts.not_asked += 1;
            return Vec::new();
        }
        let is_admitted = self.crowds.admit(source, at);
        let now_s = seconds(SystemTime::now());
        let mut questions = Vec::new();
        for index in zones {
            let Some(state) = self.zones.get_mut(usize::from(*index)) else { continue };
            if !is_admitted {
                state.counts.of_one_network += 1;
            } else if state.waiting.is_empty() && self.take(*index, 1, now_s) {
                questions.extend(self.control(*index, source, at, now_s));
                questions.extend(self.question_of(*index, source, About::Source));
            } else if let Some(state) = self.zones.get_mut(usize::from(*index)) {
                // Who comes now must not be before those that wait and come more often.
                state.counts.over_budget += 1;
                state.waiting.note(source, id, at);
            }
        }
        questions
    }

    /// A zone may have begun to list the world since it was tested. One question now and then along with those about sources
    /// finds that out before anything follows.
    fn control(&mut self, index: u16, source: IpAddr, at: Instant, now_s: u64) -> Option<Question> {
        let policy = Arc::clone(&self.policy);
        let unlisted = &policy.zone(index)?.dnsbl.tests.unlisted;
        let address = unlisted.iter().find(|test| test.is_ipv4() == source.is_ipv4()).or(unlisted.first())?;
        let state = self.zones.get_mut(usize::from(index))?;
        if state.controlled.is_some_and(|before| at.saturating_duration_since(before) < CONTROL_EVERY) {
            return None;
        }
        state.controlled = Some(at);
        if self.take(index, 1, now_s) { self.question_of(index, *address, About::Control(*address)) } else { None }
    }

    fn question_of(&self, index: u16, address: IpAddr, about: About) -> Option<Question> {
        let (zone, state) = (self.policy.zone(index)?, self.zones.get(usize::from(index))?);
        let name = query_name(address, zone.asked().ok()?);
        Some(Question { zone: index, about, name, turns: Arc::clone(&state.turns) })
    }

    /// That a zone does not list what none may changes nothing; anything else is as if it was tested.
    fn note_control(&mut self, index: u16, address: IpAddr, outcome: Outcome) {
        let policy = Arc::clone(&self.policy);
        let (Some(zone), Some(state)) = (policy.zone(index), self.zones.get_mut(usize::from(index))) else { return };
        let Some((answer, _)) = outcome else {
            state.not_asked();
            return;
        };
        let (at, before) = (Instant::now(), state.health.trouble().cloned());
        match answer {
            Answer::Nothing { .. } => {}
            Answer::Failed(failure) => state.health.note_failure(failure, at),
            Answer::Records { records, .. } => match zone.dnsbl.check(&records) {
                Err(fault) => state.health.note_fault(fault, at),
                Ok(()) => state.health.note_tests(Err(Trouble::ListsEverything(address)), at),
            },
        }
        self.follow_health(index, before.as_ref());
    }

    /// Writes down what a zone said of a source.
    fn note(&mut self, index: u16, source: IpAddr, outcome: Outcome) {
        let policy = Arc::clone(&self.policy);
        let (Some(zone), Some(state)) = (policy.zone(index), self.zones.get_mut(usize::from(index))) else { return };
        let Some((answer, took)) = outcome else {
            state.not_asked();
            return;
        };
        let at = Instant::now();
        let before = state.health.trouble().cloned();
        let noted = state.note(&zone.dnsbl, &answer, took, at);
        self.follow_health(index, before.as_ref());
        let Some((reading, ttl)) = noted else { return };
        let (least, most) = (policy.reputation.ttl_min.as_std(), policy.reputation.ttl_max.as_std());
        let most = if reading == Reading::Unlisted { most.min(LONGEST_NEGATIVE) } else { most };
        let until = at + ttl.min(most).max(least.min(most));
        let is_listing = reading != Reading::Unlisted;
        let kept = Kept { records: answer.into_records(), reading, until };
        if self.answers.put((index, source), kept) && is_listing {
            self.unwritten.push((index, source));
        }
    }
}

impl ZoneState {
    /// Its turn did not come, so the question was never asked.
    fn not_asked(&mut self) {
        self.counts.too_busy += 1;
        self.counts.queries = self.counts.queries.saturating_sub(1);
        self.budget.give_back(1);
    }
}

impl Answer {
    fn into_records(self) -> Vec<Ipv4Addr> {
        match self {
            Self::Records { records, .. } => records,
            Self::Nothing { .. } | Self::Failed(_) => Vec::new(),
        }
    }
}
