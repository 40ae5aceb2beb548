//! Own addresses in their buckets.

use std::net::{IpAddr, Ipv6Addr};

use bytemuck::Zeroable as _;
use proptest::{collection::hash_set, prelude::*};
use ratelimit_common::{
    Address, Service, ServiceId, Set,
    set::{BUCKET, BUCKETS},
};

/// As [`ratelimit_common::set::TooManyDestinations`] says.
const STATED: usize = BUCKETS * BUCKET / 4;

fn filled(addresses: &[Address]) -> Box<Set> {
    let mut set: Box<Set> = Box::new(Set::zeroed());
    let id = ServiceId::new(0).unwrap();
    set.put_service(id, Service::new("smtp", Default::default(), Default::default(), 0, Default::default()), &[25]);
    set.put_locals(addresses, id.bit()).unwrap_or_else(|error| panic!("{} addresses: {error}", addresses.len()));
    set
}

fn assert_serves(addresses: &[Address]) {
    let set = filled(addresses);
    for address in addresses {
        assert!(set.serves(*address));
        assert!(set.service(*address, 25).is_some());
        assert!(set.service(*address, 26).is_none());
    }
}

#[test]
fn a_whole_network_of_own_addresses_fits() {
    let v4: Vec<_> = (0..STATED as u32).map(|host| Address::from_v4(0xc633_6400 + host)).collect();
    let v6 = |host: u16| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0x25, 0, 0, 0, 0, host));
    let v6: Vec<_> = (0..STATED as u16).map(|host| Address::from(v6(host))).collect();
    let subnets = |subnet: u16| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0x25, subnet, 0, 0, 0, 1));
    let subnets: Vec<_> = (0..STATED as u16).map(|subnet| Address::from(subnets(subnet))).collect();
    let mixed = [&v4[..STATED / 2], &v6[..STATED / 2]].concat();
    for addresses in [v4, v6, subnets, mixed] {
        assert_serves(&addresses);
    }
}

#[test]
fn nothing_is_served_where_no_address_is_own() {
    let set = filled(&[]);
    for address in [Address::UNSPECIFIED, Address::from_v4(0), Address::from_v4(0xc633_6419)] {
        assert!(!set.serves(address));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_addresses_fit(addresses in hash_set(any::<(u64, u64)>(), 1..=STATED * 3 / 4)) {
        let addresses: Vec<_> = addresses.into_iter().map(|(high, low)| Address::from_words(high, low)).collect();
        assert_serves(&addresses);
    }
}
