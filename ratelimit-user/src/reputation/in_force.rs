//! What follows from the answers, for each source and service, until it ends.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    time::Instant,
};

use ratelimit_common::ServiceId;

use super::score::Judgement;

/// Of whom, and where.
pub type Place = (IpAddr, ServiceId);

#[derive(Debug, Default)]
pub struct InForce {
    all: HashMap<Place, Held>,
    ends: BTreeSet<(Instant, Place)>,
}

/// A judgement, and since when there has been one without a break.
#[derive(Clone, Debug)]
pub struct Held {
    pub judgement: Judgement,
    pub since: Instant,
}

impl InForce {
    pub fn get(&self, place: &Place) -> Option<&Held> {
        self.all.get(place)
    }

    pub fn put(&mut self, place: Place, judgement: Judgement, at: Instant) {
        let since = self.remove(&place).map_or(at, |before| before.since);
        self.ends.insert((judgement.until, place));
        self.all.insert(place, Held { judgement, since });
    }

    pub fn remove(&mut self, place: &Place) -> Option<Held> {
        let held = self.all.remove(place)?;
        self.ends.remove(&(held.judgement.until, *place));
        Some(held)
    }

    /// Takes out what is over.
    pub fn take_over(&mut self, at: Instant) -> Vec<Place> {
        let mut over = Vec::new();
        while let Some((_, place)) = self.ends.first().copied().filter(|(until, _)| *until <= at) {
            self.remove(&place);
            over.push(place);
        }
        over
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Place, &Held)> {
        self.all.iter()
    }

    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Verdict;

    #[test]
    fn what_is_over_goes_and_what_was_replaced_ends_at_its_new_time() {
        let start = Instant::now();
        let until = |seconds| start + Duration::from_secs(seconds);
        let judgement =
            |seconds| Judgement { score: 3, action: Verdict::Limit, until: until(seconds), because: Vec::new() };
        let place = |last: u8| (IpAddr::from([192, 0, 2, last]), ServiceId::new(0).unwrap());
        let mut in_force = InForce::default();
        in_force.put(place(1), judgement(10), start);
        in_force.put(place(2), judgement(20), start);
        in_force.put(place(1), judgement(30), until(5));
        assert_eq!(in_force.get(&place(1)).unwrap().since, start);
        assert_eq!(in_force.take_over(until(20)), [place(2)]);
        assert_eq!(in_force.len(), 1);
        assert_eq!(in_force.take_over(until(30)), [place(1)]);
        assert!(in_force.is_empty() && in_force.ends.is_empty());
    }
}
