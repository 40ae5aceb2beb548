//! Ethernet, VLAN tags, IP headers, extension headers, lengths.

use ratelimit_common::{Action::*, Family, Reason::*};

use super::{Case, NONE, SMTP, row};
use crate::packet::{DOT1AD, DOT1Q, Extension, Extension::*, ICMP, SynPacket, UDP, V4_LEN, V6_LEN};

pub(super) fn cases() -> Vec<Case> {
    [ethernet(), tags(), v4(), v6(), chains(), lengths(), cut_anywhere()].into_iter().flatten().collect()
}

fn ethernet() -> Vec<Case> {
    let arp = SynPacket::v4().ether_type(0x0806);
    let padded = SynPacket::v4().tcp_options(&[]).padded_to(60);
    vec![
        row("ARP", arp, Pass, NotIp, NONE).family(Family::Other),
        row("LLDP", SynPacket::v6().ether_type(0x88cc), Pass, NotIp, NONE).family(Family::Other),
        row("PPPoE", SynPacket::v4().ether_type(0x8864), Pass, NotIp, NONE).family(Family::Other),
        row("an Ethernet header alone", SynPacket::v4().ether_type(0x0806).truncate(14), Pass, NotIp, NONE)
            .family(Family::Other),
        row("a short frame padded to 60 bytes", padded, Pass, Admitted, SMTP),
        row("bytes behind an IPv6 packet", SynPacket::v6().trailer(&[0xff; 20]), Pass, Admitted, SMTP),
    ]
}

fn tags() -> Vec<Case> {
    let v4 = SynPacket::v4;
    let v6 = SynPacket::v6;
    vec![
        row("one tag, v4", v4().vlan(5), Pass, Admitted, SMTP),
        row("one tag, v6", v6().vlan(5), Pass, Admitted, SMTP),
        row("one 802.1ad tag", v4().tag(DOT1AD, 5), Pass, Admitted, SMTP),
        row("802.1Q in 802.1ad, v4", v4().q_in_q(5, 7), Pass, Admitted, SMTP),
        row("802.1Q in 802.1ad, v6", v6().q_in_q(5, 7), Pass, Admitted, SMTP),
        row("802.1Q in 802.1Q", v4().vlan(5).vlan(7), Pass, Admitted, SMTP),
        row("a priority tag", v4().tag(DOT1Q, 0xe000), Pass, Admitted, SMTP),
        row("a blocked source behind two tags", v4().q_in_q(5, 7), Drop, Blocked, SMTP)
            .given(|world| world.block("192.0.2.0/24")),
        row("a third tag", v4().q_in_q(5, 7).vlan(9), Drop, Malformed, NONE).family(Family::Other),
        row("cut in the first tag", v4().vlan(5).truncate(16), Drop, Malformed, NONE).family(Family::Other),
        row("cut in the second tag", v4().q_in_q(5, 7).truncate(21), Drop, Malformed, NONE).family(Family::Other),
        row("ARP behind a tag", v4().vlan(5).ether_type(0x0806), Pass, NotIp, NONE).family(Family::Other),
    ]
}

fn v4() -> Vec<Case> {
    let v4 = SynPacket::v4;
    let mut cases: Vec<_> = (4..=40)
        .step_by(4)
        .map(|len| row(format!("{len} bytes of IPv4 options"), v4().ip_options(len), Pass, Admitted, SMTP))
        .collect();
    cases.extend([
        row("a blocked source behind options", v4().ip_options(40), Drop, Blocked, SMTP)
            .given(|world| world.block("192.0.2.7/32")),
        row("IPv4 with an authentication header", v4().extension(Authentication, 24), Pass, Admitted, SMTP),
        row("version 6 in an IPv4 frame", v4().ip_version(6), Drop, Malformed, NONE),
        row("version 0", v4().ip_version(0), Drop, Malformed, NONE),
        row("version 6 to somebody else", v4().ip_version(6).to("198.51.100.99"), Pass, NotServed, NONE),
        row("IHL 15 without options", v4().header_words(15), Drop, Malformed, NONE),
        row("IHL beyond the total length, UDP", v4().header_words(15).protocol(UDP, &[0; 8]), Pass, NotTcp, NONE),
        row("IHL 4 with UDP", v4().header_words(4).protocol(UDP, &[0; 8]), Drop, Malformed, NONE),
    ]);
    cases.extend((0..5).map(|words| row(format!("IHL {words}"), v4().header_words(words), Drop, Malformed, NONE)));
    cases
}

fn v6() -> Vec<Case> {
    let v6 = SynPacket::v6;
    vec![
        row("version 4 in an IPv6 frame", v6().ip_version(4), Drop, Malformed, NONE),
        row("version 15", v6().ip_version(15), Drop, Malformed, NONE),
        row("version 4 to somebody else", v6().ip_version(4).to("2001:db8:25::99"), Pass, NotServed, NONE),
    ]
}

fn chains() -> Vec<Case> {
    let v6 = SynPacket::v6;
    let chain = |headers: usize| (0..headers).fold(v6(), |packet, _| packet.extension(Destination, 8));
    let mut cases: Vec<_> = Extension::ALL
        .into_iter()
        .map(|kind| row(format!("IPv6 {kind:?}"), v6().extension(kind, 16), Pass, Admitted, SMTP))
        .collect();
    cases.extend((2..=8).map(|headers| row(format!("{headers} IPv6 headers"), chain(headers), Pass, Admitted, SMTP)));
    let all_kinds = Extension::ALL.into_iter().fold(v6(), |packet, kind| packet.extension(kind, 24));
    let cut_by_length = v6().extension(Destination, 8).extension(Destination, 8).total_len(8);
    // The bytes behind the end claim to be UDP; the stack never sees them.
    let lying_trailer = v6().extension(Destination, 8).protocol(60, &[]).trailer(&[UDP, 0, 0, 0, 0, 0, 0, 0]);
    cases.extend([
        row("an IPv6 header of every kind", all_kinds, Pass, Admitted, SMTP),
        row("a blocked source behind eight headers", chain(8), Drop, Blocked, SMTP)
            .given(|world| world.block("2001:db8:7::/48")),
        row("a SYN+FIN behind headers", chain(3).flags(0x03), Drop, BadFlags, SMTP),
        row("nine IPv6 headers", chain(9), Drop, Malformed, NONE),
        row("nine IPv6 headers to somebody else", chain(9).to("2001:db8:25::99"), Pass, NotServed, NONE),
        row("eight IPv6 headers before UDP", chain(8).udp(&[0; 8]), Drop, Malformed, NONE),
        row("seven IPv6 headers before UDP", chain(7).udp(&[0; 8]), Pass, NotTcp, NONE),
        row("a chain cut off behind its first header", chain(2).truncate(14 + V6_LEN + 8 + 3), Drop, Malformed, NONE),
        row("a chain that its packet's length cuts off", cut_by_length, Drop, Malformed, NONE),
        row("a chain that goes on behind its packet", lying_trailer, Drop, Malformed, NONE),
        row("an IPv6 header longer than the packet", longer_than_the_packet(), Drop, Malformed, NONE),
        row("an IPv6 header at the last offset that is read", ends_at(2046), Pass, Admitted, SMTP),
        row("TCP beyond the last offset that is read", ends_at(2054), Drop, Malformed, NONE),
        row("an IPv6 header of 2048 bytes", wrapping(), Drop, Malformed, NONE),
        row("an IPv6 header of 2048 bytes at MTU 9000", wrapping().data(&[0; 6000]), Drop, Malformed, NONE),
    ]);
    cases
}

/// Its TCP header starts at this offset of the frame, a multiple of 8 and 6 more.
fn ends_at(offset: usize) -> SynPacket {
    SynPacket::v6().extension(Destination, offset - 14 - V6_LEN)
}

/// A parser that masks the offset with 0x7ff instead of comparing it reads these options as a segment to port 0.
fn wrapping() -> SynPacket {
    SynPacket::v6().extension(HopByHop, 2048)
}

fn longer_than_the_packet() -> SynPacket {
    SynPacket::v6().extension(Destination, 512).truncate(14 + V6_LEN + 64).total_len(64)
}

fn lengths() -> Vec<Case> {
    let v4 = SynPacket::v4;
    let v6 = SynPacket::v6;
    // 24 bytes of TCP: a header and the MSS option.
    let (whole_v4, whole_v6) = (V4_LEN as u16 + 24, 24);
    vec![
        row("total length 0", v4().total_len(0), Drop, Malformed, NONE),
        row("total length of less than the IPv4 header", v4().total_len(19), Drop, Malformed, NONE),
        row("total length of the IPv4 header alone", v4().total_len(20), Drop, Malformed, NONE),
        row("total length before the port is complete", v4().total_len(23), Drop, Malformed, NONE),
        row("total length up to the port", v4().total_len(24), Drop, Malformed, SMTP),
        row("total length without the last byte of the TCP header", v4().total_len(39), Drop, Malformed, SMTP),
        row("total length without the last TCP option", v4().total_len(whole_v4 - 1), Drop, Malformed, SMTP),
        row("total length one too large", v4().total_len(whole_v4 + 1), Drop, Malformed, NONE),
        row("total length 65535", v4().total_len(65535), Drop, Malformed, NONE),
        row("total length too large, UDP", v4().protocol(UDP, &[0; 8]).total_len(65535), Pass, NotTcp, NONE),
        row("total length too small, ICMP", v4().protocol(ICMP, &[8; 8]).total_len(3), Pass, NotTcp, NONE),
        row("payload length 0", v6().total_len(0), Drop, Malformed, NONE),
        row("payload length before the port is complete", v6().total_len(3), Drop, Malformed, NONE),
        row("payload length up to the port", v6().total_len(4), Drop, Malformed, SMTP),
        row("payload length without the last byte of the TCP header", v6().total_len(19), Drop, Malformed, SMTP),
        row("payload length without the last TCP option", v6().total_len(whole_v6 - 1), Drop, Malformed, SMTP),
        row("payload length one too large", v6().total_len(whole_v6 + 1), Drop, Malformed, NONE),
        row("payload length 65535", v6().total_len(65535), Drop, Malformed, NONE),
        row("a TCP header in the padding", v4().total_len(20).padded_to(80), Drop, Malformed, NONE),
        row("BIG TCP, v4", v4().flags(0x10).data(&[0; 66_000]).total_len(0), Pass, Established, SMTP),
        row("BIG TCP, v6", v6().flags(0x10).data(&[0; 66_000]).total_len(0), Pass, Established, SMTP),
    ]
}

/// A frame that is cut off anywhere is never admitted.
fn cut_anywhere() -> Vec<Case> {
    let mut cases = Vec::new();
    for (family, packet, ip_len) in [("v4", SynPacket::v4(), V4_LEN), ("v6", SynPacket::v6(), V6_LEN)] {
        let whole = packet.build().len();
        for len in 0..=whole {
            let name = format!("{family} SYN cut to {len} of {whole} bytes");
            let packet = packet.clone().truncate(len);
            cases.push(match len {
                _ if len < 14 => row(name, packet, Pass, NotIp, NONE).family(Family::Other),
                _ if len < 14 + ip_len => row(name, packet, Drop, Malformed, NONE),
                _ if len < whole => row(name, packet, Drop, Malformed, NONE),
                _ => row(name, packet, Pass, Admitted, SMTP),
            });
        }
    }
    cases
}
