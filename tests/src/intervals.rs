//! A naive reference for what networks hold: intervals that lie apart, in order.

use ratelimit_common::Address;

/// Addresses, as numbers.
#[derive(Clone, Debug, Default)]
pub struct Intervals(Vec<(u128, u128)>);

impl Intervals {
    /// Of networks by their first and last addresses, which may lie inside one another.
    pub fn of(networks: impl IntoIterator<Item = (Address, Address)>) -> Self {
        let mut all: Vec<_> = networks.into_iter().map(|(first, last)| (number(first), number(last))).collect();
        all.sort_unstable();
        let mut apart: Vec<(u128, u128)> = Vec::new();
        for (first, last) in all {
            match apart.last_mut() {
                Some((_, end)) if first <= *end => *end = (*end).max(last),
                _ => apart.push((first, last)),
            }
        }
        Self(apart)
    }

    pub fn contain(&self, address: Address) -> bool {
        let address = number(address);
        let behind = self.0.partition_point(|(first, _)| *first <= address);
        behind > 0 && self.0[behind - 1].1 >= address
    }
}

/// IPv4 as the gate compares it, so that no address of one family looks like one of the other.
fn number(address: Address) -> u128 {
    let (high, low) = address.words();
    u128::from(high) << 64 | u128::from(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_inside_one_another_hold_what_the_wider_ones_hold() {
        let v4 = Address::from_v4;
        let all = Intervals::of([(v4(10), v4(20)), (v4(12), v4(13)), (v4(15), v4(25)), (v4(30), v4(30))]);
        let held: Vec<u32> = (0..40).filter(|address| all.contain(v4(*address))).collect();
        assert_eq!(held, (10..=25).chain([30]).collect::<Vec<_>>());
        assert!(!all.contain(Address::from_words(0, 12)) && !Intervals::default().contain(v4(0)));
    }
}
