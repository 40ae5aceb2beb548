//! The programs that costs are compared with. Needs root; nothing is sent.

use anyhow::{Result, ensure};
use ipnet::IpNet;
use ratelimit_common::ban::BanKey;
use ratelimit_common::{Address, Entry};
use ratelimit_tests::cost::{Comparison, Harness, Sources};
use ratelimit_tests::look_up::{LookUp, Way};
use ratelimit_tests::template::Syn;
use ratelimit_user::lists::table::{self, Layer};
use ratelimit_user::lists::{Networks, V4, V6};

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;

fn syn(destination: &str, port: u16) -> Result<Vec<u8>> {
    let source = if destination.contains(':') { "2001:db8::1" } else { "192.0.2.1" };
    Syn::new(source.parse()?, destination.parse()?, port).build()
}

#[test]
fn each_program_does_what_it_is_measured_for() -> Result<()> {
    let mut harness = Harness::new()?;
    for (destination, one, many) in
        [("192.0.2.2", "198.51.100.1/32", "0.0.0.0/0"), ("2001:db8::2", "2001:db8:77::1/128", "2001:db8:77::/48")]
    {
        let (one, many): (IpNet, IpNet) = (one.parse()?, many.parse()?);
        let (mail, web) = (syn(destination, 25)?, syn(destination, 80)?);
        let mut action = |with, frame: &[u8], sources, packets| -> Result<u32> {
            Ok(harness.compare(with, frame, sources, packets)?.action)
        };
        ensure!(action(Comparison::Empty, &web, one, 10)? == XDP_DROP);
        ensure!(action(Comparison::ParseDrop, &mail, many, 10)? == XDP_DROP);
        ensure!(action(Comparison::ParseDrop, &web, many, 10)? == XDP_PASS);
        ensure!(action(Comparison::LruGcra, &web, one, 1_000)? == XDP_PASS);
        // A burst of 300.
        ensure!(action(Comparison::LruGcra, &mail, one, 300)? == XDP_PASS);
        ensure!(action(Comparison::LruGcra, &mail, one, 1)? == XDP_DROP);
        // Each from a source of its own.
        ensure!(action(Comparison::LruGcra, &mail, many, 10_000)? == XDP_PASS);
    }
    Ok(())
}

#[test]
fn a_million_sources_cost_more_than_one() -> Result<()> {
    const PACKETS: u32 = 2_000_000;
    let mut harness = Harness::new()?;
    for (destination, sources) in [
        ("192.0.2.2", ["198.51.100.1/32", "10.0.0.0/22", "10.0.0.0/12", "0.0.0.0/0"]),
        ("2001:db8::2", ["2001:db8::1/128", "2001:db8::/118", "2001:db8::/108", "2001:db8::/48"]),
    ] {
        let frame = syn(destination, 25)?;
        let mut costs = Vec::new();
        for with in Comparison::ALL {
            for sources in sources {
                let cost = harness.compare(with, &frame, sources.parse::<IpNet>()?, PACKETS)?;
                println!("{:10} {sources:18} {:6.1} ns", with.label(), cost.nanoseconds);
                costs.push(cost.nanoseconds);
            }
        }
        ensure!(costs[0] < costs[4], "parsing costs nothing");
        ensure!(costs[8] < costs[11], "a table of a million costs nothing");
    }
    Ok(())
}

#[test]
fn every_way_of_looking_up_finds_what_is_listed_and_nothing_else() -> Result<()> {
    let v6 = |low: u64| Address::from_words(0x2001_0db8_0077_0000, low);
    let (host_v4, host_v6) = (Address::from_v4(0xc633_6401), v6(1));
    let networks = Networks::new(
        vec![V4::new(0xc633_6401, 32), V4::new(0xcb00_7100, 24)],
        vec![V6::new(0x2001_0db8_0077_0000_0000_0000_0000_0001, 128)],
    );
    let mut look_up = LookUp::load(networks.len())?;
    look_up.put_table(&table::build(&[Layer { networks: &networks, says: Entry::new(0, 0, 1), shields: false }])?)?;
    look_up.put_trie(&networks)?;
    look_up.put_hosts(&networks)?;
    look_up.put_bans(&[
        BanKey::new(host_v4, 128),
        BanKey::new(Address::from_v4(0xcb00_7100), 120),
        BanKey::new(host_v6, 128),
    ])?;
    let mut harness = Harness::new()?;
    for way in Way::ALL {
        let program = look_up.program(way)?;
        let mut dropped = |destination: &str, source: Address| -> Result<bool> {
            harness.put_samples(&[source])?;
            let cost = harness.measure(&program, &syn(destination, 25)?, Sources::Samples(1), 10)?;
            Ok(cost.action == XDP_DROP)
        };
        ensure!(dropped("192.0.2.2", host_v4)? && dropped("2001:db8::2", host_v6)?, "{way:?} finds no host");
        ensure!(!dropped("192.0.2.2", Address::from_v4(0xc633_6402))?, "{way:?} finds who is not listed");
        ensure!(!dropped("2001:db8::2", v6(2))?, "{way:?} finds who is not listed");
        let in_network = dropped("192.0.2.2", Address::from_v4(0xcb00_7137))?;
        ensure!(in_network == (way != Way::Hash), "{way:?}: {in_network} inside a network");
    }
    Ok(())
}
