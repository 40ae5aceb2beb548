//! What the desk knows, in the words of the API.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use futures_util::future::join_all;

use super::{Answer, Asker, Desk, ZoneState, code_text, query_name};
use crate::{
    api,
    changes::seconds,
    config::{Reading, fold_address},
    reputation::{
        Policy,
        policy::Zone,
        score::{Opinion, judge, score},
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
            answers_most: reputation.sources.into(),
            in_force: state.in_force.len() as u64,
            handshakes: state.counts.handshakes,
            not_asked: state.counts.overflow,
            not_told: 0,
            no_room: 0,
        }
    }

    /// What is in force of a source for a service.
    pub fn explain(&self, source: IpAddr, service: &str) -> Option<api::ListingView> {
        let state = self.lock();
        let (_, id) = state.policy.services.iter().find(|(name, _)| name == service)?;
        let judgement = state.in_force.get(&(fold_address(source), *id))?;
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
        let (policy, asker, allowed) = {
            let mut state = self.lock();
            let now_s = seconds(SystemTime::now());
            let allowed: Vec<bool> = state.zones.iter_mut().map(|zone| zone.budget.take(now_s)).collect();
            (Arc::clone(&state.policy), state.asker.clone(), allowed)
        };
        let Some(asker) = asker else {
            return api::DnsblCheck { address, zones: Vec::new(), services: Vec::new() };
        };
        let asked = policy.zones.iter().zip(allowed).map(|(zone, allowed)| check(&asker, zone, address, allowed));
        let answers: Vec<(api::DnsblAnswer, Option<Reading>)> = join_all(asked).await;
        let troubled: Vec<bool> = self.lock().zones.iter().map(|zone| zone.health.trouble().is_some()).collect();
        let readings = answers.iter().map(|(_, reading)| reading.as_ref());
        let believed: Vec<Option<&Reading>> =
            readings.zip(troubled).map(|(found, bad)| found.filter(|_| !bad)).collect();
        let services = policy.services.iter().filter_map(|(name, _)| outcome(&policy, name, &believed));
        let services = services.collect();
        api::DnsblCheck { address, zones: answers.into_iter().map(|(answer, _)| answer).collect(), services }
    }
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
        since_s: state.health.since().elapsed().as_secs(),
        paused: None,
        queries: counts.queries,
        listed: counts.listed,
        unlisted: counts.unlisted,
        failed: counts.failed,
        from_cache: counts.from_cache,
        over_budget: counts.over_budget,
        waiting: 0,
        too_busy: 0,
        of_one_network: 0,
        spent_today: state.budget.spent(seconds(SystemTime::now())),
        per_day: state.budget.per_day(),
        mean_ms: mean,
        slowest_ms: counts.slowest.as_secs_f64() * 1000.0,
    }
}

async fn check(asker: &Asker, zone: &Zone, address: IpAddr, allowed: bool) -> (api::DnsblAnswer, Option<Reading>) {
    let mut shown = api::DnsblAnswer {
        name: zone.dnsbl.name.clone(),
        listed: None,
        codes: Vec::new(),
        text: None,
        weight: 0,
        ttl_s: None,
        took_ms: 0.0,
        problem: None,
    };
    if !allowed {
        shown.problem = Some("not asked: the budget of the day is used up".to_owned());
        return (shown, None);
    }
    let name = query_name(address, zone.asked());
    let begun = Instant::now();
    let answer = asker.ask(&name).await;
    shown.took_ms = begun.elapsed().as_secs_f64() * 1000.0;
    let (reading, ttl) = match answer {
        Answer::Records { records, ttl } => (zone.dnsbl.read(&records), Some(ttl)),
        Answer::Nothing { ttl } => (Reading::Unlisted, ttl),
        Answer::Failed(failure) => {
            shown.problem = Some(failure.to_string());
            return (shown, None);
        }
    };
    shown.ttl_s = ttl.as_ref().map(Duration::as_secs);
    match &reading {
        Reading::Unlisted => shown.listed = Some(false),
        Reading::Listed(listed) => {
            shown.listed = Some(true);
            shown.weight = listed.weight;
            shown.codes = listed.codes.iter().map(|code| code_text(&zone.dnsbl, *code)).collect();
            shown.text = asker.text(&name).await;
        }
        Reading::Faulty(fault) => {
            shown.problem = Some(fault.to_string());
            return (shown, None);
        }
    }
    (shown, Some(reading))
}

/// What would happen at a service; nothing where no zone is asked for it.
fn outcome(policy: &Policy, service: &str, readings: &[Option<&Reading>]) -> Option<api::ServiceOutcome> {
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
