//! The filter in front of the bans, against a naive set: at no step is a ban missed, and none is found that is not there.

use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::*};
use ratelimit_common::{
    Address,
    ban::{BanKey, FILTER_LINES, FILTER_WORDS, FilterLine, V4_LENGTHS, V6_LENGTHS, candidates, filter_line},
};

#[derive(Clone, Debug)]
enum Step {
    Add(BanKey),
    /// Of what is there, counted around.
    Remove(usize),
}

struct Filter(Vec<FilterLine>);

impl Filter {
    fn of<'a>(bans: impl IntoIterator<Item = &'a BanKey>) -> Self {
        let mut filter = Self(vec![[0; FILTER_WORDS]; FILTER_LINES]);
        bans.into_iter().for_each(|ban| filter.add(ban));
        filter
    }

    fn add(&mut self, ban: &BanKey) {
        let (word, bits) = ban.filter_word();
        ban.filter_lines().for_each(|line| self.0[line as usize][word as usize] |= bits);
    }

    /// As the kernel asks: the filter first, what it shows then exactly.
    fn found(&self, bans: &BTreeSet<BanKey>, source: Address) -> BTreeSet<BanKey> {
        let line = &self.0[filter_line(source) as usize];
        candidates(source).filter(|key| key.is_in(line) && bans.contains(key)).collect()
    }
}

fn around(bans: &BTreeSet<BanKey>, source: Address) -> BTreeSet<BanKey> {
    let holds = |ban: &&BanKey| {
        ban.network().is_v4() == source.is_v4() && source.masked(Address::mask(ban.length())) == ban.network()
    };
    bans.iter().filter(holds).copied().collect()
}

/// Few networks, so that bans lie inside each other.
fn address() -> impl Strategy<Value = Address> {
    let v4 = (0..3u32, any::<u16>())
        .prop_map(|(network, host)| Address::from_v4(0x0a00_0000 | network << 16 | u32::from(host)));
    let v6 = (0..3u64, 0..0x400u64, 0..4u64)
        .prop_map(|(network, subnet, host)| Address::from_words(0x2001_0db8_0000_0000 | network << 16 | subnet, host));
    prop_oneof![v4, v6]
}

fn ban() -> impl Strategy<Value = BanKey> {
    (address(), 0..4usize).prop_map(|(address, index)| match address.is_v4() {
        true => BanKey::new(address, V4_LENGTHS[index % 3]),
        false => BanKey::new(address, V6_LENGTHS[index]),
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![2 => ban().prop_map(Step::Add), 1 => any::<usize>().prop_map(Step::Remove)]
}

/// The first and the last address of a network.
fn ends(ban: &BanKey) -> [Address; 2] {
    let (network, mask) = (ban.network().words(), Address::mask(ban.length()).words());
    [ban.network(), Address::from_words(network.0 | !mask.0, network.1 | !mask.1)]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn no_ban_is_missed_at_any_step(steps in vec(step(), 1..40), others in vec(address(), 40)) {
        let mut bans = BTreeSet::new();
        let mut filter = Filter::of(&bans);
        for step in steps {
            match step {
                Step::Add(ban) => {
                    bans.insert(ban);
                    filter.add(&ban);
                }
                Step::Remove(_) if bans.is_empty() => continue,
                Step::Remove(index) => {
                    let gone = *bans.iter().nth(index % bans.len()).unwrap();
                    bans.remove(&gone);
                    filter = Filter::of(&bans);
                }
            }
            for source in bans.iter().flat_map(ends).chain(others.iter().copied()) {
                prop_assert_eq!(filter.found(&bans, source), around(&bans, source));
            }
        }
    }
}

/// What a packet of a source that is not banned costs beyond its one touch, with as many bans as there can be.
#[test]
fn the_filter_of_a_million_bans_lets_few_others_through() {
    let mut seed = 1u64;
    let mut random = || {
        seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (seed >> 32) as u32
    };
    let mut filter = Filter::of(&[]);
    (0..ratelimit_common::ban::MAX_BANS).for_each(|_| filter.add(&BanKey::new(Address::from_v4(random()), 128)));
    let tries = 100_000u32;
    let shown = (0..tries).filter(|_| {
        let source = Address::from_v4(random());
        candidates(source).any(|key| key.is_in(&filter.0[filter_line(source) as usize]))
    });
    let one_in = f64::from(tries) / shown.count() as f64;
    assert!((100.0..1000.0).contains(&one_in), "one miss in {one_in:.1}, ban.rs says some hundred");
}
