//! From answers to what the kernel holds of a source.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Instant, SystemTime},
};

use ratelimit_common::{
    Address, Moment, ServiceId,
    listed::{Listed, ListedKey},
};

use super::{Kill, State};
use crate::{
    api,
    changes::seconds,
    config::{Dnsbl, Mode, Reading, Verdict},
    plane::now,
    reputation::{
        in_force::Place,
        policy::Service,
        score::{Judgement, Opinion, judge},
    },
};

/// Listings that are told in a second; all of them are counted.
const TOLD_A_SECOND: u32 = 50;

impl State {
    /// Makes the kernel hold what follows from what is known of a source that came, and tells what is new.
    pub(super) fn act(&mut self, source: IpAddr, id: ServiceId) {
        if self.apply(source, id) {
            self.announce(source, id);
        }
    }

    /// Makes the kernel hold what follows from what is known of a source. True if other things are done about it now.
    pub(super) fn apply(&mut self, source: IpAddr, id: ServiceId) -> bool {
        let place = (source, id);
        let judgement = self.judgement(source, id);
        let before = self.in_force.get(&place).map(|held| &held.judgement);
        if before == judgement.as_ref() {
            return false;
        }
        let action_before = before.map(|before| before.action);
        if let Err(error) = self.put(&place, judgement.as_ref()) {
            self.counts.no_room += 1;
            if !std::mem::replace(&mut self.told.no_room, true) {
                let error = crate::describe(&error);
                tracing::error!(%source, "the kernel does not take what DNSBLs say of a source: {error}");
            }
            return false;
        }
        let action = judgement.as_ref().map(|judgement| judgement.action);
        match judgement {
            Some(judgement) => self.in_force.put(place, judgement, Instant::now()),
            None => drop(self.in_force.remove(&place)),
        }
        action.is_some() && action != action_before
    }

    /// After a change of what many sources rest on.
    pub(super) fn apply_again(&mut self, is_concerned: impl Fn(&Judgement) -> bool) {
        let concerned = self.in_force.iter().filter(|(_, held)| is_concerned(&held.judgement));
        let places: Vec<Place> = concerned.map(|(place, _)| *place).collect();
        for (source, id) in places {
            self.apply(source, id);
        }
    }

    /// Whatever a zone said counts no more, and what rested on it is judged anew.
    pub(super) fn distrust(&mut self, index: u16) {
        self.answers.forget_zone(index);
        self.forget_written(index);
        self.apply_again(|judgement| judgement.because.iter().any(|(zone, _)| *zone == index));
    }

    /// In the kernel it is over already.
    pub(super) fn end_what_is_over(&mut self, at: Instant) {
        for (source, id) in self.in_force.take_over(at) {
            self.filter_is_stale = true;
            if let Err(error) = self.gate.remove(&key_of(&(source, id))) {
                tracing::debug!("a listed source that is over stays in the map: {}", crate::describe(&error));
            }
        }
        if std::mem::take(&mut self.filter_is_stale) {
            self.gate.rebuild_filter(self.in_force.iter().map(|(place, _)| key_of(place)));
        }
    }

    /// Takes everything out of the kernel.
    pub(super) fn empty_gate(&mut self) {
        let gone = self.gate.all().and_then(|all| all.iter().try_for_each(|(key, _)| self.gate.remove(key)));
        match gone {
            Ok(()) => self.gate.rebuild_filter(std::iter::empty()),
            Err(error) => {
                tracing::warn!("sources that were listed before stay so until they end: {}", crate::describe(&error));
            }
        }
    }

    fn put(&mut self, place: &Place, judgement: Option<&Judgement>) -> Result<(), aya::maps::MapError> {
        let key = key_of(place);
        match judgement.filter(|judgement| judgement.action != Verdict::Note) {
            Some(judgement) => self.gate.put(key, self.listed(&key, judgement)),
            None => {
                self.filter_is_stale = true;
                self.gate.remove(&key)
            }
        }
    }

    /// What is left to a source. What it has used up stays used up; to whom is banned nothing is left.
    fn listed(&self, key: &ListedKey, judgement: &Judgement) -> Listed {
        let before = self.gate.get(key).ok().flatten().unwrap_or_default();
        let used_until_ns = match judgement.action {
            Verdict::Ban => u64::MAX,
            Verdict::Limit | Verdict::Note if before.used_until_ns == u64::MAX => 0,
            Verdict::Limit | Verdict::Note => before.used_until_ns,
        };
        Listed { until_ns: moment_of(judgement.until).0, used_until_ns, ..before }
    }

    fn judgement(&self, source: IpAddr, id: ServiceId) -> Option<Judgement> {
        if self.policy.spares(source) || self.is_pardoned(source) {
            return None;
        }
        let service = self.policy.service(id)?.name.as_str();
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

    fn announce(&mut self, source: IpAddr, id: ServiceId) {
        let policy = Arc::clone(&self.policy);
        let Some(Service { name: service, is_observed, .. }) = policy.service(id) else { return };
        let Some(judgement) = self.in_force.get(&(source, id)).map(|held| held.judgement.clone()) else { return };
        if policy.reputation.kill && judgement.action != Verdict::Note && !is_observed {
            // Nobody listens when the controller ends; a full queue means that the others are being ended.
            drop(self.kills.try_send(Kill { source, service: service.clone() }));
        }
        let second = seconds(SystemTime::now());
        if self.told.listings.0 != second {
            self.told.listings = (second, 0);
        }
        if self.told.listings.1 < TOLD_A_SECOND {
            self.told.listings.1 += 1;
            let because = self.because(&judgement);
            tracing::debug!(%source, service, score = judgement.score, "listed: {because}");
            let mode = if *is_observed { Mode::Observe } else { Mode::Enforce };
            self.events.tell(api::Event::of_listing(source, service, judgement.action, mode, because));
        }
    }

    /// What the zones say, in a line.
    pub(super) fn because(&self, judgement: &Judgement) -> String {
        let said = judgement.because.iter().filter_map(|(index, codes)| {
            let dnsbl = &self.policy.zone(*index)?.dnsbl;
            let codes: Vec<String> = codes.iter().map(|code| code_text(dnsbl, *code)).collect();
            Some(format!("{} {}", dnsbl.name, codes.join(", ")))
        });
        said.collect::<Vec<_>>().join("; ")
    }
}

pub(super) fn key_of((source, id): &Place) -> ListedKey {
    ListedKey::new(Address::from(*source), *id)
}

/// A code with what it means.
pub(super) fn code_text(dnsbl: &Dnsbl, code: Ipv4Addr) -> String {
    dnsbl.meaning(code).map_or_else(|| code.to_string(), |meaning| format!("{meaning} ({code})"))
}

/// A moment by the kernel's clock.
fn moment_of(at: Instant) -> Moment {
    let rest = at.saturating_duration_since(Instant::now());
    Moment(now().0.saturating_add(u64::try_from(rest.as_nanos()).unwrap_or(u64::MAX)))
}
