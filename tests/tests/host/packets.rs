//! The parser against random bytes, and against packets of which it is known what they say.

use std::net::IpAddr;

use proptest::{collection::vec, prelude::*};
use ratelimit_common::{Action, Address, Family, Mode, Reason, SliceFrame, parse};
use ratelimit_tests::{
    packet::{ACK, CWR, DOT1AD, DOT1Q, ECE, Extension, PSH, SYN, SynPacket, URG},
    tables::{HostTables, World},
};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_have_an_answer(bytes in vec(any::<u8>(), 0..200)) {
        let _ = parse(&SliceFrame(&bytes));
    }

    #[test]
    fn any_bytes_behind_an_ip_header_have_an_answer(
        v6 in any::<bool>(), protocol in any::<u8>(), bytes in vec(any::<u8>(), 0..200),
    ) {
        let packet = if v6 { SynPacket::v6() } else { SynPacket::v4() };
        let _ = parse(&SliceFrame(&packet.protocol(protocol, &bytes).build()));
    }

    #[test]
    fn nothing_is_dropped_in_observe(bytes in vec(any::<u8>(), 0..200), tags in tags(), packet in any_packet()) {
        let tables = HostTables::new(&World::new().block("0.0.0.0/0").mode(Mode::Observe));
        let tagged = tags.into_iter().fold(packet, |packet, (ether_type, id)| packet.tag(ether_type, id));
        for frame in [&bytes, &tagged.build()] {
            prop_assert_eq!(tables.judge(frame).verdict.action(), Action::Pass);
        }
    }

    #[test]
    fn a_valid_packet_is_what_it_was_built_from(
        packet in any_packet(),
        source in any::<u32>(), high in any::<u64>(), low in any::<u64>(),
        ports in any::<(u16, u16)>(),
        tags in tags(),
        (flags, reason) in flags(),
        options in 0usize..=10,
        data in vec(any::<u8>(), 0..64),
        padding in 0usize..32,
    ) {
        let family = packet.family();
        let source: IpAddr = match family {
            Family::V6 => IpAddr::from((u128::from(high | 1 << 61) << 64 | u128::from(low)).to_be_bytes()),
            Family::V4 | Family::Other => IpAddr::from(source.to_be_bytes()),
        };
        let packet = packet.from_address(source).from_port(ports.0).to_port(ports.1).flags(flags);
        let packet = packet.tcp_options(&vec![1; options * 4]).data(&data).trailer(&vec![0xa5; padding]);
        let tagged = tags.into_iter().fold(packet, |packet, (ether_type, id)| packet.tag(ether_type, id));

        let parsed = parse(&SliceFrame(&tagged.build()));
        prop_assert_eq!((parsed.reason, parsed.family), (reason, family), "{:?}", tagged);
        prop_assert_eq!(parsed.source, Address::from(source));
        prop_assert_eq!((parsed.source_port, parsed.port), ports);
        let own = if family == Family::V4 { "198.51.100.25" } else { "2001:db8:25::25" };
        prop_assert_eq!(parsed.destination, Address::from(own.parse::<IpAddr>().unwrap()));
    }
}

fn tags() -> impl Strategy<Value = Vec<(u16, u16)>> {
    vec((prop_oneof![Just(DOT1Q), Just(DOT1AD)], any::<u16>()), 0..=2)
}

fn flags() -> impl Strategy<Value = (u8, Reason)> {
    let harmless = (0u8..16).prop_map(|bits| {
        [PSH, URG, ECE, CWR]
            .iter()
            .enumerate()
            .fold(0, |flags, (bit, flag)| if bits >> bit & 1 == 1 { flags | flag } else { flags })
    });
    (harmless, prop_oneof![Just((SYN, Reason::Admitted)), Just((ACK, Reason::Established))])
        .prop_map(|(harmless, (flags, reason))| (flags | harmless, reason))
}

/// IPv4 with options, or IPv6 with up to eight headers.
fn any_packet() -> impl Strategy<Value = SynPacket> {
    let v4 = (0usize..=10).prop_map(|words| SynPacket::v4().ip_options(words * 4));
    let kind = proptest::sample::select(Extension::ALL.to_vec());
    let v6 = vec((kind, 2usize..=20), 0..=8).prop_map(|headers| {
        headers.into_iter().fold(SynPacket::v6(), |packet, (kind, units)| packet.extension(kind, units * 8))
    });
    prop_oneof![v4, v6]
}
