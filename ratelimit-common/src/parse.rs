//! From a frame to a TCP segment, with a stated answer to every oddity.
//!
//! | what | answer |
//! |---|---|
//! | not IP, not TCP, any fragment that is not TCP | passes |
//! | a fragment behind the first | passes: the first one decides, and the stack drops overlaps |
//! | a first fragment with a whole TCP header | judged; a SYN in it is refused |
//! | a first fragment with less of TCP | refused |
//! | up to two VLAN tags, IPv4 options, up to [`MAX_EXTENSIONS`] extension headers | followed |
//! | a third tag, a longer chain, a chain cut off, headers beyond [`MAX_OFFSET`](crate::frame::MAX_OFFSET), wrong lengths | malformed |
//!
//! What is malformed is dropped only when it is addressed to a service, or when it does not even show an address.

use network_types::{
    eth::{EthHdr, EtherType},
    ip::{IpProto, Ipv4Hdr, Ipv6Hdr},
};

use crate::{
    address::{Address, Family},
    bound::forgotten,
    frame::Frame,
    reason::Reason,
};

/// VLAN tags that are followed: 802.1ad outside, 802.1Q inside.
pub const MAX_TAGS: usize = 2;
/// IPv6 extension headers (and IPv4 authentication headers) that are followed.
pub const MAX_EXTENSIONS: usize = 8;

const IPV4: u16 = u16::from_be(EtherType::Ipv4 as u16);
const IPV6: u16 = u16::from_be(EtherType::Ipv6 as u16);
const TAG: u16 = u16::from_be(EtherType::Ieee8021q as u16);
const SERVICE_TAG: u16 = u16::from_be(EtherType::Ieee8021ad as u16);
/// 802.1Q tag behind the Ethernet header.
const TAG_LEN: usize = 4;
/// A TCP header without options.
const TCP_LEN: usize = 20;
const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// What a frame shows of itself, before anybody is asked about it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// Unspecified where the frame does not show it.
    pub source: Address,
    pub destination: Address,
    pub source_port: u16,
    /// Where the IP header begins in the frame, of a segment with a readable TCP header.
    pub ip_at: u16,
    /// The sequence number of such a segment.
    pub sequence: u32,
    /// The port at the destination: ours, if the frame is for a service.
    pub port: u16,
    pub family: Family,
    /// What this reason takes to apply.
    pub scope: Scope,
    /// [`Reason::Admitted`] for a new connection and [`Reason::Answered`] for a reset alone: they are, unless something
    /// speaks against it.
    pub reason: Reason,
}

const _: () = assert!(size_of::<Parsed>() == 48);

impl Parsed {
    /// A new connection as a frame would show it, for asking about one that has not come yet.
    pub const fn connection(source: Address, destination: Address, port: u16) -> Self {
        Self {
            source,
            destination,
            source_port: 0,
            ip_at: 0,
            sequence: 0,
            port,
            family: if source.is_v4() { Family::V4 } else { Family::V6 },
            scope: Scope::Service,
            reason: Reason::Admitted,
        }
    }
}

/// How much of a frame its reason hangs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Scope {
    /// The reason applies whomever the frame is for.
    Frame,
    /// The reason applies if any service claims the destination address; the port is unknown.
    Destination,
    /// The reason applies if a service claims the port of the destination address.
    Service,
}

/// What the TCP flags make of a segment.
#[inline(always)]
pub const fn reason_of_flags(flags: u8) -> Reason {
    match (flags & SYN != 0, flags & ACK != 0) {
        (true, _) if flags & (FIN | RST) != 0 => Reason::BadFlags,
        (true, true) => Reason::StraySynAck,
        // ECN bits and data (TCP Fast Open) make no difference.
        (true, false) => Reason::Admitted,
        (false, true) => Reason::Established,
        // Only a reset may come without an acknowledgement (RFC 9293, section 3.5.2).
        (false, false) if flags & RST != 0 && flags & FIN == 0 => Reason::Answered,
        (false, false) => Reason::BadFlags,
    }
}

/// The part of an IP packet behind the headers read so far.
#[derive(Clone, Copy)]
struct Payload {
    family: Family,
    source: Address,
    destination: Address,
    source_is_mapped: bool,
    protocol: u8,
    ip_at: usize,
    offset: usize,
    /// Where the packet ends in the frame.
    end: usize,
    fragment: bool,
}

/// Reads a frame down to its TCP header.
#[inline(always)]
pub fn parse<F: Frame>(frame: &F) -> Parsed {
    let Some(ethernet) = frame.read::<EthHdr>(0) else {
        return of_frame(Family::Other, Reason::NotIp);
    };
    let mut ether_type = u16::from_be(ethernet.ether_type);
    let mut offset = EthHdr::LEN;
    for _ in 0..MAX_TAGS {
        if !is_tag(ether_type) {
            break;
        }
        let Some([_, _, high, low]) = frame.read::<[u8; TAG_LEN]>(offset) else {
            return of_frame(Family::Other, Reason::Malformed);
        };
        ether_type = u16::from_be_bytes([high, low]);
        offset += TAG_LEN;
    }
    match ether_type {
        IPV4 => parse_v4(frame, offset),
        IPV6 => parse_v6(frame, offset),
        other if is_tag(other) => of_frame(Family::Other, Reason::Malformed),
        _ => of_frame(Family::Other, Reason::NotIp),
    }
}

#[inline(always)]
const fn is_tag(ether_type: u16) -> bool {
    matches!(ether_type, TAG | SERVICE_TAG)
}

#[inline(always)]
fn parse_v4<F: Frame>(frame: &F, offset: usize) -> Parsed {
    let Some(header) = frame.read::<Ipv4Hdr>(offset) else {
        return of_frame(Family::V4, Reason::Malformed);
    };
    let header_len = usize::from(header.vihl & 0x0f) * 4;
    let total_len = usize::from(u16::from_be_bytes(header.tot_len));
    let fragmentation = u16::from_be_bytes(header.frags);
    let payload = Payload {
        family: Family::V4,
        source: Address::from_v4(u32::from_be_bytes(header.src_addr)),
        destination: Address::from_v4(u32::from_be_bytes(header.dst_addr)),
        source_is_mapped: false,
        protocol: header.proto,
        ip_at: offset,
        offset: offset + header_len,
        end: end_of_packet(frame, offset, total_len),
        fragment: fragmentation & MORE_FRAGMENTS_V4 != 0,
    };
    if header.vihl >> 4 != 4 || header_len < Ipv4Hdr::LEN {
        return payload.ends(Reason::Malformed, None);
    }
    if header.proto != IpProto::Tcp as u8 && header.proto != IpProto::Ah as u8 {
        return of_frame(Family::V4, Reason::NotTcp);
    }
    if fragmentation & FRAGMENT_OFFSET_V4 != 0 {
        return of_frame(Family::V4, Reason::LaterFragment);
    }
    if payload.protocol == IpProto::Tcp as u8 {
        return parse_tcp(frame, payload);
    }
    follow(frame, payload)
}

const MORE_FRAGMENTS_V4: u16 = 0x2000;
const FRAGMENT_OFFSET_V4: u16 = 0x1fff;

#[inline(always)]
fn parse_v6<F: Frame>(frame: &F, offset: usize) -> Parsed {
    let Some(header) = frame.read::<Ipv6Hdr>(offset) else {
        return of_frame(Family::V6, Reason::Malformed);
    };
    let source = address(&header.src_addr);
    let payload_len = usize::from(u16::from_be_bytes(header.payload_len));
    let total_len = if payload_len == 0 { 0 } else { Ipv6Hdr::LEN + payload_len };
    let payload = Payload {
        family: Family::V6,
        source: source.fold_nat64(),
        destination: address(&header.dst_addr),
        source_is_mapped: source.is_v4(),
        protocol: header.next_hdr,
        ip_at: offset,
        offset: offset + Ipv6Hdr::LEN,
        end: end_of_packet(frame, offset, total_len),
        fragment: false,
    };
    if header.vcf[0] >> 4 != 6 {
        return payload.ends(Reason::Malformed, None);
    }
    if payload.protocol == IpProto::Tcp as u8 {
        return parse_tcp(frame, payload);
    }
    follow(frame, payload)
}

#[inline(always)]
fn address(octets: &[u8; 16]) -> Address {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *octets;
    Address::from_words(u64::from_be_bytes([a, b, c, d, e, f, g, h]), u64::from_be_bytes([i, j, k, l, m, n, o, p]))
}

/// Where a packet of a declared length ends in the frame; 0 if the frame is shorter than declared.
///
/// A length of 0 is what the kernel writes into a coalesced packet of more than 64 KiB (BIG TCP).
#[inline(always)]
fn end_of_packet<F: Frame>(frame: &F, start: usize, declared: usize) -> usize {
    match declared {
        0 if frame.holds(start + 0x1_0000) => frame.length(),
        0 => 0,
        _ if frame.holds(start + declared) => start + declared,
        _ => 0,
    }
}

/// Follows extension headers to TCP, or to the proof that it is something else.
#[inline(always)]
fn follow<F: Frame>(frame: &F, mut payload: Payload) -> Parsed {
    const TCP: u8 = IpProto::Tcp as u8;
    const HOP_BY_HOP: u8 = IpProto::HopOpt as u8;
    const ROUTING: u8 = IpProto::Ipv6Route as u8;
    const FRAGMENT: u8 = IpProto::Ipv6Frag as u8;
    const AUTHENTICATION: u8 = IpProto::Ah as u8;
    const DESTINATION: u8 = IpProto::Ipv6Opts as u8;
    const MOBILITY: u8 = 135;
    const HOST_IDENTITY: u8 = 139;
    const SHIM6: u8 = 140;

    for _ in 0..MAX_EXTENSIONS {
        match payload.protocol {
            TCP => return parse_tcp(frame, payload),
            HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION | MOBILITY | HOST_IDENTITY | SHIM6 => {}
            _ => return of_frame(payload.family, Reason::NotTcp),
        }
        // Behind the end of its packet nothing is a header, whatever it says: the stack will not see it.
        let within = payload.offset + EXTENSION_LEN <= payload.end;
        let Some([next, units, high, low]) = frame.read::<[u8; 4]>(payload.offset).filter(|_| within) else {
            return payload.ends(Reason::Malformed, None);
        };
        let length = match payload.protocol {
            FRAGMENT => {
                let fragmentation = u16::from_be_bytes([high, low]);
                if fragmentation & FRAGMENT_OFFSET_V6 != 0 {
                    return of_frame(payload.family, Reason::LaterFragment);
                }
                payload.fragment |= fragmentation & MORE_FRAGMENTS_V6 != 0;
                FRAGMENT_LEN
            }
            // RFC 4302: counted in words of 4 bytes, less 2.
            AUTHENTICATION => (usize::from(units) + 2) * 4,
            _ => (usize::from(units) + 1) * 8,
        };
        payload.offset = forgotten((payload.offset + length) as u64) as usize;
        payload.protocol = next;
    }
    match payload.protocol {
        TCP => parse_tcp(frame, payload),
        _ => payload.ends(Reason::Malformed, None),
    }
}

const MORE_FRAGMENTS_V6: u16 = 0x0001;
const FRAGMENT_OFFSET_V6: u16 = 0xfff8;
const FRAGMENT_LEN: usize = 8;
/// The shortest extension header.
const EXTENSION_LEN: usize = 8;

#[inline(always)]
fn parse_tcp<F: Frame>(frame: &F, payload: Payload) -> Parsed {
    let room = payload.end.saturating_sub(payload.offset);
    let short = match payload.fragment {
        true => Reason::FragmentedSyn,
        false => Reason::Malformed,
    };
    if room < TCP_LEN {
        let port = match room {
            4.. => frame.read::<[u8; 4]>(payload.offset).map(|[_, _, high, low]| u16::from_be_bytes([high, low])),
            _ => None,
        };
        return payload.ends(short, port);
    }
    let Some(header) = frame.read::<[u8; TCP_LEN]>(payload.offset) else {
        return payload.ends(Reason::Malformed, None);
    };
    let port = u16::from_be_bytes([header[2], header[3]]);
    let header_len = usize::from(header[12] >> 4) * 4;
    if header_len < TCP_LEN {
        return payload.ends(Reason::Malformed, Some(port));
    }
    if header_len > room {
        return payload.ends(short, Some(port));
    }
    let of_flags = match reason_of_flags(header[13]) {
        Reason::Admitted if payload.fragment => Reason::FragmentedSyn,
        other => other,
    };
    Parsed {
        source_port: u16::from_be_bytes([header[0], header[1]]),
        ip_at: payload.ip_at as u16,
        sequence: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
        ..payload.ends(if payload.source_is_mapped { Reason::MappedSource } else { of_flags }, Some(port))
    }
}

impl Payload {
    #[inline(always)]
    fn ends(&self, reason: Reason, port: Option<u16>) -> Parsed {
        Parsed {
            source: self.source,
            destination: self.destination,
            source_port: 0,
            ip_at: 0,
            sequence: 0,
            port: port.unwrap_or(0),
            family: self.family,
            scope: if port.is_some() { Scope::Service } else { Scope::Destination },
            reason,
        }
    }
}

#[inline(always)]
const fn of_frame(family: Family, reason: Reason) -> Parsed {
    Parsed {
        source: Address::UNSPECIFIED,
        destination: Address::UNSPECIFIED,
        source_port: 0,
        ip_at: 0,
        sequence: 0,
        port: 0,
        family,
        scope: Scope::Frame,
        reason,
    }
}
