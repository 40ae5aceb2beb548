//! Suspects: services under pressure, sources over their limits where handshakes are seen, and connection caps.

use ratelimit_common::{Action::*, Challenge as By, Reason::*};

use super::{Case, SMTP, row};
use crate::{
    packet::{ACK, RST, SynPacket},
    tables::{World, world::Rate},
};

const TWO: Rate = Rate::only(2);

pub(super) fn cases() -> Vec<Case> {
    [services(), sources(), answers(), caps()].into_iter().flatten().collect()
}

fn v4() -> SynPacket {
    SynPacket::v4()
}

fn v6() -> SynPacket {
    SynPacket::v6()
}

fn suspect(world: World) -> World {
    world.suspect("smtp", By::Reset)
}

fn services() -> Vec<Case> {
    let retry = |world: World| world.suspect("smtp", By::Retry);
    vec![
        row("a stranger to a suspect service, v4", v4(), Challenge, Challenged, SMTP).given(suspect),
        row("a stranger to a suspect service, v6", v6(), Challenge, Challenged, SMTP).given(suspect),
        row("behind two tags", v4().tag(0x88a8, 7).vlan(9), Challenge, Challenged, SMTP).given(suspect),
        row("a SYN with data", v4().data(b"EHLO"), Challenge, Challenged, SMTP).given(suspect),
        row("a proven source", v4(), Pass, Admitted, SMTP).given(|world| suspect(world).proven("192.0.2.7")),
        row("another address of a proven /64", v6(), Pass, Admitted, SMTP)
            .given(|world| suspect(world).proven("2001:db8:7::99")),
        row("a trusted network", v4(), Pass, Trusted, SMTP).given(|world| suspect(world).trust("192.0.2.0/24")),
        row("an allowed network", v4(), Challenge, Challenged, SMTP)
            .given(|world| suspect(world).allow("192.0.2.0/24")),
        row("a blocked network", v4(), Drop, Blocked, SMTP).given(|world| suspect(world).block("192.0.2.0/24")),
        row("another service", v4().to_port(143), Pass, Admitted, Some("imap")).given(suspect),
        row("a packet of an open connection", v4().flags(ACK), Pass, Established, SMTP).given(suspect),
        row("who cannot be answered is awaited", v4().from("127.0.0.1"), Drop, Awaited, SMTP).given(suspect),
        row("nor can who is behind NAT64", v6().from("64:ff9b::8.8.8.8"), Drop, Awaited, SMTP).given(suspect),
        row("where only repetitions count", v4(), Drop, Awaited, SMTP).given(retry),
        row("a repetition that comes too early", v4(), Drop, Awaited, SMTP).given(retry).after([v4(), v4()]),
        row("a list that observes marks who is challenged", v4(), Pass, Blocked, SMTP)
            .given(|world| suspect(world).observe("192.0.2.0/24")),
    ]
}

fn sources() -> Vec<Case> {
    let two = |world: World| world.proving("smtp", By::Reset).source_limit("smtp", TWO);
    let network = |world: World| world.proving("smtp", By::Reset).network_limit("smtp", TWO);
    vec![
        row("over the source limit by SYNs alone", v4(), Challenge, Challenged, SMTP).given(two).after([v4(), v4()]),
        row("a proven source too", v4(), Challenge, Challenged, SMTP)
            .given(move |world| two(world).proven("192.0.2.7"))
            .after([v4(), v4()]),
        row("over the network limit by SYNs alone", v4(), Challenge, Challenged, SMTP)
            .given(network)
            .after([v4().from("192.0.2.8"), v4().from("192.0.2.9")]),
        row("within the limit nobody is asked", v4(), Pass, Admitted, SMTP).given(two).after([v4()]),
        row("more challenges than may be", v4(), Drop, ChallengeRate, SMTP)
            .given(move |world| two(world).challenge_every(1_000_000_000))
            .after([v4(), v4(), v4()]),
    ]
}

fn answers() -> Vec<Case> {
    let proving = |world: World| world.proving("smtp", By::Reset);
    vec![
        row("a reset that answers nothing", v4().flags(RST), Pass, Established, SMTP).given(proving),
        row("a reset where nobody is asked", v4().flags(RST), Pass, Established, SMTP),
    ]
}

fn caps() -> Vec<Case> {
    let two = |world: World| world.connections("smtp", 2);
    let imap = |world: World| world.connections("imap", 2).open("imap", "2001:db8:7::", 2);
    vec![
        row("as many connections as it may have", v4(), Drop, ConnectionCap, SMTP)
            .given(move |world| two(world).open("smtp", "192.0.2.7", 2)),
        row("one less", v4(), Pass, Admitted, SMTP).given(move |world| two(world).open("smtp", "192.0.2.7", 1)),
        row("those of another source do not count", v4(), Pass, Admitted, SMTP)
            .given(move |world| two(world).open("smtp", "192.0.2.8", 2)),
        row("those to another service do not count", v4(), Pass, Admitted, SMTP)
            .given(move |world| two(world).open("imap", "192.0.2.7", 2)),
        row("a household is one source", v6().to_port(143), Drop, ConnectionCap, Some("imap")).given(imap),
        row("a trusted source has no cap", v4(), Pass, Trusted, SMTP)
            .given(move |world| two(world).open("smtp", "192.0.2.7", 2).trust("192.0.2.7/32")),
        row("the cap goes before suspicion", v4(), Drop, ConnectionCap, SMTP)
            .given(move |world| suspect(two(world)).open("smtp", "192.0.2.7", 2)),
    ]
}
