//! Lists as they are found in the field, the same on every run, and sources to ask for.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use anyhow::Result;
use ratelimit_common::ban::BanKey;
use ratelimit_common::{Address, Family};
use ratelimit_user::config::Network;
use ratelimit_user::lists::{Networks, V4, V6};

use crate::cost::SAMPLES;
use crate::intervals::Intervals;
use crate::packet::mutate::Random;

/// One list.
pub(super) struct Corpus {
    pub family: Family,
    /// As drawn: what is drawn twice counts twice.
    pub entries: usize,
    pub networks: Networks,
    /// In the order of the file.
    pub parsed: Parsed,
    pub samples: Samples,
}

/// Networks as a parser hands them over.
#[derive(Clone, Debug, Default)]
pub(super) struct Parsed {
    pub v4: Vec<V4>,
    pub v6: Vec<V6>,
}

/// A million sources of each kind, in random order.
pub(super) struct Samples {
    pub listed: Arc<[Address]>,
    /// Of those that are listed as hosts.
    pub hosts: Arc<[Address]>,
    pub unlisted: Arc<[Address]>,
}

impl Corpus {
    /// IPv4: 95 % hosts, 3 % /24, 1.8 % /25 to /31, 0.2 % /16 to /23. IPv6: half hosts, a third /64, the rest /48 to /63.
    pub fn new(family: Family, entries: usize) -> Self {
        let mut random = Random::new(entries as u64);
        let parsed = Parsed::draw(family, entries, &mut random);
        let networks = parsed.clone().sorted();
        let samples = Samples::draw(family, &networks, &mut random);
        Self { family, entries, networks, parsed, samples }
    }

    /// One network a line, hosts without a length.
    pub fn text(&self) -> Result<String> {
        let mut text = String::new();
        for network in &self.parsed.v4 {
            writeln!(text, "{}", Network::from(*network))?;
        }
        for network in &self.parsed.v6 {
            writeln!(text, "{}", Network::from(*network))?;
        }
        Ok(text)
    }
}

impl Parsed {
    fn draw(family: Family, entries: usize, random: &mut Random) -> Self {
        let mut parsed = Self::default();
        for _ in 0..entries {
            if family == Family::V6 {
                parsed.v6.push(V6::new(draw_v6(random).to_bits(), v6_length(random)));
            } else {
                parsed.v4.push(V4::new(random.word() as u32, v4_length(random)));
            }
        }
        parsed
    }

    pub fn sorted(self) -> Networks {
        Networks::new(self.v4, self.v6)
    }
}

impl Samples {
    fn draw(family: Family, networks: &Networks, random: &mut Random) -> Self {
        let ends = |first, last| (address(first), address(last));
        let v4 =
            networks.v4().iter().map(|network| (Address::from_v4(network.first()), Address::from_v4(network.last())));
        let held = Intervals::of(v4.chain(networks.v6().iter().map(|network| ends(network.first(), network.last()))));
        let hosts: Vec<usize> = match family {
            Family::V6 => positions(networks.v6(), |network| network.length() == 128),
            _ => positions(networks.v4(), |network| network.length() == 32),
        };
        let inside = |place: usize, random: &mut Random| match family {
            Family::V6 => {
                let network = networks.v6()[place];
                address(network.first() | (draw_v6(random).to_bits() & (network.first() ^ network.last())))
            }
            _ => {
                let network = networks.v4()[place];
                Address::from_v4(network.first() | (random.word() as u32 & (network.first() ^ network.last())))
            }
        };
        let outside = |random: &mut Random| loop {
            let source = match family {
                Family::V6 => Address::from(IpAddr::from(draw_v6(random))),
                _ => Address::from_v4(random.word() as u32),
            };
            if !held.contain(source) {
                return source;
            }
        };
        Self {
            listed: (0..SAMPLES).map(|_| inside(random.below(networks.len()), random)).collect(),
            hosts: (0..SAMPLES).map(|_| inside(hosts[random.below(hosts.len())], random)).collect(),
            unlisted: (0..SAMPLES).map(|_| outside(random)).collect(),
        }
    }
}

/// Bans as they come from logs: hosts, few of their networks; and sources that are under one, or under none.
pub(super) fn bans(count: usize) -> (Vec<BanKey>, Samples) {
    let mut random = Random::new(1);
    let length = |random: &mut Random| match random.below(1000) {
        0..960 => 32,
        960..999 => 24,
        _ => 16,
    };
    let v4 = (0..count).map(|_| V4::new(random.word() as u32, length(&mut random))).collect();
    let networks = Networks::new(v4, Vec::new());
    let key = |network: &V4| BanKey::new(Address::from_v4(network.first()), 96 + network.length());
    let samples = Samples::draw(Family::V4, &networks, &mut random);
    (networks.v4().iter().map(key).collect(), samples)
}

fn v4_length(random: &mut Random) -> u8 {
    match random.below(1000) {
        0..950 => 32,
        950..980 => 24,
        980..998 => 25 + random.below(7) as u8,
        _ => 16 + random.below(8) as u8,
    }
}

fn v6_length(random: &mut Random) -> u8 {
    match random.below(100) {
        0..50 => 128,
        50..85 => 64,
        _ => 48 + random.below(16) as u8,
    }
}

/// Of the space in use, 2000::/3.
fn draw_v6(random: &mut Random) -> Ipv6Addr {
    let high = 0x2000_0000_0000_0000 | random.word() >> 3;
    Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(random.word()))
}

fn address(bits: u128) -> Address {
    Address::from_words((bits >> 64) as u64, bits as u64)
}

fn positions<T>(networks: &[T], wanted: impl Fn(&T) -> bool) -> Vec<usize> {
    networks.iter().enumerate().filter_map(|(place, network)| wanted(network).then_some(place)).collect()
}

#[cfg(test)]
mod tests {
    use ratelimit_user::lists::format::{self, Reading};

    use super::*;

    #[test]
    fn a_list_is_the_same_again_and_survives_its_text() -> Result<()> {
        for family in [Family::V4, Family::V6] {
            let (corpus, again) = (Corpus::new(family, 2000), Corpus::new(family, 2000));
            assert_eq!(corpus.networks, again.networks);
            assert_eq!(corpus.networks.len(), 2000);
            assert_eq!(format::parse(corpus.text()?.as_bytes(), &Reading::default())?.networks, corpus.networks);
        }
        Ok(())
    }

    #[test]
    fn samples_are_listed_or_not() {
        let corpus = Corpus::new(Family::V4, 2000);
        let holds = |source: &Address| {
            let word = source.words().1 as u32;
            corpus.networks.v4().iter().any(|network| (network.first()..=network.last()).contains(&word))
        };
        let Samples { listed, hosts, unlisted } = &corpus.samples;
        assert!(listed.iter().chain(hosts.iter()).step_by(10_000).all(holds));
        assert!(!unlisted.iter().step_by(10_000).any(holds));
    }
}
