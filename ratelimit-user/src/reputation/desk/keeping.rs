//! What the desk keeps on disk, so that a restart neither frees who is listed nor asks more than the budget allows.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use ratelimit_common::ServiceId;

use super::State;
use crate::{
    changes::seconds,
    config::Reading,
    reputation::{
        answers::{AnswerKey, Kept},
        store::{Listing, Store, StoreError},
    },
};

/// Whoever holds it may have panicked; the database is whole all the same.
pub(super) fn held(store: &Mutex<Store>) -> MutexGuard<'_, Store> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// At the start: what was spent and who was listed. What an earlier controller left in the kernel makes way for it.
    pub(super) fn remember(&mut self) {
        self.remember_spent();
        let listings = match &self.store {
            Some(store) => held(store).listings(seconds(SystemTime::now())),
            None => Ok(Vec::new()),
        };
        let listings = listings.unwrap_or_else(|error| {
            tracing::warn!("{error}");
            Vec::new()
        });
        let policy = Arc::clone(&self.policy);
        let mut sources: Vec<IpAddr> = Vec::new();
        for Listing { dnsbl, source, records, until_s } in listings {
            let place = policy.zones.iter().zip(0u16..).find(|(zone, _)| zone.dnsbl.name == dnsbl);
            let Some((zone, index)) = place else { continue };
            let reading = zone.dnsbl.read(&records);
            let rest = Duration::from_secs(until_s.saturating_sub(seconds(SystemTime::now())));
            // The wall clock may have been set meanwhile.
            let until = Instant::now() + rest.min(policy.reputation.ttl_max.as_std());
            if matches!(reading, Reading::Listed(_))
                && self.answers.put((index, source), Kept { records, reading, until })
            {
                sources.push(source);
            }
        }
        self.empty_gate();
        sources.sort_unstable();
        sources.dedup();
        let ids: Vec<ServiceId> = policy.services.iter().map(|service| service.id).collect();
        for source in sources {
            for id in &ids {
                self.apply(source, *id);
            }
        }
    }

    /// What was asked on this day before, of zones that are new here.
    pub(super) fn remember_spent(&mut self) {
        if self.store.is_none() && !self.policy.zones.is_empty() {
            let opened = Store::open(&self.state_dir);
            self.store = self.try_store(opened).map(|store| Arc::new(Mutex::new(store)));
        }
        let Some(store) = &self.store else { return };
        for (zone, state) in self.policy.zones.iter().zip(&mut self.zones) {
            if state.budget.latest().questions > 0 {
                continue;
            }
            match held(store).spent(&zone.dnsbl.name) {
                Ok(Some(spent)) => state.budget = state.budget.after(spent),
                Ok(None) => {}
                Err(error) => tracing::warn!("{error}"),
            }
        }
    }

    /// Takes questions of a zone's budget, and writes that down before they are asked.
    pub(super) fn take(&mut self, index: u16, questions: u64, now_s: u64) -> bool {
        let policy = Arc::clone(&self.policy);
        let (Some(zone), Some(state)) = (policy.zone(index), self.zones.get_mut(usize::from(index))) else {
            return false;
        };
        if !state.budget.take(questions, now_s) {
            return false;
        }
        state.counts.queries += questions;
        if let (Some(lease), Some(store)) = (state.budget.lease(), &self.store) {
            let written = held(store).put_spent(&zone.dnsbl.name, lease);
            self.try_store(written);
        }
        true
    }

    pub(super) fn settle_budgets(&mut self) {
        let policy = Arc::clone(&self.policy);
        for (zone, index) in policy.zones.iter().zip(0..) {
            let spent = self.zones.get(index).and_then(|state| state.budget.settle());
            if let (Some(spent), Some(store)) = (spent, &self.store) {
                let written = held(store).put_spent(&zone.dnsbl.name, spent);
                self.try_store(written);
            }
        }
    }

    /// Listings that came since the last time, and where they go.
    pub(super) fn take_unwritten(&mut self) -> Option<(Arc<Mutex<Store>>, Vec<Listing>)> {
        let store = self.store.as_ref().filter(|_| !self.unwritten.is_empty())?;
        let (at, now_s) = (Instant::now(), seconds(SystemTime::now()));
        let listing = |key: AnswerKey| {
            let kept = self.answers.get(&key, at)?;
            let until_s = now_s + kept.until.saturating_duration_since(at).as_secs();
            let dnsbl = self.policy.zone(key.0)?.dnsbl.name.clone();
            Some(Listing { dnsbl, source: key.1, records: kept.records.clone(), until_s })
        };
        let listings = std::mem::take(&mut self.unwritten).into_iter().filter_map(listing).collect();
        Some((Arc::clone(store), listings))
    }

    pub(super) fn forget_written(&mut self, index: u16) {
        self.unwritten.retain(|(zone, _)| *zone != index);
        let policy = Arc::clone(&self.policy);
        if let (Some(zone), Some(store)) = (policy.zone(index), &self.store) {
            let forgotten = held(store).forget(&zone.dnsbl.name);
            self.try_store(forgotten);
        }
    }

    /// Says once that it fails, and once more when it failed again after it worked.
    pub(super) fn try_store<T>(&mut self, done: Result<T, StoreError>) -> Option<T> {
        match done {
            Ok(value) => {
                self.told.store = false;
                Some(value)
            }
            Err(error) => {
                if !std::mem::replace(&mut self.told.store, true) {
                    tracing::warn!("{error}");
                }
                None
            }
        }
    }
}
