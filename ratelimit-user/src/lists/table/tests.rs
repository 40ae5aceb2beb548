//! The table against a naive reference: every network is asked whether it holds the address.

use std::net::IpAddr;

use ratelimit_common::{Address, lookup::find};

use super::*;
use crate::{
    config::Network,
    lists::{V4, V6},
};

/// SplitMix64: the same numbers on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

fn reference(layers: &[Layer<'_>], address: Address) -> Entry {
    let ip = address.to_ip();
    let covers = |layer: &&Layer<'_>| match ip {
        IpAddr::V4(v4) => {
            layer.networks.v4().iter().any(|network| (network.first()..=network.last()).contains(&v4.to_bits()))
        }
        IpAddr::V6(v6) => {
            layer.networks.v6().iter().any(|network| (network.first()..=network.last()).contains(&v6.to_bits()))
        }
    };
    let covering: Vec<_> = layers.iter().filter(covers).collect();
    let sum = covering.iter().fold(Entry::NONE, |sum, layer| sum.union(layer.says));
    if covering.iter().any(|layer| layer.shields) { sum.shielded() } else { sum }
}

/// Asks for every boundary of every network, and for addresses between them.
fn assert_equal(layers: &[Layer<'_>], random: &mut Random) {
    let table = build(layers).unwrap();
    let lines = table.to_lines();
    let ask = |address: Address| {
        let found = table.classes()[usize::from(find(lines.as_slice(), address).0)];
        assert_eq!(found, reference(layers, address), "{}", address.to_ip());
    };
    for layer in layers {
        for network in layer.networks.v4() {
            let (first, last) = (network.first(), network.last());
            for address in [first, last, first.wrapping_sub(1), last.wrapping_add(1), first + (last - first) / 2] {
                ask(Address::from_v4(address));
            }
        }
        for network in layer.networks.v6() {
            let (first, last) = (network.first(), network.last());
            for address in [first, last, first.wrapping_sub(1), last.wrapping_add(1), first + (last - first) / 2] {
                let address = Address::from_words((address >> 64) as u64, address as u64);
                // What looks like a mapped address is one.
                if !address.is_v4() {
                    ask(address);
                }
            }
        }
    }
    for _ in 0..200 {
        ask(Address::from_v4(random.next() as u32));
        ask(Address::from_words(random.next() >> 2 | 0x2000_0000_0000_0000, random.next()));
    }
}

/// Networks of all lengths in a few places, so that they lie inside one another and leaves of every kind occur.
fn crowded(random: &mut Random, count: usize) -> Networks {
    let places: Vec<u32> = (0..6).map(|_| random.next() as u32 & 0xffff_f000).collect();
    let v4 = (0..count).map(|_| {
        let place = places[random.below(6) as usize] + random.below(4096) as u32;
        let length = if random.below(4) == 0 { random.below(33) as u8 } else { 24 + random.below(9) as u8 };
        V4::new(place, length)
    });
    let v4 = v4.collect();
    let v6_places: Vec<u128> = (0..4).map(|_| u128::from(random.next() | 1 << 61) << 64).collect();
    let v6 = (0..count / 2).map(|_| {
        let place = v6_places[random.below(4) as usize] ^ u128::from(random.next()) << random.below(64);
        V6::new(place, if random.below(6) == 0 { random.below(129) as u8 } else { 32 + random.below(97) as u8 })
    });
    Networks::new(v4, v6.collect())
}

fn says(bits: u64) -> Entry {
    Entry::new(bits as u16 & 1, bits as u16 >> 1 & 1, bits as u16 >> 2).by_lists(bits >> 3 & 7)
}

#[test]
fn crowded_layers_agree_with_the_reference() {
    let mut random = Random(1);
    for round in 0..60 {
        let count = [1, 2, 3, 10, 60, 300][round % 6];
        let networks: Vec<Networks> = (0..1 + round % 4).map(|_| crowded(&mut random, count)).collect();
        let layers: Vec<_> = networks
            .iter()
            .enumerate()
            .map(|(index, networks)| Layer { networks, says: says(random.next()), shields: index == 3 })
            .collect();
        assert_equal(&layers, &mut random);
    }
}

#[test]
fn leaves_of_every_size_and_the_bitmap_occur_and_agree() {
    let mut random = Random(2);
    let hosts = |network: u32, count: u32| (0..count).map(move |index| V4::new(network + 2 * index, 32));
    let one: Vec<V4> = hosts(0x0a00_0000, 1).chain(hosts(0x0a00_0100, 4)).chain(hosts(0x0a00_0200, 9)).collect();
    let many: Vec<V4> = hosts(0x0a00_0300, 100).chain(hosts(0x0a00_0400, 60)).collect();
    let first = Networks::new(one.into_iter().chain(many).collect(), Vec::new());
    let second = Networks::new((0..50).map(|index| V4::new(0x0a00_0400 + 3 * index, 32)).collect(), Vec::new());
    let layers = [
        Layer { networks: &first, says: Entry::new(0, 0, 1), shields: false },
        Layer { networks: &second, says: Entry::new(0, 0, 2), shields: false },
    ];
    assert_equal(&layers, &mut random);
    let lines = build(&layers).unwrap().to_lines();
    let root = lines[1 + (0x0a00_0000 >> 14)].0;
    let kinds: Vec<u64> = (0..5).map(|slot| (0..3).map(|bit| (root[bit] >> slot & 1) << bit).sum()).collect();
    assert_eq!(kinds, [4, 5, 6, 6, 7], "a leaf of each size, and one of 64 bytes that is a bitmap");
}

#[test]
fn wide_networks_and_more_classes_than_a_palette_agree() {
    let mut random = Random(3);
    let layers_of: Vec<Networks> =
        (0..5).map(|layer| Networks::new(vec![V4::new(0x0b00_0000 + (layer << 8), 24)], Vec::new())).collect();
    let everything = Networks::new(vec![V4::new(0, 0)], vec![V6::new(0, 0)]);
    let mut layers: Vec<_> = layers_of
        .iter()
        .zip(0..)
        .map(|(networks, bit)| Layer { networks, says: Entry::new(0, 0, 1 << bit), shields: false })
        .collect();
    assert_equal(&layers, &mut random);
    layers.push(Layer { networks: &everything, says: Entry::new(0, 0x8000, 0), shields: false });
    assert_equal(&layers, &mut random);
}

#[test]
fn nothing_takes_next_to_nothing() {
    let table = build(&[]).unwrap();
    assert_eq!((table.lines(), table.classes()), (1, &[Entry::NONE][..]));
    let lines = table.to_lines();
    assert_eq!(find(lines.as_slice(), Address::from_v4(1)).0, 0);
    assert_eq!(find(lines.as_slice(), Address::from_words(1, 1)).0, 0);
}

#[test]
fn more_classes_than_fit_lose_their_lists_and_not_their_actions() {
    let networks: Vec<Networks> =
        (0..13).map(|bit| (0..1u32 << 13).filter(|host| host >> bit & 1 != 0).map(host).collect()).collect();
    fn host(number: u32) -> Network {
        Network::host(std::net::Ipv4Addr::from_bits(0x0c00_0000 + number).into())
    }
    let layers: Vec<_> = networks
        .iter()
        .zip(0..)
        .map(|(networks, bit)| Layer { networks, says: Entry::new(0, 0, 1).by_lists(1 << bit), shields: false })
        .collect();
    let table = build(&layers).unwrap();
    let lines = table.to_lines();
    for number in 0..1u32 << 13 {
        let entry = table.classes()[usize::from(find(lines.as_slice(), Address::from_v4(0x0c00_0000 + number)).0)];
        let (all, none) = (u64::from(number), 0);
        assert!(entry.lists() == all || entry.lists() == none);
        assert_eq!(entry.by_lists(0), Entry::new(0, 0, u16::from(number != 0)));
    }
}

/// A million networks as lists have them, against the networks themselves: they lie apart, so a search finds the only
/// one that can hold an address.
#[test]
fn a_million_networks_agree_at_their_boundaries() {
    let mut random = Random(4);
    let length = |random: &mut Random| [32, 32, 32, 32, 24, 24, 22, 28][random.below(8) as usize];
    let v4 = (0..900_000).map(|_| V4::new(random.next() as u32, length(&mut random))).collect();
    let v6 = (0..100_000).map(|_| V6::new(u128::from(random.next() | 1 << 61) << 64, 64)).collect();
    let networks = Networks::new(v4, v6);
    let layer = Layer { networks: &networks, says: Entry::new(0, 0, 1), shields: false };
    let table = build(&[layer]).unwrap();
    let lines = table.to_lines();
    let listed = |address: Address| find(lines.as_slice(), address) != ratelimit_common::ClassId::NONE;
    // The widest around an address comes first of all that hold it.
    let mut covered: Vec<(u32, u32)> = Vec::new();
    for network in networks.v4() {
        match covered.last_mut() {
            Some((_, last)) if network.first() <= *last => *last = (*last).max(network.last()),
            _ => covered.push((network.first(), network.last())),
        }
    }
    let holds = |address: u32| {
        let behind = covered.partition_point(|(first, _)| *first <= address);
        behind > 0 && covered[behind - 1].1 >= address
    };
    for network in networks.v4() {
        for address in
            [network.first().wrapping_sub(1), network.first(), network.last(), network.last().wrapping_add(1)]
        {
            assert_eq!(listed(Address::from_v4(address)), holds(address), "{address:#x}");
        }
    }
    for _ in 0..1_000_000 {
        let address = random.next() as u32;
        assert_eq!(listed(Address::from_v4(address)), holds(address), "{address:#x}");
    }
    for network in networks.v6() {
        let high = (network.first() >> 64) as u64;
        assert!(listed(Address::from_words(high, random.next())));
        let beside = V6::new(u128::from(high ^ 1) << 64, 64);
        assert_eq!(listed(Address::from_words(high ^ 1, random.next())), networks.v6().binary_search(&beside).is_ok());
    }
    let bound = (16 << 20) + 16 * networks.len() as u64 + 40 * networks.v6().len() as u64;
    assert!(table.memory_bytes() <= bound, "{} of {bound} bytes", table.memory_bytes());
}
