//! Counters on their way from a gate to the one that replaces it.

use std::path::Path;

use aya::maps::MapError;
use ratelimit_common::{
    Family, Reason, SERVICES, ServiceId, Set,
    ban::{Ban, BanKey},
    event::{Tally, tally_index},
};

use super::{ListHits, Maps, Plan, maps::wait_for_running_programs};

/// The counters of a gate that is being replaced. It counts on until its program has been replaced everywhere,
/// so they are carried over twice: at first all, in the end what came in the meantime.
#[derive(Debug)]
pub struct CarryOver {
    older: Maps,
    carried: Vec<Tally>,
}

impl CarryOver {
    /// Carries over what services that stay have counted until now. The new maps are not in use yet.
    pub fn begin(older: &Path, maps: &mut Maps, plan: &Plan<'_>) -> Result<Self, MapError> {
        let older = Maps::open(older)?;
        let carried = tallies_that_stay(&older, &plan.compiled.set)?;
        maps.add_tallies(&carried)?;
        Ok(Self { older, carried })
    }

    /// Carries over the rest, once nothing counts into the old maps any more; of bans what they stopped beyond what is
    /// known of them. Returns what the lists of the old set stopped: they may have other bits now, or be gone.
    pub fn finish(self, maps: &mut Maps, known: &[(BanKey, Ban)]) -> Result<ListHits, MapError> {
        wait_for_running_programs();
        let mut rest = tallies_that_stay(&self.older, &*maps.active_set()?)?;
        for (rest, carried) in rest.iter_mut().zip(&self.carried) {
            rest.passed = rest.passed.saturating_sub(carried.passed);
            rest.dropped = rest.dropped.saturating_sub(carried.dropped);
        }
        maps.add_tallies(&rest)?;
        maps.bans_mut().add_hits(self.older.bans(), known)?;
        self.older.list_hits()
    }
}

/// The place of a service that went may be another's now, who starts from zero.
fn tallies_that_stay(older: &Maps, new: &Set) -> Result<Vec<Tally>, MapError> {
    let old = older.active_set()?;
    let mut tallies = older.tallies()?;
    let gone = |id: &ServiceId| old.service_at(*id).name() != new.service_at(*id).name();
    for id in (0..SERVICES).filter_map(ServiceId::new).filter(gone) {
        for (reason, family) in Reason::ALL.iter().flat_map(|reason| Family::ALL.map(|family| (reason, family))) {
            if let Some(tally) = tallies.get_mut(tally_index(*reason, Some(id), family) as usize) {
                *tally = Tally::default();
            }
        }
    }
    Ok(tallies)
}
