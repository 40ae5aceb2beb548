//! Trust, allow and block, and modes of single services.

use ratelimit_common::{Action::*, Mode, Reason::*};

use super::{Case, NONE, SMTP, row};
use crate::{
    packet::{FIN, SYN, SynPacket},
    tables::{World, world::Rate},
};

pub(super) fn cases() -> Vec<Case> {
    [lists(), modes()].into_iter().flatten().collect()
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
        row("blocked costs no allowance", v4().from("192.0.2.200"), Pass, Admitted, SMTP)
            .given(|world| world.network_limit("smtp", Rate::only(1)).block("192.0.2.0/25"))
            .after([v4(), v4()]),
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
