//! Fragments of TCP, and of what is not TCP.

use ratelimit_common::{Action::*, Reason::*};

use super::{Case, NONE, SMTP, row};
use crate::packet::{ACK, Extension::*, FIN, SYN, SynPacket, UDP};

pub(super) fn cases() -> Vec<Case> {
    [of_tcp(), of_chains(), of_others()].into_iter().flatten().collect()
}

fn of_tcp() -> Vec<Case> {
    let v4 = SynPacket::v4;
    let v6 = SynPacket::v6;
    let data = [b'x'; 64];
    vec![
        row("an atomic fragment", v6().atomic_fragment(), Pass, Admitted, SMTP),
        row("a SYN in a first fragment, v4", v4().data(&data).first_fragment(48), Drop, FragmentedSyn, SMTP),
        row("a SYN in a first fragment, v6", v6().data(&data).first_fragment(48), Drop, FragmentedSyn, SMTP),
        row("a whole SYN that says more follows", v4().first_fragment(24), Drop, FragmentedSyn, SMTP),
        row("8 bytes of TCP in a first fragment, v4", v4().first_fragment(8), Drop, FragmentedSyn, SMTP),
        row("8 bytes of TCP in a first fragment, v6", v6().first_fragment(8), Drop, FragmentedSyn, SMTP),
        row("no TCP in a first fragment, v4", v4().first_fragment(0), Drop, FragmentedSyn, NONE),
        row("no TCP in a first fragment, v6", v6().first_fragment(0), Drop, FragmentedSyn, NONE),
        row("a first fragment that ends in the options", v4().first_fragment(20), Drop, FragmentedSyn, SMTP),
        row("8 bytes of an ACK in a first fragment", v4().flags(ACK).first_fragment(8), Drop, FragmentedSyn, SMTP),
        row("an ACK in a first fragment, v4", v4().flags(ACK).data(&data).first_fragment(48), Pass, Established, SMTP),
        row("an ACK in a first fragment, v6", v6().flags(ACK).data(&data).first_fragment(48), Pass, Established, SMTP),
        row("a SYN+FIN in a first fragment", v4().flags(SYN | FIN).first_fragment(24), Drop, BadFlags, SMTP),
        row("8 bytes of TCP to a port not served", v4().to_port(80).first_fragment(8), Pass, NotServed, NONE),
        row("8 bytes of TCP to somebody else", v4().to("198.51.100.99").first_fragment(8), Pass, NotServed, NONE),
        row("a SYN fragment to a port not served", v6().to_port(80).first_fragment(24), Pass, NotServed, NONE),
        row("a later fragment, v4", v4().data(&data).fragment_offset(48), Pass, LaterFragment, NONE),
        row("a later fragment, v6", v6().data(&data).fragment_offset(48), Pass, LaterFragment, NONE),
        row("a fragment from the middle, v4", v4().data(&data).middle_fragment(48, 16), Pass, LaterFragment, NONE),
        row("a fragment from the middle, v6", v6().data(&data).middle_fragment(48, 16), Pass, LaterFragment, NONE),
        row("a fragment at 8 bytes, with the flags", v4().fragment_offset(8), Pass, LaterFragment, NONE),
        row("a later fragment of a blocked source", v4().data(&data).fragment_offset(48), Pass, LaterFragment, NONE)
            .given(|world| world.block("192.0.2.0/24")),
        row("a tagged first fragment", v4().q_in_q(5, 7).first_fragment(8), Drop, FragmentedSyn, SMTP),
        row("a first fragment with options", v4().ip_options(8).first_fragment(8), Drop, FragmentedSyn, SMTP),
    ]
}

/// RFC 7112: the first fragment holds the whole chain.
fn of_chains() -> Vec<Case> {
    let hops = || SynPacket::v6().extension(HopByHop, 8);
    let signed = || SynPacket::v4().extension(Authentication, 24);
    let around = hops().atomic_fragment().extension(Destination, 8);
    let goes_on = SynPacket::v6().first_fragment(0).protocol(60, &[]);
    // The bytes behind the end claim to be UDP; the stack never sees them, and the next fragment may say TCP.
    let lies = goes_on.clone().trailer(&[UDP, 0, 0, 0, 0, 0, 0, 0]);
    vec![
        row("headers around a fragment header", around, Pass, Admitted, SMTP),
        row("a first fragment behind a header", hops().first_fragment(24), Drop, FragmentedSyn, SMTP),
        row("a later fragment behind a header", hops().fragment_offset(8), Pass, LaterFragment, NONE),
        row("a chain that goes on in the next fragment", goes_on, Drop, Malformed, NONE),
        row("a chain that seems to end behind its fragment", lies, Drop, Malformed, NONE),
        row("an authentication header in a first fragment", signed().first_fragment(8), Drop, FragmentedSyn, SMTP),
        row("an authentication header in a later fragment", signed().fragment_offset(8), Pass, LaterFragment, NONE),
    ]
}

/// A 4 kB DNS answer arrives, whatever the family.
fn of_others() -> Vec<Case> {
    let answer = |packet: SynPacket| packet.from_port(53).to_port(25).udp(&[b'd'; 4096]);
    let mut cases = Vec::new();
    for (family, packet, later) in [("v4", SynPacket::v4(), NotTcp), ("v6", SynPacket::v6(), LaterFragment)] {
        let packet = answer(packet);
        let first = packet.clone().first_fragment(1448);
        let middle = packet.clone().middle_fragment(1448, 1448);
        let last = packet.fragment_offset(2896);
        cases.extend([
            row(format!("first fragment of a DNS answer, {family}"), first, Pass, NotTcp, NONE),
            row(format!("second fragment of a DNS answer, {family}"), middle, Pass, later, NONE),
            row(format!("last fragment of a DNS answer, {family}"), last, Pass, later, NONE),
        ]);
    }
    cases
}
