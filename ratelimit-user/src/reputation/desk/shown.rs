//! What the desk knows, in the words of the API.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use futures_util::future::join_all;

use super::{Desk, State, acting::code_text};
use crate::{
    api,
    changes::seconds,
    config::{Reading, fold_address},
    reputation::{
        Policy,
        ask::{Answer, Asker},
        health::Trouble,
        name::query_name,
        policy::Zone,
        score::{Opinion, judge, score},
        zone::ZoneState,
    },
};

impl Desk {
    pub fn view(&self) -> api::ReputationView {
        let state = self.lock();
        let reputation = &state.policy.reputation;
        api::ReputationView {
            mode: reputation.mode,
            threshold: reputation.threshold,
            zones: state.policy.zones.iter().zip(&state.zones).map(|(zone, state)| view(zone, state)).collect(),
            answers: state.answers.len() as u64,
            answers_most: reputation.answers.into(),
            in_force: state.in_force.len() as u64,
            handshakes: state.counts.handshakes,
            not_asked: state.counts.not_asked,
            not_told: 0,
            no_room: state.counts.no_room,
        }
    }

    /// What is in force of a source for a service.
    pub fn explain(&self, source: IpAddr, service: &str) -> Option<api::ListingView> {
        let state = self.lock();
        let id = state.policy.services.iter().find(|one| one.name == service)?.id;
        let held = state.in_force.get(&(fold_address(source), id))?;
        let judgement = Some(&held.judgement).filter(|judgement| judgement.until > Instant::now())?;
        Some(api::ListingView {
            score: judgement.score,
            threshold: state.policy.reputation.threshold_of(service),
            action: judgement.action,
            because: state.because(judgement),
            rest_s: judgement.until.saturating_duration_since(Instant::now()).as_secs(),
        })
    }

    /// Asks every zone about an address, whoever it is. Nothing follows from it.
    pub async fn check(&self, address: IpAddr) -> api::DnsblCheck {
        let address = fold_address(address);
        let policy = self.policy();
        let checks = policy.zones.iter().zip(0u16..).map(|(zone, index)| self.check_zone(zone, index, address));
        let answers: Vec<(api::DnsblAnswer, Option<Reading>)> = join_all(checks).await;
        let believed = self.lock().believed(&answers);
        let services = policy.services.iter().filter_map(|service| outcome(&policy, &service.name, &believed));
        let services = services.collect();
        let zones = answers.into_iter().zip(&believed);
        let zones = zones.map(|((answer, _), believed)| api::DnsblAnswer { counts: believed.is_some(), ..answer });
        api::DnsblCheck { address, zones: zones.collect(), services }
    }

    /// The text is one more question.
    async fn check_zone(&self, zone: &Zone, index: u16, address: IpAddr) -> (api::DnsblAnswer, Option<Reading>) {
        let mut shown = unanswered(zone);
        let may = self.lock().may_check(zone, index, address);
        let (asker, name) = match may {
            Ok(may) => may,
            Err(problem) => {
                shown.problem = Some(problem);
                return (shown, None);
            }
        };
        let begun = Instant::now();
        let answer = asker.ask(&name).await;
        shown.took_ms = begun.elapsed().as_secs_f64() * 1000.0;
        let reading = read(zone, answer, &mut shown);
        if matches!(reading, Some(Reading::Listed(_))) && self.take_one(index) {
            shown.text = asker.text(&name).await;
        }
        (shown, reading)
    }

    fn take_one(&self, index: u16) -> bool {
        self.lock().take(index, 1, seconds(SystemTime::now()))
    }
}

impl State {
    /// Whom to ask for which name, or why not.
    fn may_check(&mut self, zone: &Zone, index: u16, address: IpAddr) -> Result<(Arc<Asker>, String), String> {
        if zone.dnsbl.is_paused {
            return Err("not asked: it is paused".to_owned());
        }
        let asker = self.asker.as_ref().map(Arc::clone).map_err(ToString::to_string)?;
        let name = query_name(address, zone.asked().map_err(ToString::to_string)?);
        match self.take(index, 1, seconds(SystemTime::now())) {
            true => Ok((asker, name)),
            false => Err("not asked: the budget is used up".to_owned()),
        }
    }

    /// What zones that are not well say counts nothing.
    fn believed(&self, answers: &[(api::DnsblAnswer, Option<Reading>)]) -> Vec<Option<Reading>> {
        let is_well = |index: usize| self.zones.get(index).is_some_and(|zone| zone.health.trouble().is_none());
        let all = answers.iter().enumerate();
        all.map(|(index, (_, reading))| reading.clone().filter(|_| is_well(index))).collect()
    }
}

fn unanswered(zone: &Zone) -> api::DnsblAnswer {
    api::DnsblAnswer {
        name: zone.dnsbl.name.clone(),
        listed: None,
        codes: Vec::new(),
        text: None,
        weight: 0,
        counts: false,
        ttl_s: None,
        took_ms: 0.0,
        problem: None,
    }
}

/// What an answer says of its source, if it can be believed.
fn read(zone: &Zone, answer: Answer, shown: &mut api::DnsblAnswer) -> Option<Reading> {
    let (reading, ttl) = match answer {
        Answer::Records { records, ttl } => (zone.dnsbl.read(&records), Some(ttl)),
        Answer::Nothing { ttl } => (Reading::Unlisted, ttl),
        Answer::Failed(failure) => {
            shown.problem = Some(failure.to_string());
            return None;
        }
    };
    shown.ttl_s = ttl.as_ref().map(Duration::as_secs);
    match &reading {
        Reading::Unlisted => shown.listed = Some(false),
        Reading::Listed(listed) => {
            shown.listed = Some(true);
            shown.weight = listed.weight;
            shown.codes = listed.codes.iter().map(|code| code_text(&zone.dnsbl, *code)).collect();
        }
        Reading::Faulty(fault) => {
            shown.problem = Some(fault.to_string());
            return None;
        }
    }
    Some(reading)
}

fn view(zone: &Zone, state: &ZoneState) -> api::DnsblView {
    let counts = &state.counts;
    let answered = counts.listed + counts.unlisted + counts.failed;
    let mean = counts.latency.as_secs_f64() * 1000.0 / answered.max(1) as f64;
    api::DnsblView {
        name: zone.dnsbl.name.clone(),
        zone: zone.dnsbl.zone.clone(),
        services: zone.dnsbl.services.clone(),
        trouble: state.health.trouble().map(ToString::to_string),
        is_untested: state.health.trouble() == Some(&Trouble::Untested),
        since_s: state.health.since().elapsed().as_secs(),
        paused: None,
        queries: counts.queries,
        listed: counts.listed,
        unlisted: counts.unlisted,
        failed: counts.failed,
        from_cache: counts.from_cache,
        over_budget: counts.over_budget,
        waiting: state.waiting.len() as u64,
        too_busy: counts.too_busy,
        of_one_network: counts.of_one_network,
        spent_today: state.budget.spent(seconds(SystemTime::now())),
        per_day: state.budget.per_day(),
        mean_ms: mean,
        slowest_ms: counts.slowest.as_secs_f64() * 1000.0,
    }
}

/// What would happen at a service; nothing where no zone is asked for it.
fn outcome(policy: &Policy, service: &str, readings: &[Option<Reading>]) -> Option<api::ServiceOutcome> {
    policy.zones_of(service).next()?;
    let until = Instant::now() + policy.reputation.ttl_max.as_std();
    let opinions = policy.zones_of(service).filter_map(|(zone, _)| match readings.get(usize::from(zone))? {
        Some(Reading::Listed(listed)) => Some(Opinion { zone, listed: listed.clone(), until }),
        Some(Reading::Unlisted | Reading::Faulty(_)) | None => None,
    });
    let opinions: Vec<Opinion> = opinions.collect();
    let threshold = policy.reputation.threshold_of(service);
    let judgement = judge(&opinions, threshold, policy.reputation.action_of(service));
    Some(api::ServiceOutcome {
        service: service.to_owned(),
        score: score(&opinions),
        threshold,
        action: judgement.map(|judgement| judgement.action),
    })
}
