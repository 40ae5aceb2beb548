//! The gate's own counters, by service, reason and family, read from what is pinned: with a controller or without.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::Result;
use ratelimit_common::event::{Tally, tally_index};
use ratelimit_common::{Family, Reason, ServiceId};
use ratelimit_user::plane::{Pins, open_in_force};

/// Which counter: service (none where a frame belongs to none), reason, family.
pub type Place = (Option<String>, Reason, &'static str);

#[derive(Debug, Clone)]
pub struct Counters(BTreeMap<Place, Tally>);

impl Counters {
    pub fn read(pins: &Path) -> Result<Self> {
        let maps = open_in_force(&Pins::at(pins))?;
        let set = maps.active_set()?;
        let tallies = maps.tallies()?;
        let services: Vec<(Option<ServiceId>, Option<String>)> = set
            .services()
            .map(|(id, service)| (Some(id), Some(service.name().to_owned())))
            .chain([(None, None)])
            .collect();
        let mut counters = BTreeMap::new();
        for (id, name) in services {
            for reason in Reason::ALL {
                for family in Family::ALL {
                    let tally = tallies[tally_index(*reason, id, family) as usize];
                    if tally != Tally::default() {
                        counters.insert((name.clone(), *reason, family.label()), tally);
                    }
                }
            }
        }
        Ok(Self(counters))
    }

    /// What was counted since, frames of open connections and those for no service aside.
    pub fn since(&self, before: &Self) -> Moved {
        let moved = self.all_since(before).0.into_iter();
        Moved(moved.filter(|((service, reason, _), _)| service.is_some() && *reason != Reason::Established).collect())
    }

    /// Everything that was counted since.
    pub fn all_since(&self, before: &Self) -> Moved {
        let moved = self.0.iter().filter_map(|(place, now)| {
            let then = before.0.get(place).copied().unwrap_or_default();
            let tally = Tally { passed: now.passed - then.passed, dropped: now.dropped - then.dropped };
            (tally != Tally::default()).then(|| (place.clone(), tally))
        });
        Moved(moved.collect())
    }
}

/// By how much counters moved; those that did not are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Moved(BTreeMap<Place, Tally>);

impl Moved {
    pub fn expected(rows: &[Row]) -> Self {
        Self(rows.iter().map(|row| ((Some(row.service.to_owned()), row.reason, row.family), row.tally)).collect())
    }

    /// Frames in all.
    pub fn total(&self) -> u64 {
        self.0.values().map(|tally| tally.passed + tally.dropped).sum()
    }

    pub fn total_passed(&self) -> u64 {
        self.0.values().map(|tally| tally.passed).sum()
    }

    /// The reason, if all frames had the same one.
    pub fn only_reason(&self) -> Option<Reason> {
        let mut reasons = self.0.keys().map(|(_, reason, _)| *reason);
        let first = reasons.next()?;
        reasons.all(|reason| reason == first).then_some(first)
    }

    /// Frames for a reason, of all services and families.
    pub fn of(&self, reason: Reason) -> u64 {
        let tally = self.sum(|(_, for_reason, _)| *for_reason == reason);
        tally.passed + tally.dropped
    }

    /// Frames that were let through or dropped, of a service, for a reason; all families.
    pub fn of_reason(&self, service: &str, reason: Reason) -> Tally {
        self.sum(|(of, for_reason, _)| of.as_deref() == Some(service) && *for_reason == reason)
    }

    /// The same for one family.
    pub fn of_family(&self, service: &str, reason: Reason, family: Family) -> Tally {
        self.sum(|(of, for_reason, label)| {
            of.as_deref() == Some(service) && *for_reason == reason && *label == family.label()
        })
    }

    /// New connections of a service that passed, and those that were dropped.
    pub fn connections(&self, service: &str) -> Tally {
        self.sum(|(of, reason, _)| of.as_deref() == Some(service) && reason.is_new_connection())
    }

    /// The same for one family.
    pub fn connections_of(&self, service: &str, family: Family) -> Tally {
        self.sum(|(of, reason, label)| {
            of.as_deref() == Some(service) && reason.is_new_connection() && *label == family.label()
        })
    }

    fn sum(&self, wanted: impl Fn(&Place) -> bool) -> Tally {
        self.0.iter().filter(|(place, _)| wanted(place)).fold(Tally::default(), |sum, (_, tally)| Tally {
            passed: sum.passed + tally.passed,
            dropped: sum.dropped + tally.dropped,
        })
    }
}

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((service, reason, family), tally) in &self.0 {
            let service = service.as_deref().unwrap_or("-");
            let label = reason.label();
            writeln!(f, "  {service} {label} {family}: {} passed, {} dropped", tally.passed, tally.dropped)?;
        }
        Ok(())
    }
}

/// One counter that is expected to move.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub service: &'static str,
    pub reason: Reason,
    pub family: &'static str,
    pub tally: Tally,
}

pub fn passed(service: &'static str, reason: Reason, family: Family, frames: u64) -> Row {
    Row { service, reason, family: family.label(), tally: Tally { passed: frames, dropped: 0 } }
}

pub fn dropped(service: &'static str, reason: Reason, family: Family, frames: u64) -> Row {
    Row { service, reason, family: family.label(), tally: Tally { passed: 0, dropped: frames } }
}
