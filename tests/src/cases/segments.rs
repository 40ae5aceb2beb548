//! TCP headers and flags.

use ratelimit_common::{
    Action::{self, *},
    Reason::{self, *},
};

use super::{Case, NONE, SMTP, row};
use crate::packet::{ACK, CWR, ECE, FIN, PSH, RST, SYN, SynPacket, URG};

pub(super) fn cases() -> Vec<Case> {
    [headers(), ordinary_syns(), every_combination_of_flags()].into_iter().flatten().collect()
}

fn headers() -> Vec<Case> {
    let v4 = SynPacket::v4;
    let v6 = SynPacket::v6;
    let mut cases: Vec<_> = (0..5)
        .map(|words| row(format!("data offset {words}"), v4().tcp_data_offset(words), Drop, Malformed, SMTP))
        .collect();
    cases.extend([
        row("data offset 7 in 24 bytes", v4().tcp_data_offset(7), Drop, Malformed, SMTP),
        row("data offset 15 in 24 bytes, v6", v6().tcp_data_offset(15), Drop, Malformed, SMTP),
        row("data offset 15 reaching into the padding", v4().tcp_data_offset(15).padded_to(120), Drop, Malformed, SMTP),
        row("data offset 4 to a port not served", v4().tcp_data_offset(4).to_port(80), Pass, NotServed, NONE),
        row("data offset 15 with 40 bytes of options", v4().tcp_options(&[1; 40]), Pass, Admitted, SMTP),
        row("no TCP options", v6().tcp_options(&[]), Pass, Admitted, SMTP),
        row("a bare ACK", v4().flags(ACK).tcp_options(&[]), Pass, Established, SMTP),
        row("data of an open connection", v6().flags(ACK | PSH).data(b"EHLO mx.example\r\n"), Pass, Established, SMTP),
        row("an ACK from a blocked source", v4().flags(ACK), Pass, Established, SMTP)
            .given(|world| world.block("192.0.2.0/24")),
    ]);
    cases
}

fn ordinary_syns() -> Vec<Case> {
    let v4 = SynPacket::v4;
    let v6 = SynPacket::v6;
    // Kind 34 is the Fast Open cookie of RFC 7413.
    let fast_open = [34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1];
    vec![
        row("ECN", v4().flags(SYN | ECE | CWR), Pass, Admitted, SMTP),
        row("ECN, v6", v6().flags(SYN | ECE | CWR), Pass, Admitted, SMTP),
        row("accurate ECN", v4().accurate_ecn(), Pass, Admitted, SMTP),
        row("accurate ECN, v6", v6().accurate_ecn(), Pass, Admitted, SMTP),
        row("Fast Open with data", v4().tcp_options(&fast_open).data(b"EHLO mx.example\r\n"), Pass, Admitted, SMTP),
        row("Fast Open with data, v6", v6().tcp_options(&fast_open).data(&[b'x'; 1000]), Pass, Admitted, SMTP),
        row("ECN in a SYN+ACK", v4().flags(SYN | ACK | ECE), Drop, StraySynAck, SMTP),
        row("a SYN+ACK to a port not served", v4().flags(SYN | ACK).to_port(40_001), Pass, NotServed, NONE),
        row("a SYN+FIN to a port not served", v4().flags(SYN | FIN).to_port(80), Pass, NotServed, NONE),
        row("an Xmas scan", v6().flags(FIN | PSH | URG), Drop, BadFlags, SMTP),
        row("a NULL scan", v6().flags(0), Drop, BadFlags, SMTP),
    ]
}

/// What RFC 9293 makes of a segment, whether PSH and URG are set or not.
const FLAGS: [(u8, Action, Reason); 16] = [
    (0, Drop, BadFlags),
    (FIN, Drop, BadFlags),
    (SYN, Pass, Admitted),
    (RST, Pass, Established),
    (ACK, Pass, Established),
    (FIN | SYN, Drop, BadFlags),
    (FIN | RST, Drop, BadFlags),
    (FIN | ACK, Pass, Established),
    (SYN | RST, Drop, BadFlags),
    (SYN | ACK, Drop, StraySynAck),
    (RST | ACK, Pass, Established),
    (FIN | SYN | RST, Drop, BadFlags),
    (FIN | SYN | ACK, Drop, BadFlags),
    (FIN | RST | ACK, Pass, Established),
    (SYN | RST | ACK, Drop, BadFlags),
    (FIN | SYN | RST | ACK, Drop, BadFlags),
];

fn every_combination_of_flags() -> Vec<Case> {
    let mut cases = Vec::new();
    for (flags, action, reason) in FLAGS {
        for more in [0, PSH, URG, PSH | URG] {
            let flags = flags | more;
            cases.push(row(format!("flags {flags:#04x}, v4"), SynPacket::v4().flags(flags), action, reason, SMTP));
            cases.push(row(format!("flags {flags:#04x}, v6"), SynPacket::v6().flags(flags), action, reason, SMTP));
        }
    }
    cases
}
