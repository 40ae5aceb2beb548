//! Against ipnet, and against asking of every address.

use std::collections::BTreeSet;

use ipnet::{Ipv4Net, Ipv6Net};
use proptest::prelude::*;

use super::*;

fn networks(text: &str) -> Networks {
    text.split_whitespace().map(|word| word.parse::<Network>().unwrap()).collect()
}

fn texts(networks: &Networks) -> String {
    let v4 = networks.v4().iter().map(|network| Network::from(*network));
    let v6 = networks.v6().iter().map(|network| Network::from(*network));
    v4.chain(v6).map(|network| network.to_string()).collect::<Vec<_>>().join(" ")
}

#[test]
fn one_address_cut_out_of_a_network_leaves_the_fewest_around_it() {
    let left = networks("10.0.0.0/29 2001:db8::/126").without(&networks("10.0.0.3 2001:db8::2"));
    assert_eq!(texts(&left), "10.0.0.0/31 10.0.0.2/32 10.0.0.4/30 2001:db8::/127 2001:db8::3/128");
}

#[test]
fn the_ends_of_all_addresses_are_cut_like_any_other() {
    let left = networks("0.0.0.0/0 ::/0").without(&networks("0.0.0.0/1 128.0.0.0/2 ::/1 c000::/2"));
    assert_eq!(texts(&left), "192.0.0.0/2 8000::/2");
    assert_eq!(texts(&networks("0.0.0.0/0 ::/0").without(&networks("0.0.0.0/0 ::/0"))), "");
    assert_eq!(texts(&networks("255.255.255.254/31").without(&networks("255.255.255.255"))), "255.255.255.254/32");
}

#[test]
fn what_is_left_has_a_bound() {
    let (all, one) = (networks("::/0 10.0.0.0/8"), networks("2001:db8::1"));
    let left = all.without(&one);
    assert_eq!(left.len(), 129);
    assert_eq!(all.without_within(&one, 129), Some(left));
    assert_eq!(all.without_within(&one, 128), None);
    assert_eq!(all.without_within(&all, 0), Some(Networks::default()));
}

#[test]
fn neighbours_do_not_grow_together() {
    let (both, aside) = (networks("10.0.0.0/8 11.0.0.0/8"), networks("12.0.0.0/8"));
    assert_eq!(texts(&both.without(&aside)), "10.0.0.0/8 11.0.0.0/8");
    assert_eq!(texts(&both.union(&aside)), "10.0.0.0/8 11.0.0.0/8 12.0.0.0/8");
}

#[test]
fn what_lies_in_several_networks_counts_once() {
    let size =
        networks("10.0.0.0/24 10.0.0.0/30 10.0.1.7 2001:db8::/63 2001:db8::1 2001:db8:1::1 2001:db8:1::2").size();
    assert_eq!(size, Size { v4_addresses: 257, v6_64s: 3 });
    assert_eq!(networks("0.0.0.0/0 ::/0").size(), Size { v4_addresses: 1 << 32, v6_64s: 1 << 64 });
    assert_eq!(Networks::default().size(), Size::default());
}

/// A corner of IPv4 and one of IPv6 of which every address can be asked for, and networks wider than it.
const CORNER: u32 = 0xffff_ff00;
const CORNER_V6: u128 = u128::MAX - 0xff;

fn some() -> impl Strategy<Value = Networks> {
    let v4 = (any::<u8>(), 22u8..=32).prop_map(|(host, length)| V4::new(CORNER + u32::from(host), length));
    let v6 = (any::<u8>(), 118u8..=128).prop_map(|(host, length)| V6::new(CORNER_V6 + u128::from(host), length));
    (prop::collection::vec(v4, 0..12), prop::collection::vec(v6, 0..12)).prop_map(|(v4, v6)| Networks::new(v4, v6))
}

fn holds_v4(networks: &Networks, address: u32) -> bool {
    let net = |network: &V4| Ipv4Net::new(network.first().into(), network.length()).unwrap();
    networks.v4().iter().any(|network| net(network).contains(&std::net::Ipv4Addr::from(address)))
}

fn holds_v6(networks: &Networks, address: u128) -> bool {
    let net = |network: &V6| Ipv6Net::new(network.first().into(), network.length()).unwrap();
    networks.v6().iter().any(|network| net(network).contains(&std::net::Ipv6Addr::from(address)))
}

proptest! {
    #[test]
    fn sets_are_exact(these in some(), others in some()) {
        let (without, union) = (these.without(&others), these.union(&others));
        for host in 0..=0xffu32 {
            let address = CORNER + host;
            let (this, other) = (holds_v4(&these, address), holds_v4(&others, address));
            prop_assert_eq!(holds_v4(&without, address), this && !other);
            prop_assert_eq!(holds_v4(&union, address), this || other);
            let address = CORNER_V6 + u128::from(host);
            let (this, other) = (holds_v6(&these, address), holds_v6(&others, address));
            prop_assert_eq!(holds_v6(&without, address), this && !other);
            prop_assert_eq!(holds_v6(&union, address), this || other);
        }
    }

    #[test]
    fn what_is_left_lies_in_what_there_was(these in some(), others in some()) {
        let without = these.without(&others);
        prop_assert_eq!(&Networks::new(without.v4().to_vec(), without.v6().to_vec()), &without);
        for left in without.v4() {
            prop_assert!(these.v4().iter().any(|network| Network::from(*network).contains(Network::from(*left))));
        }
        prop_assert_eq!(without.meeting(&others).count(), 0);
    }

    #[test]
    fn those_that_meet_are_those_that_overlap(these in some(), others in some()) {
        let all = |networks: &Networks| -> Vec<Network> {
            let v4 = networks.v4().iter().map(|network| Network::from(*network));
            v4.chain(networks.v6().iter().map(|network| Network::from(*network))).collect()
        };
        let others_all = all(&others);
        let overlapping: Vec<Network> =
            all(&these).into_iter().filter(|one| others_all.iter().any(|other| one.overlaps(*other))).collect();
        prop_assert_eq!(these.meeting(&others).collect::<Vec<_>>(), overlapping);
    }

    #[test]
    fn as_few_networks_as_ipnet_makes_of_them(these in some(), others in some()) {
        // Of networks that lie apart, what is left is what ipnet makes of the addresses that are left.
        let whole = Networks::new(vec![V4::new(CORNER, 24)], vec![V6::new(CORNER_V6, 120)]).without(&others);
        let kept = |address: &u32| !holds_v4(&others, *address);
        let hosts: Vec<Ipv4Net> = (CORNER..=u32::MAX).filter(kept).map(|host| Ipv4Net::from(std::net::Ipv4Addr::from(host))).collect();
        let left: Vec<Ipv4Net> =
            whole.v4().iter().map(|network| Ipv4Net::new(network.first().into(), network.length()).unwrap()).collect();
        prop_assert_eq!(left, Ipv4Net::aggregate(&hosts));
        let addresses: BTreeSet<u32> = (CORNER..=u32::MAX).filter(|address| holds_v4(&these, *address)).collect();
        let inside = these.without(&these.without(&Networks::new(vec![V4::new(CORNER, 24)], vec![])));
        prop_assert_eq!(inside.size().v4_addresses, addresses.len() as u64);
    }
}
