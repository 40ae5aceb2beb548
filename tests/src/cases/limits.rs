//! Limits of a source, a network and a whole service, in both windows.
//!
//! All of a burst only, so that the clock of the kernel changes nothing while a case runs.

use ratelimit_common::{Action::*, Reason::*};

use super::{Case, SMTP, row};
use crate::{
    packet::{ACK, SynPacket},
    tables::{World, world::Rate},
};

const TWO: Rate = Rate::only(2);
const IMAPS: Option<&str> = Some("imaps");

pub(super) fn cases() -> Vec<Case> {
    [sources(), networks(), prefixes(), whole_services()].into_iter().flatten().collect()
}

fn v4() -> SynPacket {
    SynPacket::v4()
}

fn v6() -> SynPacket {
    SynPacket::v6()
}

fn source_of_two(world: World) -> World {
    world.source_limit("smtp", TWO)
}

fn network_of_two(world: World) -> World {
    world.network_limit("smtp", TWO)
}

fn sources() -> Vec<Case> {
    let long = |world: World| world.long_source_limit("smtp", TWO);
    let ack = || v4().flags(ACK);
    vec![
        row("the last of a source's burst", v4(), Pass, Admitted, SMTP).given(source_of_two).after([v4()]),
        row("over the source limit, v4", v4(), Drop, SourceLimit, SMTP).given(source_of_two).after([v4(), v4()]),
        row("over the source limit, v6", v6(), Drop, SourceLimit, SMTP).given(source_of_two).after([v6(), v6()]),
        row("from another port all the same", v4().from_port(1), Drop, SourceLimit, SMTP)
            .given(source_of_two)
            .after([v4().from_port(2), v4().from_port(3)]),
        row("over the long window alone", v4(), Drop, SourceLimit, SMTP).given(long).after([v4(), v4()]),
        row("another source has its own allowance", v4().from("192.0.2.8"), Pass, Admitted, SMTP)
            .given(source_of_two)
            .after([v4(), v4(), v4()]),
        row("another service has its own cells", v4().to_port(143), Pass, Admitted, Some("imap"))
            .given(|world| source_of_two(world).source_limit("imap", TWO))
            .after([v4(), v4(), v4()]),
        row("an open connection over the limit", ack(), Pass, Established, SMTP).given(source_of_two).after([
            v4(),
            v4(),
            v4(),
        ]),
        row("packets of open connections cost nothing", v4(), Pass, Admitted, SMTP).given(source_of_two).after([
            v4(),
            ack(),
            ack(),
            ack(),
        ]),
        row("over the limit behind a tag and options", v4().vlan(5).ip_options(40), Drop, SourceLimit, SMTP)
            .given(source_of_two)
            .after([v4(), v4()]),
        row("over the limit behind IPv6 headers", v6().atomic_fragment(), Drop, SourceLimit, SMTP)
            .given(source_of_two)
            .after([v6(), v6()]),
    ]
}

fn networks() -> Vec<Case> {
    let host = |last: u8| v4().from(&format!("192.0.2.{last}"));
    let long = |world: World| world.long_network_limit("smtp", TWO);
    let once_and_two = |world: World| network_of_two(world).source_limit("smtp", Rate::only(1));
    vec![
        row("over the network limit", host(3), Drop, NetworkLimit, SMTP)
            .given(network_of_two)
            .after([host(1), host(2)]),
        row("many sources of one /24", host(255), Drop, NetworkLimit, SMTP)
            .given(network_of_two)
            .after((0..200).map(host)),
        row("over the network's long window alone", host(3), Drop, NetworkLimit, SMTP)
            .given(long)
            .after([host(1), host(2)]),
        row("the next /24 has its own allowance", v4().from("192.0.3.1"), Pass, Admitted, SMTP)
            .given(network_of_two)
            .after([host(1), host(2), host(3)]),
        row("a source's excess does not cost its network", host(2), Pass, Admitted, SMTP).given(once_and_two).after([
            host(1),
            host(1),
            host(1),
            host(1),
        ]),
        row("the source's limit is told first", host(1), Drop, SourceLimit, SMTP)
            .given(once_and_two)
            .after([host(1), host(2)]),
    ]
}

/// On smtp a /128 is a source and a /64 its network; on client services a /64 and a /48.
fn prefixes() -> Vec<Case> {
    let at = |address: &str| v6().from(address);
    let client = |address: &str| v6().from(address).to_port(993);
    let clients_of_two = |world: World| world.source_limit("imaps", TWO);
    let sites_of_two = |world: World| world.network_limit("imaps", TWO);
    vec![
        row("one /64 is many sources on smtp", at("2001:db8:7::3"), Pass, Admitted, SMTP).given(source_of_two).after([
            at("2001:db8:7::1"),
            at("2001:db8:7::1"),
            at("2001:db8:7::2"),
        ]),
        row("one /64 is one network on smtp", at("2001:db8:7:0:ffff::3"), Drop, NetworkLimit, SMTP)
            .given(network_of_two)
            .after([at("2001:db8:7::1"), at("2001:db8:7::2")]),
        row("one /48 is many networks on smtp", at("2001:db8:7:1::3"), Pass, Admitted, SMTP)
            .given(network_of_two)
            .after([at("2001:db8:7::1"), at("2001:db8:7::2")]),
        row("one /64 is one source on imaps", client("2001:db8:7:0:ffff::3"), Drop, SourceLimit, IMAPS)
            .given(clients_of_two)
            .after([client("2001:db8:7::1"), client("2001:db8:7::2")]),
        row("one /48 is many sources on imaps", client("2001:db8:7:1::1"), Pass, Admitted, IMAPS)
            .given(clients_of_two)
            .after([client("2001:db8:7::1"), client("2001:db8:7::2")]),
        row("one /48 is one network on imaps", client("2001:db8:7:ffff::1"), Drop, NetworkLimit, IMAPS)
            .given(sites_of_two)
            .after([client("2001:db8:7::1"), client("2001:db8:7:1::1")]),
        row("the next /48 is another network on imaps", client("2001:db8:8::1"), Pass, Admitted, IMAPS)
            .given(sites_of_two)
            .after([client("2001:db8:7::1"), client("2001:db8:7:1::1")]),
    ]
}

fn whole_services() -> Vec<Case> {
    let whole_of_two = |world: World| world.service_limit("smtp", TWO, 0);
    let from = |third: u8| v4().from(&format!("192.0.{third}.7"));
    vec![
        row("within the whole-service limit", from(2), Pass, Admitted, SMTP).given(whole_of_two).after([from(1)]),
        row("over the whole-service limit", from(3), Pass, ServiceLimit, SMTP)
            .given(whole_of_two)
            .after([from(1), from(2)]),
        row("over the whole-service limit, v6", v6(), Pass, ServiceLimit, SMTP)
            .given(whole_of_two)
            .after([from(1), from(2)]),
        row("another service while one is over its limit", v4().to_port(110), Pass, Admitted, Some("pop3"))
            .given(whole_of_two)
            .after([from(1), from(2), from(3)]),
        row("over both limits the source's refuses", from(1), Drop, SourceLimit, SMTP)
            .given(|world| source_of_two(whole_of_two(world)))
            .after([from(1), from(1), from(2), from(3)]),
    ]
}
