//! Services, destinations, what is not TCP, and sources that are not what they seem.

use ratelimit_common::{Action::*, Reason::*};

use super::{Case, NONE, SMTP, row};
use crate::{
    packet::{ESP, Extension::*, ICMP, ICMPV6, IP_IN_IP, IPV6_IN_IP, NO_NEXT_HEADER, SynPacket},
    tables::{
        World,
        world::{RELAY_PORT, Rate},
    },
};

pub(super) fn cases() -> Vec<Case> {
    [services(), destinations(), other_protocols(), sources()].into_iter().flatten().collect()
}

fn services() -> Vec<Case> {
    let both = |(name, port)| {
        [SynPacket::v4(), SynPacket::v6()].map(|packet| {
            let what = format!("a SYN to {name}, {}", packet.family().label());
            row(what, packet.to_port(port), Pass, Admitted, Some(name))
        })
    };
    World::new().default_services().flat_map(both).collect()
}

fn destinations() -> Vec<Case> {
    let v4 = SynPacket::v4;
    let v6 = SynPacket::v6;
    let relay = Some("relay");
    vec![
        row("a port that is not served", v4().to_port(80), Pass, NotServed, NONE),
        row("port 0", v4().to_port(0), Pass, NotServed, NONE),
        row("port 65535, v6", v6().to_port(65535), Pass, NotServed, NONE),
        row("an address that is not served, v4", v4().to("198.51.100.24"), Pass, NotServed, NONE),
        row("an address that is not served, v6", v6().to("2001:db8:25::26"), Pass, NotServed, NONE),
        row("the unspecified address", v6().to("::"), Pass, NotServed, NONE),
        row("from a service port to another", v4().from_port(25).to_port(40_000), Pass, NotServed, NONE),
        row("a network as destination, v4", v4().to("203.0.113.200").to_port(RELAY_PORT), Pass, Admitted, relay),
        row("a network as destination, v6", v6().to("2001:db8:113:ff::1").to_port(RELAY_PORT), Pass, Admitted, relay),
        row("just outside of that network, v4", v4().to("203.0.114.0").to_port(RELAY_PORT), Pass, NotServed, NONE),
        row("just outside of that network, v6", v6().to("2001:db8:114::").to_port(RELAY_PORT), Pass, NotServed, NONE),
        row("another service's port in that network", v4().to("203.0.113.200"), Pass, NotServed, NONE),
        row("the network's port on the own address", v4().to_port(RELAY_PORT), Pass, NotServed, NONE),
        row("malformed to that network", v4().to("203.0.113.200").ip_version(6), Drop, Malformed, NONE),
        row("bad flags to that network", v4().to("203.0.113.9").to_port(RELAY_PORT).flags(0), Drop, BadFlags, relay),
    ]
}

fn other_protocols() -> Vec<Case> {
    let v4 = SynPacket::v4;
    let v6 = SynPacket::v6;
    let inner = SynPacket::v4().build().split_off(14);
    vec![
        row("UDP, v4", v4().udp(b"to port 25"), Pass, NotTcp, NONE),
        row("UDP, v6", v6().udp(b"to port 25"), Pass, NotTcp, NONE),
        row("ICMP", v4().protocol(ICMP, &[8, 0, 0, 0, 0, 0, 0, 0]), Pass, NotTcp, NONE),
        row("ICMPv6", v6().protocol(ICMPV6, &[128, 0, 0, 0, 0, 0, 0, 0]), Pass, NotTcp, NONE),
        row("MLD behind options", v6().extension(HopByHop, 8).protocol(ICMPV6, &[131; 24]), Pass, NotTcp, NONE),
        row("ESP, v4", v4().protocol(ESP, &[0; 40]), Pass, NotTcp, NONE),
        row("ESP, v6", v6().protocol(ESP, &[0; 40]), Pass, NotTcp, NONE),
        row("a SYN in IP-in-IP, v4", v4().protocol(IP_IN_IP, &inner), Pass, NotTcp, NONE),
        row("a SYN in IP-in-IP, v6", v6().protocol(IP_IN_IP, &inner), Pass, NotTcp, NONE),
        row("a SYN in 6in4", v4().protocol(IPV6_IN_IP, &SynPacket::v6().build()[14..]), Pass, NotTcp, NONE),
        row("no next header", v6().protocol(NO_NEXT_HEADER, &[]), Pass, NotTcp, NONE),
        row("an IPv6 extension header in IPv4", v4().protocol(60, &[6, 0, 0, 0, 0, 0, 0, 0]), Pass, NotTcp, NONE),
        row("UDP behind an authentication header", v4().extension(Authentication, 24).udp(&[]), Pass, NotTcp, NONE),
        row("UDP of a blocked source", v4().udp(&[0; 8]), Pass, NotTcp, NONE)
            .given(|world| world.block("192.0.2.0/24")),
    ]
}

fn sources() -> Vec<Case> {
    let v6 = SynPacket::v6;
    let once = |world: World| world.source_limit("smtp", Rate::only(1));
    let nat64 = || v6().from("64:ff9b::192.0.2.7");
    let private = || v6().from("64:ff9b::10.0.0.7");
    let mapped = || v6().from("::ffff:192.0.2.7");
    vec![
        row("a mapped source", mapped(), Drop, MappedSource, SMTP),
        row("a mapped source in an open connection", mapped().flags(0x10), Drop, MappedSource, SMTP),
        row("a mapped source to a port not served", mapped().to_port(80), Pass, NotServed, NONE),
        row("a mapped source that claims to be trusted", mapped(), Drop, MappedSource, SMTP)
            .given(|world| world.trust("192.0.2.0/24")),
        row("a compatible source (::/96) is no mapped one", v6().from("::192.0.2.7"), Pass, Admitted, SMTP),
        row("NAT64", nat64(), Pass, Admitted, SMTP),
        row("NAT64 is blocked with its IPv4 address", nat64(), Drop, Blocked, SMTP)
            .given(|world| world.block("192.0.2.7/32")),
        row("NAT64 and its IPv4 address share one allowance", nat64(), Drop, SourceLimit, SMTP)
            .given(once)
            .after([SynPacket::v4()]),
        row("IPv4 and its NAT64 address share one allowance", SynPacket::v4(), Drop, SourceLimit, SMTP)
            .given(once)
            .after([nat64()]),
        row("NAT64 of a private address is no IPv4 source", private(), Pass, Admitted, SMTP)
            .given(|world| world.block("10.0.0.0/8")),
        row("NAT64 of a private address is not trusted with it", private(), Drop, SourceLimit, SMTP)
            .given(|world| once(world).trust("10.0.0.0/8"))
            .after([private()]),
        row("NAT64 of a private address has its own allowance", private(), Pass, Admitted, SMTP)
            .given(once)
            .after([SynPacket::v4().from("10.0.0.7")]),
        row("local-use NAT64 (64:ff9b:1::/48) is not folded", v6().from("64:ff9b:1::192.0.2.7"), Pass, Admitted, SMTP)
            .given(|world| world.block("192.0.2.7/32")),
    ]
}
