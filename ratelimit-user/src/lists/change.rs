//! Whether a new copy of a list may take the place of the last good one.

use std::fmt;

use super::Networks;
use crate::config::Change;

/// A list may gain so many entries at once, however small it was: whoever keeps a file by hand does.
const EVERYDAY_GAIN: usize = 100;
/// A hundredth of IPv4: no list covers so much more overnight.
const SUDDEN_ADDRESSES: u64 = 1 << 25;

/// Why a copy is not believed at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Suspicion {
    Empty { before: usize },
    Lost { percent: u32, before: usize, now: usize },
    Grown { before: usize, now: usize },
    Wider { before: u64, now: u64 },
}

impl fmt::Display for Suspicion {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty { before } => write!(out, "it is empty and had {before} entries"),
            Self::Lost { percent, before, now } => {
                write!(out, "{percent} % of its {before} entries are gone, {now} are there now")
            }
            Self::Grown { before, now } => write!(out, "it has grown from {before} to {now} entries"),
            Self::Wider { before, now } => write!(out, "it has grown from {before} to {now} IPv4 addresses"),
        }
    }
}

/// Holds a new copy against an older one.
pub fn judge(before: &Networks, now: &Networks, change: Change) -> Result<(), Suspicion> {
    let (old, new) = (before.len(), now.len());
    if change.lost_percent > 0 && old > 0 {
        if new == 0 {
            return Err(Suspicion::Empty { before: old });
        }
        let lost = before.meeting(&before.without(now)).count();
        let percent = (lost as u64 * 100 / old as u64) as u32;
        if lost as u64 * 100 > old as u64 * u64::from(change.lost_percent) {
            return Err(Suspicion::Lost { percent, before: old, now: new });
        }
    }
    let times = u64::from(change.grown_times);
    if times > 0 && old > 0 {
        if new > old + EVERYDAY_GAIN && new as u64 > old as u64 * times {
            return Err(Suspicion::Grown { before: old, now: new });
        }
        let (old, new) = (before.size().v4_addresses, now.size().v4_addresses);
        if new > old + SUDDEN_ADDRESSES && new > old.saturating_mul(times) {
            return Err(Suspicion::Wider { before: old, now: new });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Network;

    fn hosts(range: std::ops::Range<u32>) -> Networks {
        range.map(|host| Network::host(std::net::Ipv4Addr::from_bits(0x0808_0000 + host).into())).collect()
    }

    fn judged(before: &Networks, now: &Networks) -> Result<(), Suspicion> {
        judge(before, now, Change::default())
    }

    #[test]
    fn half_may_go_and_not_more() {
        let before = hosts(0..100);
        judged(&before, &hosts(50..200)).unwrap();
        assert_eq!(judged(&before, &hosts(51..200)), Err(Suspicion::Lost { percent: 51, before: 100, now: 149 }));
        assert_eq!(judged(&before, &Networks::default()), Err(Suspicion::Empty { before: 100 }));
        judged(&Networks::default(), &hosts(0..9)).unwrap();
    }

    #[test]
    fn hosts_that_a_network_takes_in_are_not_gone() {
        let network: Networks = ["8.8.0.0/24".parse::<Network>().unwrap()].into_iter().collect();
        judged(&hosts(0..100), &network).unwrap();
    }

    #[test]
    fn tenfold_is_too_much_but_for_a_few() {
        judged(&hosts(0..100), &hosts(0..1000)).unwrap();
        assert_eq!(judged(&hosts(0..100), &hosts(0..1001)), Err(Suspicion::Grown { before: 100, now: 1001 }));
        judged(&hosts(0..1), &hosts(0..100)).unwrap();
        let wide: Networks =
            ["8.0.0.0/8", "9.0.0.0/8", "11.0.0.0/8"].iter().map(|text| text.parse::<Network>().unwrap()).collect();
        assert!(matches!(judged(&hosts(0..3), &wide), Err(Suspicion::Lost { .. } | Suspicion::Wider { .. })));
    }

    #[test]
    fn a_doubled_file_is_the_same_list() {
        let doubled: Networks =
            hosts(0..100).v4().iter().chain(hosts(0..100).v4()).map(|one| Network::from(*one)).collect();
        judged(&hosts(0..100), &doubled).unwrap();
        assert_eq!(doubled, hosts(0..100));
    }

    #[test]
    fn what_is_switched_off_is_not_asked() {
        let change = Change { lost_percent: 0, grown_times: 0 };
        judge(&hosts(0..100), &Networks::default(), change).unwrap();
        judge(&hosts(0..10), &hosts(0..5000), change).unwrap();
    }
}
