//! Trust, allow and block, and modes of single services.

use ratelimit_common::{Action::*, Mode, Reason::*};

use super::{Case, NONE, SMTP, row};
use crate::{
    packet::{ACK, FIN, SYN, SynPacket},
    tables::{World, world::Rate},
};

pub(super) fn cases() -> Vec<Case> {
    [lists(), only_from(), bans(), by_dnsbl(), modes()].into_iter().flatten().collect()
}

fn lists() -> Vec<Case> {
    let v4 = SynPacket::v4;
    let v6 = SynPacket::v6;
    let once = |world: World| world.source_limit("smtp", Rate::only(1));
    vec![
        row("trusted, v4", v4(), Pass, Trusted, SMTP).given(|world| world.trust("192.0.2.0/24")),
        row("trusted, v6", v6(), Pass, Trusted, SMTP).given(|world| world.trust("2001:db8:7::/48")),
        row("trusted to the last bit", v4(), Pass, Trusted, SMTP).given(|world| world.trust("192.0.2.7/32")),
        row("beside what is trusted", v4(), Pass, Admitted, SMTP).given(|world| world.trust("192.0.2.6/32")),
        row("trusted inside blocked", v4(), Pass, Trusted, SMTP)
            .given(|world| world.block("192.0.0.0/16").trust("192.0.2.0/24")),
        row("blocked inside trusted", v4(), Pass, Trusted, SMTP)
            .given(|world| world.trust("192.0.0.0/16").block("192.0.2.0/24")),
        row("trusted beyond any limit", v4(), Pass, Trusted, SMTP)
            .given(|world| once(world).trust("192.0.2.0/24"))
            .after([v4(), v4(), v4()]),
        row("trusted does not excuse bad flags", v4().flags(SYN | FIN), Drop, BadFlags, SMTP)
            .given(|world| world.trust("192.0.2.0/24")),
        row("blocked, v4", v4(), Drop, Blocked, SMTP).given(|world| world.block("192.0.2.0/24")),
        row("blocked, v6", v6(), Drop, Blocked, SMTP).given(|world| world.block("2001:db8:7::7/128")),
        row("every IPv4 address blocked", v4(), Drop, Blocked, SMTP).given(|world| world.block("0.0.0.0/0")),
        row("every IPv4 address blocked is no IPv6 one", v6(), Pass, Admitted, SMTP)
            .given(|world| world.block("0.0.0.0/0")),
        row("blocked for another service", v4(), Pass, Admitted, SMTP)
            .given(|world| world.block_for("imap", "192.0.2.0/24")),
        row("blocked for this service", v4().to_port(143), Drop, Blocked, Some("imap"))
            .given(|world| world.block_for("imap", "192.0.2.0/24")),
        row("blocked, to a port not served", v4().to_port(80), Pass, NotServed, NONE)
            .given(|world| world.block("192.0.2.0/24")),
        row("allowed inside blocked", v4(), Pass, Admitted, SMTP)
            .given(|world| world.block("192.0.0.0/16").allow("192.0.2.0/24")),
        row("blocked inside allowed", v4(), Pass, Admitted, SMTP)
            .given(|world| world.allow("192.0.0.0/16").block("192.0.2.0/24")),
        row("allowed is still limited", v4(), Drop, SourceLimit, SMTP)
            .given(|world| once(world).block("192.0.0.0/16").allow("192.0.2.0/24"))
            .after([v4()]),
        row("an open connection of a blocked source goes on", v4().flags(ACK), Pass, Established, SMTP)
            .given(|world| world.block("192.0.2.0/24")),
        row("an open connection, by a list for all packets", v4().flags(ACK), Drop, Blocked, SMTP)
            .given(|world| world.block_all_packets("192.0.2.0/24")),
        row("an open connection of others, with such a list", v4().flags(ACK), Pass, Established, SMTP)
            .given(|world| world.block_all_packets("198.51.100.0/24")),
        row("an open connection of an allowed source, with such a list", v4().flags(ACK), Pass, Established, SMTP)
            .given(|world| world.block_all_packets("192.0.2.0/24").allow("192.0.2.7/32")),
        row("a SYN, by a list for all packets", v4(), Drop, Blocked, SMTP)
            .given(|world| world.block_all_packets("192.0.2.0/24")),
        row("by a list that observes", v4(), Pass, Blocked, SMTP).given(|world| world.observe("192.0.2.0/24")),
        row("over its limit, by a list that observes", v4(), Drop, SourceLimit, SMTP)
            .given(|world| once(world).observe("192.0.2.0/24"))
            .after([v4()]),
        row("blocked by one list while another observes", v4(), Drop, Blocked, SMTP)
            .given(|world| world.block("192.0.2.0/24").observe("192.0.2.0/25")),
        row("blocked costs no allowance", v4().from("192.0.2.200"), Pass, Admitted, SMTP)
            .given(|world| world.network_limit("smtp", Rate::only(1)).block("192.0.2.0/25"))
            .after([v4(), v4()]),
    ]
}

fn only_from() -> Vec<Case> {
    let v4 = SynPacket::v4;
    let v6 = SynPacket::v6;
    let office = |world: World| world.only_from("smtp", "198.51.100.0/24", false);
    let resetting = |world: World| world.only_from("smtp", "198.51.100.0/24", true);
    let ours = |world: World| world.only_from("smtp", "192.0.2.0/24", true);
    vec![
        row("among those that alone may connect", v4(), Pass, Admitted, SMTP).given(ours),
        row("not among those that alone may connect, v4", v4(), Drop, Restricted, SMTP).given(office),
        row("not among those that alone may connect, v6", v6(), Drop, Restricted, SMTP).given(office),
        row("answered with a reset, v4", v4(), Reset, Restricted, SMTP).given(resetting),
        row("answered with a reset, v6", v6(), Reset, Restricted, SMTP).given(resetting),
        row("answered with a reset, tagged", v4().vlan(7), Reset, Restricted, SMTP).given(resetting),
        row("answered with a reset, with options", v4().ip_options(8), Reset, Restricted, SMTP).given(resetting),
        row("no reset goes to a loopback address", v4().from("127.0.0.1"), Drop, Restricted, SMTP).given(resetting),
        row("no reset goes to a multicast address", v6().from("ff02::1"), Drop, Restricted, SMTP).given(resetting),
        row("restricted for another service", v4().to_port(143), Pass, Admitted, Some("imap")).given(office),
        row("trusted may connect all the same", v4(), Pass, Trusted, SMTP)
            .given(|world| resetting(world).trust("192.0.2.7/32")),
        row("allowed may not", v4(), Reset, Restricted, SMTP).given(|world| resetting(world).allow("192.0.2.7/32")),
        row("may connect, and is blocked", v4(), Drop, Blocked, SMTP).given(|world| ours(world).block("192.0.2.7/32")),
        row("an open connection goes on", v4().flags(ACK), Pass, Established, SMTP).given(resetting),
    ]
}

fn bans() -> Vec<Case> {
    let v4 = SynPacket::v4;
    let v6 = SynPacket::v6;
    let banned = |network: &'static str| move |world: World| world.ban("smtp", network);
    vec![
        row("banned, one IPv4 address", v4(), Drop, Banned, SMTP).given(banned("192.0.2.7/32")),
        row("banned, an IPv4 /24", v4(), Drop, Banned, SMTP).given(banned("192.0.2.0/24")),
        row("banned, an IPv4 /16", v4(), Drop, Banned, SMTP).given(banned("192.0.0.0/16")),
        row("banned, one IPv6 address", v6(), Drop, Banned, SMTP).given(banned("2001:db8:7::7/128")),
        row("banned, an IPv6 /64", v6(), Drop, Banned, SMTP).given(banned("2001:db8:7::/64")),
        row("banned, an IPv6 /56", v6(), Drop, Banned, SMTP).given(banned("2001:db8:7::/56")),
        row("banned, an IPv6 /48", v6(), Drop, Banned, SMTP).given(banned("2001:db8:7::/48")),
        row("beside what is banned, v4", v4(), Pass, Admitted, SMTP).given(banned("192.0.2.6/32")),
        row("beside what is banned, v6", v6(), Pass, Admitted, SMTP).given(banned("2001:db8:8::/48")),
        row("banned for another service", v4().to_port(143), Pass, Admitted, Some("imap"))
            .given(banned("192.0.2.7/32")),
        row("banned and allowed", v4(), Pass, Admitted, SMTP)
            .given(|world| world.ban("smtp", "192.0.2.7/32").allow("192.0.2.0/24")),
        row("banned and trusted", v4(), Pass, Trusted, SMTP)
            .given(|world| world.ban("smtp", "192.0.2.7/32").trust("192.0.2.0/24")),
        row("an open connection of a banned source goes on", v4().flags(ACK), Pass, Established, SMTP)
            .given(banned("192.0.2.7/32")),
        row("NAT64 is banned with its IPv4 address", v6().from("64:ff9b::192.0.2.7"), Drop, Banned, SMTP)
            .given(banned("192.0.2.7/32")),
    ]
}

fn by_dnsbl() -> Vec<Case> {
    let (v4, v6) = (SynPacket::v4, SynPacket::v6);
    let used_up = |world: World| world.list_by_dnsbl("smtp", "192.0.2.7", false);
    let v6_used_up = |world: World| world.list_by_dnsbl("smtp", "2001:db8:7::7", false);
    vec![
        row("listed by a DNSBL, with nothing left", v4(), Drop, ListedLimit, SMTP).given(used_up),
        row("listed by a DNSBL, with nothing left, v6", v6(), Drop, ListedLimit, SMTP).given(v6_used_up),
        row("listed by a DNSBL, with something left", v4(), Pass, Admitted, SMTP)
            .given(|world| world.list_by_dnsbl("smtp", "192.0.2.7", true)),
        row("listed by a DNSBL for another service", v4().to_port(143), Pass, Admitted, Some("imap")).given(used_up),
        row("beside what a DNSBL lists", v4().from("192.0.2.8"), Pass, Admitted, SMTP).given(used_up),
        row("NAT64 is listed with its IPv4 address", v6().from("64:ff9b::192.0.2.7"), Drop, ListedLimit, SMTP)
            .given(used_up),
        row("listed by a DNSBL and allowed", v4(), Pass, Admitted, SMTP)
            .given(move |world| used_up(world).allow("192.0.2.0/24")),
        row("listed by a DNSBL and trusted", v4(), Pass, Trusted, SMTP)
            .given(move |world| used_up(world).trust("192.0.2.0/24")),
        row("listed by a DNSBL and banned", v4(), Drop, Banned, SMTP)
            .given(move |world| used_up(world).ban("smtp", "192.0.2.7/32")),
        row("an open connection of a listed source goes on", v4().flags(ACK), Pass, Established, SMTP).given(used_up),
        row("listed by a DNSBL, but reputation observes", v4(), Pass, ListedLimit, SMTP)
            .given(move |world| used_up(world).observe_listed()),
        row("listed by a DNSBL, but the service observes", v4(), Pass, ListedLimit, SMTP)
            .given(move |world| used_up(world).mode_of("smtp", Mode::Observe)),
    ]
}

/// Where either says observe, nothing is dropped.
fn modes() -> Vec<Case> {
    let blocked = |world: World| world.block("192.0.2.0/24").mode_of("smtp", Mode::Observe);
    let v4 = SynPacket::v4;
    vec![
        row("blocked, but the service observes", v4(), Pass, Blocked, SMTP).given(blocked),
        row("bad flags, but the service observes", v4().flags(0), Pass, BadFlags, SMTP).given(blocked),
        row("blocked, and another service observes", v4().to_port(143), Drop, Blocked, Some("imap")).given(blocked),
        row("malformed for no service in particular", v4().total_len(20), Drop, Malformed, NONE).given(blocked),
    ]
}
