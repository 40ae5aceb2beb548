//! The reset that answers a SYN, read by somebody else's parser.

use etherparse::{SlicedPacket, TransportSlice};
use ratelimit_common::{
    SliceFrame, parse,
    reply::{Answer, can_be_answered},
};
use ratelimit_tests::packet::SynPacket;

#[test]
fn a_reset_goes_back_with_right_checksums_and_the_right_acknowledgement() {
    for (packet, v6) in [(SynPacket::v4(), false), (SynPacket::v6(), true), (SynPacket::v4().vlan(7), false)] {
        let frame = packet.build();
        let parsed = parse(&SliceFrame(&frame));
        assert!(can_be_answered(&parsed));
        let answer = Answer::reset(&parsed);
        let bytes = &bytemuck::cast_slice(answer.words())[..answer.length()];
        assert!(bytes.len() <= frame.len() - usize::from(parsed.ip_at), "never longer than what it answers");
        let sliced = SlicedPacket::from_ip(bytes).expect("an IP packet");
        let Some(TransportSlice::Tcp(tcp)) = sliced.transport else { panic!("no TCP") };
        assert_eq!((tcp.source_port(), tcp.destination_port()), (parsed.port, parsed.source_port));
        assert!(tcp.rst() && tcp.ack() && !tcp.syn() && !tcp.fin());
        assert_eq!(tcp.acknowledgment_number(), parsed.sequence.wrapping_add(1));
        let header = tcp.to_header();
        let (checksum, source, destination) = match sliced.net.expect("a network header") {
            etherparse::NetSlice::Ipv4(ip) => {
                let ip = ip.header().to_header();
                assert_eq!(ip.header_checksum, ip.calc_header_checksum());
                let checksum = header.calc_checksum_ipv4_raw(ip.source, ip.destination, &[]);
                (checksum, std::net::IpAddr::from(ip.source), std::net::IpAddr::from(ip.destination))
            }
            etherparse::NetSlice::Ipv6(ip) => {
                let ip = ip.header().to_header();
                let checksum = header.calc_checksum_ipv6_raw(ip.source, ip.destination, &[]);
                (checksum, std::net::IpAddr::from(ip.source), std::net::IpAddr::from(ip.destination))
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(header.checksum, checksum.expect("no payload is too long"));
        assert_eq!((source, destination), (parsed.destination.to_ip(), parsed.source.to_ip()));
        assert_eq!(source.is_ipv6(), v6);
    }
}

#[test]
fn who_cannot_have_asked_gets_no_answer() {
    for packet in [
        SynPacket::v4().from("127.0.0.1"),
        SynPacket::v4().from("0.0.0.1"),
        SynPacket::v4().from("224.0.0.1"),
        SynPacket::v4().from("255.255.255.255"),
        SynPacket::v6().from("::1"),
        SynPacket::v6().from("::"),
        SynPacket::v6().from("ff02::1"),
        SynPacket::v6().from("64:ff9b::192.0.2.7"),
    ] {
        assert!(!can_be_answered(&parse(&SliceFrame(&packet.build()))), "{packet:?}");
    }
}
