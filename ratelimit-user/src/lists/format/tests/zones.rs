//! Zones of rbldnsd.

use proptest::prelude::*;

use super::*;

fn zone(text: &str) -> String {
    let parsed = read_as(Format::Rbldnsd, text);
    assert_eq!(parsed.bad.count, 0, "{:?}", parsed.bad);
    texts(&parsed.networks)
}

#[test]
fn a_zone_reads() {
    let parsed = read_as(Format::Rbldnsd, RBLDNSD);
    assert_eq!((parsed.entries, parsed.bad.count), (4, 0));
    assert_eq!(parsed.notices, ["Terms: ask first"]);
    let listed = texts(&parsed.networks);
    assert!(listed.starts_with("127.16.0.0/16 127.18.0.0/15 127.20.0.0/14 127.24.0.0/13 192.0.2.1/32"), "{listed}");
    assert!(listed.ends_with("198.51.100.0/24 2001:db8:1:2::/64"), "{listed}");
}

#[test]
fn networks_are_written_in_many_ways() {
    let loopback = ["127.0.0.0/24", "127.0.0", "127/24", "127-127.0.0", "127.0.0.0-127.0.0.255", "127.0.0.9/24"];
    let sixteen = ["127.16.0.0-127.31.255.255", "127.16.0-127.31.255", "127.16-127.31", "127.16-31", "127.16/12"];
    let ways =
        loopback.map(|text| (text, "127.0.0.0/24")).into_iter().chain(sixteen.map(|text| (text, "127.16.0.0/12")));
    let others = [
        ("127.16.0-31", "127.16.0.0/19"),
        ("192.0.2.4-7", "192.0.2.4/30"),
        ("10-11", "10.0.0.0/7"),
        ("10/8;loopback", "10.0.0.0/8"),
        ("10.0.0.1:127.0.0.2:why", "10.0.0.1/32"),
        ("10.0.0.1 why ; not # cut", "10.0.0.1/32"),
        ("2001:db8/32", "2001:db8::/32"),
        ("2001:db8::/32 why", "2001:db8::/32"),
        ("2001:db8:1:2", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2:3:4:5:6/128"),
        ("2001:db8::7", "2001:db8::7/128"),
        ("10:20", "10:20::/32"),
    ];
    for (text, network) in ways.chain(others) {
        assert_eq!(zone(text), network, "{text}");
    }
}

#[test]
fn what_rbldnsd_does_not_read_is_bad() {
    for line in ["10", "2001", "1.2.3.4.5", "1.2.", "10-9", "1.2.3.4x", "2001:db8:", "!", "dead/129", "*.example.com"] {
        let text = format!("{}{line}\n", "192.0.2.1\n".repeat(20));
        assert_eq!(read_as(Format::Rbldnsd, &text).bad.count, 1, "{line}");
    }
}

#[test]
fn the_more_specific_entry_decides() {
    let zone_with = |inner: &str| zone(&format!("10.1.0.0/16\n!10.1.2.0/24\n{inner}"));
    assert!(!zone_with("").contains("10.1.2."));
    assert!(zone_with("10.1.2.3\n").contains("10.1.2.3/32"));
    assert_eq!(zone("10.0.0.0/24\n!10.0.0.0/24"), "", "of equal ones the exclusion");
    assert_eq!(zone("!10.0.0.0/8\n10.0.0.1\n"), "10.0.0.1/32");
    assert_eq!(zone("10.0.0.1-10.0.0.6\n! 10.0.0.0/30\n"), "10.0.0.4/31 10.0.0.6/32");
    assert_eq!(zone("2001:db8:1:2\n!2001:db8:1:2:8000::/65\n"), "2001:db8:1:2::/65");
    assert_eq!(zone("0.0.0.0/0\n!128/1"), "0.0.0.0/1");
}

#[test]
fn what_no_exclusion_meets_stays_as_it_was_written() {
    assert_eq!(zone("10/8\n10.1.2.3\n11/8\n!192.0.2.1"), "10.0.0.0/8 10.1.2.3/32 11.0.0.0/8");
}

/// An entry: whether it excludes, its first and its last host.
type Entry = (bool, u8, u8);

fn written((excludes, first, last): Entry) -> String {
    format!("{}192.0.2.{first}-{last}\n", if excludes { "!" } else { "" })
}

/// Every entry is asked.
fn is_listed(entries: &[Entry], host: u8) -> bool {
    let holding = entries.iter().filter(|(_, first, last)| (*first..=*last).contains(&host));
    let smallest = holding.min_by_key(|(excludes, first, last)| (last - first, !excludes));
    smallest.is_some_and(|(excludes, ..)| !excludes)
}

fn entry() -> impl Strategy<Value = Entry> {
    let range = (any::<u8>(), any::<u8>()).prop_map(|(a, b)| (a.min(b), a.max(b)));
    let network = (any::<u8>(), 0u32..=8).prop_map(|(host, bits)| {
        let hosts = u8::MAX.checked_shr(8 - bits).unwrap_or(0);
        (host & !hosts, host | hosts)
    });
    (any::<bool>(), prop_oneof![range, network]).prop_map(|(excludes, (first, last))| (excludes, first, last))
}

proptest! {
    #[test]
    fn every_address_is_listed_as_the_entries_say(entries in prop::collection::vec(entry(), 0..16)) {
        let parsed = read_as(Format::Rbldnsd, &entries.iter().copied().map(written).collect::<String>());
        prop_assert_eq!(parsed.entries, entries.iter().filter(|(excludes, ..)| !excludes).count() as u64);
        for host in 0..=u8::MAX {
            let address = 0xc000_0200 + u32::from(host);
            let listed = parsed.networks.v4().iter().any(|network| network.first() <= address && address <= network.last());
            prop_assert_eq!(listed, is_listed(&entries, host), "{}", host);
        }
        let outside = |network: &V4| network.first() < 0xc000_0200 || network.last() > 0xc000_02ff;
        prop_assert!(!parsed.networks.v4().iter().any(outside));
    }
}
