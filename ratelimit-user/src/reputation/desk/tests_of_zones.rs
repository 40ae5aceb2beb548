//! Test entries: whether a zone lists what every list must, and does not list what none may.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Instant, SystemTime},
};

use super::{Desk, State, asker};
use crate::{
    changes::seconds,
    reputation::{
        ask::{Answer, Asker},
        health::Trouble,
        name::query_name,
        policy::Zone,
    },
};

/// A zone that is tested, or why it cannot be.
type Due = (u16, Zone, Result<Arc<Asker>, Trouble>);

impl Desk {
    /// Tests the zones whose turn it is.
    pub async fn test_zones(&self) {
        let (due, generation) = {
            let mut state = self.lock();
            state.look_around();
            (state.due_for_test(), state.generation)
        };
        let tests = due.into_iter().map(|(index, zone, asker)| async move {
            let found = match asker {
                Ok(asker) => test(&asker, &zone).await,
                Err(trouble) => Err(trouble),
            };
            (index, found)
        });
        let found = futures_util::future::join_all(tests).await;
        let mut state = self.lock();
        if state.generation == generation {
            found.into_iter().for_each(|(index, found)| state.note_tests(index, found));
        }
    }
}

impl State {
    /// Keys and resolvers may be there by now, or be others.
    fn look_around(&mut self) {
        if self.policy.zones.iter().any(|zone| zone.asked().is_err()) {
            Arc::make_mut(&mut self.policy).read_keys_again();
        }
        let is_outdated = self.asker.as_ref().map_or(true, |asker| asker.is_outdated());
        if is_outdated && !self.policy.zones.is_empty() {
            match (asker(&self.policy), &self.asker) {
                // Half a file is no reason to ask nobody.
                (Err(_), Ok(_)) => {}
                (asker, _) => self.asker = asker,
            }
        }
    }

    /// Each takes its questions from the budget; without any left nothing is found out.
    fn due_for_test(&mut self) -> Vec<Due> {
        let policy = Arc::clone(&self.policy);
        let (at, now_s) = (Instant::now(), seconds(SystemTime::now()));
        let every = policy.reputation.test_every.as_std();
        let mut due = Vec::new();
        for (zone, index) in policy.zones.iter().zip(0u16..).filter(|(zone, _)| !zone.dnsbl.is_paused) {
            let Some(state) = self.zones.get(usize::from(index)) else { continue };
            if state.tested.is_some_and(|tested| state.health.next_test(tested, every) > at) {
                continue;
            }
            let asker = match (&self.asker, zone.asked()) {
                (Ok(asker), Ok(_)) => Ok(Arc::clone(asker)),
                (Err(error), _) => Err(Trouble::CannotAsk(error.to_string())),
                (_, Err(error)) => Err(Trouble::CannotAsk(error.to_string())),
            };
            let tests = &zone.dnsbl.tests;
            let questions = tests.listed.len() + tests.unlisted.len();
            if asker.is_ok() && !self.take(index, questions as u64, now_s) {
                continue;
            }
            if let Some(state) = self.zones.get_mut(usize::from(index)) {
                state.tested = Some(at);
            }
            due.push((index, zone.clone(), asker));
        }
        due
    }

    fn note_tests(&mut self, index: u16, found: Result<(), Trouble>) {
        let Some(state) = self.zones.get_mut(usize::from(index)) else { return };
        let before = state.health.trouble().cloned();
        state.health.note_tests(found, Instant::now());
        self.follow_health(index, before.as_ref());
    }

    /// After something was found out about a zone: tells it, and acts on it.
    pub(super) fn follow_health(&mut self, index: u16, before: Option<&Trouble>) {
        let policy = Arc::clone(&self.policy);
        let (Some(zone), Some(state)) = (policy.zone(index), self.zones.get(usize::from(index))) else { return };
        let trouble = state.health.trouble();
        if trouble == before {
            return;
        }
        let name = &zone.dnsbl.name;
        match trouble {
            None => tracing::info!(dnsbl = name, "the zone answers as it should"),
            Some(trouble) => tracing::warn!(dnsbl = name, "the zone weighs nothing until it is well again: {trouble}"),
        }
        if trouble.is_some_and(Trouble::is_distrust) && !before.is_some_and(Trouble::is_distrust) {
            self.distrust(index);
        }
    }
}

/// What the test entries say of a zone. One that has none is right.
async fn test(asker: &Asker, zone: &Zone) -> Result<(), Trouble> {
    for address in &zone.dnsbl.tests.listed {
        if !is_listed(asker, zone, *address).await? {
            return Err(Trouble::Empty(*address));
        }
    }
    for address in &zone.dnsbl.tests.unlisted {
        if is_listed(asker, zone, *address).await? {
            return Err(Trouble::ListsEverything(*address));
        }
    }
    Ok(())
}

/// Any answer in 127/8 that is no error is a listing here: which codes weigh something is another question.
async fn is_listed(asker: &Asker, zone: &Zone, address: IpAddr) -> Result<bool, Trouble> {
    let asked = zone.asked().map_err(|error| Trouble::CannotAsk(error.to_string()))?;
    match asker.ask(&query_name(address, asked)).await {
        Answer::Nothing { .. } => Ok(false),
        Answer::Failed(failure) => Err(Trouble::NoAnswer(failure)),
        Answer::Records { records, .. } => zone.dnsbl.check(&records).map(|()| true).map_err(Trouble::Faulty),
    }
}
