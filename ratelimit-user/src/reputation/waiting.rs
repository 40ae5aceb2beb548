//! Sources that wait until the budget of a zone allows to ask about them.

use std::{
    cmp::Reverse,
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use ratelimit_common::ServiceId;

/// More are not remembered.
const MOST: usize = 1 << 16;
/// Who did not come for so long is not worth a question any more.
const STAYS: Duration = Duration::from_secs(900);

/// How often sources came, and when last. Who comes most is asked about first.
#[derive(Debug, Default)]
pub struct Waiting(HashMap<(IpAddr, ServiceId), Came>);

#[derive(Clone, Copy, Debug)]
struct Came {
    times: u32,
    last: Instant,
}

impl Waiting {
    pub fn note(&mut self, source: IpAddr, id: ServiceId, at: Instant) {
        if let Some(came) = self.0.get_mut(&(source, id)) {
            *came = Came { times: came.times.saturating_add(1), last: at };
        } else if self.0.len() < MOST {
            self.0.insert((source, id), Came { times: 1, last: at });
        }
    }

    /// Takes out those that came most.
    pub fn take_busiest(&mut self, most: usize, at: Instant) -> Vec<(IpAddr, ServiceId)> {
        self.0.retain(|_, came| at.saturating_duration_since(came.last) < STAYS);
        if most == 0 || self.0.is_empty() {
            return Vec::new();
        }
        let mut all: Vec<_> = self.0.iter().map(|(key, came)| (*key, *came)).collect();
        if all.len() > most {
            all.select_nth_unstable_by_key(most - 1, |(_, came)| Reverse(came.times));
            all.truncate(most);
        }
        all.sort_by_key(|(_, came)| Reverse(came.times));
        let busiest: Vec<_> = all.into_iter().map(|(key, _)| key).collect();
        for key in &busiest {
            self.0.remove(key);
        }
        busiest
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_are_first_and_who_does_not_come_any_more_goes() {
        let start = Instant::now();
        let source = |last: u8| IpAddr::from([192, 0, 2, last]);
        let id = ServiceId::new(0).unwrap();
        let mut waiting = Waiting::default();
        for last in 1..=9 {
            (0..last).for_each(|_| waiting.note(source(last), id, start));
        }
        assert!(waiting.take_busiest(0, start).is_empty());
        assert_eq!(waiting.take_busiest(2, start), [(source(9), id), (source(8), id)]);
        waiting.note(source(1), id, start + STAYS);
        assert_eq!(waiting.take_busiest(5, start + STAYS), [(source(1), id)]);
        assert!(waiting.is_empty());
    }

    #[test]
    fn it_is_bounded() {
        let start = Instant::now();
        let id = ServiceId::new(0).unwrap();
        let mut waiting = Waiting::default();
        (0..2 * MOST as u32).for_each(|source| waiting.note(IpAddr::from(source.to_be_bytes()), id, start));
        assert_eq!(waiting.len(), MOST);
    }
}
