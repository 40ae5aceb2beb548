//! Test entries: whether a zone lists what every list must, and does not list what none may.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Instant, SystemTime},
};

use super::{Answer, Asker, Desk, State, query_name};
use crate::{
    changes::seconds,
    reputation::{health::Trouble, policy::Zone},
};

impl Desk {
    /// Tests the zones whose turn it is.
    pub async fn test_zones(&self) {
        let (due, asker) = {
            let mut state = self.lock();
            let Some(asker) = state.asker.clone() else { return };
            (state.due_for_test(), asker)
        };
        let tests = due.into_iter().map(|(index, zone)| {
            let asker = Arc::clone(&asker);
            async move { (index, zone.dnsbl.name.clone(), test(&asker, &zone).await) }
        });
        for (index, name, found) in futures_util::future::join_all(tests).await {
            self.lock().note_tests(index, &name, found);
        }
    }
}

impl State {
    /// Each takes its questions from the budget; without any left nothing is found out.
    fn due_for_test(&mut self) -> Vec<(u16, Zone)> {
        let (at, now_s) = (Instant::now(), seconds(SystemTime::now()));
        let every = self.policy.reputation.test_every.as_std();
        let mut due = Vec::new();
        for (index, (zone, state)) in self.policy.zones.iter().zip(&mut self.zones).enumerate() {
            let is_due = state.tested.is_none_or(|tested| state.health.next_test(tested, every) <= at);
            let tests = &zone.dnsbl.tests;
            let questions = tests.listed.len() + tests.unlisted.len();
            if is_due && (0..questions).all(|_| state.budget.take(now_s)) {
                state.tested = Some(at);
                state.counts.queries += questions as u64;
                due.push((index as u16, zone.clone()));
            }
        }
        due
    }

    fn note_tests(&mut self, index: u16, name: &str, found: Result<(), Trouble>) {
        let is_same = self.policy.zones.get(usize::from(index)).is_some_and(|zone| zone.dnsbl.name == name);
        let Some(state) = self.zones.get_mut(usize::from(index)).filter(|_| is_same) else { return };
        let before = state.health.trouble().cloned();
        let was_distrusted = state.is_distrusted();
        state.health.note_tests(found, Instant::now());
        let (trouble, is_distrusted) = (state.health.trouble().cloned(), state.is_distrusted());
        match (&before, &trouble) {
            (Some(_), None) => tracing::info!(zone = name, "the zone answers as it should"),
            (_, Some(trouble)) if before.as_ref() != Some(trouble) => {
                tracing::warn!(zone = name, "the zone weighs nothing until it is well again: {trouble}");
            }
            (_, _) => {}
        }
        if is_distrusted && !was_distrusted {
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
    match asker.ask(&query_name(address, zone.asked())).await {
        Answer::Nothing { .. } => Ok(false),
        Answer::Failed(failure) => Err(Trouble::NoAnswer(failure)),
        Answer::Records { records, .. } => zone.dnsbl.check(&records).map(|()| true).map_err(Trouble::Faulty),
    }
}
