//! Proven sources on disk, so that they are known after a reboot too.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

use ratelimit_common::{
    Address, Moment,
    proof::{PROVEN_NS, Proven},
};

use super::{Book, StoreError};
use crate::changes::seconds;

const SECOND_NS: u64 = 1_000_000_000;

/// A source that completed a handshake; times are since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProvenSource {
    pub source: IpAddr,
    pub last_s: u64,
    /// When a connection ended in which both sides said something.
    pub exchanged_s: Option<u64>,
}

impl ProvenSource {
    /// What the kernel noted, by its clock and the wall clock as they are now.
    pub fn noted(source: Address, proven: &Proven, now: Moment, at: SystemTime) -> Self {
        // Another processor's clock may be a little ahead.
        let ago_ns = |ns: u64| (now.0.wrapping_sub(ns) as i64).max(0) as u64;
        let at_s = |ns: u64| seconds(at).saturating_sub(ago_ns(ns) / SECOND_NS);
        Self {
            source: source.to_ip(),
            last_s: at_s(proven.last_ns),
            exchanged_s: (proven.exchanged_ns != 0).then(|| at_s(proven.exchanged_ns)),
        }
    }

    /// As the kernel holds it. A time before the machine started is below zero there, and wraps.
    fn in_kernel(&self, now: Moment, at: SystemTime) -> (Address, Proven) {
        let moment = |at_s: u64| now.0.wrapping_sub(seconds(at).saturating_sub(at_s).saturating_mul(SECOND_NS));
        // 0 would mean that there was none.
        let exchanged_ns = self.exchanged_s.map_or(0, |at_s| moment(at_s).max(1));
        (Address::from(self.source), Proven { last_ns: moment(self.last_s), exchanged_ns })
    }
}

impl Book {
    /// Writes down what the kernel noted, by its clock and the wall clock as they are now.
    pub fn note_proven(
        &mut self,
        sources: &[(Address, Proven)],
        now: Moment,
        at: SystemTime,
    ) -> Result<(), StoreError> {
        let noted: Vec<ProvenSource> =
            sources.iter().map(|(source, proven)| ProvenSource::noted(*source, proven, now, at)).collect();
        self.store.put_proven(&noted)
    }

    /// Those that are still good, as the kernel holds them.
    pub fn proven(&self, now: Moment, at: SystemTime) -> Result<Vec<(Address, Proven)>, StoreError> {
        let sources = self.store.proven()?;
        let held = sources.iter().map(|source| source.in_kernel(now, at));
        Ok(held.filter(|(_, proven)| proven.is_good(now.0)).collect())
    }

    /// Strikes out those that are too old.
    pub fn forget_proven(&mut self, at: SystemTime) -> Result<(), StoreError> {
        self.store.forget_proven(seconds(at).saturating_sub(Duration::from_nanos(PROVEN_NS).as_secs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_proven_after_a_reboot_for_what_is_left_of_thirty_days() {
        let state = tempfile::tempdir().unwrap();
        let mut book = Book::open(state.path()).unwrap();
        let (at, day) = (SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000), Duration::from_secs(86_400));
        let (v4, v6) = (Address::from_v4(0xc000_0207), Address::from_words(0x2001_0db8_0007_0000, 0));
        let uptime = Moment(40 * 86_400 * SECOND_NS);
        let ago = |days: u64| uptime.0 - days * 86_400 * SECOND_NS;
        let seen = [
            (v4, Proven { last_ns: ago(1), exchanged_ns: ago(2) }),
            (v6, Proven { last_ns: ago(20), exchanged_ns: 0 }),
        ];
        book.note_proven(&seen, uptime, at).unwrap();
        let noted = seen.map(|(source, proven)| ProvenSource::noted(source, &proven, uptime, at));
        // The machine starts anew five days later.
        let (at, uptime) = (at + 5 * day, Moment(60 * SECOND_NS));
        let held = book.proven(uptime, at).unwrap();
        assert_eq!(held.len(), 2);
        let again: Vec<_> =
            held.iter().map(|(source, proven)| ProvenSource::noted(*source, proven, uptime, at)).collect();
        assert!(noted.iter().all(|source| again.contains(source)), "{again:?}");
        let later = book.proven(uptime, at + 10 * day).unwrap();
        assert_eq!(later.iter().map(|(source, _)| *source).collect::<Vec<_>>(), [v4]);
        book.forget_proven(at + 10 * day).unwrap();
        assert_eq!(book.proven(uptime, at).unwrap().len(), 1);
    }
}
