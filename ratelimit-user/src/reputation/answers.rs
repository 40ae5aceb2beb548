//! Answers of DNSBLs, for as long as they are good, and no more of them than there is room for.

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr},
    time::Instant,
};

use crate::config::Reading;

/// Which zone (by its place in the configuration) said it of whom.
pub type AnswerKey = (u16, IpAddr);

/// An answer that is not over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// As they came, to be read again when the configuration says otherwise what they mean.
    pub records: Vec<Ipv4Addr>,
    pub reading: Reading,
    pub until: Instant,
}

/// When the room is full, what says that a source is not listed makes way, soonest to end first: it costs a question to know
/// it again. A listing never makes way.
#[derive(Debug, Default)]
pub struct Answers {
    most: usize,
    all: HashMap<AnswerKey, Kept>,
    ends: BTreeSet<(Instant, AnswerKey)>,
    unlisted_ends: BTreeSet<(Instant, AnswerKey)>,
}

impl Answers {
    pub fn new(most: usize) -> Self {
        Self { most, ..Self::default() }
    }

    pub const fn most(&self) -> usize {
        self.most
    }

    pub fn get(&self, key: &AnswerKey, at: Instant) -> Option<&Kept> {
        self.all.get(key).filter(|kept| kept.until > at)
    }

    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// False if there is no room for it.
    pub fn put(&mut self, key: AnswerKey, kept: Kept) -> bool {
        self.take(&key);
        if self.all.len() >= self.most {
            match self.unlisted_ends.first().map(|(_, key)| *key) {
                Some(first) => self.take(&first),
                None => return false,
            }
        }
        let ends = if is_listed(&kept) { &mut self.ends } else { &mut self.unlisted_ends };
        ends.insert((kept.until, key));
        self.all.insert(key, kept);
        true
    }

    /// Forgets what is over.
    pub fn expire(&mut self, at: Instant) {
        while let Some(key) = first_over(&self.ends, at).or_else(|| first_over(&self.unlisted_ends, at)) {
            self.take(&key);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&AnswerKey, &Kept)> {
        self.all.iter()
    }

    /// Forgets everything that a zone said.
    pub fn forget_zone(&mut self, zone: u16) {
        let of_zone: Vec<AnswerKey> = self.all.keys().filter(|(of, _)| *of == zone).copied().collect();
        of_zone.iter().for_each(|key| self.take(key));
    }

    fn take(&mut self, key: &AnswerKey) {
        if let Some(kept) = self.all.remove(key) {
            let ends = if is_listed(&kept) { &mut self.ends } else { &mut self.unlisted_ends };
            ends.remove(&(kept.until, *key));
        }
    }
}

const fn is_listed(kept: &Kept) -> bool {
    matches!(kept.reading, Reading::Listed(_))
}

fn first_over(ends: &BTreeSet<(Instant, AnswerKey)>, at: Instant) -> Option<AnswerKey> {
    ends.first().filter(|(until, _)| *until <= at).map(|(_, key)| *key)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Listed;

    fn kept(is_listed: bool, start: Instant, seconds: u64) -> Kept {
        let listed = Listed { weight: 3, weight_for_ban: 3, codes: Vec::new() };
        let reading = if is_listed { Reading::Listed(listed) } else { Reading::Unlisted };
        Kept { records: Vec::new(), reading, until: start + Duration::from_secs(seconds) }
    }

    #[test]
    fn what_is_not_listed_makes_way_and_a_listing_never_does() {
        let start = Instant::now();
        let key = |last: u8| (0, IpAddr::from([192, 0, 2, last]));
        let mut answers = Answers::new(3);
        assert!(answers.put(key(1), kept(true, start, 10)));
        assert!(answers.put(key(2), kept(false, start, 30)) && answers.put(key(3), kept(false, start, 20)));
        assert!(answers.put(key(4), kept(true, start, 40)));
        assert!(answers.get(&key(3), start).is_none() && answers.get(&key(2), start).is_some());
        assert!(answers.put(key(5), kept(true, start, 40)));
        assert!(!answers.put(key(6), kept(true, start, 50)), "three listings fill it");
        assert!(answers.get(&key(1), start + Duration::from_secs(10)).is_none(), "it is over");
        answers.expire(start + Duration::from_secs(10));
        assert_eq!(answers.len(), 2);
        assert!(answers.put(key(6), kept(false, start, 50)));
        answers.forget_zone(0);
        assert!(answers.is_empty() && answers.ends.is_empty() && answers.unlisted_ends.is_empty());
    }
}
