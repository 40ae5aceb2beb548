//! What the kernel holds of the bans of one network: one entry, with the services that are banned and one end.
//!
//! Bans of a network that end at different times share the entry, so it ends when the first of them does, and the controller
//! makes it anew for the others shortly before. So the first ends up to [`LEAD`] early, and no other has a gap. Where no
//! controller runs at that moment, all of them end with the first: too early, and never too late. A later start puts
//! the others in force again.

use std::time::Duration;

use ratelimit_common::{Moment, SERVICES, ban::Ban};

use super::Record;
use crate::layout::Layout;

/// How long before a service's ban ends the entry is made anew for the others; longer than two ticks of the controller.
pub const LEAD: Duration = Duration::from_secs(3);

/// Services, one bit each, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    services: u64,
    until: Moment,
}

impl Held {
    pub fn with_hits(self, hits: u64) -> Ban {
        Ban { until_ns: self.until.0, services: self.services, hits, last_hit_ns: 0 }
    }
}

/// The entry at a moment; `None` where nothing is banned. Services that do not exist any more are left out.
pub fn held<'r>(records: impl Iterator<Item = &'r Record>, layout: &Layout, at: Moment) -> Option<Held> {
    // Of several bans of a service the last one counts.
    let mut ends = [Moment(0); SERVICES];
    for record in records.filter(|record| record.until > at) {
        let services = services(record, layout);
        for (_, end) in ends.iter_mut().enumerate().filter(|(place, _)| services >> place & 1 != 0) {
            *end = record.until.max(*end);
        }
    }
    let last = ends.into_iter().max().filter(|last| *last > at)?;
    let soon = Moment(at.0.saturating_add(LEAD.as_nanos() as u64));
    let is_held = |end: &Moment| *end == last || *end > soon;
    let until = ends.into_iter().filter(is_held).min()?;
    let bits = ends.iter().enumerate().filter(|(_, end)| is_held(end)).map(|(place, _)| 1 << place);
    Some(Held { services: bits.fold(0, |all: u64, bit: u64| all | bit), until })
}

fn services(record: &Record, layout: &Layout) -> u16 {
    match record.services.is_empty() {
        true => u16::MAX,
        false => {
            let places = record.services.iter().filter_map(|name| layout.place(name));
            places.fold(0, |all, place| all | place.id.bit())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bans::Ground, config::Config};
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    fn layout() -> Layout {
        Layout::plan(&Config::default(), None)
    }

    fn record(services: &[&str], until_s: u64) -> Record {
        let services = services.iter().map(|name| (*name).to_owned()).collect();
        let network = "192.0.2.7".parse().unwrap();
        let record = Record::new(network, services, &Ground::Word, None, Duration::from_secs(1)).unwrap();
        Record { until: Moment(until_s * SECOND), ..record }
    }

    fn at(records: &[Record], second: u64) -> Option<(u64, u64)> {
        let held = held(records.iter(), &layout(), Moment(second * SECOND))?;
        Some((held.services, held.until.0 / SECOND))
    }

    fn bit(service: &str) -> u64 {
        layout().place(service).unwrap().id.bit().into()
    }

    const ALL: u64 = u16::MAX as u64;

    #[test]
    fn one_ban_is_held_as_it_is() {
        let smtp = [record(&["smtp"], 100)];
        assert_eq!(at(&smtp, 0), Some((bit("smtp"), 100)));
        assert_eq!(at(&smtp, 99), Some((bit("smtp"), 100)));
        assert_eq!(at(&smtp, 100), None);
        assert_eq!(at(&[record(&[], 100)], 0), Some((ALL, 100)));
        assert_eq!(at(&[record(&["gone"], 100)], 0), None);
    }

    #[test]
    fn bans_of_several_services_are_held_until_the_first_ends_and_then_the_others() {
        let both = [record(&["imap"], 100), record(&["smtp"], 200)];
        assert_eq!(at(&both, 0), Some((bit("imap") | bit("smtp"), 100)));
        assert_eq!(at(&both, 96), Some((bit("imap") | bit("smtp"), 100)));
        for second in [97, 99, 100, 199] {
            assert_eq!(at(&both, second), Some((bit("smtp"), 200)), "{second}");
        }
        assert_eq!(at(&both, 200), None);
    }

    #[test]
    fn a_ban_inside_a_longer_one_changes_nothing() {
        let both = [record(&["imap"], 50), record(&[], 100)];
        assert_eq!(at(&both, 0), Some((ALL, 100)));
        let other = [record(&["imap"], 200), record(&[], 100)];
        assert_eq!(at(&other, 0), Some((ALL, 100)));
        assert_eq!(at(&other, 98), Some((bit("imap"), 200)));
    }

    proptest! {
        /// Whatever there is: never a service longer than its last ban, and never a gap while a controller follows.
        #[test]
        fn no_service_is_banned_too_long_or_has_a_gap(
            bans in prop::collection::vec((0usize..4, 1u64..40), 0..6),
            second in 0u64..40,
        ) {
            let names: [&[&str]; 4] = [&["smtp"], &["imap", "smtp"], &["imap"], &[]];
            let records: Vec<Record> = bans.iter().map(|(which, until)| record(names[*which], *until)).collect();
            let held = at(&records, second);
            for name in ["smtp", "imap", "pop3"] {
                let concerned = records.iter().filter(|record| record.concerns(name));
                let end = concerned.map(|record| record.until.0 / SECOND).max().unwrap_or(0);
                let is_held = held.is_some_and(|(services, _)| services & bit(name) != 0);
                if let (true, Some((_, until))) = (is_held, held) {
                    prop_assert!(until <= end, "{name} is held until {until}, banned until {end}");
                    prop_assert!(until > second);
                }
                if end > second + LEAD.as_secs() {
                    prop_assert!(is_held, "{name} is banned until {end} and not held at {second}");
                }
            }
        }
    }
}
